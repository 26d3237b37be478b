import { setImmediate as turn } from 'node:timers/promises';
import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import { callListener } from '../../base/call-listener.ts';
import type { Timer } from '../../base/clock.ts';
import { sidPrefix } from '../../base/logger.ts';
import { isReplaced, type Secrets } from '../identity/secret-standing.ts';
import { ExpiryWatch, UNWATCHED, type Watched } from '../life/expiry-watch.ts';
import { encodedSession } from '../record/encoded-session.ts';
import { expiryOf, expiryReason, type SessionEnder } from '../record/expiry.ts';
import { holderWithoutResponse, SessionHandle } from '../record/handle.ts';
import type { Committed } from '../record/snapshot.ts';
import {
  type FoundSession,
  isSessionEnded,
  isSuperseded,
  type SessionState,
  type SessionStateFacts,
} from '../record/state.ts';
import type { LoadedSession } from './loaded-session.ts';
import type { SessionServices } from './services.ts';
import type { Admission, SocketSession } from './socket-session.ts';

/** A commit behind a socket is tried again after these, then reported. */
const RETRY_DELAYS_MS = [100, 200, 400, 800, 1600];
/** How often it is asked what other processes have done to the sessions that sockets hold here. */
const REFRESH_INTERVAL_MS = 5_000;
/** When a session that looks over is judged anew, after the store has refused to end it. */
const NOT_ENDED_PAUSE_MS = 1_000;
/** So many are refreshed at once. */
const REFRESH_TOGETHER = 50;
/** Sessions with changes that are to be written later, and no request or socket that uses them. */
const MAX_UNRETAINED = 10_000;

/** The registry, as far as sharing needs it. */
export interface LoadableSessions extends SessionEnder {
  load(sid: string): Awaitable<LoadedSession | undefined>;
  validate(sid: string): Awaitable<LoadedSession | undefined>;
  hasEnded(sid: string): boolean;
  createState(facts: SessionStateFacts): SessionState;
  /** The sockets of a session must go, whichever process has ended it or renewed its secret. Once for each end. */
  tellSocketEnd(sid: string, why: 'ended' | 'renewed'): void;
}

/**
 * The sessions that several in this process have in common: sockets, and requests whose changes are written behind
 * them.
 */
export class SharedSessions {
  readonly #services: SessionServices;
  readonly #sessions: LoadableSessions;
  readonly #shared = new Map<string, SharedSession>();
  readonly #loading = new Map<string, Promise<LoadedSession | undefined>>();
  /** With changes that are to be written later, the longest unretained first. */
  readonly #unretained = new Set<SharedSession>();
  /** Those that sockets hold. */
  readonly #watch: ExpiryWatch<SharedSession>;
  #timer: Timer | undefined;
  #refreshing: Promise<void> | undefined;
  #isClosed = false;

