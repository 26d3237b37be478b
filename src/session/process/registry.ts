import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import { callListener } from '../../base/call-listener.ts';
import { randomId } from '../../base/ids.ts';
import { sidPrefix } from '../../base/logger.ts';
import { RecentMap } from '../../base/recent-map.ts';
import { isSid } from '../identity/ids.ts';
import { become, type SessionSettings } from '../options.ts';
import { type EndOptions, expiryReason } from '../record/expiry.ts';
import { holderWithoutResponse, SessionHandle } from '../record/handle.ts';
import { type Committed, NO_VERSION, type Snapshot } from '../record/snapshot.ts';
import {
  type FoundSession,
  SessionState,
  type SessionStateFacts,
  type SessionStateRules,
  sessionEnded,
} from '../record/state.ts';
import { SizeWarnings } from '../reports/size-warnings.ts';
import { checkEndReason, type Session, type SessionEndReason } from '../session.ts';
import type { SessionRecord } from '../store.ts';
import { SessionCapacity } from './capacity.ts';
import { KeyedQueue } from './keyed-queue.ts';
import type { LoadedSession } from './loaded-session.ts';
import type { SessionServices } from './services.ts';
import { type SharedSession, SharedSessions } from './shared-sessions.ts';
import type { Admission, SocketSession } from './socket-session.ts';

/**
 * Why sockets must go: their session is over, or a login has replaced the secret that they came with and they may come
 * again.
 */
export type SocketEndReason = 'ended' | 'renewed';

type SocketEndListener = (sid: string, why: SocketEndReason) => void;

/** The channel of the ledger on which processes tell each other. */
const CHANNEL = 'session';
/** Known ended sids per cached session: WebSphere's list has half the cap's size. */
const ENDED_SHARE = 0.5;
const MIN_ENDED = 1_000;
/** How long it is known that a nonce has made its session: longer than any request that shows it takes. */
const NONCE_MEMORY_MS = 600_000;

/** `timed`: it may be silent for another time than before. `used`: by another process than before. */
type ControlEvent =
  | { readonly type: 'ended' | 'renewed' | 'timed'; readonly sid: string }
  | { readonly type: 'used'; readonly sid: string; readonly by: string };

/**
 * The sessions that this process has loaded: it loads and validates them, ends them, and keeps up with the other
 * processes.
 */
export class SessionRegistry {
  readonly capacity: SessionCapacity;
  readonly #services: SessionServices;
  /** Which process it is that has told something. */
  readonly #id: string = randomId(9);
  /** Sids that are known to have ended, the latest ones: the store is not asked for them. A sid never comes back. */
  readonly #ended: RecentMap<string, true>;
  readonly #shared: SharedSessions;
  readonly #rules: SessionStateRules;
  readonly #sizes: SizeWarnings;
  readonly #socketEndListeners = new Set<{ readonly listener: SocketEndListener }>();
  #unsubscribe: (() => Promise<void>) | undefined;
  #listening: Promise<void> | undefined;

  constructor(services: SessionServices) {
    const { settings, store, meters, logger, clock } = services;
    this.#services = services;
    this.#ended = new RecentMap(Math.max(MIN_ENDED, settings.cacheSessions * ENDED_SHARE));
    this.capacity = new SessionCapacity(services, this);
    this.#rules = {
      ...settings,
      store,
      clock,
      creations: this.capacity,
      accesses: services.accessTimes,
      updates: new KeyedQueue(),
      meters,
      sizes: (this.#sizes = new SizeWarnings(logger, settings.warnSize)),
      observer: this,
    };
    this.#shared = new SharedSessions(services, this);
  }

