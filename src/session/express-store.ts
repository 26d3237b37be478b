import { EventEmitter } from 'node:events';
import { Backoff } from '../base/backoff.ts';
import { CalmLogger } from '../base/calm-logger.ts';
import { type Clock, systemClock, type Timer } from '../base/clock.ts';
import { HoldfastError } from '../base/errors.ts';
import { type Logger, silentLogger } from '../base/logger.ts';
import { checkOptions, type OptionNames } from '../base/options.ts';
import { checkStore } from './options.ts';
import { GuardedStore } from './process/guarded-store.ts';
import { KeyedQueue } from './process/keyed-queue.ts';
import { StoreClock } from './process/store-clock.ts';
import { expiryOf } from './record/expiry.ts';
import { firstVersion } from './record/version.ts';
import { SessionMeters } from './reports/statistics.ts';
import type { SessionHeader, SessionRecord, SessionStore } from './store.ts';

export interface ExpressStoreOptions {
  /**
   * Begins the key of every session of this instance; instances with different prefixes share a store without seeing
   * each other. Ends with the only `:` in it. Default `express:`.
   */
  readonly prefix?: string;
  /**
   * Milliseconds after its last `set` or `touch` that a session whose cookie has no expiry is kept; `Infinity`: for
   * ever. Default 1 day.
   */
  readonly ttlMs?: number;
  /** Milliseconds after `destroy` and `clear` in which a `set` of the same sid is ignored: longer than the slowest request. Default 5 minutes,
   * at most 400 days. */
  readonly tombstoneMs?: number;
  /** Milliseconds between two searches for sessions whose time is over; `Infinity`: never. Default 60,000. */
  readonly sweepIntervalMs?: number;
  /** Milliseconds after which a call of the store counts as failed; `Infinity`: never. Default 5,000. */
  readonly storeTimeoutMs?: number;
  readonly clock?: Clock;
  /** Told what nobody waits for: sweeps, and failures of calls without a callback. Default: nobody is. */
  readonly logger?: Logger;
}

const EXPRESS_OPTIONS: OptionNames<ExpressStoreOptions> = {
  prefix: 'text',
  ttlMs: 'number',
  tombstoneMs: 'number',
  sweepIntervalMs: 'number',
  storeTimeoutMs: 'number',
  clock: 'clock',
  logger: 'logger',
};

/** A session of express-session as data: what `JSON.stringify` makes of it. */
export interface ExpressSessionData {
  cookie: ExpressCookieData;
}

/** The part of `express-session`'s cookie that decides how long a session lives. The rest is kept as it is. */
export interface ExpressCookieData {
  /** Milliseconds. */
  originalMaxAge?: number | null;
  expires?: Date | string | boolean | null;
}

type Callback<T> = (error: unknown, value?: T) => void;

/** A request as `express-session` sees it. */
interface ExpressRequest {
  sessionID?: string;
  session?: object;
  headers?: object;
}

/** What `touch` changes: a part of the record's header, with a field of our own. */
interface Life {
  readonly absoluteExpiresAt: number | undefined;
  /** As last set or touched. */
  readonly cookie: ExpressCookieData | undefined;
}

/** The session as JSON. One attribute, see `toExpressStore`. */
const DATA = 'session';
/** What is left of a session that was destroyed: there as long as it must not come back. */
const TOMBSTONE = 'destroyed';
const BATCH = 64;
const MAX_SWEEP = 65_536;
/** For how long a write that meets others is tried. */
const WRITE_TIMEOUT_MS = 5_000;
const DAY_MS = 86_400_000;