  constructor(services: SessionServices, sessions: LoadableSessions) {
    this.#services = services;
    this.#sessions = sessions;
    const { clock, logger } = services;
    this.#watch = new ExpiryWatch({
      clock,
      now: () => clock.now(),
      expiresAt: shared => shared.expiresAt,
      endAtOnce: shared => this.#endIfTooOld(shared),
      ask: shared => this.#readAgain(shared),
      onOutage: error =>
        logger.warn({ err: error }, 'it is not known whether sessions with sockets are over; trying again'),
    });
  }

  async attach(sid: string, admission?: Admission): Promise<SocketSession | undefined> {
    const known = this.#shared.get(sid);
    if (known && !known.isOver) return known.state.isEnded ? undefined : this.#admit(known, admission);
    const loaded = await this.#load(sid);
    // What the store answered may be older than the end.
    return loaded && !this.#sessions.hasEnded(sid) ? this.#admit(this.share(sid, loaded), admission) : undefined;
  }

  #admit(shared: SharedSession, admission: Admission | undefined): Awaitable<SocketSession | undefined> {
    return whenThere(shared.attach(admission) ?? attachToNewest(shared, admission), socket =>
      this.#withAttributes(shared, socket, admission),
    );
  }

  #withAttributes(
    shared: SharedSession,
    socket: SocketSession | undefined,
    admission: Admission | undefined,
  ): Awaitable<SocketSession | undefined> {
    const { attributes, state } = admission ?? {};
    if (!socket || !attributes) return socket;
    if (state) shared.state.adopt(state);
    return loadAtOnce(socket, attributes);
  }

  /** The shared session, brought up to date with what was just loaded. The caller retains it at once. */
  share(sid: string, loaded: LoadedSession): SharedSession {
    const known = this.#shared.get(sid);
    if (known && !known.state.isEnded) {
      this.#reload(known, loaded);
      return known;
    }
    return this.#add(sid, loaded);
  }

  /**
   * A request has asked the store: who shares the session knows it too, and sockets that must go do so before others
   * come.
   */
  onLoaded(sid: string, loaded: LoadedSession): void {
    const shared = this.#shared.get(sid);
    if (shared) this.#reload(shared, loaded);
  }

  has(sid: string): boolean {
    return this.#shared.has(sid);
  }

  /** For `LoadedSession.seen`. */
  commitsOf(sid: string): number | undefined {
    return this.#shared.get(sid)?.state.commits;
  }

  /** Commits what is changed in this session and not yet written. */
  async flush(sid: string): Promise<void> {
    await this.#shared.get(sid)?.state.commit();
  }

  /**
   * Commits what is left of every session. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE, when it was tried for
   * each.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#services.clock.clearTimeout(this.#timer);
    this.#watch.close();
    await this.#refreshing;
    const isWritten = this.#services.settings.write !== 'manual';
    const sessions = [...this.#shared.values()];
    const commits = await Promise.allSettled(isWritten ? sessions.map(({ state }) => state.commit()) : []);
    for (const shared of sessions) shared.stop();
    for (const commit of commits) {
      if (commit.status === 'rejected' && !isSessionEnded(commit.reason)) throw commit.reason;
    }
  }

  /** Somebody in this process has committed a change. */
  onCommitted(state: SessionState, committed: Committed): void {
    const shared = this.#shared.get(state.sid);
    if (!shared) return;
    if (shared.state === state ? state.includes(committed) : shared.state.absorb(committed)) shared.notice();
    else this.#refreshLater(shared);
  }

  onReloaded(state: SessionState): void {
    const shared = this.#shared.get(state.sid);
    if (shared?.state === state) shared.notice();
  }

  /** Those who share it go on with what it has become; the sockets from before must go. */
  onSuperseded(state: SessionState, found: FoundSession): void {
    const shared = this.#shared.get(state.sid);
    if (shared?.state === state) shared.reload(found);
  }

  /** Another process has changed it. */
  onChangedElsewhere(sid: string): void {
    const shared = this.#shared.get(sid);
    if (shared) this.#refreshLater(shared);
  }

  /** It has been learned in this process that a session is over: by its end here, or by what the store answered. */
  onEnded(state: SessionState): void {
    const shared = this.#shared.get(state.sid);
    if (shared?.state === state) {
      this.#forgetIfUnretained(shared);
      this.#sessions.tellSocketEnd(state.sid, 'ended');
    } else shared?.state.markEnded();
  }

  markEnded(sid: string): void {
    this.#shared.get(sid)?.state.markEnded();
  }

  #reload(shared: SharedSession, loaded: LoadedSession): void {
    if (!shared.reload(loaded)) this.#refreshLater(shared);
    else if (shared.state.isStale) this.#later(shared.reloadStale());
  }

  #refreshLater(shared: SharedSession): void {
    this.#later(shared.refresh());
  }

  #later(refresh: Promise<void>): void {
    refresh.catch(error => this.#services.logger.warn({ err: error }, 'shared session not refreshed; trying again'));
  }

  /** Nobody can give it more time, so its sockets go also when the store cannot be reached. There the sweep ends it. */
  #endIfTooOld({ state }: SharedSession): boolean {
    const { clock, logger } = this.#services;
    const { header, sid, lastAccessedAt } = state;
    const now = clock.now();
    if (!clock.isKnown || expiryReason(header, lastAccessedAt, now) !== 'absolute') return false;
    state.markEnded();
    this.#sessions
      .end(sid, 'absolute', { expiredBy: now, createdAt: header.createdAt })
      .catch(error =>
        logger.warn({ err: error, sid: sidPrefix(sid) }, 'an expired session is not ended in the store yet'),
      );
    return true;
  }

  /** Another process may have used it. */
  async #readAgain(shared: SharedSession): Promise<number | undefined> {
    const { accessTimes, clock } = this.#services;
    const { sid } = shared.state;
    const loaded = await this.#sessions.load(sid); // which ends it when its time is over
    if (shared.state.isEnded) return undefined;
    if (!loaded) {
      if (!clock.isKnown) throw new Error('the clock of the session store is not known');
      // The store has not let it end: somebody has used it at the last moment, again and again.
      return clock.now() + NOT_ENDED_PAUSE_MS;
    }
    shared.reload(loaded);
    // By the store's header: a shorter time that was set here and not committed counts for nobody.
    return expiryOf(loaded.snapshot.header, accessTimes.latest(sid, loaded.lastAccessedAt));
  }

  #keepFresh(): void {
    if (this.#isClosed || this.#shared.size === 0) return;
    this.#timer ??= this.#services.clock.setTimeout(() => {
      this.#refreshing = this.#refreshAll().finally(() => {
        this.#timer = undefined;
        this.#keepFresh();
      });
    }, REFRESH_INTERVAL_MS);
  }

  async #refreshAll(): Promise<void> {
    const sessions = [...this.#shared.values()];
    for (let start = 0; start < sessions.length && !this.#isClosed; start += REFRESH_TOGETHER) {
      const batch = sessions.slice(start, start + REFRESH_TOGETHER);
      const refreshes = await Promise.allSettled(batch.map(shared => shared.refresh()));
      const failures = refreshes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
      if (failures[0])
        this.#services.logger.warn({ err: failures[0].reason }, 'shared sessions not refreshed; trying again');
      if (failures.length === batch.length) return; // an outage: it would be the same for the others
      await turn();
    }
  }

  async #load(sid: string): Promise<LoadedSession | undefined> {
    const loading = this.#loading.get(sid) ?? Promise.resolve(this.#sessions.load(sid));
    this.#loading.set(sid, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(sid);
    }
  }

  #add(sid: string, { snapshot, lastAccessedAt }: LoadedSession): SharedSession {
    const state = this.#sessions.createState({ sid, snapshot, lastAccessedAt, isStored: true });
    const shared = new SharedSession(this.#services, this.#sessions, state, {
      onUnretained: () => this.#onUnretained(shared),
      onRetained: () => this.#unretained.delete(shared),
      onSockets: () => this.#watch.schedule(shared, shared.expiresAt),
      onNoSockets: () => this.#watch.cancel(shared),
      onSecretReplaced: () => this.#sessions.tellSocketEnd(sid, 'renewed'),
    });
    this.#shared.set(sid, shared);
    this.#keepFresh();
    return shared;
  }

  /** No request or socket uses it. What is to be written later keeps it here. */
  #onUnretained(shared: SharedSession): void {
    if (this.#forgetIfUnretained(shared)) return;
    this.#unretained.add(shared);
    if (this.#unretained.size <= MAX_UNRETAINED) return;
    const [oldest] = this.#unretained;
    this.#unretained.delete(oldest!);
    if (this.#services.settings.write === 'manual') {
      const { sid } = oldest!.state;
      const message = 'changes that were never synced are dropped to make room; call session.sync()';
      this.#services.logger.warn({ sid: sidPrefix(sid) }, message);
      this.#shared.delete(sid);
    } else void oldest!.commit();
  }

  #forgetIfUnretained(shared: SharedSession): boolean {
    const isToBeWritten = shared.state.isDirty && this.#services.settings.write !== 'end-of-request';
    if (shared.isRetained || (isToBeWritten && !this.#isClosed)) return false;
    this.#unretained.delete(shared);
    shared.stop();
    if (this.#shared.get(shared.state.sid) === shared) this.#shared.delete(shared.state.sid);
    return true;
  }
}

/** What is shared may be older than what the handshake has read or written itself. */
async function attachToNewest(shared: SharedSession, admission?: Admission): Promise<SocketSession | undefined> {
  shared.retain();
  try {
    await shared.refresh();
    return shared.state.isEnded ? undefined : shared.attach(admission);
  } finally {
    await shared.release();
  }
}

/** Undefined when the session is over meanwhile, or a login has replaced the secret of the handshake. */
async function loadAtOnce(socket: SocketSession, attributes: readonly string[]): Promise<SocketSession | undefined> {
  try {
    await encodedSession(socket.session).fetch(attributes);
    return socket;
  } catch (error) {
    await socket.release().catch(() => {}); // of a socket that has changed nothing
    if (isSessionEnded(error) || isSuperseded(error)) return undefined;
    throw error;
  }
}

interface SharedSessionOwner {
  onUnretained(): void;
  onRetained(): void;
  /** It has sockets now, or may be over sooner than was known. */
  onSockets(): void;
  onNoSockets(): void;
  onSecretReplaced(): void;
}

/** One session as all in this process have it who share it. */
export class SharedSession implements Watched {
  readonly state: SessionState;
  livesUntil = UNWATCHED.livesUntil;
  dueAt = UNWATCHED.dueAt;
  watchIndex = UNWATCHED.watchIndex;
  readonly #services: SessionServices;
  readonly #sessions: LoadableSessions;
  readonly #owner: SharedSessionOwner;
  /** Each in an object of its own: sockets may have the same function. */
  readonly #errorListeners = new Set<{ readonly listener: (error: Error) => void }>();
  #references = 0;
  #sockets = 0;
  #storedAccessAt: number;
  /** The last ones that are known here. */
  #secrets: Secrets;
  /** How often a login has replaced them. */
  #renewals = 0;
  /** Of the store, when the session was read as a whole. */
  #interruptions: number;
  #reloading: Promise<void> | undefined;
  #isScheduled = false;
  #isStopped = false;
  #writeTimer: Timer | undefined;
  #retries = 0;
  #retryTimer: Timer | undefined;

  constructor(services: SessionServices, sessions: LoadableSessions, state: SessionState, owner: SharedSessionOwner) {
    this.#services = services;
    this.#sessions = sessions;
    this.state = state;
    this.#storedAccessAt = state.lastAccessedAt;
    this.#secrets = state.header;
    this.#interruptions = services.store.interruptions ?? 0;
    this.#owner = owner;
  }

  get isRetained(): boolean {
    return this.#references > 0;
  }

  /** When it ends by itself, as far as this process knows. */
  get expiresAt(): number {
    const { state } = this;
    return expiryOf(state.header, this.#services.accessTimes.latest(state.sid, state.lastAccessedAt));
  }

  get isOver(): boolean {
    return this.#services.clock.now() >= this.expiresAt;
  }

  /** Kept until it is released as often as it was retained. */
  retain(): void {
    this.#references++;
    this.#owner.onRetained();
  }

  /** Commits what is left, unless it is to be written later, and lets go. */
  async release(): Promise<void> {
    try {
      if (this.#services.settings.write === 'end-of-request') await this.state.commit();
    } catch (error) {
      if (!isSessionEnded(error)) throw error;
    } finally {
      this.#references--;
      if (this.#references === 0) this.#owner.onUnretained();
    }
  }

  /** Undefined when a login has replaced the secret since the handshake was let in. */
  attach({ secrets, isVeiled = false, isNameless = false }: Partial<Admission> = {}): SocketSession | undefined {
    const { state } = this;
    if (secrets && isReplaced(secrets, state.header)) return undefined;
    this.retain();
    this.#sockets++;
    if (this.#sockets === 1) this.#owner.onSockets();
    this.#services.meters.hold();
    const listeners = new Set<{ readonly listener: (error: Error) => void }>();
    let released: Promise<void> | undefined;
    const holder = holderWithoutResponse(state, this.#sessions, () => this.schedule());
    // Who attaches by the sid alone has shown no secret that a login could have replaced.
    const view = secrets && { isNew: false, isVeiled, isNameless, ownerName: state.ownerName };
    const handle = new SessionHandle(state, holder, view);
    const renewals = this.#renewals;
    const hasBeenRenewed = () => this.#renewals !== renewals;
    return {
      session: handle.session,
      get isEnded() {
        return state.isEnded;
      },
      get isRenewed() {
        return hasBeenRenewed();
      },
      touch: () => this.#touch(),
      refresh: () => this.refresh(),
      onError: listener => {
        const own = { listener };
        listeners.add(own);
        this.#errorListeners.add(own);
      },
      release: () => {
        if (!released) {
          handle.release();
          this.#sockets--;
          if (this.#sockets === 0) this.#owner.onNoSockets();
          this.#services.meters.letGo();
          for (const own of listeners) this.#errorListeners.delete(own);
          released = this.release();
        }
        return released;
      },
    };
  }

  /**
   * Takes over what has just been read from the store, under what is changed here. False when it has to be read again.
   */
  reload({ snapshot, lastAccessedAt, seen }: LoadedSession): boolean {
    const isTaken = this.state.reload(snapshot, seen);
    this.state.lastAccessedAt = Math.max(this.state.lastAccessedAt, lastAccessedAt);
    this.notice();
    return isTaken;
  }

  /** Takes over what other processes have committed. */
  async refresh(): Promise<void> {
    const { state } = this;
    if (state.isEnded) return;
    const { store } = this.#services;
    const { interruptions = 0 } = store;
    if (interruptions === this.#interruptions) {
      const glance = await store.glance(state.sid);
      if (glance?.version === state.version) return this.reloadStale();
      if (!glance) return state.markEnded();
    }
    const loaded = await this.#sessions.validate(state.sid);
    if (!loaded) return state.markEnded();
    // Otherwise something was committed here meanwhile: the next refresh will tell.
    if (this.reload(loaded)) this.#interruptions = interruptions;
    return this.reloadStale();
  }

  /** Fetches again what sockets have loaded and others have changed; once for all who ask meanwhile. */
  async reloadStale(): Promise<void> {
    if (!this.state.isStale) return;
    this.#reloading ??= this.#loadStale().finally(() => {
      this.#reloading = undefined;
    });
    await this.#reloading;
  }

  async #loadStale(): Promise<void> {
    await this.state.reloadStale().catch(error => {
      // By a login its sockets go, and the next refresh fetches for others.
      if (!isSessionEnded(error) && !isSuperseded(error)) throw error;
    });
  }

  /** Something was committed to it, or changed here. */
  notice(): void {
    if (this.#sockets > 0 && this.expiresAt < this.livesUntil) this.#owner.onSockets();
    const { header } = this.state;
    const before = this.#secrets;
    this.#secrets = header;
    if (!isReplaced(before, header)) return;
    this.#renewals++;
    this.#owner.onSecretReplaced();
  }

  /** Something was changed: it is committed when the write frequency says. */
  schedule(): void {
    const { settings, clock } = this.#services;
    const { write } = settings;
    this.notice();
    if (write === 'manual' || this.#isScheduled) return;
    // Nobody would think later of what a request changes whose client has gone: it is written at once.
    if (this.#isStopped && write === 'end-of-request') return;
    this.#isScheduled = true;
    if (write !== 'end-of-request' && !this.#isStopped) {
      this.#writeTimer = clock.setTimeout(() => void this.commit(), write.everyMs);
      return;
    }
    // After the callbacks of this turn: what many messages change together is one commit.
    setImmediate(() => void this.commit());
  }

  async commit(): Promise<void> {
    this.#isScheduled = false;
    try {
      await this.state.commit();
      this.#retries = 0;
      if (!this.isRetained) this.#owner.onUnretained();
    } catch (error) {
      if (!isSessionEnded(error)) this.#onFailure(error as Error);
    }
  }

  /** Nothing is committed behind its holders any more. */
  stop(): void {
    this.#isStopped = true;
    this.#services.clock.clearTimeout(this.#retryTimer);
    this.#services.clock.clearTimeout(this.#writeTimer);
  }

  #touch(): void {
    const { state } = this;
    const { accessTimes, clock } = this.#services;
    const now = clock.now();
    // What comes after the end, while that is being found out, does not bring it back.
    if (state.isEnded || (now >= this.livesUntil && now >= this.expiresAt)) return;
    state.lastAccessedAt = accessTimes.marked(now);
    accessTimes.note(state.sid, state.header, this.#storedAccessAt, at => {
      this.#storedAccessAt = at;
    });
  }

  #onFailure(error: Error): void {
    if (this.#isStopped) return;
    const delay = RETRY_DELAYS_MS[this.#retries];
    if (delay !== undefined) {
      if (this.#retryTimer) return;
      this.#retries++;
      this.#retryTimer = this.#services.clock.setTimeout(() => {
        this.#retryTimer = undefined;
        void this.commit();
      }, delay);
      return;
    }
    this.#retries = 0;
    this.#services.logger.error(
      { err: error, sid: sidPrefix(this.state.sid) },
      'changes of a session are not committed',
    );
    if (this.#services.settings.write !== 'end-of-request') this.schedule();
    for (const { listener } of [...this.#errorListeners])
      callListener(
        () => listener(error),
        err => this.#services.logger.error({ err }, 'a listener for errors of a session failed'),
      );
  }
}