  /**
   * Begins to listen to the other processes. Resolves when it does; after a failure it can be called again.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  listen(): Promise<void> {
    this.#listening ??= this.#listen().catch(error => {
      this.#listening = undefined;
      throw error;
    });
    return this.#listening;
  }

  async #listen(): Promise<void> {
    const { clock, ledger, cache } = this.#services;
    await clock.settle();
    this.#unsubscribe ??= await ledger.subscribe(CHANNEL, message => this.#onControl(message));
    await cache.watch(sid => this.#shared.onChangedElsewhere(sid));
  }

  /** Sessions that are loaded are held to these from now on, too. */
  adopt(next: SessionSettings): void {
    become(this.#services.settings, next);
    become(this.#rules as Partial<SessionSettings>, next);
    this.#sizes.limits = next.warnSize;
  }

  /** Writes what is left (changes of sockets, last accesses), then closes store and ledger, if they are its own. */
  async close(ownsStore: boolean): Promise<void> {
    const { accessTimes, cache, ledger, store, logger } = this.#services;
    await this.#listening?.catch(() => {});
    try {
      await this.#shared.close();
      await accessTimes.close();
    } finally {
      await cache.close();
      await this.#unsubscribe?.();
      if (ownsStore) await ledger.close();
      if (ownsStore) await store.close();
      logger.flush();
    }
  }

  /**
   * The session, with what sockets of this process are about to write; undefined when there is none or its time is
   * over, which ends it.
   */
  load(sid: string): Awaitable<LoadedSession | undefined> {
    if (this.#ended.has(sid)) return undefined;
    const settling = this.#services.clock.settle();
    return settling || this.#isToFlush(sid) ? this.#loadAfter(sid, settling) : this.#loadNow(sid);
  }

  /** What sockets have changed is seen by requests. */
  #isToFlush(sid: string): boolean {
    return this.#services.settings.write === 'end-of-request' && this.#shared.has(sid);
  }

  async #loadAfter(sid: string, settling: Promise<unknown> | undefined): Promise<LoadedSession | undefined> {
    await settling;
    // When it fails it is tried again behind the sockets, which report it.
    if (this.#isToFlush(sid)) await this.#shared.flush(sid).catch(() => {});
    return this.#loadNow(sid);
  }

  #loadNow(sid: string): Awaitable<LoadedSession | undefined> {
    const { clock, cache } = this.#services;
    const remembered = cache.remembered(sid);
    if (remembered && !this.#expiryOf(sid, remembered, clock.now())) return { ...remembered, isRemembered: true };
    const validated = this.validate(sid);
    // As most are that the store can look up without waiting.
    const isThere = validated !== undefined && !(validated instanceof Promise) && !this.#ended.has(sid);
    if (!isThere || this.#expiryOf(sid, validated, clock.now())) return this.#loadLiving(sid, validated);
    this.#shared.onLoaded(sid, validated);
    return validated;
  }

  /** @param first What the store has said. */
  async #loadLiving(sid: string, first: Awaitable<LoadedSession | undefined>): Promise<LoadedSession | undefined> {
    const { clock } = this.#services;
    for (let isSecondTry = false; ; isSecondTry = true) {
      const loaded = await (isSecondTry ? this.validate(sid) : first);
      if (!loaded || this.#ended.has(sid)) {
        this.#forget(sid); // ended by another process, or while the store was asked
        return undefined;
      }
      const now = clock.now();
      const reason = this.#expiryOf(sid, loaded, now);
      if (!reason) {
        this.#shared.onLoaded(sid, loaded);
        return loaded;
      }
      await this.end(sid, reason, { expiredBy: now, createdAt: loaded.snapshot.header.createdAt });
      // Otherwise it was used in another process, or given more time, while it was judged here.
      if (isSecondTry || this.#ended.has(sid)) return undefined;
    }
  }

  /** What the store has, whatever the coherence is and also past its expiry. */
  validate(sid: string): Awaitable<LoadedSession | undefined> {
    const seen = this.#shared.commitsOf(sid);
    const validated = this.#services.cache.validated(sid);
    return seen === undefined ? validated : whenThere(validated, loaded => loaded && { ...loaded, seen });
  }

  /** The record of a session whose time is not over, with the last access that is known; without what lies apart. */
  async living(sid: string, without = this.#services.settings.apart): Promise<SessionRecord | undefined> {
    const { store, accessTimes, clock } = this.#services;
    const record = await store.read(sid, without);
    if (!record) return undefined;
    const lastAccessedAt = accessTimes.latest(sid, record.lastAccessedAt);
    const isOver = expiryReason(record.header, lastAccessedAt, clock.now()) !== undefined;
    return isOver ? undefined : { ...record, lastAccessedAt };
  }

  /** True when it is known that the session is over. False proves nothing. */
  hasEnded(sid: string): boolean {
    return this.#ended.has(sid);
  }

  createState(facts: SessionStateFacts): SessionState {
    return new SessionState(this.#rules, facts);
  }

  /**
   * What all requests of this process have in common of a session, where changes are written behind them; otherwise
   * undefined.
   */
  share(sid: string, loaded: LoadedSession): SharedSession | undefined {
    return this.#services.settings.write === 'end-of-request' ? undefined : this.#shared.share(sid, loaded);
  }

  /** For a socket. @param admission Of its handshake, where there was one. */
  attach(sid: string, admission?: Admission): Promise<SocketSession | undefined> {
    return this.#shared.attach(sid, admission);
  }

  /** For work outside a request, as `SessionManager.access`. */
  async access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T> {
    const loaded = typeof sid === 'string' ? await this.load(sid) : undefined;
    if (!loaded) throw sessionEnded();
    const shared = this.share(sid, loaded);
    const state = shared?.state ?? this.createState({ sid, ...loaded, isStored: true, isForAnySecret: true });
    shared?.retain();
    const handle = new SessionHandle(
      state,
      holderWithoutResponse(state, this, () => shared?.schedule()),
    );
    try {
      return await work(handle.session);
    } finally {
      handle.release();
      if (shared) await shared.release();
      else await state.commit();
    }
  }

  /** Of a session that a nonce makes. True once for each sid, in all processes: the first time that it is created. */
  beginLife(sid: string): Promise<boolean> {
    return this.#services.ledger.putIfAbsent(lifeOf(sid), '1', NONCE_MEMORY_MS);
  }

  /** True when a nonce has made it before, whether or not it still lives. */
  async hasLived(sid: string): Promise<boolean> {
    return (await this.#services.ledger.get(lifeOf(sid))) !== undefined;
  }

  /** True when this call has ended it. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  async end(sid: string, reason: SessionEndReason, { expiredBy, ...known }: EndOptions = {}): Promise<boolean> {
    const { store, logger, clock, cache, meters, listeners } = this.#services;
    // By a clock that may be wrong nothing ends for all.
    if (expiredBy !== undefined && !clock.isKnown) return false;
    checkEndReason(reason);
    if (typeof sid !== 'string') return false;
    const createdAt = known.createdAt ?? cache.peek(sid)?.header.createdAt;
    const isClaimed = await store.delete(sid, expiredBy);
    // Conditionally, it may live on.
    if (!isClaimed && expiredBy !== undefined && (await store.glance(sid))) return false;
    this.#forget(sid);
    if (!isClaimed) return false;
    logger.info({ event: 'session-end', sid: sidPrefix(sid), reason }, 'session ended');
    meters.countEnd(reason);
    if (createdAt !== undefined) meters.lifetimeMs.add(Math.max(0, clock.now() - createdAt));
    this.#announce({ type: 'ended', sid });
    listeners.tell('ended', { sid, reason });
    return true;
  }

  /** This process has given the session a new secret. */
  onRenewed(sid: string, kind: 'rotated' | 'renewed'): void {
    this.#services.listeners.tell('renewed', { sid, kind });
    this.#announce({ type: 'renewed', sid });
  }

  /** A request here has a session that another process has had. Who asks the store for each request sees it there. */
  onTakenOver(sid: string): void {
    if (this.#services.settings.coherence === 'relaxed') this.#announce({ type: 'used', sid, by: this.#id });
  }

  onCreated(state: SessionState, snapshot: Snapshot): void {
    const { meters, cache, listeners } = this.#services;
    meters.created++;
    meters.size.add(snapshot.bytes);
    cache.add(state.sid, snapshot, state.lastAccessedAt);
    listeners.tell('created', { sid: state.sid });
  }

  onCommitted(state: SessionState, committed: Committed, before: Snapshot): void {
    const { meters, cache, listeners } = this.#services;
    const { sid } = state;
    if (committed.previous !== NO_VERSION) meters.size.add(state.bytes); // otherwise onCreated has counted it
    cache.onCommitted(sid, committed, before, state.snapshot);
    this.#shared.onCommitted(state, committed);
    if (committed.header && 'idleTimeoutMs' in committed.header) this.#announce({ type: 'timed', sid });
    if (listeners.hasAny('changed')) this.#tellChanges(sid, committed, before);
  }

  onReloaded(state: SessionState): void {
    this.#shared.onReloaded(state);
  }

  onSuperseded(state: SessionState, found: FoundSession): void {
    this.#shared.onSuperseded(state, found);
  }

  onEnded(state: SessionState): void {
    this.#shared.onEnded(state);
  }

  #tellChanges(sid: string, { attributes }: Committed, before: Snapshot): void {
    for (const [attribute, value] of attributes) {
      const kind = !value ? 'removed' : before.has(attribute) ? 'replaced' : 'added';
      this.#services.listeners.tell('changed', { sid, attribute, kind });
    }
  }

  /** Returns a function that stops it. */
  onSocketEnd(listener: SocketEndListener): () => void {
    const listening = { listener };
    this.#socketEndListeners.add(listening);
    return () => void this.#socketEndListeners.delete(listening);
  }

  tellSocketEnd(sid: string, why: SocketEndReason): void {
    const fail = (error: unknown) => this.#services.logger.error({ err: error }, 'a listener for ended sessions threw');
    for (const { listener } of this.#socketEndListeners) callListener(() => listener(sid, why), fail);
  }

  /** What another process, or this one, has told all. */
  #onControl(message: string): void {
    let event: ControlEvent;
    try {
      event = JSON.parse(message);
    } catch {
      return; // of a version that speaks otherwise
    }
    // Of a version that speaks otherwise, or of somebody who fills our memory: what has ended is remembered.
    if (!isSid(event?.sid)) return;
    if (event.type === 'ended') this.#forget(event.sid);
    if (event.type === 'used' && event.by !== this.#id) this.#services.cache.distrust(event.sid);
    if (event.type === 'renewed' || event.type === 'timed') {
      this.#services.cache.distrust(event.sid);
      this.#shared.onChangedElsewhere(event.sid);
    }
  }

  #announce(event: ControlEvent): void {
    this.#services.ledger.publish(CHANNEL, JSON.stringify(event)).catch(error => {
      // They learn of it by asking the store.
      this.#services.logger.warn({ err: error }, 'other processes were not told that a session has changed');
    });
  }

  /** The session is over: nothing of it is kept here. */
  #forget(sid: string): void {
    this.#ended.set(sid, true);
    this.#services.cache.delete(sid);
    this.#services.accessTimes.forget(sid);
    this.#shared.markEnded(sid);
  }

  #expiryOf(sid: string, { snapshot, lastAccessedAt }: LoadedSession, now: number): SessionEndReason | undefined {
    return expiryReason(snapshot.header, this.#services.accessTimes.latest(sid, lastAccessedAt), now);
  }
}

/** The ledger's key for a session that a nonce has made. */
function lifeOf(sid: string): string {
  return `life of ${sid}`;
}
