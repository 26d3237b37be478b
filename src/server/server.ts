import type { Server as HttpServer } from 'node:http';
import type { Administered } from '../admin/administered.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import { HoldfastError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { checkOptions, kindOf, type OptionNames } from '../base/options.ts';
import { sameValue } from '../base/same-value.ts';
import type { Config, ListenConfig } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import { parseConfig } from '../config/parse.ts';
import { FlowObservers } from '../gateway/flow-observer.ts';
import type { UpstreamControl } from '../gateway/upstream/upstream.ts';
import { HostNames } from '../http/host-names.ts';
import type { BanControl } from '../policy/ban/bans.ts';
import { serveBeside } from '../session/cookie-clash.ts';
import type { SessionManager } from '../session/manager.ts';
import type { PeekOptions, SessionPeek } from '../session/peek.ts';
import type { SessionEvents } from '../session/reports/events.ts';
import type { SessionMinute } from '../session/reports/history.ts';
import type { InspectorOptions } from '../session/reports/inspector.ts';
import type { Inspector } from '../session/reports/inspector-carriers.ts';
import type { SessionStatistics } from '../session/reports/statistics.ts';
import type { StatisticsOfAll } from '../session/reports/statistics-of-all.ts';
import { sumHistories, sumStatistics } from '../session/reports/sums.ts';
import type { Session, SessionEndReason, SessionOwner, SignInOptions } from '../session/session.ts';
import type { SessionInfo } from '../session/session-info.ts';
import { BROADCAST_OPTIONS, type BroadcastResult } from '../websocket/broadcast.ts';
import type { Admin } from './admin/admin.ts';
import { type AdminChange, ChangingAdmin } from './admin/changing-admin.ts';
import type { ServerOperations } from './administered.ts';
import { type Assembly, type BuildEnvironment, build } from './assembly/build.ts';
import { drainSettings } from './assembly/drain-settings.ts';
import { beginLife, endLife, type ServerLife } from './assembly/life.ts';
import { Parts } from './assembly/parts.ts';
import { attachTo } from './attachment.ts';
import { enforceBans } from './ban-enforcement.ts';
import { dataFolderOf } from './data-folder.ts';
import { Drain, type DrainTerms } from './drain.ts';
import { InternalIntake } from './intakes/internal.ts';
import { PublicIntake } from './intakes/public.ts';
import { HttpsRedirect } from './intakes/redirect.ts';
import { LateSessions, sessionsByMount } from './late-sessions.ts';
import { Doorkeeper } from './listen/doorkeeper.ts';
import { Newcomers } from './listen/newcomers.ts';
import { type LastingIntake, type ListenerChange, Listeners, type PortOf } from './listeners.ts';
import type { LogControl } from './log/log-control.ts';
import { MetricsCollector } from './metrics/collector.ts';
import { aggregateMetrics, type MetricJson, type MetricsText } from './metrics/exposition.ts';
import { keepsMetrics } from './metrics/keeps-metrics.ts';
import { packageVersion } from './package-version.ts';
import { type ReloadReport, takeOver } from './take-over.ts';
import { LiveTraces, type TraceQuery } from './tracing/live-traces.ts';
import { openTracing } from './tracing/open-telemetry.ts';

export interface StopOptions {
  /**
   * How long it takes at most. Open sockets are told to go over the first half of it. Default: `drain.timeout` of the
   * configuration, which is `10s`, with its `over` and `delay`. `0` cuts them at once.
   */
  drain?: Duration;
  /**
   * Another process goes on in its place: every WebSocket closes with 1012, also those of endpoints, and `drain.delay` is
   * left out. Default false.
   */
  restart?: boolean;
}

/** What tests replace. */
export interface ServerEnvironment {
  readonly clock?: Clock;
  readonly logger?: Logger;
  /**
   * Logs that are open already, and that the caller closes. Default: those of the configuration.
   *
   * @internal
   */
  readonly logs?: LogControl;
  /** Takes the lines of the access log in the place of stdout, each with its newline. What it throws is ignored. */
  readonly accessLog?: { write(line: string): unknown };
  /** Bytes that are free where a path lies. Default: what the operating system says. */
  readonly freeBytes?: (path: string) => number;
  /**
   * What a program that is there for this server alone can do with it, for the admin API. The admin socket is then open
   * where the configuration says nothing of it.
   *
   * @internal
   */
  readonly operations?: ServerOperations;
  /**
   * Where its connections come from, for one of several worker processes: another process opens the ports, and has the
   * admin API. Default: ports of this process.
   *
   * @internal
   */
  readonly portOf?: PortOf;
}

const STOP_OPTIONS: OptionNames<StopOptions> = { drain: 'measure', restart: 'flag' };
const ENVIRONMENT: OptionNames<ServerEnvironment> = {
  clock: 'clock',
  logger: 'logger',
  logs: true,
  accessLog: 'output',
  freeBytes: 'function',
  operations: true,
  portOf: 'function',
};

