import { type Awaitable, whenThere } from '../base/awaitable.ts';
import { CalmLogger } from '../base/calm-logger.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { type Logger, sidPrefix, silentLogger } from '../base/logger.ts';
import { DEFAULT_IDLE_MS, endsBeforeWrite, isWriteTime, MAX_WRITE_MS, MIN_WRITE_MS } from '../base/session-times.ts';
import { isSid } from './identity/ids.ts';
import { KeyRing } from './identity/key-ring.ts';
import { Tickets } from './identity/ticket.ts';
import { Tracking, type TrackingOptions } from './identity/tracking.ts';
import type { Ledger } from './ledger.ts';
import { MemoryLedger } from './ledgers/memory.ts';
import { LIFETIME_PROFILES, type LifetimeProfile, WRITE_PROFILES, type WriteProfile } from './life/profiles.ts';
import { Sweeper, type SweepSchedule } from './life/sweeper.ts';
import { type UserLimit, UserSessions } from './life/user-sessions.ts';
import { AccessTimes } from './process/access-times.ts';
import { CoherentCache } from './process/coherent-cache.ts';
import { EndedSessions } from './process/ended-sessions.ts';
import type { EndOptions, LoadedSession, SessionEnvironment } from './process/environment.ts';
import { GuardedStore } from './process/guarded-store.ts';
import { KeyedQueue } from './process/keyed-queue.ts';
import { SharedSessions } from './process/shared-sessions.ts';
import type { SocketSession } from './process/socket-session.ts';
import { StoreClock } from './process/store-clock.ts';
import { expiryReason } from './record/expiry.ts';
import { holderWithoutResponse, outsideRequest, SessionHandle } from './record/handle.ts';
import type { Committed, Snapshot } from './record/snapshot.ts';
import { SessionState, type SessionStateFacts, type SessionStateRules, sessionEnded } from './record/state.ts';
import type { ConflictPolicy, WriteContents, WriteFrequency } from './record/write-policy.ts';
import { type SessionEvents, SessionListeners } from './reports/events.ts';
import { createInspector, type InspectorOptions } from './reports/inspector.ts';
import { SessionMeters, type SessionStatistics } from './reports/statistics.ts';
import { SessionBinding, type SessionRequest } from './request/binding.ts';
import { DEFAULT_ANONYMOUS_SHARE } from './room/cap.ts';
import { SessionRoom } from './room/session-room.ts';
import { checkEndReason, type Session, type SessionEndReason, type SessionOwner } from './session.ts';
import type { SessionInfo } from './session-info.ts';
import type { SessionRecord, SessionStore } from './store.ts';