/**
 * Makes a store for `express-session` of any of ours: `session({ store: toExpressStore(store), … })`.
 *
 * - **Complete**: `get set touch destroy all length clear regenerate load createSession`, each with a callback or,
 *   without one, a promise. Nothing is thrown synchronously. A store that fails is an error with `status` 503, never
 *   "no such session".
 * - **The whole session is one attribute.** `express-session` hands over whole documents and promises that the last one
 *   wins. Written key by key, two requests would leave a mixture that neither of them has seen.
 * - **Expiry to the millisecond**, from `cookie.expires`. `touch` moves it without writing the data again, and `get`
 *   tells the new one.
 * - **What was destroyed stays destroyed.** A request that is still running when the user signs out does not bring the
 *   session back by its `set`: for `tombstoneMs`, in every process; and after that, as long as the session came from
 *   this store.
 *
 * The events `connect` and `disconnect` are never emitted: on `disconnect`, `express-session` goes on without sessions,
 * and an outage would look like a logout.
 *
 * Give it a store of its own. A `SessionManager` on the same one would count, list and end its sessions too. The store
 * stays the caller's: `close` ends the sweeping, then close the store.
 *
 * @throws {TypeError} when an option cannot work.
 *
 * @example
 * import expressSession from 'express-session';
 * import { MemoryStore, toExpressStore } from 'holdfast/session';
 *
 * const store = toExpressStore(new MemoryStore());
 * const middleware = expressSession({ store, secret: 'change me', resave: false, saveUninitialized: false });
 * store.close();
 */
export function toExpressStore(store: SessionStore, options: ExpressStoreOptions = {}): ExpressStore {
  return new ExpressStore(store, options);
}

/**
 * @example
 * import { ExpressStore, MemoryStore, toExpressStore } from 'holdfast/session';
 *
 * const store = toExpressStore(new MemoryStore());
 * console.log(store instanceof ExpressStore); // true
 * store.close();
 */
export class ExpressStore extends EventEmitter {
  readonly #store: GuardedStore;
  readonly #prefix: string;
  readonly #ttlMs: number;
  readonly #tombstoneMs: number;
  readonly #sweepIntervalMs: number;
  readonly #clock: StoreClock;
  readonly #logger: CalmLogger;
  /**
   * When a session object that came from the store ends, as far as its request knows: one that is gone before was
   * destroyed.
   */
  readonly #known = new WeakMap<object, { readonly key: string; readonly end: number }>();
  /** Writes of one session happen in the order of their calls: a `destroy` is not overtaken by the `set` before it. */
  readonly #writes = new KeyedQueue();
  #generate: ((request: ExpressRequest) => void) | undefined;
  #prototypes: { readonly session: object; readonly cookie: object } | undefined;
  #timer: Timer | undefined;
  #sweeping: Promise<void> | undefined;
  #isClosed = false;

  /** Use `toExpressStore`. */
  constructor(store: SessionStore, options: ExpressStoreOptions) {
    super();
    checkStore('toExpressStore', store);
    checkOptions('toExpressStore', options, EXPRESS_OPTIONS);
    const { prefix = 'express:', clock = systemClock } = options;
    if (!/^[^:]+:$/.test(prefix))
      throw new TypeError(`express store: prefix must end with the only ":" in it, not ${JSON.stringify(prefix)}`);
    this.#prefix = prefix;
    this.#ttlMs = positive('ttlMs', options.ttlMs ?? DAY_MS);
    this.#tombstoneMs = positive('tombstoneMs', options.tombstoneMs ?? 5 * 60_000, 400 * DAY_MS);
    this.#sweepIntervalMs = positive('sweepIntervalMs', options.sweepIntervalMs ?? 60_000);
    const timeoutMs = positive('storeTimeoutMs', options.storeTimeoutMs ?? 5_000);
    this.#store = new GuardedStore(store, { clock, meters: new SessionMeters(), timeoutMs });
    this.#logger = CalmLogger.over(options.logger ?? silentLogger, clock);
    this.#clock = new StoreClock(clock, this.#store, this.#logger);
    this.#scheduleSweep();
  }

