import { HoldfastError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { checkOptions, isPlain, kindOf, type OptionNames } from '../base/options.ts';
import type { Tracking } from './identity/tracking.ts';
import type { Ledger } from './ledger.ts';
import { Sweeper } from './life/sweeper.ts';
import { UserSessions } from './life/user-sessions.ts';
import { canBecome, type SessionManagerOptions } from './options.ts';
import { type PeekOptions, peekAt, type SessionPeek } from './peek.ts';
import { SessionRegistry, type SocketEndReason } from './process/registry.ts';
import { checkedSettings, createServices, createTracking } from './process/services.ts';
import type { SocketSession } from './process/socket-session.ts';
import { wholeTimes } from './record/times.ts';
import { checkListening, type SessionEvents } from './reports/events.ts';
import { MinuteHistory, type SessionMinute } from './reports/history.ts';
import { createInspector, type InspectorOptions } from './reports/inspector.ts';
import type { Inspector } from './reports/inspector-carriers.ts';
import type { SessionStatistics } from './reports/statistics.ts';
import { StatisticsExchange, type StatisticsOfAll } from './reports/statistics-of-all.ts';
import { type BindingServices, SessionBinding } from './request/binding.ts';
import type { SessionRequest } from './request/session-request.ts';
import type { Session, SessionEndReason, SessionOwner, SignInOptions } from './session.ts';
import type { SessionInfo } from './session-info.ts';
import type { SessionStore } from './store.ts';

/** What `endAllOf` takes besides the name. */
export interface EndAllOptions {
  readonly reason?: SessionEndReason;
  readonly except?: string;
}

const REQUEST: OptionNames<SessionRequest> = {
  cookieHeader: 'text',
  readHeader: 'function',
  urlTicket: 'text',
  isSecure: 'flag',
  isDocumentNavigation: 'flag',
  isPreflight: 'flag',
  clientAddress: 'text',
  method: 'text',
  site: true, // some work it out when it is asked for
  user: true,
  isCrossSiteSignIn: 'flag',
  touch: 'flag',
  attributes: 'list',
  refuseNew: 'function',
  onJudged: 'function',
};

const PEEK_OPTIONS: OptionNames<PeekOptions> = { attributes: 'list' };
const END_ALL_OPTIONS: OptionNames<EndAllOptions> = { reason: 'text', except: 'text' };

/** What a server that is given a manager needs of it. It is no business of applications. */
export const SERVER_PARTS: unique symbol = Symbol.for('holdfast session parts');

export interface ServerParts {
  readonly ledger: Ledger;
  /** The keys that sign its tickets, and what else clients keep of the server. */
  readonly keys: readonly Uint8Array[];
  readonly logger: Logger;
  readonly store: SessionStore;
  readonly tracking: Tracking;
  /** Two managers that have the same here set one cookie. Undefined: it sets none. */
  readonly cookiePlace: string | undefined;
  /** A login may ask to be remembered. */
  readonly remembers: boolean;
  /**
   * Can it go on with other options, its sessions and sockets untouched? @returns undefined: what differs needs a manager of its own (where and when sessions are written, what is kept in memory).
   * @throws {TypeError} when an option cannot work.
   */
  adapt(options: SessionManagerOptions): Adaptation | undefined;
  /** As `close`, and leaves store and ledger open: others use them. */
  release(): Promise<void>;
}

/** Other options of a manager that goes on. */
export interface Adaptation {
  /** How clients show their sessions from then on. */
  readonly tracking: Tracking;
  /** They count from now on. Does not fail. */
  become(): void;
}

type Carrier = { [key: symbol]: SessionBinding | undefined };

/**
 * Sessions for whatever carries a request: plain `node:http`, fetch handlers, WebSocket handshakes, sockets, background
 * work.
 *
 * A failure of the store rejects with ERR_SESSION_STORE_UNAVAILABLE (503) everywhere; it never looks like "no session".
 *
 * @example
 * import { createServer } from 'node:http';
 * import { attachSession, MemoryStore, SessionManager } from 'holdfast/session';
 *
 * const sessions = new SessionManager({ store: new MemoryStore(), keys: [crypto.getRandomValues(new Uint8Array(32))] });
 * await sessions.start();
 * const server = createServer(async (request, response) => {
 *   attachSession(sessions, request, response);
 *   const session = await sessions.open(request);
 *   const visits = await session.update('visits', visits => Number(visits ?? 0) + 1);
 *   response.end(`visit ${visits}`);
 * });
 * server.close();
 * await sessions.close();
 */
export class SessionManager {
  #services: BindingServices;
  readonly #sweeper: Sweeper;
  readonly #history: MinuteHistory;
  readonly #exchange: StatisticsExchange;
  /**
   * Under which a carrier has its binding: a weak map of objects that live as long as a request keeps the garbage
   * collector busy.
   */
  readonly #carrierKey = Symbol('holdfast session');
  readonly [SERVER_PARTS]: ServerParts;
  #closing: Promise<void> | undefined;

  /** @throws {TypeError} when an option cannot work. */
  constructor(options: SessionManagerOptions) {
    const services = createServices(options);
    const registry = new SessionRegistry(services);
    this.#services = { ...services, registry, users: new UserSessions(services, registry) };
    this.#sweeper = new Sweeper(services, registry);
    services.store.makeRoom = () => this.#sweeper.makeRoom();
    this[SERVER_PARTS] = {
      ...{ ledger: services.ledger, logger: services.logger, store: options.store },
      ...this.#partsOf(options, services.tracking),
      adapt: next => this.#adapt(next, registry),
      release: () => (this.#closing ??= this.#close(false)),
    };
    const { cache, clock, ledger, logger, meters, tracking } = services;
    this.#history = new MinuteHistory(clock, {
      read: () => ({ totals: meters.read(cache), peaks: meters.peaks(cache) }),
      forgetPeaks: () => meters.forgetPeaks(cache),
    });
    this.#exchange = new StatisticsExchange({
      ...{ ledger, logger },
      context: `${tracking.cookie.name} ${options.cookie?.path ?? '/'}`,
      now: () => clock.now(),
      read: () => this.statistics(),
    });
  }

  /** The name of the session cookie. */
  get cookieName(): string {
    return this.#services.tracking.cookie.name;
  }

  /** The path of the session cookie: below it browsers send it. */
  get cookiePath(): string {
    return this.#services.tracking.cookie.path;
  }

  /** How clients show their session: what carriers have to look for. */
  get tracking(): Pick<Tracking, 'kinds' | 'headerName' | 'urlParameter' | 'path' | 'ownCookies' | 'isStrict'> {
    return this.#services.tracking;
  }

  /**
   * Begins to end sessions whose time is over, also when nobody asks for them, and to listen to the other processes.
   *
   * Resolves when it listens. Everything works before that, and when it rejects: ends in other processes are then
   * learned by asking the store. A second call does nothing, and after a failure it tries again: a server that is given
   * this manager calls it too.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE; ERR_SERVER_STATE after `close`.
   *
   * @example
   * await sessions.start(); // once, before the first request
   */
  async start(): Promise<void> {
    if (this.#closing) {
      const message = 'start: this session manager is closed; make another one, and close it after the last server';
      throw new HoldfastError('ERR_SERVER_STATE', message);
    }
    this.#sweeper.start();
    await this.#services.clock.settle(); // or the first minute would be one of this machine's clock
    if (!this.#closing) this.#history.start();
    await this.#services.registry.listen();
    await this.#exchange.listen();
  }

  /**
   * Writes what is left (changes of sockets, last accesses), then closes store and ledger.
   *
   * @example
   * await sessions.close(); // once, after the last request
   */
  close(): Promise<void> {
    this.#closing ??= this.#close(true);
    return this.#closing;
  }

  #partsOf(options: SessionManagerOptions, tracking: Tracking) {
    const remembers = options.rememberMe !== undefined;
    return { keys: options.keys.map(keyBytes), tracking, cookiePlace: tracking.cookiePlace, remembers };
  }

  #adapt(options: SessionManagerOptions, registry: SessionRegistry): Adaptation | undefined {
    const settings = checkedSettings(options);
    const tracking = createTracking(options, settings);
    if (!canBecome(this.#services.settings, settings)) return undefined;
    const become = () => {
      registry.adopt(settings);
      this.#services = { ...this.#services, tracking };
      Object.assign(this[SERVER_PARTS], this.#partsOf(options, tracking));
    };
    return { tracking, become };
  }

  async #close(ownsStore: boolean): Promise<void> {
    this.#history.stop();
    await this.#sweeper.stop();
    try {
      await this.#exchange.close();
    } finally {
      await this.#services.registry.close(ownsStore);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * The session of one request. Reads nothing yet. `release` it when the request has ended: until then its session is
   * in use and does not end by silence.
   *
   * @throws {TypeError} when the request is none, or has something that no request has.
   *
   * @example
   * const binding = sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false });
   * const session = await binding.open();
   * session.set('theme', 'dark');
   * await binding.commit();
   * console.log(binding.responseHeaders().map(({ name }) => name)); // [ 'Set-Cookie' ]
   * binding.release();
   */
  bind(request: SessionRequest): SessionBinding {
    // Not of a class: attachSession has one, and each request would pay for it.
    if (kindOf(request) !== 'an object' || isPlain(request)) checkOptions('bind', request, REQUEST);
    return new SessionBinding(this.#services, request);
  }

  /**
   * Makes `get(carrier)` and `open(carrier)` mean this binding, for as long as the carrier (a request, a handshake)
   * lives.
   *
   * @example
   * const carrier = {};
   * sessions.bindTo(carrier, sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false }));
   * console.log(await sessions.get(carrier)); // undefined
   */
  bindTo(carrier: object, binding: SessionBinding): void {
    if (typeof carrier !== 'object' || carrier === null)
      throw new TypeError(`bindTo: a carrier is an object, not ${kindOf(carrier)}`);
    if (!(binding instanceof SessionBinding))
      throw new TypeError(`bindTo: "binding" is what bind has returned, not ${kindOf(binding)}`);
    (carrier as Carrier)[this.#carrierKey] = binding;
  }

  /**
   * The session of a request, or undefined when its client has none. @throws {HoldfastError} as `SessionBinding.get`.
   *
   * @example
   * const session = await sessions.get(request);
   * console.log(session?.owner?.name); // alice
   */
  get(carrier: object): Promise<Session | undefined> {
    return this.#boundTo(carrier)?.get() ?? Promise.reject(notBound('get', carrier));
  }

  /**
   * The session of a request, made when its client has none. @throws {HoldfastError} as `SessionBinding.open`.
   *
   * @example
   * const session = await sessions.open(request);
   * session.set('theme', 'dark');
   */
  open(carrier: object): Promise<Session> {
    return this.#boundTo(carrier)?.open() ?? Promise.reject(notBound('open', carrier));
  }

  /**
   * Makes the request's session this user's, with a new secret. @throws {HoldfastError} as `SessionBinding.signIn`.
   *
   * @param options "Remember me": a cookie that the browser keeps, and times of this session alone.
   *
   * @example
   * const session = await sessions.signIn(request, { name: 'alice', roles: [] }, { persistent: true });
   * console.log(session.owner?.name); // alice
   */
  async signIn(carrier: object, owner: SessionOwner, options?: SignInOptions): Promise<Session> {
    return this.#bindingOf('signIn', carrier).signIn(owner, options);
  }

  /**
   * A URL with the session in it, for a client that shows it in links; otherwise as it is. The servlets' `encodeURL`.
   *
   * @example
   * console.log(sessions.encodeUrl(request, '/cart')); // /cart
   */
  encodeUrl(carrier: object, url: string): string {
    return this.#bindingOf('encodeUrl', carrier).encodeUrl(url);
  }

  /**
   * Works on a session outside a request. What `work` changed is committed when it has settled, also when it throws;
   * under `manual` and `{ everyMs }` when that says so, or by `sync()`. Does not count as an access: only its client
   * keeps a session alive.
   *
   * @throws {HoldfastError} ERR_SESSION_ENDED when there is no such session (any more); ERR_SESSION_STORE_UNAVAILABLE.
   *
   * @example
   * await sessions.access(sid, session => session.set('mail', 'you have 1 new message'));
   */
  access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T> {
    checkText('access', 'a sid', sid);
    if (typeof work !== 'function') throw new TypeError(`access: "work" is a function, not ${kindOf(work)}`);
    return this.#services.registry.access(sid, work);
  }

  /**
   * A look into a session, outside a request: what the store has of it, read-only. Counts as no access, keeps nothing
   * in memory or alive, and writes nothing: for administrators and background work. Undefined when there is no such
   * session (any more).
   *
   * In a request whose session is not to be kept alive by it use `touch: false` of its route or of `attachSession`.
   *
   * `get` of an attribute that lies apart throws ERR_SESSION_NOT_LOADED unless it is in `options.attributes`.
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE.
   *
   * @example
   * const seen = await sessions.peek(sid);
   * console.log(seen?.owner?.name, seen?.keys()); // alice []
   */
  async peek(sid: string, options: PeekOptions = {}): Promise<SessionPeek | undefined> {
    checkText('peek', 'a sid', sid);
    checkOptions('peek', options, PEEK_OPTIONS);
    const needed = new Set(options.attributes);
    const { apart } = this.#services.settings;
    const without = apart && new Set(Array.from(apart).filter(name => !needed.has(name)));
    const record = await this.#services.registry.living(sid, without);
    return record && peekAt(sid, record, without);
  }

  /**
   * Holds a session for a socket whose client is known by other means than a handshake. Undefined when there is no such
   * session (any more). @throws ERR_SESSION_STORE_UNAVAILABLE.
   *
   * @example
   * const held = await sessions.attach(sid);
   * console.log(held?.session.owner?.name); // alice
   * await held?.release();
   */
  attach(sid: string): Promise<SocketSession | undefined> {
    checkText('attach', 'a sid', sid);
    return this.#services.registry.attach(sid);
  }

  /**
   * Ends a session. True when this call has ended it, false when it was not there (any more).
   *
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE: the session may still live.
   *
   * @example
   * console.log(await sessions.end(sid, 'admin'), await sessions.end(sid, 'admin')); // true false
   */
  async end(sid: string, reason: SessionEndReason): Promise<boolean> {
    checkText('end', 'a sid', sid);
    return this.#services.registry.end(sid, reason);
  }

  /**
   * The sessions that a user owns, in all processes that share the store.
   *
   * @example
   * console.log((await sessions.ofUser('alice')).length); // 1
   */
  async ofUser(name: string): Promise<SessionInfo[]> {
    checkText('ofUser', 'the name of a user', name);
    const infos = await Promise.all((await this.#services.users.sids(name)).map(sid => this.info(sid)));
    return infos.filter(info => info !== undefined);
  }

  /**
   * Ends all sessions of a user: "sign out everywhere".
   *
   * @param options.except A sid that stays: the one from which it is asked.
   * @returns how many this call has ended.
   *
   * @example
   * console.log(await sessions.endAllOf('alice', { reason: 'security' })); // 1
   */
  async endAllOf(name: string, options: EndAllOptions = {}): Promise<number> {
    checkText('endAllOf', 'the name of a user', name);
    checkOptions('endAllOf', options, END_ALL_OPTIONS);
    return this.#services.users.endAll(name, options.reason ?? 'admin', options.except);
  }

  /**
   * Every session that lives, one after the other: never all of them in memory.
   *
   * @example
   * for await (const { owner, attributes } of sessions.list()) console.log(owner?.name, attributes.length); // alice 0
   */
  async *list(): AsyncIterable<SessionInfo> {
    for await (const sid of this.#services.store.sids()) {
      const info = await this.info(sid);
      if (info) yield info;
    }
  }

  /**
   * What administrators may know of a session; undefined when there is none.
   *
   * @example
   * console.log((await sessions.info(sid))?.owner); // { name: 'alice', roles: [] }
   */
  async info(sid: string): Promise<SessionInfo | undefined> {
    checkText('info', 'a sid', sid);
    const record = await this.#services.registry.living(sid);
    if (!record) return undefined;
    const { owner, login } = record.header;
    return {
      sid,
      owner: owner && { name: owner.name, roles: owner.roles },
      ...wholeTimes(record.header, record.lastAccessedAt),
      isPersistent: login?.isPersistent ?? this.#services.tracking.cookie.life !== 'browser',
      version: record.version,
      attributes: [
        ...Array.from(record.attributes, ([name, { value }]) => ({ name, bytes: value.length })),
        ...Array.from(record.apart ?? [], ([name, { bytes }]) => ({ name, bytes })),
      ],
      isLive: this.#services.cache.has(sid),
    };
  }

  /**
   * How many sessions the store holds, those whose time is over and that were not swept yet included.
   *
   * @example
   * console.log(await sessions.count()); // 1
   */
  count(): Promise<number> {
    return this.#services.store.count();
  }

  /**
   * The counters of this process, as plain numbers.
   *
   * @example
   * console.log(sessions.statistics().created); // 1
   */
  statistics(): SessionStatistics {
    return this.#services.meters.read(this.#services.cache);
  }

  /**
   * The counters of this process by the minute: the last hour from `start()` on, at most 60 minutes, the oldest first. The
   * last one is the minute that runs. Plain numbers.
   *
   * @example
   * await sessions.start();
   * await sessions.end(sid, 'admin');
   * console.log(sessions.history().at(-1)?.endedBy.admin); // 1
   */
  history(): SessionMinute[] {
    return this.#history.read();
  }

  /**
   * The counters of all processes that share the ledger and keep the same sessions: of each, of each machine, and their
   * sum. They are asked through the ledger, and answer from `start()` on; who has died does not. It takes 0.1 s and the way
   * there, at most 1.5 s where one that has answered before does not. Never rejects: with a ledger that cannot be reached
   * it is this process alone, and `isComplete` is false.
   *
   * @example
   * const { sum, processes } = await sessions.statisticsOfAll();
   * console.log(sum.created, processes.length); // 1 1
   */
  statisticsOfAll(): Promise<StatisticsOfAll> {
    return this.#exchange.ask();
  }

  /**
   * The session tracker, mounted wherever the application likes: a handler for node:http and Express (`req, res`), Fastify
   * (`request, reply`), Hono (its context), and for what has a `Request`. For administrators only, see the options; the
   * requests need their sessions before (`attachSession`), or `allow` decides by something else.
   *
   * @example
   * import { createServer } from 'node:http';
   * import { attachSession } from 'holdfast/session';
   *
   * const inspect = sessions.inspector(); // for who is signed in with the role "admin"
   * const server = createServer((req, res) => {
   *   attachSession(sessions, req, res);
   *   if (req.url?.split('?')[0] === '/sessions') return inspect(req, res);
   *   res.end('hello');
   * });
   * server.close();
   */
  inspector(options?: InspectorOptions): Inspector {
    return createInspector(this, () => this.#services.logger, options);
  }

  /**
   * Calls back for what happens to sessions in this process. Returns a function that stops it. A listener that throws
   * is logged. One function may be given several times: it is called for each, until each is stopped.
   *
   * @example
   * const stop = sessions.on('ended', ({ reason }) => console.log(reason)); // logout
   * await sessions.end(sid, 'logout');
   * stop();
   */
  on<K extends keyof SessionEvents>(kind: K, listener: (event: SessionEvents[K]) => void): () => void {
    checkListening(kind, listener);
    return this.#services.listeners.on(kind, listener);
  }

  /**
   * Calls back when the sockets that hold a session here must go: it is over, or a login has replaced its secret. At
   * once when it happened in this process; through the ledger, or within 5 s without one, when in another. Returns a
   * function that stops it.
   *
   * @example
   * const held = await sessions.attach(sid); // for a socket
   * const stop = sessions.onSocketEnd((_sid, why) => console.log(why)); // ended
   * await sessions.end(sid, 'admin');
   * await held?.release();
   * stop();
   */
  onSocketEnd(listener: (sid: string, why: SocketEndReason) => void): () => void {
    checkListener('onSocketEnd', listener);
    return this.#services.registry.onSocketEnd(listener);
  }

  #boundTo(carrier: object): SessionBinding | undefined {
    return (carrier as Carrier | null | undefined)?.[this.#carrierKey];
  }

  #bindingOf(call: string, carrier: object): SessionBinding {
    const binding = this.#boundTo(carrier);
    if (!binding) throw notBound(call, carrier);
    return binding;
  }
}

function keyBytes(key: string | Uint8Array): Uint8Array {
  return typeof key === 'string' ? Buffer.from(key) : key;
}

/** What stands for nobody would end, or find, nothing, and say so without an error. */
function checkText(call: string, what: string, value: unknown): void {
  if (typeof value !== 'string' || value === '')
    throw new TypeError(`${call}: ${what} is a string, not ${value === '' ? 'an empty one' : kindOf(value)}`);
}

function checkListener(call: string, listener: unknown): void {
  if (typeof listener !== 'function')
    throw new TypeError(`${call}: the listener is a function, not ${kindOf(listener)}`);
}

function notBound(call: string, carrier: unknown): Error {
  if (typeof carrier !== 'object' || carrier === null)
    return new TypeError(`${call}: give it the request or the handshake, not ${kindOf(carrier)}`);
  const message = `${call}: this request has no session manager; call attachSession(sessions, req, res) before its handler, or give its route sessions. Outside requests use sessions.access(sid, work)`;
  return new HoldfastError('ERR_SESSION_OUTSIDE_REQUEST', message);
}