export interface SessionManagerOptions extends TrackingOptions {
  /** Closed by `close()`. */
  readonly store: SessionStore;
  /**
   * What the processes that share the store have in common besides sessions: ends and renewals reach the others through
   * it. Closed by `close()`. Default: one in this process' memory; then others learn of an end within 5 s, by asking
   * the store.
   */
  readonly ledger?: Ledger;
  /** Keys of at least 32 random bytes; the first signs, every one verifies. `loadOrCreateKey` keeps one in a folder. */
  readonly keys: readonly (string | Uint8Array)[];
  /** Idle and absolute time by assurance level; either can be set beside it. */
  readonly lifetime?: LifetimeProfile;
  /** Milliseconds of silence after which a session ends; `Infinity` never. Default 30 minutes. */
  readonly idleTimeoutMs?: number;
  /** Milliseconds after which a session ends whatever happens; `Infinity` never. Default 12 hours. */
  readonly absoluteTimeoutMs?: number;
  /**
   * Milliseconds after which a session in use gets a new secret; the old one works until the client has the new one.
   * `Infinity` never. Default 4 hours.
   */
  readonly renewalTimeoutMs?: number;
  /** Frequency and contents by IBM's names; either can be set beside it. */
  readonly profile?: WriteProfile;
  /** When changes are written. Default `end-of-request`. */
  readonly write?: WriteFrequency;
  /** What a commit writes. Default `set`. */
  readonly contents?: WriteContents;
  /** What happens when two requests change one attribute. Default `last-wins`. */
  readonly conflicts?: ConflictPolicy;
  /**
   * `strict` (default): each request sees what was committed before it began, in any process; it costs one small read.
   * `relaxed`: no read for a session in memory, which may be up to 1 s behind.
   */
  readonly coherence?: 'strict' | 'relaxed';
  /** Sessions kept decoded in memory at most. Default 10,000; 0 keeps none. */
  readonly cacheSessions?: number;
  /** Bytes of memory for them, as far as they can be told. Default 64 MiB. */
  readonly cacheBytes?: number;
  /**
   * Sessions at most, where the store does not keep a cap itself: counted at each sweep. Default: as many as it takes.
   * For `MemoryStore` and `LmdbStore` it is an option of theirs, and exact.
   */
  readonly maxSessions?: number;
  /**
   * Share of `maxSessions`, and of a memory that is limited, from 0 to 1, that anonymous sessions may fill: the rest is
   * for logins. Default 0.8.
   */
  readonly anonymousShare?: number;
  /**
   * What happens at a cap. `refuse` (default): ERR_SESSION_NO_ROOM, 503. `evict`: the session next to expire ends, an
   * anonymous one first; an anonymous session never takes the place of one that has an owner.
   */
  readonly overflow?: 'refuse' | 'evict';
  readonly maxSessionsPerUser?: UserLimit;
  /** Largest encoded attribute in bytes. Default 1 MiB. */
  readonly maxAttributeBytes?: number;
  /** Largest session in bytes. Default 4 MiB. */
  readonly maxSessionBytes?: number;
  /**
   * Bytes of an attribute and of a session above which a warning is logged, once for each name. Default 16 KiB and 64
   * KiB.
   */
  readonly warnSize?: { readonly attributeBytes?: number; readonly sessionBytes?: number };
  /** When expired sessions are looked for. Default every 60,000 ms. Those that sockets hold end on time in any case. */
  readonly sweep?: SweepSchedule;
  /** A call to the store that takes longer has failed, in milliseconds; `Infinity`: none has. Default 5,000. */
  readonly storeTimeoutMs?: number;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

/**
 * Why sockets must go: their session is over, or a login has replaced the secret that they came with and they may come
 * again.
 */
export type SocketEndReason = 'ended' | 'renewed';

/** The channel of the ledger on which processes tell each other. */
const CHANNEL = 'session';
/** Known ended sids per cached session: WebSphere's list has half the cap's size. */
const ENDED_SHARE = 0.5;
const MIN_ENDED = 1_000;
/** Of the sessions next to expire, so many are looked at for one that is anonymous. */
const EVICTABLE = 100;
/** How long it is known that a nonce has made its session: longer than any request that shows it takes. */
const NONCE_MEMORY_MS = 600_000;

type Carrier = { [key: symbol]: SessionBinding | undefined };

/** `timed`: it may be silent for another time than before. */
type ControlEvent = { readonly type: 'ended' | 'renewed' | 'timed'; readonly sid: string };

/**
 * Sessions for whatever carries a request: plain `node:http`, fetch handlers, WebSocket handshakes, sockets, background
 * work.
 *
 * A failure of the store rejects with ERR_SESSION_STORE_UNAVAILABLE (503) everywhere; it never looks like "no session".
 */
export class SessionManager {
  readonly #environment: SessionEnvironment;
  readonly #ledger: Ledger;
  readonly #cache: CoherentCache;
  readonly #ended: EndedSessions;
  readonly #shared: SharedSessions;
  readonly #sweeper: Sweeper;
  readonly #rules: SessionStateRules;
  readonly #listeners: SessionListeners;
  readonly #meters = new SessionMeters();
  /**
   * Under which a carrier has its binding: a weak map of objects that live as long as a request keeps the garbage
   * collector busy.
   */
  readonly #carrierKey = Symbol('holdfast session');
  readonly #socketEndListeners = new Set<(sid: string, why: SocketEndReason) => void>();
  readonly #queue = new KeyedQueue();
  readonly #logger: CalmLogger;
  #unsubscribe: (() => Promise<void>) | undefined;
  #listening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** @throws {TypeError} when an option cannot work. */
  constructor(options: SessionManagerOptions) {
    const { clock = systemClock } = options;
    const logger = CalmLogger.over(options.logger ?? silentLogger, clock);
    this.#logger = logger;
    const lifetime = options.lifetime && LIFETIME_PROFILES[options.lifetime];
    const profile = WRITE_PROFILES[options.profile ?? 'medium'];
    const frequency = options.write ?? profile.frequency;
    const idleTimeoutMs = positive(
      'idleTimeoutMs',
      options.idleTimeoutMs ?? lifetime?.idleTimeoutMs ?? DEFAULT_IDLE_MS,
    );
    const absoluteTimeoutMs = positive(
      'absoluteTimeoutMs',
      options.absoluteTimeoutMs ?? lifetime?.absoluteTimeoutMs ?? 12 * 3_600_000,
    );
    checkFrequency(frequency, idleTimeoutMs);
    const meters = this.#meters;
    const store = new GuardedStore(options.store, {
      clock,
      meters,
      timeoutMs: positive('storeTimeoutMs', options.storeTimeoutMs ?? 5_000),
      makeRoom: options.overflow === 'evict' ? isAnonymous => this.#makeRoom(isAnonymous) : undefined,
      admit: isAnonymous => room?.admit(isAnonymous) ?? Promise.resolve(),
    });
    const { maxSessions, anonymousShare = DEFAULT_ANONYMOUS_SHARE } = options;
    const room =
      maxSessions !== undefined || store.fullness
        ? new SessionRoom({ store, clock, maxSessions: maxSessions ?? Number.POSITIVE_INFINITY, anonymousShare })
        : undefined;
    const hasRoom = async (isAnonymous: boolean) =>
      (store.hasRoom?.(isAnonymous) ?? true) && (await room?.hasRoom(isAnonymous)) !== false;
    this.#ledger = options.ledger ?? new MemoryLedger({ clock });
    this.#listeners = new SessionListeners(logger);
    const cacheSessions = notNegative('cacheSessions', options.cacheSessions ?? 10_000);
    this.#ended = new EndedSessions(Math.max(MIN_ENDED, cacheSessions * ENDED_SHARE));
    this.#cache = new CoherentCache({
      store,
      clock,
      meters,
      listeners: this.#listeners,
      coherence: options.coherence ?? 'strict',
      maxSessions: cacheSessions,
      maxBytes: notNegative('cacheBytes', options.cacheBytes ?? 64 * 1024 * 1024),
    });
    const end = (sid: string, reason: SessionEndReason, how?: EndOptions) => this.#end(sid, reason, how);
    const storeClock = new StoreClock(clock, store, logger);
    this.#environment = {
      store,
      clock: storeClock,
      logger,
      meters,
      room,
      mayBeginUnasked: () =>
        options.overflow === 'evict' || hasRoom(true).then(async isRoom => isRoom || !(await hasRoom(false))),
      tracking: new Tracking(new Tickets(new KeyRing(options.keys), options.cookie?.path), options, absoluteTimeoutMs),
      accessTimes: new AccessTimes(store, storeClock, logger, (sid, at) => this.#cache.noteAccess(sid, at)),
      users: new UserSessions({
        store,
        ledger: this.#ledger,
        limit: options.maxSessionsPerUser,
        end,
        living: sid => this.#living(sid),
      }),
      frequency,
      idleTimeoutMs,
      absoluteTimeoutMs,
      renewalTimeoutMs: positive('renewalTimeoutMs', options.renewalTimeoutMs ?? 4 * 3_600_000),
      load: sid => this.#load(sid),
      validate: sid => this.#validated(sid),
      share: (sid, loaded) => (frequency === 'end-of-request' ? undefined : this.#shared.share(sid, loaded)),
      attach: (sid, admission) => this.#shared.attach(sid, admission),
      hasEnded: sid => this.#ended.has(sid),
      createState: facts => this.#createState(facts),
      beginLife: sid => this.#ledger.putIfAbsent(lifeOf(sid), '1', NONCE_MEMORY_MS),
      hasLived: async sid => (await this.#ledger.get(lifeOf(sid))) !== undefined,
      end,
      onRenewed: (sid, kind) => this.#onRenewed(sid, kind),
    };
    const warnSize = { attributeBytes: 16 * 1024, sessionBytes: 64 * 1024, ...options.warnSize };
    this.#rules = {
      store,
      maxAttributeBytes: positive('maxAttributeBytes', options.maxAttributeBytes ?? 1024 * 1024),
      maxSessionBytes: positive('maxSessionBytes', options.maxSessionBytes ?? 4 * 1024 * 1024),
      contents: options.contents ?? profile.contents,
      conflicts: options.conflicts ?? 'last-wins',
      onCreated: (state, snapshot) => this.#onCreated(state, snapshot),
      onCommitted: (state, committed, before) => this.#onCommitted(state, committed, before),
      onEnded: state => this.#shared.onEnded(state),
      onConflict: () => {
        meters.conflicts++;
      },
      onUnknownType: () => {
        meters.unknownTypes++;
      },
      onSet: sizeWarning(logger, warnSize),
      serialize: (sid, task) => this.#queue.run(sid, task),
    };
    this.#shared = new SharedSessions(this.#environment, {
      onEnd: sid => this.#tellSocketEnd(sid, 'ended'),
      onSecretReplaced: sid => this.#tellSocketEnd(sid, 'renewed'),
    });
    this.#sweeper = new Sweeper(this.#environment, this.#ledger, options.sweep ?? profile.sweep ?? { everyMs: 60_000 });
  }

  /** The name of the session cookie. */
  get cookieName(): string {
    return this.#environment.tracking.cookie.name;
  }

  /** How clients show their session: what carriers have to look for. */
  get tracking(): Pick<Tracking, 'kind' | 'headerName' | 'urlParameter' | 'ownCookies'> {
    return this.#environment.tracking;
  }

  /**
   * Begins to end sessions whose time is over, also when nobody asks for them, and to listen to the other processes.
   *
   * Resolves when it listens. Everything works before that, and when it rejects: ends in other processes are then
   * learned by asking the store.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   */
  start(): Promise<void> {
    this.#sweeper.start();
    this.#listening ??= this.#listen().catch(error => {
      this.#listening = undefined; // it can be called again
      throw error;
    });
    return this.#listening;
  }

  /** Writes what is left (changes of sockets, last accesses), then closes store and ledger. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#sweeper.stop();
    await this.#listening?.catch(() => {});
    try {
      await this.#shared.close();
      await this.#environment.accessTimes.close();
    } finally {
      await this.#cache.close();
      await this.#unsubscribe?.();
      await this.#ledger.close();
      await this.#environment.store.close();
      this.#logger.flush();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The session of one request. Reads nothing yet. */
  bind(request: SessionRequest): SessionBinding {
    return new SessionBinding(this.#environment, request);
  }

  /**
   * Makes `get(carrier)` and `open(carrier)` mean this binding, for as long as the carrier (a request, a handshake)
   * lives.
   */
  bindTo(carrier: object, binding: SessionBinding): void {
    (carrier as Carrier)[this.#carrierKey] = binding;
  }

  /**
   * The session of a request, or undefined when its client has none. @throws {HoldfastError} as `SessionBinding.get`.
   */
  get(carrier: object): Promise<Session | undefined> {
    return this.#boundTo(carrier)?.get() ?? Promise.reject(outsideRequest());
  }

  /** The session of a request, made when its client has none. @throws {HoldfastError} as `SessionBinding.open`. */
  open(carrier: object): Promise<Session> {
    return this.#boundTo(carrier)?.open() ?? Promise.reject(outsideRequest());
  }

  /** Makes the request's session this user's, with a new secret. @throws {HoldfastError} as `SessionBinding.signIn`. */
  async signIn(carrier: object, owner: SessionOwner): Promise<Session> {
    return this.#bindingOf(carrier).signIn(owner);
  }

  /** A URL with the session in it, under `tracking: 'url'`; otherwise as it is. The servlets' `encodeURL`. */
  encodeUrl(carrier: object, url: string): string {
    return this.#bindingOf(carrier).encodeUrl(url);
  }

  /**
   * Works on a session outside a request. What `work` changed is committed when it has settled, also when it throws;
   * under `manual` and `{ everyMs }` when that says so, or by `sync()`. Does not count as an access: only its client
   * keeps a session alive.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED when there is no such session (any more); ERR_SESSION_STORE_UNAVAILABLE.
   */
  async access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T> {
    const loaded = typeof sid === 'string' ? await this.#load(sid) : undefined;
    if (!loaded) throw sessionEnded();
    const shared = this.#environment.share(sid, loaded);
    const state = shared?.state ?? this.#createState({ sid, ...loaded, isStored: true });
    shared?.retain();
    const handle = new SessionHandle(
      state,
      holderWithoutResponse(state, this.#environment.end, () => shared?.schedule()),
    );
    try {
      return await work(handle.session);
    } finally {
      handle.release();
      if (shared) await shared.release();
      else await state.commit();
    }
  }

  /**
   * Holds a session for a socket whose client is known by other means than a handshake. Undefined when there is no such
   * session (any more). @throws ERR_SESSION_STORE_UNAVAILABLE.
   */
  attach(sid: string): Promise<SocketSession | undefined> {
    return this.#shared.attach(sid);
  }

  /**
   * Ends a session. True when this call has ended it, false when it was not there (any more).
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE: the session may still live.
   */
  async end(sid: string, reason: SessionEndReason): Promise<boolean> {
    return this.#end(sid, reason);
  }

  /** The sessions that a user owns, in all processes that share the store. */
  async ofUser(name: string): Promise<SessionInfo[]> {
    const infos = await Promise.all((await this.#environment.users.sids(name)).map(sid => this.info(sid)));
    return infos.filter(info => info !== undefined);
  }

  /**
   * Ends all sessions of a user: "sign out everywhere".
   *
   * @param options.except A sid that stays: the one from which it is asked.
   * @returns how many this call has ended.
   */
  async endAllOf(
    name: string,
    options: { readonly reason?: SessionEndReason; readonly except?: string } = {},
  ): Promise<number> {
    return this.#environment.users.endAll(name, options.reason ?? 'admin', options.except);
  }

  /** Every session that lives, one after the other: never all of them in memory. */
  async *list(): AsyncIterable<SessionInfo> {
    for await (const sid of this.#environment.store.sids()) {
      const info = await this.info(sid);
      if (info) yield info;
    }
  }

  /** What administrators may know of a session; undefined when there is none. */
  async info(sid: string): Promise<SessionInfo | undefined> {
    const record = typeof sid === 'string' ? await this.#living(sid) : undefined;
    if (!record) return undefined;
    const { owner, createdAt, idleTimeoutMs, absoluteExpiresAt } = record.header;
    return {
      sid,
      owner: owner && { name: owner.name, roles: owner.roles },
      createdAt,
      lastAccessedAt: record.lastAccessedAt,
      idleTimeoutMs,
      absoluteExpiresAt,
      version: record.version,
      attributes: Array.from(record.attributes, ([name, { value }]) => ({ name, bytes: value.length })),
      isLive: this.#cache.has(sid),
    };
  }

  /** How many sessions the store holds, those whose time is over and that were not swept yet included. */
  count(): Promise<number> {
    return this.#environment.store.count();
  }

  statistics(): SessionStatistics {
    return this.#meters.read(this.#cache);
  }

  /**
   * The session tracker: a handler for `Request`s, mounted wherever the application likes. For administrators only, see
   * the options.
   */
  inspector(options?: InspectorOptions): (request: Request) => Promise<Response> {
    return createInspector(this, options);
  }

  /**
   * Calls back for what happens to sessions in this process. Returns a function that stops it. A listener that throws
   * is logged.
   */
  on<K extends keyof SessionEvents>(kind: K, listener: (event: SessionEvents[K]) => void): () => void {
    return this.#listeners.on(kind, listener);
  }

  /**
   * Calls back when the sockets that hold a session here must go: it is over, or a login has replaced its secret. At
   * once when it happened in this process; through the ledger, or within 5 s without one, when in another. Returns a
   * function that stops it.
   */
  onSocketEnd(listener: (sid: string, why: SocketEndReason) => void): () => void {
    this.#socketEndListeners.add(listener);
    return () => void this.#socketEndListeners.delete(listener);
  }

  async #listen(): Promise<void> {
    await this.#environment.clock.settle();
    this.#unsubscribe ??= await this.#ledger.subscribe(CHANNEL, message => this.#onControl(message));
    await this.#cache.watch(sid => this.#shared.onChangedElsewhere(sid));
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
    if (event.type === 'renewed' || event.type === 'timed') {
      this.#cache.distrust(event.sid);
      this.#shared.onChangedElsewhere(event.sid);
    }
  }

  #announce(event: ControlEvent): void {
    this.#ledger.publish(CHANNEL, JSON.stringify(event)).catch(error => {
      // They learn of it by asking the store.
      this.#environment.logger.warn({ err: error }, 'other processes were not told that a session has changed');
    });
  }

  /** The session is over: nothing of it is kept here. */
  #forget(sid: string): void {
    this.#ended.add(sid);
    this.#cache.delete(sid);
    this.#environment.accessTimes.forget(sid);
    this.#shared.markEnded(sid);
  }

  async #end(sid: string, reason: SessionEndReason, { expiredBy, ...known }: EndOptions = {}): Promise<boolean> {
    const { store, logger, clock } = this.#environment;
    // By a clock that may be wrong nothing ends for all.
    if (expiredBy !== undefined && !clock.isKnown) return false;
    checkEndReason(reason);
    if (typeof sid !== 'string') return false;
    const createdAt = known.createdAt ?? this.#cache.peek(sid)?.header.createdAt;
    const isClaimed = await store.delete(sid, expiredBy);
    // Conditionally, it may live on.
    if (!isClaimed && expiredBy !== undefined && (await store.glance(sid))) return false;
    this.#forget(sid);
    if (!isClaimed) return false;
    logger.info({ event: 'session-end', sid: sidPrefix(sid), reason }, 'session ended');
    this.#meters.countEnd(reason);
    if (createdAt !== undefined) this.#meters.lifetimeMs.add(Math.max(0, clock.now() - createdAt));
    this.#announce({ type: 'ended', sid });
    this.#listeners.tell('ended', { sid, reason });
    return true;
  }

  #onRenewed(sid: string, kind: 'rotated' | 'renewed'): void {
    this.#listeners.tell('renewed', { sid, kind });
    this.#announce({ type: 'renewed', sid });
  }

  #tellSocketEnd(sid: string, why: SocketEndReason): void {
    for (const listener of this.#socketEndListeners) {
      try {
        listener(sid, why);
      } catch (error) {
        this.#environment.logger.error({ err: error }, 'a listener for ended sessions threw');
      }
    }
  }

  #boundTo(carrier: object): SessionBinding | undefined {
    return (carrier as Carrier)[this.#carrierKey];
  }

  #bindingOf(carrier: object): SessionBinding {
    const binding = this.#boundTo(carrier);
    if (!binding) throw outsideRequest();
    return binding;
  }

  async #load(sid: string): Promise<LoadedSession | undefined> {
    if (this.#ended.has(sid)) return undefined;
    const { clock, frequency } = this.#environment;
    const settling = clock.settle();
    if (settling) await settling;
    // What sockets have changed is seen by requests. When it fails it is tried again behind the sockets, which report
    // it.
    if (frequency === 'end-of-request' && this.#shared.has(sid)) await this.#shared.flush(sid).catch(() => {});
    const remembered = this.#cache.remembered(sid);
    if (remembered && !this.#expiryOf(sid, remembered, clock.now())) return { ...remembered, isRemembered: true };
    for (let isSecondTry = false; ; isSecondTry = true) {
      const loaded = await this.#validated(sid);
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
      await this.#end(sid, reason, { expiredBy: now, createdAt: loaded.snapshot.header.createdAt });
      // Otherwise it was used in another process, or given more time, while it was judged here.
      if (isSecondTry || this.#ended.has(sid)) return undefined;
    }
  }

  #validated(sid: string): Awaitable<LoadedSession | undefined> {
    const seen = this.#shared.commitsOf(sid);
    const validated = this.#cache.validated(sid);
    return seen === undefined ? validated : whenThere(validated, loaded => loaded && { ...loaded, seen });
  }

  /** The record of a session whose time is not over, with the last access that is known. */
  async #living(sid: string): Promise<SessionRecord | undefined> {
    const record = await this.#environment.store.read(sid);
    if (!record) return undefined;
    const lastAccessedAt = this.#environment.accessTimes.latest(sid, record.lastAccessedAt);
    const isOver = expiryReason(record.header, lastAccessedAt, this.#environment.clock.now()) !== undefined;
    return isOver ? undefined : { ...record, lastAccessedAt };
  }

  #expiryOf(sid: string, { snapshot, lastAccessedAt }: LoadedSession, now: number): SessionEndReason | undefined {
    return expiryReason(snapshot.header, this.#environment.accessTimes.latest(sid, lastAccessedAt), now);
  }

  #createState(facts: SessionStateFacts): SessionState {
    return new SessionState(this.#rules, facts);
  }

  #onCreated(state: SessionState, snapshot: Snapshot): void {
    this.#meters.created++;
    this.#meters.size.add(snapshot.bytes);
    this.#cache.add(state.sid, snapshot, state.lastAccessedAt);
    this.#listeners.tell('created', { sid: state.sid });
  }

  #onCommitted(state: SessionState, committed: Committed, before: Snapshot): void {
    const { sid } = state;
    this.#meters.size.add(state.bytes);
    this.#cache.onCommitted(sid, committed, before, state.snapshot);
    this.#shared.onCommitted(state, committed);
    if (committed.header && 'idleTimeoutMs' in committed.header) this.#announce({ type: 'timed', sid });
    if (this.#listeners.hasAny('changed')) this.#tellChanges(sid, committed, before);
  }

  #tellChanges(sid: string, { attributes }: Committed, before: Snapshot): void {
    for (const [attribute, value] of attributes) {
      const kind = !value ? 'removed' : before.attribute(attribute) ? 'replaced' : 'added';
      this.#listeners.tell('changed', { sid, attribute, kind });
    }
  }

  /** Ends the session next to expire, another one for each call. False when there is none. */
  #makeRoom(isForAnonymous: boolean): Promise<boolean> {
    return this.#queue.run('make room', async () => {
      const { store, room } = this.#environment;
      let owned: string | undefined;
      for (const sid of await store.expired(Number.MAX_SAFE_INTEGER, EVICTABLE)) {
        const record = await store.read(sid);
        if (!record) continue;
        if (record.header.owner) {
          owned ??= sid;
          continue;
        }
        if (await this.#end(sid, 'evicted')) room?.release(true);
        return true;
      }
      if (isForAnonymous || owned === undefined) return false;
      if (await this.#end(owned, 'evicted')) room?.release(false);
      return true;
    });
  }
}