  /** The session, or undefined when there is none (any more). `cookie.expires` is as last set or touched. */
  get(sid: string): Promise<ExpressSessionData | undefined>;
  // biome-ignore lint/suspicious/noExplicitAny: the type of the session is the application's.
  get(sid: string, callback: (error: any, session?: any) => void): void;
  get(sid: string, callback?: Callback<ExpressSessionData | undefined>): unknown {
    return this.#settle(callback, async () => {
      const record = await this.#store.read(this.#keyOf(sid));
      await this.#clock.settle();
      return record && this.#dataOf(this.#keyOf(sid), record);
    });
  }

  /**
   * Keeps the session as it is at this moment, in place of what was there before. Ignored when the sid was destroyed.
   *
   * @throws {TypeError} when it cannot be said in JSON.
   */
  set(sid: string, session: ExpressSessionData): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  set(sid: string, session: ExpressSessionData, callback?: (error?: any) => void): void;
  set(sid: string, session: ExpressSessionData, callback?: Callback<void>): unknown {
    return this.#settle(callback, async () => {
      const key = this.#keyOf(sid);
      const value = Buffer.from(JSON.stringify(session));
      const cookie = cookieOf(session);
      await this.#writes.run(key, async () => this.#write(key, session, await this.#lifeOf(cookie), value));
    });
  }

  /**
   * Moves the expiry to that of the session's cookie, and writes nothing else of it. Ignored when there is no such
   * session.
   */
  touch(sid: string, session: ExpressSessionData): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  touch(sid: string, session: ExpressSessionData, callback?: (error?: any) => void): void;
  touch(sid: string, session: ExpressSessionData, callback?: Callback<void>): unknown {
    return this.#settle(callback, async () => {
      const key = this.#keyOf(sid);
      const cookie = cookieOf(session);
      const expected = new Map([[TOMBSTONE, 0]]);
      await this.#writes.run(key, async () => {
        const life = await this.#lifeOf(cookie);
        const result = await this.#store.commit(key, { header: life, expected });
        if (result.status === 'committed') this.#know(key, session, life);
      });
    });
  }

  /** Ends the session. It does not come back by a `set` that was under way. */
  destroy(sid: string): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  destroy(sid: string, callback?: (error?: any) => void): void;
  destroy(sid: string, callback?: Callback<void>): unknown {
    return this.#settle(callback, async () => {
      const key = this.#keyOf(sid);
      await this.#writes.run(key, () => this.#bury(key));
    });
  }

  /** Every session of this prefix, by its sid. Reads all of them: not for every day. */
  all(): Promise<Record<string, ExpressSessionData>>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  all(callback: (error: any, sessions?: any) => void): void;
  all(callback?: Callback<Record<string, ExpressSessionData>>): unknown {
    return this.#settle(callback, async () => {
      const sessions: Record<string, ExpressSessionData> = Object.create(null);
      for await (const { key, data } of this.#living()) sessions[key.slice(this.#prefix.length)] = data;
      return sessions;
    });
  }

  /** How many sessions of this prefix there are. Reads all of them: not for every day. */
  length(): Promise<number>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  length(callback: (error: any, length?: number) => void): void;
  length(callback?: Callback<number>): unknown {
    return this.#settle(callback, async () => {
      let count = 0;
      for await (const _session of this.#living()) count++;
      return count;
    });
  }

  /** `destroy` for every session of this prefix. */
  clear(): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  clear(callback?: (error?: any) => void): void;
  clear(callback?: Callback<void>): unknown {
    return this.#settle(callback, async () => {
      for await (const keys of this.#keys())
        await Promise.all(keys.map(key => this.#writes.run(key, () => this.#bury(key))));
    });
  }

  /**
   * `express-session` puts its own function here: it gives a request a new sid, session and cookie. They tell us the
   * classes of both, so that sessions from the store are of the same ones without this package depending on
   * `express-session`.
   */
  get generate(): (request: object) => void {
    return request => {
      if (!this.#generate)
        throw new TypeError(
          'express store: no express-session uses this store yet; give it to session({ store }) first',
        );
      this.#generate(request);
      const { session } = request as { session: { cookie: object } };
      this.#prototypes = { session: Object.getPrototypeOf(session), cookie: Object.getPrototypeOf(session.cookie) };
    };
  }

  set generate(generate: (request: object) => void) {
    this.#generate = generate;
  }

  /** Gives the request a new session with a new sid, and destroys the one that it had. */
  regenerate(request: object): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  regenerate(request: object, callback: (error?: any) => any): void;
  regenerate(request: object, callback?: Callback<void>): unknown {
    return this.#settle(callback, async () => {
      const { sessionID } = request as ExpressRequest;
      try {
        if (sessionID) await this.destroy(sessionID);
      } finally {
        this.generate(request);
      }
    });
  }

  /** The session as `express-session` makes it for a request, without a request; undefined when there is none. */
  load(sid: string): Promise<ExpressSessionData | undefined>;
  // biome-ignore lint/suspicious/noExplicitAny: as express-session declares it.
  load(sid: string, callback: (error: any, session?: any) => void): void;
  load(sid: string, callback?: Callback<ExpressSessionData | undefined>): unknown {
    return this.#settle(callback, async () => {
      const data = await this.get(sid);
      return data && this.createSession({ sessionID: sid, sessionStore: this }, data);
    });
  }

  /**
   * Puts a session with this data on a request. `express-session` calls it.
   *
   * @throws {TypeError} when no `express-session` uses this store.
   */
  // biome-ignore lint/suspicious/noExplicitAny: a `Session` of express-session with the application's data.
  createSession(request: object, data: ExpressSessionData): any {
    const { session, cookie } = this.#prototypesFor(request);
    const { expires, originalMaxAge, ...rest } = data.cookie;
    const restored = Object.assign(Object.create(cookie), { path: '/', httpOnly: true }, rest);
    restored.expires = typeof expires === 'string' ? new Date(expires) : expires;
    restored.originalMaxAge = originalMaxAge; // which setting `expires` has changed
    const created = Reflect.construct(session.constructor as new () => ExpressSessionData, [
      request,
      { ...data, cookie: restored },
    ]);
    const known = this.#known.get(data);
    if (known) this.#known.set(created, known);
    (request as ExpressRequest).session = created;
    return created;
  }

  /** Ends the sweeping and resolves when nothing is under way any more. Leaves the store open. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
    await this.#sweeping;
    await this.#writes.settled();
    this.#logger.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Runs a call so that nothing is thrown synchronously, and its outcome comes by the callback if there is one. */
  #settle<T>(callback: Callback<T> | undefined, call: () => Promise<T>): Promise<T> | undefined {
    const outcome = call();
    if (typeof callback === 'function') {
      // Out of the promise: what a callback throws is its own, not a failure of this call.
      outcome.then(
        value => process.nextTick(callback, null, value),
        error => process.nextTick(callback, error),
      );
      return undefined;
    }
    // `req.session.destroy()` passes no callback and waits for nothing: that must not end the process.
    outcome.catch(error => this.#logger.error({ err: error }, 'a call of the express store failed'));
    return outcome;
  }

  async #write(key: string, session: ExpressSessionData, life: Life, value: Uint8Array): Promise<void> {
    const set = new Map([[DATA, value]]);
    const expected = new Map([[TOMBSTONE, 0]]);
    const backoff = new Backoff(this.#clock, WRITE_TIMEOUT_MS);
    do {
      const { status } = await this.#store.commit(key, { header: life, set, expected });
      const now = this.#clock.now();
      if (status === 'committed') return this.#know(key, session, life);
      if (status === 'conflict') {
        // Destroyed; unless that is long ago, and only has not been swept. Somebody else may be doing that right now.
        if (!(await this.#store.delete(key, now)) && (await this.#store.read(key))) return;
      }
      // What came from here under another sid is a copy.
      const known = this.#known.get(session);
      if (known?.key === key && now < known.end) return; // it was there, its time is not over, and it is gone: somebody destroyed it
      if (await this.#store.create(key, newRecord(life, value, now))) return this.#know(key, session, life);
    } while (await backoff.next());
    const message = `a session was written and destroyed by others at each of ${backoff.tries} tries to write it in ${WRITE_TIMEOUT_MS} ms; try again`;
    throw new HoldfastError('ERR_SESSION_CONFLICT', message, { status: 409 });
  }

  async #bury(key: string): Promise<void> {
    await this.#clock.settle();
    const header: Life = { absoluteExpiresAt: this.#clock.now() + this.#tombstoneMs, cookie: undefined };
    const set = new Map([[TOMBSTONE, Buffer.from('1')]]);
    await this.#store.commit(key, { header, set, deleted: new Set([DATA]), expected: new Map([[TOMBSTONE, 0]]) });
  }

  #keyOf(sid: string): string {
    if (typeof sid === 'string' && sid !== '') return this.#prefix + sid;
    throw new TypeError(`express store: a session id must be a text, not ${typeof sid}`);
  }

  /** `expires` is by the clock of this machine, which has made it; what is kept is by the store's. */
  async #lifeOf(kept: ExpressCookieData): Promise<Life> {
    await this.#clock.settle();
    const { expires, originalMaxAge } = kept;
    let end = typeof expires === 'string' ? this.#clock.fromOwn(Date.parse(expires)) : Number.NaN;
    if (Number.isNaN(end))
      end = this.#clock.now() + (typeof originalMaxAge === 'number' ? originalMaxAge : this.#ttlMs);
    return { absoluteExpiresAt: end === Number.POSITIVE_INFINITY ? undefined : end, cookie: kept };
  }

  #know(
    key: string,
    session: object,
    { absoluteExpiresAt = Number.POSITIVE_INFINITY }: Pick<SessionHeader, 'absoluteExpiresAt'>,
  ): void {
    this.#known.set(session, { key, end: absoluteExpiresAt });
  }

  #dataOf(key: string, { header, lastAccessedAt, attributes }: SessionRecord): ExpressSessionData | undefined {
    const stored = attributes.get(DATA);
    if (!stored || attributes.has(TOMBSTONE) || expiryOf(header, lastAccessedAt) <= this.#clock.now()) return undefined;
    const data = JSON.parse(Buffer.from(stored.value).toString()) as ExpressSessionData;
    data.cookie = (header as Partial<Life>).cookie ?? data.cookie;
    this.#know(key, data, header);
    return data;
  }

  #prototypesFor(request: ExpressRequest): { readonly session: object; readonly cookie: object } {
    if (!this.#prototypes) {
      // A look-alike: the request keeps its sid and session.
      const probe = Object.create(request, request.headers ? {} : { headers: { value: {} } });
      for (const name of ['sessionID', 'session'])
        Object.defineProperty(probe, name, { value: undefined, writable: true, configurable: true });
      this.generate(probe);
    }
    return this.#prototypes!;
  }

  /** Keys of this prefix, some at a time. */
  async *#keys(): AsyncIterable<string[]> {
    let keys: string[] = [];
    for await (const key of this.#store.sids()) {
      if (!key.startsWith(this.#prefix)) continue;
      keys.push(key);
      if (keys.length < BATCH) continue;
      yield keys;
      keys = [];
    }
    if (keys.length > 0) yield keys;
  }

  async *#living(): AsyncIterable<{ key: string; data: ExpressSessionData }> {
    await this.#clock.settle();
    for await (const keys of this.#keys()) {
      const records = await Promise.all(keys.map(key => this.#store.read(key)));
      for (const [index, key] of keys.entries()) {
        const record = records[index];
        const data = record && this.#dataOf(key, record);
        if (data) yield { key, data };
      }
    }
  }

  #scheduleSweep(): void {
    if (this.#isClosed || this.#sweepIntervalMs === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#clock.setTimeout(() => {
      this.#sweeping = this.#sweep().finally(() => this.#scheduleSweep());
    }, this.#sweepIntervalMs);
  }

  async #sweep(): Promise<void> {
    try {
      if (!(await this.#clock.check())) return; // which says so
      const now = this.#clock.now();
      let limit = BATCH;
      while (!this.#isClosed) {
        const due = await this.#store.expired(now, limit);
        const own = due.filter(key => key.startsWith(this.#prefix));
        const deleted = await Promise.all(own.map(key => this.#store.delete(key, now)));
        if (due.length < limit) return;
        // Sessions of others that nobody clears away come first again and again.
        if (!deleted.includes(true)) limit *= 2;
        if (limit > MAX_SWEEP) return;
      }
    } catch (error) {
      this.#logger.warn({ err: error }, 'expired sessions of express-session not swept; trying again');
    }
  }
}

/** As it is now: the session may change before it is written. */
function cookieOf({ cookie }: ExpressSessionData): ExpressCookieData {
  return JSON.parse(JSON.stringify(cookie ?? {}));
}

function newRecord({ absoluteExpiresAt, cookie }: Life, value: Uint8Array, now: number): SessionRecord {
  // No secret opens it: the cookie of express-session holds the sid itself, signed.
  const header = {
    secretHash: '',
    createdAt: now,
    cookie,
    ...(absoluteExpiresAt !== undefined && { absoluteExpiresAt }),
  };
  const version = firstVersion();
  return { header, version, lastAccessedAt: now, attributes: new Map([[DATA, { value, version }]]) };
}

function positive(name: string, value: number, most = Number.POSITIVE_INFINITY): number {
  if (value > 0 && value <= most) return value;
  throw new TypeError(`express store: ${name} must be more than 0 and at most ${most}, not ${value}`);
}
