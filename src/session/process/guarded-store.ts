import type { Awaitable } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import { HoldfastError, isHoldfastError } from '../../base/errors.ts';
import type { SessionMeters } from '../reports/statistics.ts';
import { isNoRoom } from '../room/cap.ts';
import type {
  CommitResult,
  SessionChanges,
  SessionFeed,
  SessionGlance,
  SessionRecord,
  SessionStore,
  StoredAttribute,
} from '../store.ts';

export interface GuardedStoreOptions {
  readonly clock: Clock;
  readonly meters: SessionMeters;
  /** A call that takes longer counts as failed; `Infinity`: none does. */
  readonly timeoutMs: number;
}

/** One method of a store, as far as its calls are guarded. */
interface Operation<T> {
  readonly kind: 'read' | 'glance' | 'write';
  /** What it does, for errors. */
  readonly what: string;
  /** An answer that is none is a failure of the store: it must not be taken for "gone" or "over". */
  isAnswer(answer: T): boolean;
  /** Bytes of attributes that came with the answer. */
  bytesIn?(answer: T): number;
}

const isAnything = () => true;
const WATCH: Operation<SessionFeed> = { kind: 'read', what: 'watch sessions', isAnswer: isAnything };
const CREATE: Operation<boolean> = { kind: 'write', what: 'create a session', isAnswer: isBoolean };
const READ: Operation<SessionRecord | undefined> = {
  kind: 'read',
  what: 'read a session',
  isAnswer: record => record === undefined || isRecord(record),
  bytesIn: record => (record ? bytesOf(record) : 0),
};
const READ_ATTRIBUTES: Operation<ReadonlyMap<string, StoredAttribute> | undefined> = {
  kind: 'read',
  what: 'read attributes of a session',
  isAnswer: attributes => attributes === undefined || attributes instanceof Map,
  bytesIn: attributes => (attributes ? bytesOf({ attributes }) : 0),
};
const GLANCE: Operation<SessionGlance | undefined> = {
  kind: 'glance',
  what: "read a session's version",
  isAnswer: glance => glance === undefined || isGlance(glance),
};
const COMMIT: Operation<CommitResult> = { kind: 'write', what: 'commit a session', isAnswer: isCommitResult };
const TOUCH: Operation<void> = { kind: 'write', what: 'write last access', isAnswer: isAnything };
const DELETE: Operation<boolean> = { kind: 'write', what: 'end a session', isAnswer: isBoolean };
const EXPIRED: Operation<string[]> = { kind: 'read', what: 'look for expired sessions', isAnswer: Array.isArray };
const SIDS_OF: Operation<string[]> = { kind: 'read', what: 'list the sessions of a user', isAnswer: Array.isArray };
const FULLNESS: Operation<number | undefined> = { kind: 'read', what: 'ask how full it is', isAnswer: isAnything };
const TIME: Operation<number> = { kind: 'read', what: 'tell the time', isAnswer: Number.isFinite };
const COUNT: Operation<number> = { kind: 'read', what: 'count sessions', isAnswer: isAnything };

/**
 * Passes every call on and turns whatever goes wrong in a store (an error, silence, an answer that is no answer) into
 * ERR_SESSION_STORE_UNAVAILABLE (503), so that no failure of a store can be mistaken for "there is no such session".
 * Errors with a code of ours pass as they are. It counts and times the calls.
 *
 * After `close` nothing reaches the store any more: a late write into a closed LMDB environment would end the process.
 */
export class GuardedStore implements SessionStore {
  readonly watch?: (onChange: (sid: string) => void) => Promise<SessionFeed>;
  readonly time?: () => Promise<number>;
  readonly countAnonymous?: () => Promise<number>;
  readonly fullness?: () => Promise<number | undefined>;
  readonly hasRoom?: (isAnonymous: boolean) => boolean;
  /** Set by whoever can: called when a write has found no room. Resolves with whether there is some now. */
  makeRoom: (() => Promise<boolean>) | undefined;
  readonly #store: SessionStore;
  readonly #options: GuardedStoreOptions;
  #isClosed = false;

  constructor(store: SessionStore, options: GuardedStoreOptions) {
    this.#store = store;
    this.#options = options;
    if (store.countAnonymous) this.countAnonymous = () => this.#promise(COUNT, () => store.countAnonymous!());
    if (store.fullness) this.fullness = () => this.#promise(FULLNESS, () => store.fullness!());
    if (store.hasRoom) this.hasRoom = isAnonymous => this.#isClosed || store.hasRoom!(isAnonymous);
    if (store.time) this.time = () => this.#promise(TIME, () => store.time!());
    if (store.watch) this.watch = onChange => this.#promise(WATCH, () => store.watch!(onChange));
  }

  get name(): string {
    return this.#store.name;
  }

  get interruptions(): number {
    return this.#store.interruptions ?? 0;
  }

  create(sid: string, record: SessionRecord): Promise<boolean> {
    return this.#promise(CREATE, () => this.#store.create(sid, record), bytesOf(record));
  }

  read(sid: string, without?: ReadonlySet<string>): Promise<SessionRecord | undefined> {
    return this.#promise(READ, () => this.#store.read(sid, without));
  }

