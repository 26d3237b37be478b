import { setImmediate as turn } from 'node:timers/promises';
import type { Timer } from '../base/clock.ts';
import { sidPrefix } from '../base/logger.ts';
import type { Session } from './session.ts';
import type { SessionEnvironment } from './session-environment.ts';
import { headersSent, SessionHandle } from './session-handle.ts';
import { type Committed, isSessionEnded, type SessionState } from './session-state.ts';

/** A commit behind a socket is tried again after these, then reported. */
const RETRY_DELAYS_MS = [100, 200, 400, 800, 1600];
/** How often it is asked what other processes have done to the sessions that sockets hold here. */
const REFRESH_INTERVAL_MS = 5_000;
/** So many are refreshed before others have their turn. */
const REFRESH_BATCH = 500;

/**
 * A socket's hold on a session.
 *
 * All sockets of a session in one process share its record: what one sets, the others read at once; it is committed behind them, and
 * what requests of this process commit is seen too. What other processes commit is seen after `refresh`, which is done every 5 s.
 */
export interface SocketSession {
  readonly session: Session;
  /** True once the session is over, also when this process did not end it and has only learned of it. */
  readonly isEnded: boolean;
  /** The session was used: counts as an access, written in batches. */
  touch(): void;
  /** Takes over what other processes have committed. Cheap when they have not. @throws ERR_SESSION_STORE_UNAVAILABLE. */
  refresh(): Promise<void>;
  /** Told when changes could not be committed although it was tried again and again. They are kept for the next commit. */
  onError(listener: (error: Error) => void): void;
  /** Commits what is left, then lets go. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE: it is let go of, what was changed is lost. */
  release(): Promise<void>;
}

/** The sessions that sockets of this process hold: one shared record each, for as long as somebody holds it. */
export class SocketSessions {
  readonly #environment: SessionEnvironment;
  readonly #onEnd: (sid: string) => void;
  readonly #shared = new Map<string, SharedSession>();
  readonly #loading = new Map<string, Promise<SharedSession | undefined>>();
  /** Sessions that ended while they were being read: what the store answers may be older than their end. */
  readonly #endedMeanwhile = new Set<string>();
  #timer: Timer | undefined;
  #refreshing: Promise<void> | undefined;
  #isClosed = false;

  /** @param onEnd Told once for each session that is over while sockets hold it, whichever process ended it. */
  constructor(environment: SessionEnvironment, onEnd: (sid: string) => void) {
    this.#environment = environment;
    this.#onEnd = onEnd;
  }

  async attach(sid: string): Promise<SocketSession | undefined> {
    const shared = this.#shared.get(sid) ?? (await this.#load(sid));
    return shared && !shared.state.isEnded ? shared.hold() : undefined;
  }

  /** Commits what sockets have changed in this session and not yet written. */
  async flush(sid: string): Promise<void> {
    await this.#shared.get(sid)?.state.commit();
  }

  /** Commits what is left of every session. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, when it was tried for each. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#environment.clock.clearTimeout(this.#timer);
    await this.#refreshing;
    const commits = await Promise.allSettled(Array.from(this.#shared.values(), ({ state }) => state.commit()));
    for (const commit of commits) {
      if (commit.status === 'rejected' && !isSessionEnded(commit.reason)) throw commit.reason;
    }
  }

  /** Somebody in this process has committed a change. */
  onCommitted(state: SessionState, committed: Committed): void {
    const shared = this.#shared.get(state.sid);
    if (!shared) return;
    const isComplete = shared.state === state ? state.version >= committed.version : shared.state.absorb(committed);
    if (!isComplete)
      shared
        .refresh()
        .catch(error => this.#environment.logger.warn({ err: error }, 'session of a socket not refreshed'));
  }

  /** It has been learned in this process that a session is over: by its end here, or by what the store answered. */
  onEnded(state: SessionState): void {
    const shared = this.#shared.get(state.sid);
    if (shared?.state === state) this.#onEnd(state.sid);
    else shared?.state.markEnded();
  }

  markEnded(sid: string): void {
    this.#shared.get(sid)?.state.markEnded();
    if (this.#loading.has(sid)) this.#endedMeanwhile.add(sid);
  }

  #watch(): void {
    if (this.#isClosed || this.#shared.size === 0) return;
    this.#timer ??= this.#environment.clock.setTimeout(() => {
      this.#refreshing = this.#refreshAll().finally(() => {
        this.#timer = undefined;
        this.#watch();
      });
    }, REFRESH_INTERVAL_MS);
  }

  async #refreshAll(): Promise<void> {
    let refreshed = 0;
    try {
      for (const shared of this.#shared.values()) {
        if (this.#isClosed) return;
        await shared.refresh();
        if (++refreshed % REFRESH_BATCH === 0) await turn();
      }
    } catch (error) {
      this.#environment.logger.warn({ err: error }, 'sessions of sockets not refreshed; trying again');
    }
  }

  async #load(sid: string): Promise<SharedSession | undefined> {
    const loading = this.#loading.get(sid) ?? this.#read(sid);
    this.#loading.set(sid, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(sid);
      this.#endedMeanwhile.delete(sid);
    }
  }

  async #read(sid: string): Promise<SharedSession | undefined> {
    const record = await this.#environment.readLive(sid);
    if (!record || this.#endedMeanwhile.has(sid)) return undefined;
    const state = this.#environment.createState(sid, record, true);
    const shared = new SharedSession(this.#environment, state, record.lastAccessedAt, () => this.#shared.delete(sid));
    this.#shared.set(sid, shared);
    this.#watch();
    return shared;
  }
}