/** The server's sessions, for handlers and for whoever administers them. */
export interface ServerSessions {
  /** The session of a fetch handler's request or a handshake, or undefined when its client has none. */
  get(carrier: object): Promise<Session | undefined>;
  /** The same, made when the client has none. Its cookie goes out with the answer, the 101 included. */
  open(carrier: object): Promise<Session>;
  /**
   * Makes the request's session this user's, with a new secret. Another user's ends, and a new one begins (with
   * `ownerRule: false` it is taken over).
   */
  signIn(carrier: object, owner: SessionOwner, options?: SignInOptions): Promise<Session>;
  /** A URL with the session in it, for a client that shows it in links; otherwise as it is. */
  encodeUrl(carrier: object, url: string): string;
  /**
   * Works on a session outside a request, and commits what `work` changed. @throws {HoldfastError} ERR_SESSION_ENDED.
   */
  access<T>(sid: string, work: (session: Session) => T | Promise<T>): Promise<T>;
  /** A look into a session outside a request: read-only, and no access. Undefined when there is none. */
  peek(sid: string, options?: PeekOptions): Promise<SessionPeek | undefined>;
  /** Ends a session everywhere. False when it was not there (any more). */
  end(sid: string, reason: SessionEndReason): Promise<boolean>;
  /** The sessions that a user owns. */
  ofUser(name: string): Promise<SessionInfo[]>;
  /** Ends all sessions of a user, except one perhaps. Resolves with how many. */
  endAllOf(name: string, options?: { readonly reason?: SessionEndReason; readonly except?: string }): Promise<number>;
  /** Every session, one after the other: never all of them in memory. */
  list(): AsyncIterable<SessionInfo>;
  /** What administrators may know of a session; undefined when there is none. */
  info(sid: string): Promise<SessionInfo | undefined>;
  /** How many sessions the store holds. */
  count(): Promise<number>;
  /** Counters of this process, as plain numbers. */
  statistics(): SessionStatistics;
  /** The same by the minute, at most the last 60, the oldest first; the last one is the minute that runs. */
  history(): SessionMinute[];
  /** The counters of all processes that share the ledger, of each machine, and their sum. Never rejects. */
  statisticsOfAll(): Promise<StatisticsOfAll>;
  /** The session tracker, for administrators: as a fetch handler, and in other servers. */
  inspector(options?: InspectorOptions): Inspector;
  /** Calls back for what happens to sessions in this process. Returns a function that stops it. */
  on<K extends keyof SessionEvents>(kind: K, listener: (event: SessionEvents[K]) => void): () => void;
}

/** The counters of some sessions: those of the server, or of a mounted application. */
export interface ContextStatistics {
  readonly statistics: SessionStatistics;
  /** By the minute, at most the last 60, the oldest first; the last one is the minute that runs. */
  readonly history: readonly SessionMinute[];
}

/** The counters of a server, as plain numbers. */
export interface ServerStatistics extends ContextStatistics {
  /**
   * Of its own sessions, under `/`, and of each mounted application that has sessions of its own, under its prefix. What
   * is beside this is their sum.
   */
  readonly contexts: Readonly<Record<string, ContextStatistics>>;
}

/**
 * Makes a server from the configuration. Nothing is opened before `start` or `attach`.
 *
 * @param config The same document as the configuration file, with live objects (endpoints, fetch handlers, stores) in
 * it.
 * @throws {ConfigError} ERR_CONFIG_INVALID with every problem: unknown keys, names that are not defined, values that
 * cannot be.
 *
 * @example
 * import { createServer } from 'holdfast';
 *
 * const server = createServer({
 *   listen: [{ host: '127.0.0.1', port: 0 }],
 *   upstreams: { app: { servers: ['http://127.0.0.1:3000'] } },
 *   routes: [
 *     { path: '/hello', fetch: () => new Response('hello') },
 *     { path: '/*', upstream: 'app', websocket: true },
 *   ],
 *   session: { store: 'memory:' },
 *   log: { access: 'off' },
 * });
 * await server.start();
 * console.log(await (await fetch(`${server.urls[0]}/hello`)).text()); // hello
 * await server.stop();
 */
export function createServer(config: Config, environment: ServerEnvironment = {}): Server {
  return new Server(config, environment);
}

type ServerState = 'new' | 'running' | 'stopped';

/**
 * What the admin API of a server does, for a process that administers several of them.
 *
 * @internal
 */
export let administeredOf: (server: Server) => Promise<Administered>;

/**
 * The files of the application that threads of handlers have loaded, and what they held, where that is the same in all.
 *
 * @internal
 */
export let threadFilesOf: (server: Server) => Map<string, string | undefined>;

