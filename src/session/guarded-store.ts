import type { Clock } from '../base/clock.ts';
import { HoldfastError, isHoldfastError } from '../base/errors.ts';
import { Deadlines } from './deadlines.ts';
import type { SessionMeters } from './statistics.ts';
import type { CommitResult, SessionChanges, SessionFeed, SessionGlance, SessionRecord, SessionStore } from './store.ts';

export interface GuardedStoreOptions {
  readonly clock: Clock;
  readonly meters: SessionMeters;
  /** A call that takes longer counts as failed; `Infinity`: none does. */
  readonly timeoutMs: number;
  /** Makes room in a store that is full. False: there is nothing to give up. Without it a full store refuses. */
  readonly makeRoom?: (() => Promise<boolean>) | undefined;
}

/** So often room is made for one new session, when others take it at the same moment. */
const MAX_TRIES = 10;
/** A timer of more would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

type Kind = 'read' | 'glance' | 'write';

/**
 * Passes every call on and turns whatever goes wrong in a store (an error, silence, an answer that is no answer) into
 * ERR_SESSION_STORE_UNAVAILABLE (503), so that no failure of a store can be mistaken for "there is no such session". Errors with
 * a code of ours pass as they are. It counts and times the calls.
 *
 * After `close` nothing reaches the store any more: a late write into a closed LMDB environment would end the process.
 */
export class GuardedStore implements SessionStore {
  readonly watch?: (onChange: (sid: string) => void) => Promise<SessionFeed>;
  readonly #store: SessionStore;
  readonly #options: GuardedStoreOptions;
  readonly #deadlines: Deadlines | undefined;
  #isClosed = false;

  constructor(store: SessionStore, options: GuardedStoreOptions) {
    this.#store = store;
    this.#options = options;
    if (options.timeoutMs <= MAX_TIMER_MS) this.#deadlines = new Deadlines(options.clock, options.timeoutMs);
    if (store.watch) this.watch = onChange => this.#guard('read', 'watch sessions', () => store.watch!(onChange));
  }

  get name(): string {
    return this.#store.name;
  }

  async create(sid: string, record: SessionRecord): Promise<boolean> {
    const { makeRoom, meters } = this.#options;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#create(sid, record);
      } catch (error) {
        if (!isHoldfastError(error) || error.code !== 'ERR_SESSION_NO_ROOM') throw error;
        if (makeRoom && tries < MAX_TRIES && (await makeRoom())) continue;
        meters.noRoom++;
        throw error;
      }
    }
  }

  read(sid: string): Promise<SessionRecord | undefined> {
    return this.#guard(
      'read',
      'read a session',
      () => this.#store.read(sid),
      record => record === undefined || isRecord(record),
      record => (record ? bytesOf(record) : 0),
    );
  }

  glance(sid: string): Promise<SessionGlance | undefined> {
    return this.#guard(
      'glance',
      "read a session's version",
      () => this.#store.glance(sid),
      glance => glance === undefined || isGlance(glance),
    );
  }

  commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    return this.#guard(
      'write',
      'commit a session',
      () => this.#store.commit(sid, changes),
      isCommitResult,
      () => sumOf(changes.set?.values() ?? []),
    );
  }

  touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    return this.#guard('write', 'write last access', () => this.#store.touch(accesses));
  }

  delete(sid: string, expiredBy?: number): Promise<boolean> {
    return this.#guard('write', 'end a session', () => this.#store.delete(sid, expiredBy), isBoolean);
  }

  expired(now: number, limit: number): Promise<string[]> {
    return this.#guard('read', 'look for expired sessions', () => this.#store.expired(now, limit), Array.isArray);
  }

  async *sids(): AsyncIterable<string> {
    try {
      if (this.#isClosed) throw this.#closed();
      yield* this.#store.sids();
    } catch (error) {
      throw this.#toOutage('list sessions', error);
    }
  }

  sidsOf(owner: string): Promise<string[]> {
    return this.#guard('read', 'list the sessions of a user', () => this.#store.sidsOf(owner), Array.isArray);
  }

  count(): Promise<number> {
    return this.#guard('read', 'count sessions', () => this.#store.count());
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.#store.close();
  }

  #create(sid: string, record: SessionRecord): Promise<boolean> {
    return this.#guard(
      'write',
      'create a session',
      () => this.#store.create(sid, record),
      isBoolean,
      () => bytesOf(record),
    );
  }

  /** One promise and no timer of its own for each call: there are several for each request. */
  #guard<T>(
    kind: Kind,
    what: string,
    call: () => Promise<T>,
    isAnswer: (answer: T) => boolean = () => true,
    bytes: (answer: T) => number = () => 0,
  ): Promise<T> {
    const { clock, meters } = this.#options;
    if (this.#isClosed) return Promise.reject(this.#closed());
    const startedAt = clock.monotonic();
    return new Promise((resolve, reject) => {
      const settle = (size: number, isFailure: boolean) => {
        if (deadline) this.#deadlines!.remove(deadline);
        const ms = clock.monotonic() - startedAt;
        meters.calls[kind].add(ms, size, isFailure);
        if (meters.isSlow(ms)) meters.noteSlow({ operation: what, ms, at: clock.now() });
      };
      const fail = (error: unknown) => {
        if (isTooLate) return;
        settle(0, true);
        reject(this.#toOutage(what, error));
      };
      let isTooLate = false;
      const deadline = this.#deadlines?.add(startedAt, () => {
        fail(new Error(`no answer within ${this.#options.timeoutMs} ms (storeTimeout)`));
        isTooLate = true;
      });
      const take = (answer: T) => {
        if (isTooLate) return;
        // An answer that is none is a failure of the store: it must not be taken for "gone" or "over".
        if (!isAnswer(answer)) return fail(new TypeError('the answer is none that this call can have'));
        settle(bytes(answer), false);
        resolve(answer);
      };
      try {
        call().then(take, fail);
      } catch (error) {
        fail(error);
      }
    });
  }

  #closed(): HoldfastError {
    const message = `session store "${this.name}" is closed; close the session manager after its last request`;
    return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013 });
  }

  #toOutage(what: string, error: unknown): Error {
    if (isHoldfastError(error)) return error;
    const message = `session store "${this.name}" could not ${what}; see the cause`;
    return new HoldfastError('ERR_SESSION_STORE_UNAVAILABLE', message, { status: 503, closeCode: 1013, cause: error });
  }
}

function isBoolean(answer: unknown): boolean {
  return typeof answer === 'boolean';
}

function isGlance(glance: Partial<SessionGlance> | null): boolean {
  return typeof glance?.version === 'number' && typeof glance.lastAccessedAt === 'number';
}

function isCommitResult(result: CommitResult | undefined): boolean {
  if (result?.status === 'committed') return typeof result.version === 'number';
  return result?.status === 'gone' || result?.status === 'conflict';
}

function isRecord(record: Partial<SessionRecord> | null): boolean {
  const { header, version, lastAccessedAt, attributes } = record ?? {};
  return (
    typeof header?.secretHash === 'string' &&
    typeof header.createdAt === 'number' &&
    typeof version === 'number' &&
    typeof lastAccessedAt === 'number' &&
    attributes instanceof Map
  );
}

function bytesOf({ attributes }: SessionRecord): number {
  let bytes = 0;
  for (const { value } of attributes.values()) bytes += value.length;
  return bytes;
}

function sumOf(values: Iterable<Uint8Array>): number {
  let bytes = 0;
  for (const { length } of values) bytes += length;
  return bytes;
}
