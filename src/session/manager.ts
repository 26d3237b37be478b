import { type Clock, systemClock } from '../base/clock.ts';
import { type Logger, sidPrefix, silentLogger } from '../base/logger.ts';
import { AccessTimes } from './access-times.ts';
import { SessionBinding, type SessionRequest } from './binding.ts';
import { SessionCookie, type SessionCookieOptions } from './cookie.ts';
import { expiryReason } from './expiry.ts';
import { GuardedStore } from './guarded-store.ts';
import { KeyRing } from './key-ring.ts';
import type { Session, SessionEndReason } from './session.ts';
import type { SessionEnvironment } from './session-environment.ts';
import { headersSent, outsideRequest, SessionHandle } from './session-handle.ts';
import { SessionState, sessionEnded } from './session-state.ts';
import { type SocketSession, SocketSessions } from './socket-sessions.ts';
import type { SessionRecord, SessionStore } from './store.ts';
import { Sweeper } from './sweeper.ts';

export interface SessionManagerOptions {
  /** Closed by `close()`. */
  readonly store: SessionStore;
  /** Keys of at least 32 random bytes; the first signs cookies, every one verifies. `loadOrCreateKey` keeps one in a folder. */
  readonly keys: readonly (string | Uint8Array)[];
  readonly cookie?: SessionCookieOptions;
  /** Milliseconds of silence after which a session ends; `Infinity` never. Default 30 minutes. */
  readonly idleTimeoutMs?: number;
  /** Milliseconds after which a session ends whatever happens; `Infinity` never. Default 12 hours. */
  readonly absoluteTimeoutMs?: number;
  /** Largest encoded attribute in bytes. Default 1 MiB. */
  readonly maxAttributeBytes?: number;
  /** Milliseconds between two searches for expired sessions. Default 60,000. */
  readonly sweepIntervalMs?: number;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

/** That a session has ended, and why. */
export interface SessionEnd {
  readonly sid: string;
  readonly reason: SessionEndReason;
}

/**
 * Sessions for whatever carries a request: plain `node:http`, fetch handlers, WebSocket handshakes, sockets, background work.
 *
 * A failure of the store rejects with ERR_SESSION_STORE_UNAVAILABLE (503) everywhere; it never looks like "no session".
 */
export class SessionManager {
  readonly #environment: SessionEnvironment;
  readonly #sockets: SocketSessions;
  readonly #sweeper: Sweeper;
  readonly #bindings = new WeakMap<object, SessionBinding>();
  readonly #endListeners = new Set<(end: SessionEnd) => void>();
  readonly #socketEndListeners = new Set<(sid: string) => void>();
  readonly #queues = new Map<string, Promise<unknown>>();
  readonly #maxAttributeBytes: number;

  /** @throws {TypeError} when an option cannot work. */
  constructor(options: SessionManagerOptions) {
    const { clock = systemClock, logger = silentLogger } = options;
    const store = new GuardedStore(options.store);
    this.#maxAttributeBytes = positive('maxAttributeBytes', options.maxAttributeBytes ?? 1024 * 1024);
    this.#environment = {
      store,
      clock,
      logger,
      cookie: new SessionCookie(new KeyRing(options.keys), options.cookie),
      accessTimes: new AccessTimes(store, clock, logger),
      idleTimeoutMs: positive('idleTimeoutMs', options.idleTimeoutMs ?? 30 * 60_000),
      absoluteTimeoutMs: positive('absoluteTimeoutMs', options.absoluteTimeoutMs ?? 12 * 3_600_000),
      readLive: sid => this.#readLive(sid),
      createState: (sid, record, isStored) => this.#createState(sid, record, isStored),
      end: (sid, reason) => this.end(sid, reason),
    };
    this.#sockets = new SocketSessions(this.#environment, sid => this.#tell(this.#socketEndListeners, sid));
    this.#sweeper = new Sweeper(this.#environment, positive('sweepIntervalMs', options.sweepIntervalMs ?? 60_000));
  }

  /** The name of the session cookie. */
  get cookieName(): string {
    return this.#environment.cookie.name;
  }

  /** Begins to end sessions whose time is over, also when nobody asks for them. */
  start(): void {
    this.#sweeper.start();
  }