class SharedSession {
  readonly state: SessionState;
  readonly #environment: SessionEnvironment;
  readonly #onUnused: () => void;
  readonly #errorListeners = new Set<(error: Error) => void>();
  #holders = 0;
  #storedAccessAt: number;
  #isScheduled = false;
  #retries = 0;
  #retryTimer: Timer | undefined;

  constructor(environment: SessionEnvironment, state: SessionState, storedAccessAt: number, onUnused: () => void) {
    this.#environment = environment;
    this.state = state;
    this.#storedAccessAt = storedAccessAt;
    this.#onUnused = onUnused;
  }

  hold(): SocketSession {
    const { state } = this;
    this.#holders++;
    const listeners = new Set<(error: Error) => void>();
    let released: Promise<void> | undefined;
    const handle = new SessionHandle(
      state,
      {
        onChanged: () => this.#schedule(),
        renew: async () => {
          throw headersSent('renewed');
        },
        invalidate: async reason => {
          await this.#environment.end(state.sid, reason);
          state.markEnded();
        },
      },
      false,
    );
    return {
      session: handle.session,
      get isEnded() {
        return state.isEnded;
      },
      touch: () => this.#touch(),
      refresh: () => this.refresh(),
      onError: listener => {
        listeners.add(listener);
        this.#errorListeners.add(listener);
      },
      release: () => {
        if (!released) {
          handle.release();
          for (const listener of listeners) this.#errorListeners.delete(listener);
          released = this.#release();
        }
        return released;
      },
    };
  }

  async refresh(): Promise<void> {
    const { state } = this;
    if (state.isEnded) return;
    const version = await this.#environment.store.readVersion(state.sid);
    if (version === state.version) return;
    const record = version === undefined ? undefined : await this.#environment.store.read(state.sid);
    if (record) state.reload(record);
    else state.markEnded();
  }

  #touch(): void {
    const { state } = this;
    if (state.isEnded) return;
    state.lastAccessedAt = this.#environment.clock.now();
    this.#environment.accessTimes.note(state.sid, state.header, this.#storedAccessAt, at => {
      this.#storedAccessAt = at;
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // After the callbacks of this turn: what many messages change together is one commit.
    setImmediate(() => void this.#commit());
  }

  async #commit(): Promise<void> {
    this.#isScheduled = false;
    try {
      await this.state.commit();
      this.#retries = 0;
    } catch (error) {
      if (!isSessionEnded(error)) this.#onFailure(error as Error);
    }
  }

  #onFailure(error: Error): void {
    const delay = RETRY_DELAYS_MS[this.#retries];
    if (delay !== undefined) {
      if (this.#retryTimer) return;
      this.#retries++;
      this.#retryTimer = this.#environment.clock.setTimeout(() => {
        this.#retryTimer = undefined;
        void this.#commit();
      }, delay);
      return;
    }
    this.#retries = 0;
    this.#environment.logger.error(
      { err: error, sid: sidPrefix(this.state.sid) },
      'changes of a socket to its session are not committed',
    );
    for (const listener of this.#errorListeners) listener(error);
  }

  async #release(): Promise<void> {
    try {
      await this.state.commit();
    } catch (error) {
      if (!isSessionEnded(error)) throw error;
    } finally {
      this.#holders--;
      if (this.#holders === 0) {
        this.#environment.clock.clearTimeout(this.#retryTimer);
        this.#onUnused();
      }
    }
  }
}