/** A running gateway, application server, or both. */
export class Server {
  static {
    administeredOf = server => server.#administered();
    threadFilesOf = server =>
      new Map(
        [...(server.#assembly?.served ?? [])].flatMap(({ dispatcher }) => [...(dispatcher?.threads?.files ?? [])]),
      );
  }

  readonly #config: Config;
  readonly #environment: ServerEnvironment;
  #state: ServerState = 'new';
  #life: ServerLife | undefined;
  #assembly: Assembly | undefined;
  #parts: Parts | undefined;
  /** Its sessions and those of mounted applications, by the prefix: `''` for its own. */
  readonly #sessions: Map<string, ServerSessions>;
  readonly #listeners: Listeners;
  readonly #internal: Listeners;
  /** Of a server of somebody else. */
  #attached: PublicIntake | undefined;
  #newcomers: { readonly from: unknown; readonly newcomers: Newcomers } | undefined;
  #unlimitedNewcomers: Newcomers | undefined;
  #doorkeeper: Doorkeeper | undefined;
  readonly #admin: ChangingAdmin;
  #isListening = false;
  readonly #startedAt: number;
  #detach: (() => void)[] = [];
  #starting: Promise<unknown> | undefined;
  #reloading: Promise<unknown> | undefined;
  /** What former configurations have left. */
  readonly #retiring = new Set<Promise<unknown>>();
  #stopping: Promise<void> | undefined;
  #drain: Drain | undefined;
  /** No request and no connection is left. */
  readonly #drained = Promise.withResolvers<void>();
  #endDelay: (() => void) | undefined;
  readonly #metrics: MetricsCollector | undefined;
  /** Who follows requests, whatever the configuration. */
  readonly #observers = new FlowObservers();
  /** The ends of what runs since former configurations. */
  readonly #runningBefore = new Set<Promise<void>>();
  #tracing: { readonly wanted: boolean | undefined; end(): void } | undefined;
  /** The time of a stop that was asked for again, in ms. */
  #isHurried: number | undefined;

  constructor(config: Config, environment: ServerEnvironment) {
    checkOptions('createServer', environment, ENVIRONMENT);
    this.#config = parseConfig(config);
    this.#environment = environment;
    this.#startedAt = (environment.clock ?? systemClock).now();
    this.#metrics = keepsMetrics(this.#config) ? new MetricsCollector() : undefined;
    const contexts = [...sessionsByMount(this.#config)];
    this.#sessions = new Map(contexts.map(([mount, { manager }]) => [mount, manager ?? this.#lateSessions()]));
    this.#admin = new ChangingAdmin(this.#openAdmin);
    const { portOf } = environment;
    if (!portOf) checkWorkers(this.#config);
    this.#listeners = new Listeners(this.#intakeOf, portOf);
    this.#internal = new Listeners(
      () => new InternalIntake(),
      portOf && ((listen, logger, key) => portOf(listen, logger, `internal ${key}`)),
    );
  }

  /** Where it listens, in the order of the configuration. Empty before `start`. */
  get urls(): string[] {
    return this.#listeners.open.map(listener => listener.url);
  }

  /** Where backends ask for sessions and keys; undefined before `start` or `attach`, and without `internal`. */
  get internalUrl(): string | undefined {
    return this.#internal.open[0]?.url;
  }

  /** Where the admin API is; undefined before `start` or `attach`, and without `admin.port`. */
  get adminUrl(): string | undefined {
    return this.#admin.url;
  }

  /** The Unix socket of the admin API; undefined before `start` or `attach`, and without one. */
  get adminSocket(): string | undefined {
    return this.#admin.path;
  }

  /**
   * Its sessions, from `createServer` on: listeners and inspectors can be made at once. What asks the store waits while
   * the server starts, and rejects with ERR_SERVER_STATE before that. Where the configuration has a `SessionManager`, it
   * is that one.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE when the server keeps no sessions.
   */
  get sessions(): ServerSessions {
    const sessions = this.#sessions.get('');
    if (!sessions)
      throw new HoldfastError('ERR_SERVER_STATE', 'this server keeps no sessions; remove "session: false"');
    return sessions;
  }

  /**
   * The sessions of a mounted application that has sessions of its own; from `createServer` on, as `sessions`.
   *
   * @param mount Its prefix, with those of the applications that it is mounted in.
   * @throws {HoldfastError} ERR_SERVER_STATE when there are none: what has no `session` of its own has the server's.
   *
   * @example
   * import { createServer } from 'holdfast';
   *
   * const shop = { routes: [{ path: '/cart', fetch: () => new Response('empty') }], session: { store: 'memory:' } };
   * const server = createServer({ listen: [{ port: 0 }], routes: [{ mount: '/shop', application: shop }] });
   * await server.start();
   * console.log(await server.sessionsOf('/shop').count()); // 0
   * await server.stop();
   */
  sessionsOf(mount: string): ServerSessions {
    const sessions = mount === '' ? undefined : this.#sessions.get(mount);
    if (!sessions) {
      const message = `nothing mounted at ${JSON.stringify(mount)} has sessions of its own; use server.sessions, or give the application a "session"`;
      throw new HoldfastError('ERR_SERVER_STATE', message);
    }
    return sessions;
  }

  /**
   * The counters of this process: of all its sessions together, of the server's own and of those of each mounted
   * application. For several processes see `statisticsOfAll` of `sessions` and `sessionsOf`.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE before `start`.
   *
   * @example
   * const { statistics, history, contexts } = server.statistics();
   * console.log(statistics.created, history.length, Object.keys(contexts)); // 0 1 [ '/' ]
   */
  statistics(): ServerStatistics {
    this.#running();
    const contexts = Array.from(this.#sessions, ([mount, sessions]) => {
      return [mount || '/', { statistics: sessions.statistics(), history: sessions.history() }] as const;
    });
    // Several may have one manager.
    const each = [...new Set(this.#sessions.values())];
    return {
      statistics: sumStatistics(each.map(sessions => sessions.statistics())),
      history: sumHistories(each.map(sessions => sessions.history())),
      contexts: Object.fromEntries(contexts),
    };
  }

  /**
   * The upstreams by name: how they are, and servers added, removed and drained while the server runs.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE before `start`.
   */
  get upstreams(): ReadonlyMap<string, UpstreamControl> {
    return this.#running().upstreams;
  }

  /**
   * Who is banned, and bans added and removed by hand, in all processes that share the sessions' ledger.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE before `start`.
   *
   * @example
   * await server.bans.add('192.0.2.7', { for: '10m', reason: 'asked to' });
   * console.log(server.bans.list().map(({ client }) => client)); // [ '192.0.2.7' ]
   * console.log(await server.bans.remove('192.0.2.7')); // true
   */
  get bans(): BanControl {
    return this.#running().bans;
  }

  /**
   * The metrics of this process for Prometheus, as text. What they are is in `docs/reference/metrics.md`.
   *
   * @throws {HoldfastError} ERR_SERVER_STATE before `start`, and without `metrics` or `admin.port` in the configuration.
   *
   * @example
   * import { createServer } from 'holdfast';
   *
   * const server = createServer({ listen: [{ port: 0 }], session: false, metrics: true });
   * await server.start();
   * const { contentType, body } = await server.metrics();
   * console.log(contentType, body.includes('holdfast_sockets_open')); // text/plain; version=0.0.4; charset=utf-8 true
   * await server.stop();
   */
  async metrics(): Promise<MetricsText> {
    return aggregateMetrics([await this.metricsOfProcess()]);
  }

  /**
   * The same as JSON that can be sent to another process, which sums those of several with `aggregateMetrics`.
   *
   * @throws {HoldfastError} as `metrics`.
   *
   * @example
   * import { createServer } from 'holdfast';
   *
   * const server = createServer({ listen: [{ port: 0 }], session: false, metrics: true });
   * await server.start();
   * console.log((await server.metricsOfProcess())[0]?.name); // holdfast_requests_total
   * await server.stop();
   */
  async metricsOfProcess(): Promise<MetricJson[]> {
    const assembly = this.#running();
    if (!this.#metrics)
      throw new HoldfastError('ERR_SERVER_STATE', 'this server keeps no metrics; add "metrics: true"');
    return this.#metrics.json({ assembly, listeners: this.#listeners.open });
  }

  /**
   * Opens the stores, runs the endpoints' `init`, and listens.
   *
   * @throws {HoldfastError} ERR_CONFIG_INVALID, ERR_ROUTE_DUPLICATE, ERR_SERVER_LISTEN, ERR_SESSION_STORE_UNAVAILABLE;
   * ERR_SERVER_STATE when called twice. Nothing stays open then.
   *
   * @example
   * import { createServer } from 'holdfast';
   *
   * const server = createServer({ listen: [{ port: 0 }, { port: 0 }], session: false });
   * await server.start();
   * console.log(server.urls.length); // 2
   * await server.stop();
   */
  async start(): Promise<void> {
    this.#begin();
    this.#starting = this.#start(true);
    await this.#starting;
  }

  /**
   * Serves the upgrades of an existing HTTP or HTTPS server that match a route, and leaves everything else to it: its
   * requests, and upgrades of other paths. Those are for whoever else listens for upgrades, in whatever order. They are
   * answered with 404 when nobody does, and when nobody has touched their socket for 30 s.
   *
   * Resolves when the endpoints are ready; handshakes that come earlier wait. `stop` lets go of the server and does not
   * close it.
   *
   * @example
   * import { createServer as createHttpServer } from 'node:http';
   * import { createServer, defineEndpoint } from 'holdfast';
   *
   * const http = createHttpServer((_request, response) => response.end('not a WebSocket'));
   * const server = createServer({ session: false, routes: [{ endpoint: defineEndpoint({ path: '/chat' }) }] });
   * await server.attach(http); // then http.listen(8080)
   * await server.stop();
   */
  async attach(server: HttpServer): Promise<void> {
    if (typeof (server as Partial<HttpServer> | undefined)?.on !== 'function')
      throw new TypeError(`attach: give it a node:http or https server, not ${kindOf(server)}`);
    this.#begin();
    const intake = new PublicIntake();
    this.#attached = intake;
    this.#starting = this.#start(false);
    const { clock = systemClock } = this.#environment;
    const ready = this.#starting.then(() => intake);
    ready.catch(() => {}); // attach() reports why it failed
    this.#detach.push(attachTo(server, ready, clock));
    await this.#starting;
    const beside = () => this.#running();
    if (this.#state === 'running')
      this.#detach.push(
        serveBeside(server, {
          get managers() {
            return beside().managers;
          },
          logger: this.#running().logger,
        }),
      );
  }

  /**
   * Sends a message to every connection that has subscribed to the topic, in this process.
   *
   * @param options.except A connection, or several, that do not get it: who has sent it, for example.
   * @throws {TypeError} when the topic is not a string, or the data neither a string nor a `Uint8Array`; nobody gets
   * anything then.
   *
   * @example
   * const { sent } = server.publish('news', 'hello');
   * console.log(sent); // 0
   */
  publish(
    topic: string,
    data: string | Uint8Array,
    options: { readonly except?: Iterable<object> | object } = {},
  ): BroadcastResult {
    checkOptions('publish', options, BROADCAST_OPTIONS);
    return this.#running().services.topics.publish(topic, data, options.except);
  }

  /**
   * Goes on with another configuration, without a gap: ports, stores, upstreams, sessions and WebSockets whose part of it is
   * the same are untouched, and what its files say (certificates, keys, tokens) is read again. Requests that were being
   * judged are finished by the former one.
   *
   * WebSockets are held to the address, origin, transport and role rules of their route as they are now (1008), and keep
   * everything else until they close. A route is the same one when it has the same `name`, or else host and path; where it
   * is gone they close with 1001, where their server or session store was taken away with 1012, spread over `drain.over`.
   * Event streams end when their route has changed.
   *
   * Calls wait for each other.
   *
   * @param next The configuration, or what reads it when its turn has come.
   * @throws {ConfigError} ERR_CONFIG_INVALID, and what `start` throws. The former configuration goes on then, and nothing
   * has changed.
   * @throws {HoldfastError} ERR_SERVER_STATE when the server is not running.
   *
   * @example
   * import { createServer } from 'holdfast';
   *
   * const hello = (text: string) => [{ path: '/hello', fetch: () => new Response(text) }];
   * const server = createServer({ listen: [{ port: 0 }], session: false, routes: hello('hello') });
   * await server.start();
   * const { changed } = await server.reload({ listen: [{ port: 0 }], session: false, routes: hello('welcome') });
   * console.log(changed); // [ '/hello' ]
   * await server.stop();
   */
  async reload(next: Config | (() => Promise<Config>)): Promise<ReloadReport> {
    this.#running();
    const reloads = this.#metrics?.meters.reloads;
    try {
      const report = await this.#reloadInTurn(typeof next === 'function' ? next : async () => next);
      reloads?.add('ok');
      return report;
    } catch (error) {
      reloads?.add('refused');
      throw error;
    }
  }

  #reloadInTurn(read: () => Promise<Config>): Promise<ReloadReport> {
    const turn = (this.#reloading ?? this.#starting ?? Promise.resolve())
      .catch(() => {})
      .then(async () => {
        const config = parseConfig(await read());
        if (this.#state !== 'running' || this.#stopping) throw stopped();
        return this.#replace(config);
      });
    this.#reloading = turn;
    return turn;
  }

  /** How long a stop takes by its configuration, in ms. */
  get drainSettings(): { readonly delayMs: number; readonly timeoutMs: number } {
    const { delayMs, timeoutMs } = drainSettings(this.#assembly?.config ?? this.#config);
    return { delayMs, timeoutMs };
  }

  /** True while it takes requests: from the end of `start` until `stop` is called. */
  get isReady(): boolean {
    return this.#isListening && this.#state === 'running' && this.#stopping === undefined;
  }

  /**
   * Takes no more connections, closes the open sockets, waits for running requests, then closes the stores. Connections of
   * endpoints close with 1001, relays with 1012 (`closeCodes`). Can be called in any state: it waits for a start that is
   * under way. A second call waits for the first one, and makes it end after its own `drain`, if that is sooner: what is
   * open is told to go at once then.
   *
   * Rejects with what an endpoint's `destroy` or a store threw, when everything else is closed.
   *
   * @example
   * await server.stop({ drain: '30s' }); // open WebSockets close with 1001, spread over this time
   */
  async stop(options: StopOptions = {}): Promise<void> {
    checkOptions('stop', options, STOP_OPTIONS);
    const { timeoutMs, overMs, delayMs } = drainSettings(this.#assembly?.config ?? this.#config);
    const limitMs = options.drain === undefined ? timeoutMs : parseDuration(options.drain);
    const { restart: isRestart = false } = options;
    if (this.#stopping) this.#hurry(limitMs);
    this.#stopping ??= this.#stopStarted({
      limitMs,
      overMs: options.drain === undefined ? overMs : limitMs / 2,
      delayMs: limitMs > 0 && !isRestart ? delayMs : 0,
      isRestart,
    });
    await this.#stopping;
  }

  #hurry(limitMs: number): void {
    this.#isHurried = Math.min(limitMs, this.#isHurried ?? Number.POSITIVE_INFINITY);
    this.#endDelay?.();
    this.#drain?.hurry(limitMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop({ drain: 0 });
  }

  #begin(): void {
    if (this.#state !== 'new')
      throw new HoldfastError('ERR_SERVER_STATE', `the server is ${this.#state}; create another one to start again`);
    this.#state = 'running';
    for (const sessions of this.#sessions.values()) if (sessions instanceof LateSessions) sessions.begin();
  }

  async #start(opensPorts: boolean): Promise<void> {
    const config = this.#config;
    const parts = new Parts();
    try {
      const trace = await this.#prepareTracing(config);
      trace();
      this.#life = beginLife(config, { clock: systemClock, ...this.#environment, meters: this.#metrics?.meters });
      const assembly = await this.#build(config, parts, this.#onSessions);
      parts.commit();
      this.#parts = parts;
      this.#assembly = assembly;
      enforceBans(assembly.bans, this.#life!, () => this.#listeners.all);
      // Backends may ask for a session with the first request.
      (await this.#prepareInternal(config, assembly)).commit(assembly);
      // Before the public listeners: it says that they are not there yet.
      await this.#admin.open(config);
      this.#attached?.use(assembly);
      if (opensPorts) (await this.#preparePorts(config, assembly)).commit(assembly);
      this.#isListening = true;
    } catch (error) {
      this.#state = 'stopped';
      for (const detach of this.#detach) detach();
      if (this.#assembly) await this.#close({ limitMs: 0, overMs: 0, delayMs: 0, isRestart: false });
      else {
        for (const sessions of this.#sessions.values()) if (sessions instanceof LateSessions) sessions.giveUp();
        await parts.abandon();
        if (this.#life) await endLife(this.#life, !this.#environment.logs);
      }
      throw error;
    }
  }

  #build(config: Config, parts: Parts, onSessions?: BuildEnvironment['onSessions']): Promise<Assembly> {
    const { freeBytes } = this.#environment;
    const environment = { life: this.#life!, parts, freeBytes, httpsPort: this.#httpsPort, observer: this.#observers };
    return build(config, { ...environment, ...(onSessions && { onSessions }) });
  }

  /** Puts a configuration together beside the one that runs, which is untouched until everything of it stands. */
  async #replace(config: Config): Promise<ReloadReport> {
    const before = this.#running();
    const parts = new Parts(this.#parts);
    const changes: ListenerChange[] = [];
    let admin: AdminChange | undefined;
    let trace: () => void;
    let assembly: Assembly;
    try {
      trace = await this.#prepareTracing(config);
      // Whoever asks for sessions meanwhile is answered by those that are there.
      assembly = await this.#build(config, parts);
      changes.push(await this.#prepareInternal(config, assembly));
      if (!this.#attached) changes.push(await this.#preparePorts(config, assembly));
      admin = await this.#admin.change(before.config, config, before.logger.of('server'));
      if (this.#state !== 'running') throw stopped();
      // The last that may fail: the others cannot be taken back otherwise.
      assembly.logs.reconfigure(config.log ?? {});
    } catch (error) {
      // One that fails keeps nothing else from being undone, and the reload is refused for what was wrong first.
      await Promise.allSettled(changes.map(change => change.abandon()));
      await Promise.allSettled([admin?.undo()]);
      await parts.abandon();
      throw error;
    }
    this.#metrics?.absorb(before);
    const retire = parts.commit();
    this.#assembly = assembly;
    this.#parts = parts;
    for (const change of changes) change.commit(assembly);
    this.#attached?.use(assembly);
    if (assembly.bans !== before.bans) enforceBans(assembly.bans, this.#life!, () => this.#listeners.all);
    this.#changeSessions(assembly);
    trace();
    const report = takeOver(before, assembly, {
      keepsMetrics: this.#metrics !== undefined,
      isWorker: this.#environment.portOf !== undefined,
    });
    this.#retire(before, retire);
    admin.settle();
    return report;
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when it cannot be had. @returns goes on with it. */
  async #prepareTracing({ tracing: wanted }: Config): Promise<() => void> {
    if (this.#tracing?.wanted === wanted && this.#tracing) return () => {};
    const observer = await openTracing(wanted);
    return () => {
      this.#tracing?.end();
      this.#tracing = { wanted, end: observer ? this.#observers.add(observer) : () => {} };
    };
  }

  readonly #onSessions = (mount: string, manager: SessionManager): void => {
    const sessions = this.#sessions.get(mount);
    if (sessions instanceof LateSessions) sessions.opened(manager);
  };

  #lateSessions(): LateSessions {
    return new LateSessions(() => this.#assembly?.running);
  }

  /** Handlers go on with the sessions that they have, whichever manager keeps them now. */
  #changeSessions({ config, managersByMount }: Assembly): void {
    const contexts = new Map(sessionsByMount(config));
    for (const [mount, sessions] of this.#sessions) {
      if (contexts.has(mount)) continue;
      this.#sessions.delete(mount);
      if (sessions instanceof LateSessions) sessions.giveUp();
    }
    for (const [mount, { manager: brought }] of contexts) {
      if (brought) {
        this.#sessions.set(mount, brought);
        continue;
      }
      const known = this.#sessions.get(mount);
      const sessions = known instanceof LateSessions ? known : this.#lateSessions();
      this.#sessions.set(mount, sessions);
      sessions.opened(managersByMount.get(mount)!);
    }
  }

  /** What is not used any more goes when nothing uses it. */
  #retire(before: Assembly, close: ReturnType<Parts['commit']>): void {
    const { clock, logger, running } = before;
    // What counts no more now may be used since a configuration before that one.
    const own = running.over();
    this.#runningBefore.add(own);
    void own.then(() => this.#runningBefore.delete(own));
    // What a stop has cut may not say so.
    const over = Promise.race([Promise.all(this.#runningBefore), this.#drained.promise]);
    const judged = new Promise<void>(resolve => {
      const timer = clock.setTimeout(resolve, LONGEST_JUDGED_MS);
      void over.then(() => {
        clock.clearTimeout(timer);
        resolve();
      });
    });
    const onFailure = (err: unknown) =>
      logger.of('server').error({ event: 'reload-rest', err }, 'a part of before did not end well');
    const retiring = close({ judged, over }, onFailure).then(() => {
      for (const sessions of this.#sessions.values()) if (sessions instanceof LateSessions) sessions.forgetOthers();
      this.#retiring.delete(retiring);
    });
    this.#retiring.add(retiring);
  }

  #prepareInternal(config: Config, assembly: Assembly): Promise<ListenerChange> {
    const { internal } = config;
    const { hosts: _, ...listen } = { host: '127.0.0.1', ...internal };
    const places = internal && assembly.internal ? [listen as ListenConfig] : [];
    return this.#internal.prepare(places, config, { ...servicesOf(assembly), newcomers: this.#unlimited(assembly) });
  }

  /** Of all configurations: made apart, so that it holds nothing of the first one. */
  #keepDoor(clock: Assembly['clock']): Doorkeeper {
    this.#doorkeeper ??= new Doorkeeper(
      () => this.#running().bans.settings.action,
      address => this.#running().bans.isBanned(address),
      clock,
    );
    return this.#doorkeeper;
  }

  async #preparePorts(config: Config, assembly: Assembly): Promise<ListenerChange> {
    const { unusedConnections, unusedConnectionsPerAddress } = config;
    const from = { unusedConnections, unusedConnectionsPerAddress };
    const isSame = this.#newcomers !== undefined && sameValue(this.#newcomers.from, from);
    const newcomers = isSame ? this.#newcomers! : { from, newcomers: new Newcomers(from, assembly) };
    const change = await this.#listeners.prepare(config.listen ?? [{ port: 8080 }], config, {
      ...servicesOf(assembly),
      newcomers: newcomers.newcomers,
      doorkeeper: this.#keepDoor(assembly.clock),
    });
    return {
      commit: now => {
        this.#newcomers = newcomers;
        change.commit(now);
      },
      abandon: () => change.abandon(),
    };
  }

  readonly #openAdmin = async (config: Config): Promise<Admin | undefined> => {
    const { operations, freeBytes, portOf } = this.#environment;
    const wantsSocket = operations !== undefined;
    if (portOf || config.admin === false || (config.admin === undefined && !wantsSocket)) return undefined;
    const { clock, logger, trustedProxies, security } = this.#life!;
    const dataFolder = dataFolderOf(config, freeBytes);
    // Loaded here, so that a server without it does without it.
    const { Admin } = await import('./admin/admin.ts');
    return Admin.open(await this.#administered(), {
      ...{ config, wantsSocket, dataFolder, clock, logger: logger.of('admin'), trustedProxies, security },
      isBanned: address => this.#running().bans.isBanned(address),
    });
  };

  async #administered(): Promise<Administered> {
    const { AdministeredServer } = await import('./administered.ts');
    const assembly = () => this.#running();
    const { operations = {} } = this.#environment;
    const { clock } = assembly();
    return new AdministeredServer({
      process: {
        ...{ version: packageVersion(), clock, startedAt: this.#startedAt, configFile: operations.configFile },
        lastReload: () => operations.lastReload?.(),
      },
      clock,
      dataFolder: () => dataFolderOf(assembly().config).path,
      operations,
      sessions: this.#sessions,
      streams: { trace: (query, onLine) => this.#follow(query, onLine) },
      config: () => assembly().config,
      assembly,
      state: () => this.#administeredState,
      isReady: () => this.isReady,
      listeners: () => this.#administeredListeners(),
      statistics: () => this.statistics().statistics,
      metrics: this.#metrics && (() => this.metrics()),
    });
  }

  /** Requests and handshakes on their way, for `holdfast trace`. */
  #follow(query: TraceQuery, onLine: (line: object) => void): () => void {
    const routeNames = () => [
      ...new Set(
        this.#running()
          .routes.values()
          .map(({ name }) => name),
      ),
    ];
    return this.#observers.add(new LiveTraces({ query, onLine, clock: this.#running().clock, routeNames }));
  }

  get #administeredState(): 'starting' | 'running' | 'draining' {
    if (this.#stopping !== undefined || this.#state === 'stopped') return 'draining';
    return this.#isListening ? 'running' : 'starting';
  }

  #administeredListeners() {
    const internal = this.#internal.open.map(({ url }) => ({ url, serves: 'backends' as const }));
    const admin = this.#admin.url === undefined ? [] : [{ url: this.#admin.url, serves: 'administrators' as const }];
    return [...this.urls.map(url => ({ url, serves: 'clients' as const })), ...internal, ...admin];
  }

  #unlimited(assembly: Assembly): Newcomers {
    this.#unlimitedNewcomers ??= new Newcomers({ unusedConnections: -1, unusedConnectionsPerAddress: -1 }, assembly);
    return this.#unlimitedNewcomers;
  }

  readonly #intakeOf = ({ redirect, acmeChallenge, hosts: names }: ListenConfig): LastingIntake => {
    const hosts = names && new HostNames(names);
    if (!redirect) return new PublicIntake(hosts);
    const { trustedProxies } = this.#life!;
    return new HttpsRedirect({ trustedProxies, hosts, acmeChallenge, httpsPort: this.#httpsPort });
  };

  readonly #httpsPort = (): number => {
    const listener = this.#listeners.open.find(({ config }) => config.tls !== undefined);
    return listener?.config.publicPort ?? (listener?.port.number || 443);
  };

  async #stopStarted(terms: StopTerms): Promise<void> {
    // start() reports why it failed, and reload() as well.
    await this.#starting?.catch(() => {});
    const wasRunning = this.#state === 'running';
    this.#state = 'stopped';
    await this.#reloading?.catch(() => {});
    if (wasRunning) await this.#close(terms);
  }

  async #close({ limitMs, overMs, delayMs, isRestart }: StopTerms): Promise<void> {
    const assembly = this.#running();
    // The clock's timers keep no process alive; without this it could end before the stores are closed.
    const alive = setInterval(() => {}, 60_000);
    if (delayMs > 0 && !this.#isHurried) await this.#delay(assembly.clock, delayMs);
    for (const detach of this.#detach) detach();
    if (this.#metrics) this.#metrics.meters.isDraining = true;
    for (const intake of [...this.#listeners.intakes, ...(this.#attached ? [this.#attached] : [])])
      if (intake instanceof PublicIntake) intake.beginDraining({ isRestart });
    this.#drain = new Drain(assembly, this.#listeners.all, {
      limitMs: Math.min(limitMs, this.#isHurried ?? Number.POSITIVE_INFINITY),
      overMs,
      isRestart,
    });
    this.#doorkeeper?.letGo();
    await this.#drain.run();
    this.#listeners.stop(assembly.clock);
    // Until then backends may need it to answer.
    await this.#closeInternal();
    this.#drained.resolve();
    await Promise.all(this.#retiring);
    // One that fails keeps no other from closing: the stores above all have something left to write.
    const failures = await this.#parts!.close();
    // Last, so that a drain can be watched.
    await this.#admin.close();
    await endLife(assembly, !this.#environment.logs);
    clearInterval(alive);
    if (failures.length > 0) throw failures[0];
  }

  async #delay(clock: Clock, ms: number): Promise<void> {
    await new Promise<void>(resolve => {
      this.#endDelay = resolve;
      clock.setTimeout(resolve, ms);
    });
  }

  async #closeInternal(): Promise<void> {
    const closed = this.#internal.open.map(({ port }) => port.close());
    for (const listener of this.#internal.all) {
      listener.close();
      listener.closeAll();
    }
    await Promise.all(closed);
  }

  #running(): Assembly {
    if (this.#assembly) return this.#assembly;
    throw new HoldfastError('ERR_SERVER_STATE', 'the server is not running; await start() or attach() first');
  }
}

/** How a stop goes, in ms. */
interface StopTerms extends DrainTerms {
  readonly delayMs: number;
}

/** Several processes are for the program that starts them. @throws {ConfigError} ERR_CONFIG_INVALID. */
function checkWorkers({ workers = 1 }: Config): void {
  if (workers === 1) return;
  const message = `"${workers}" is for the program: run "holdfast serve", which starts worker processes; a server in a program of your own is one process`;
  throw new ConfigError([{ path: 'workers', message }]);
}

/** Of requests that are judged by a configuration of before. Their answers may take longer; stores wait for these. */
const LONGEST_JUDGED_MS = 60_000;

function servicesOf({ clock, logger, trustedProxies, security, certificates, meters }: Assembly) {
  return {
    ...{ clock, logger: logger.of('server'), trustedProxies, security, meters },
    withdrawCertificates: (fingerprints: ReadonlySet<string>, reason: string) =>
      certificates.withdraw(fingerprints, reason),
  };
}

function stopped(): HoldfastError {
  return new HoldfastError('ERR_SERVER_STATE', 'the server stops; what it was to become is for another start');
}