  /** Writes what is left (changes of sockets, last accesses), then closes the store. */
  async close(): Promise<void> {
    await this.#sweeper.stop();
    try {
      await this.#sockets.close();
      await this.#environment.accessTimes.close();
    } finally {
      await this.#environment.store.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The session of one request. Reads nothing yet. */
  bind(request: SessionRequest): SessionBinding {
    return new SessionBinding(this.#environment, request);
  }

  /** Makes `get(carrier)` and `open(carrier)` mean this binding, for as long as the carrier (a request, a handshake) lives. */
  bindTo(carrier: object, binding: SessionBinding): void {
    this.#bindings.set(carrier, binding);
  }

  /** The session of a request, or undefined when its client has none. @throws {HoldfastError} as `SessionBinding.get`. */
  async get(carrier: object): Promise<Session | undefined> {
    return this.#bindingOf(carrier).get();
  }

  /** The session of a request, made when its client has none. @throws {HoldfastError} as `SessionBinding.open`. */
  async open(carrier: object): Promise<Session> {
    return this.#bindingOf(carrier).open();
  }

  /**
   * Works on a session outside a request. What `work` changed is committed when it has settled, also when it throws.
   * Does not count as an access: only its client keeps a session alive.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED when there is no such session (any more); ERR_SESSION_STORE_UNAVAILABLE.
   */
  async access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T> {
    const record = await this.#readLive(sid);
    if (!record) throw sessionEnded();
    const state = this.#createState(sid, record, true);
    const handle = new SessionHandle(
      state,
      {
        onChanged: () => {},
        renew: async () => {
          throw headersSent('renewed');
        },
        invalidate: async reason => {
          await this.end(sid, reason);
          state.markEnded();
        },
      },
      false,
    );
    try {
      return await work(handle.session);
    } finally {
      handle.release();
      await state.commit();
    }
  }

  /** Holds a session for a socket. Undefined when there is no such session (any more). @throws ERR_SESSION_STORE_UNAVAILABLE. */
  attach(sid: string): Promise<SocketSession | undefined> {
    return this.#sockets.attach(sid);
  }

  /**
   * Ends a session. True when this call has ended it, false when it was not there (any more).
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE: the session may still live.
   */
  async end(sid: string, reason: SessionEndReason): Promise<boolean> {
    const { store, accessTimes, logger } = this.#environment;
    const isClaimed = await store.delete(sid);
    this.#sockets.markEnded(sid);
    accessTimes.forget(sid);
    if (!isClaimed) return false;
    logger.info({ event: 'session-end', sid: sidPrefix(sid), reason }, 'session ended');
    this.#tell(this.#endListeners, { sid, reason });
    return true;
  }

  /**
   * Calls back for each session that this process ends: once per session among all processes that share the store, because only one
   * of them deletes it. Returns a function that stops it.
   */
  onEnd(listener: (end: SessionEnd) => void): () => void {
    this.#endListeners.add(listener);
    return () => void this.#endListeners.delete(listener);
  }

  /**
   * Calls back when a session that sockets of this process hold is over, once for each: at once when this process has ended it, within
   * 5 s when another one has. Returns a function that stops it.
   */
  onSocketSessionEnd(listener: (sid: string) => void): () => void {
    this.#socketEndListeners.add(listener);
    return () => void this.#socketEndListeners.delete(listener);
  }

  #tell<T>(listeners: ReadonlySet<(fact: T) => void>, fact: T): void {
    for (const listener of listeners) {
      try {
        listener(fact);
      } catch (error) {
        this.#environment.logger.error({ err: error }, 'a listener for ended sessions threw');
      }
    }
  }

  #bindingOf(carrier: object): SessionBinding {
    const binding = this.#bindings.get(carrier);
    if (!binding) throw outsideRequest();
    return binding;
  }

  async #readLive(sid: string): Promise<SessionRecord | undefined> {
    const { store, accessTimes, clock } = this.#environment;
    await this.#sockets.flush(sid).catch(() => {}); // it is tried again behind the sockets, which report it
    const record = await store.read(sid);
    if (!record) this.#sockets.markEnded(sid); // by another process
    const reason = record && expiryReason(record.header, accessTimes.latest(sid, record.lastAccessedAt), clock.now());
    if (!reason) return record;
    await this.end(sid, reason);
    return undefined;
  }

  #createState(sid: string, record: SessionRecord, isStored: boolean): SessionState {
    return new SessionState({
      sid,
      record,
      isStored,
      store: this.#environment.store,
      maxAttributeBytes: this.#maxAttributeBytes,
      onCommitted: (state, committed) => this.#sockets.onCommitted(state, committed),
      onEnded: state => this.#sockets.onEnded(state),
      serialize: (key, task) => this.#serialize(key, task),
    });
  }

  async #serialize<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(key);
    const run = before ? before.then(task, task) : task();
    this.#queues.set(key, run);
    try {
      return await run;
    } finally {
      if (this.#queues.get(key) === run) this.#queues.delete(key);
    }
  }
}

function positive(name: string, value: number): number {
  if (value > 0) return value;
  throw new TypeError(`sessions: ${name} must be more than 0, or Infinity for no limit; not ${value}`);
}