  async readAttributes(
    sid: string,
    names: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, StoredAttribute> | undefined> {
    if (this.#store.readAttributes)
      return this.#promise(READ_ATTRIBUTES, () => this.#store.readAttributes!(sid, names));
    const record = await this.read(sid);
    return record && new Map(Array.from(record.attributes).filter(([name]) => names.has(name)));
  }

  glance(sid: string): Awaitable<SessionGlance | undefined> {
    return this.#guard(GLANCE, () => this.#store.glance(sid));
  }

  commit(sid: string, changes: SessionChanges): Promise<CommitResult> {
    return this.#promise(COMMIT, () => this.#store.commit(sid, changes), changes.set && sumOf(changes.set.values()));
  }

  touch(accesses: ReadonlyMap<string, number>): Promise<void> {
    return this.#promise(TOUCH, () => this.#store.touch(accesses));
  }

  delete(sid: string, expiredBy?: number): Promise<boolean> {
    return this.#promise(DELETE, () => this.#store.delete(sid, expiredBy));
  }

  expired(now: number, limit: number): Promise<string[]> {
    return this.#promise(EXPIRED, () => this.#store.expired(now, limit));
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
    return this.#promise(SIDS_OF, () => this.#store.sidsOf(owner));
  }

  count(): Promise<number> {
    return this.#promise(COUNT, () => this.#store.count());
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.#store.close();
  }

  #promise<T>(operation: Operation<T>, call: () => Awaitable<T>, written?: number): Promise<T> {
    try {
      return Promise.resolve(this.#guard(operation, call, written));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** @param written Bytes of attributes that the call writes. */
  #guard<T>(operation: Operation<T>, call: () => Awaitable<T>, written = 0): Awaitable<T> {
    if (this.#isClosed) throw this.#closed();
    const startedAt = this.#options.clock.monotonic();
    let answer: Awaitable<T>;
    try {
      answer = call();
    } catch (error) {
      throw this.#failed(operation, startedAt, error);
    }
    const isThere = typeof (answer as PromiseLike<T> | undefined)?.then !== 'function';
    return isThere
      ? this.#answered(operation, startedAt, answer as T, written)
      : this.#wait(operation, startedAt, answer as PromiseLike<T>, written);
  }

  /** One promise for each call: there are several for each request. */
  #wait<T>(operation: Operation<T>, startedAt: number, answer: PromiseLike<T>, written: number): Promise<T> {
    return new Promise((resolve, reject) => {
      let isTooLate = false;
      const { clock, timeoutMs } = this.#options;
      const deadline = setDeadline(clock, timeoutMs, () => {
        isTooLate = true;
        const silence = new Error(`no answer within ${timeoutMs} ms (storeTimeout)`);
        reject(this.#failed(operation, startedAt, silence));
      });
      const take = (settled: T) => {
        if (isTooLate) return;
        deadline?.clear();
        try {
          resolve(this.#answered(operation, startedAt, settled, written));
        } catch (error) {
          reject(error);
        }
      };
      const fail = (error: unknown) => {
        if (isTooLate) return;
        deadline?.clear();
        reject(this.#failed(operation, startedAt, error));
      };
      answer.then(take, fail);
    });
  }

  /** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the answer is none that the call can have. */
  #answered<T>(operation: Operation<T>, startedAt: number, answer: T, written: number): T {
    if (!operation.isAnswer(answer))
      throw this.#failed(operation, startedAt, new TypeError('the answer is none that this call can have'));
    this.#count(operation, startedAt, written + (operation.bytesIn?.(answer) ?? 0), false);
    return answer;
  }

  #failed(operation: Operation<never>, startedAt: number, error: unknown): Error {
    this.#count(operation, startedAt, 0, true);
    if (isNoRoom(error)) void this.makeRoom?.();
    return this.#toOutage(operation.what, error);
  }

  #count({ kind, what }: Operation<never>, startedAt: number, bytes: number, isFailure: boolean): void {
    const { clock, meters } = this.#options;
    const ms = clock.monotonic() - startedAt;
    meters.calls[kind].add(ms, bytes, isFailure);
    if (meters.isSlow(ms)) meters.noteSlow({ operation: what, ms, at: clock.now() });
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
  if (result?.status === 'committed') return typeof result.version === 'number' && typeof result.previous === 'number';
  return result?.status === 'gone' || result?.status === 'conflict';
}

function isRecord(record: Partial<SessionRecord> | null): boolean {
  const { header, version, lastAccessedAt, attributes, apart } = record ?? {};
  return (
    typeof header?.secretHash === 'string' &&
    typeof header.createdAt === 'number' &&
    typeof version === 'number' &&
    typeof lastAccessedAt === 'number' &&
    attributes instanceof Map &&
    (apart === undefined || apart instanceof Map)
  );
}

function bytesOf({ attributes }: Pick<SessionRecord, 'attributes'>): number {
  let bytes = 0;
  for (const { value } of attributes.values()) bytes += value.length;
  return bytes;
}

function sumOf(values: Iterable<Uint8Array>): number {
  let bytes = 0;
  for (const { length } of values) bytes += length;
  return bytes;
}