function positive(name: string, value: number): number {
  if (value > 0) return value;
  throw new TypeError(`sessions: ${name} must be more than 0, or Infinity for no limit; not ${value}`);
}

function notNegative(name: string, value: number): number {
  if (value >= 0) return value;
  throw new TypeError(`sessions: ${name} must be 0 or more, not ${value}`);
}

/** The ledger's key for a session that a nonce has made. */
function lifeOf(sid: string): string {
  return `life of ${sid}`;
}

function checkFrequency(frequency: WriteFrequency, idleTimeoutMs: number): void {
  if (frequency === 'end-of-request' || frequency === 'manual') return;
  if (typeof frequency !== 'object') {
    throw new TypeError(
      `sessions: write must be end-of-request, manual or { everyMs }, not ${JSON.stringify(frequency)}`,
    );
  }
  const { everyMs } = frequency;
  if (!isWriteTime(everyMs))
    throw new TypeError(
      `sessions: write.everyMs must be ${MIN_WRITE_MS} to ${MAX_WRITE_MS} milliseconds, not ${everyMs}`,
    );
  if (endsBeforeWrite(idleTimeoutMs, everyMs)) {
    throw new TypeError(
      `sessions: idleTimeoutMs (${idleTimeoutMs}) must be at least twice write.everyMs (${everyMs}); write more often, or let sessions live longer`,
    );
  }
}

/** Warns once for each attribute name, and once for sessions as a whole, so that a busy log stays readable. */
function sizeWarning(
  logger: Logger,
  limits: { readonly attributeBytes: number; readonly sessionBytes: number },
): SessionStateRules['onSet'] {
  const warned = new Set<string>();
  const warnOnce = (key: string, fields: object, message: string) => {
    if (warned.has(key) || warned.size > 1_000) return;
    warned.add(key);
    logger.warn(fields, message);
  };
  return (sid, attribute, attributeBytes, sessionBytes) => {
    if (attributeBytes > limits.attributeBytes) {
      const message =
        'a session attribute is large: every commit of it is written, and read again; keep a key to it instead';
      warnOnce(`attribute ${attribute}`, { sid: sidPrefix(sid), attribute, bytes: attributeBytes }, message);
    }
    if (sessionBytes > limits.sessionBytes)
      warnOnce('session', { sid: sidPrefix(sid), bytes: sessionBytes }, 'a session is large');
  };
}
