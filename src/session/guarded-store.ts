import { HoldfastError, isHoldfastError } from '../base/errors.ts';
import type { CommitResult, SessionChanges, SessionRecord, SessionStore } from './store.ts';

/**
 * Passes every call on and turns whatever a store throws into ERR_SESSION_STORE_UNAVAILABLE (503), so that no failure of a store can be
 * mistaken for "there is no such session". Errors with a code of ours pass as they are.
 *
 * After `close` nothing reaches the store any more: a late write into a closed LMDB environment would end the process.
 */
export class GuardedStore implements SessionStore {
  readonly #store: SessionStore;
  #isClosed = false;

  constructor(store: SessionStore) {
    this.#store = store;
  }

  get name(): string {
    return this.#store.name;
  }

  create(sid: string, record: SessionRecord): Promise<boolean> {
    return this.#guard('create a session', () => this.#store.create(sid, record));
  }

  read(sid: string): Promise<SessionRecord | undefined> {
    return this.#guard('read a session', () => this.#store.read(sid));
  }

  readVersion(sid: string): Promise<number | undefined> {
    return this.#guard("read a session's version", () => this.#store.readVersion(sid));
  }

  commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    return this.#guard('commit a session', () => this.#store.commit(sid, changes));
  }

  touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    return this.#guard('write last access', () => this.#store.touch(accesses));
  }

  delete(sid: string): Promise<boolean> {
    return this.#guard('end a session', () => this.#store.delete(sid));
  }

  expired(now: number, limit: number): Promise<string[]> {
    return this.#guard('look for expired sessions', () => this.#store.expired(now, limit));
  }

  async *sids(): AsyncIterable<string> {
    try {
      this.#checkOpen();
      yield* this.#store.sids();
    } catch (error) {
      throw this.#toOutage('list sessions', error);
    }
  }

  count(): Promise<number> {
    return this.#guard('count sessions', () => this.#store.count());
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.#store.close();
  }

  async #guard<T>(what: string, call: () => Promise<T>): Promise<T> {
    try {
      this.#checkOpen();
      return await call();
    } catch (error) {
      throw this.#toOutage(what, error);
    }
  }

  #checkOpen(): void {
    if (!this.#isClosed) return;
    const message = `session store "${this.name}" is closed; close the session manager after its last request`;
    throw new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013 });
  }

  #toOutage(what: string, error: unknown): Error {
    if (isHoldfastError(error)) return error;
    const message = `session store "${this.name}" could not ${what}; see the cause`;
    return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013, cause: error });
  }
}
