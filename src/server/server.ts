import type { Server as HttpServer } from 'node:http';
import type { Administered } from '../admin/administered.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import { HoldfastError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { checkOptions, kindOf, type OptionNames } from '../base/options.ts';
import type { Config, ListenConfig } from '../config/config.ts';
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
import type { ServerOperations } from './administered.ts';
import { type Assembly, build } from './assembly/build.ts';
import { attachTo } from './attachment.ts';
import { enforceBans } from './ban-enforcement.ts';
import { dataFolderOf } from './data-folder.ts';
import { drain } from './drain.ts';
import { InternalIntake } from './intakes/internal.ts';
import { PublicIntake } from './intakes/public.ts';
import { HttpsRedirect } from './intakes/redirect.ts';
import { LateSessions, sessionsByMount } from './late-sessions.ts';
import { Doorkeeper } from './listen/doorkeeper.ts';
import type { Intake } from './listen/intake.ts';
import { Listener } from './listen/listener.ts';
import { Newcomers } from './listen/newcomers.ts';
import { Port } from './listen/port.ts';
import type { LogControl } from './log/log-control.ts';
import { MetricsCollector } from './metrics/collector.ts';
import { aggregateMetrics, type MetricJson, type MetricsText } from './metrics/exposition.ts';
import { packageVersion } from './package-version.ts';
import { openTracing } from './tracing/open-telemetry.ts';

export interface StopOptions {
  /**
   * How long open sockets are given to close, with 1001, spread over this time. Default `10s`. `0` cuts them at once.
   */
  drain?: Duration;
}

/** What tests replace. */
export interface ServerEnvironment {
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** Logs that are open already, and that the caller closes. Default: those of the configuration. */
  readonly logs?: LogControl;
  /** Takes the lines of the access log in the place of stdout, each with its newline. What it throws is ignored. */
  readonly accessLog?: { write(line: string): unknown };
  /** Bytes that are free where a path lies. Default: what the operating system says. */
  readonly freeBytes?: (path: string) => number;
  /**
   * What a program that is there for this server alone can do with it, for the admin API. The admin socket is then open
   * where the configuration says nothing of it.
   */
  readonly operations?: ServerOperations;
}

const STOP_OPTIONS: OptionNames<StopOptions> = { drain: 'measure' };
const ENVIRONMENT: OptionNames<ServerEnvironment> = {
  clock: 'clock',
  logger: 'logger',
  logs: true,
  accessLog: 'output',
  freeBytes: 'function',
  operations: true,
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

/** Where there is a port to ask for them, they are asked for. */
function keepsMetrics({ admin, metrics }: Config): boolean {
  return metrics ?? (typeof admin === 'object' && admin.port !== undefined);
}

type ServerState = 'new' | 'running' | 'stopped';

/** A running gateway, application server, or both. */
export class Server {
  readonly #config: Config;
  readonly #environment: ServerEnvironment;
  #state: ServerState = 'new';
  #assembly: Assembly | undefined;
  /** Its sessions and those of mounted applications, by the prefix: `''` for its own. */
  readonly #sessions: ReadonlyMap<string, ServerSessions>;
  /** Those of them that are opened by `start`. */
  readonly #late: ReadonlyMap<string, LateSessions>;
  readonly #intakes: PublicIntake[] = [];
  #listeners: Listener[] = [];
  #internal: Listener | undefined;
  #admin: Admin | undefined;
  #isListening = false;
  readonly #startedAt: number;
  #detach: (() => void)[] = [];
  #starting: Promise<unknown> | undefined;
  #stopping: Promise<void> | undefined;
  readonly #metrics: MetricsCollector | undefined;
  readonly #observers = new FlowObservers();

  constructor(config: Config, environment: ServerEnvironment) {
    checkOptions('createServer', environment, ENVIRONMENT);
    this.#config = parseConfig(config);
    this.#environment = environment;
    this.#startedAt = (environment.clock ?? systemClock).now();
    this.#metrics = keepsMetrics(this.#config) ? new MetricsCollector() : undefined;
    const contexts = [...sessionsByMount(this.#config)];
    this.#late = new Map(contexts.filter(([, { manager }]) => !manager).map(([mount]) => [mount, new LateSessions()]));
    this.#sessions = new Map(contexts.map(([mount, { manager }]) => [mount, manager ?? this.#late.get(mount)!]));
  }

  /** Where it listens, in the order of the configuration. Empty before `start`. */
  get urls(): string[] {
    return this.#listeners.map(listener => listener.url);
  }

  /** Where backends ask for sessions and keys; undefined before `start` or `attach`, and without `internal`. */
  get internalUrl(): string | undefined {
    return this.#internal?.url;
  }

  /** Where the admin API is; undefined before `start` or `attach`, and without `admin.port`. */
  get adminUrl(): string | undefined {
    return this.#admin?.url;
  }

  /** The Unix socket of the admin API; undefined before `start` or `attach`, and without one. */
  get adminSocket(): string | undefined {
    return this.#admin?.path;
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
    return this.#metrics.json({ assembly, listeners: this.#listeners });
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
    this.#starting = this.#listen();
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
    const building = this.#build()
      .then(() => this.#openInternal())
      .then(() => this.#openAdmin())
      .then(() => this.#newIntake());
    this.#starting = building;
    const { clock = systemClock } = this.#environment;
    this.#detach.push(attachTo(server, building, clock));
    await building;
    this.#isListening = true;
    if (this.#state === 'running') this.#detach.push(serveBeside(server, this.#running()));
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
   * Takes no more connections, closes the open sockets with 1001, waits for running requests, then closes the stores.
   * Can be called in any state: it waits for a start that is under way, and a second call for the first one.
   *
   * Rejects with what an endpoint's `destroy` or a store threw, when everything else is closed.
   *
   * @example
   * await server.stop({ drain: '30s' }); // open WebSockets close with 1001, spread over this time
   */
  async stop(options: StopOptions = {}): Promise<void> {
    checkOptions('stop', options, STOP_OPTIONS);
    this.#stopping ??= this.#stopStarted(parseDuration(options.drain ?? '10s'));
    await this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop({ drain: 0 });
  }

  #begin(): void {
    if (this.#state !== 'new')
      throw new HoldfastError('ERR_SERVER_STATE', `the server is ${this.#state}; create another one to start again`);
    this.#state = 'running';
    for (const sessions of this.#late.values()) sessions.begin();
  }

  async #build(): Promise<void> {
    const { clock = systemClock } = this.#environment;
    try {
      await this.#metrics?.open();
      const tracing = await openTracing(this.#config.tracing);
      if (tracing) this.#observers.add(tracing);
      const onSessions = (mount: string, manager: SessionManager) => this.#late.get(mount)?.opened(manager);
      this.#assembly = await build(this.#config, {
        ...this.#environment,
        clock,
        onSessions,
        observer: this.#observers,
        meters: this.#metrics?.meters,
        httpsPort: this.#httpsPort,
      });
      enforceBans(this.#assembly.bans, this.#assembly, this.#listeners);
    } catch (error) {
      this.#state = 'stopped';
      for (const sessions of this.#late.values()) sessions.giveUp();
      for (const detach of this.#detach) detach();
      throw error;
    }
  }

  /** For backends, which may ask for a session with the first request. */
  async #openInternal(): Promise<void> {
    const { internal } = this.#config;
    const { internal: api } = this.#running();
    if (!internal || !api) return;
    const { hosts: _, ...listen } = { host: '127.0.0.1', ...internal };
    const unlimited = { unusedConnections: -1, unusedConnectionsPerAddress: -1 };
    this.#internal = await this.#open(listen, () => new InternalIntake(api), new Newcomers(unlimited, this.#running()));
  }

  async #listen(): Promise<void> {
    await this.#build();
    await this.#openInternal();
    await this.#openAdmin();
    const { bans, clock } = this.#running();
    const doorkeeper = new Doorkeeper(bans.settings.action, address => bans.isBanned(address), clock);
    const newcomers = new Newcomers(this.#config, this.#running());
    for (const listen of this.#config.listen ?? [{ port: 8080 }])
      this.#listeners.push(await this.#open(listen, () => this.#intakeOf(listen), newcomers, doorkeeper));
    this.#isListening = true;
  }

  /** Before the public listeners: it says that they are not there yet. */
  async #openAdmin(): Promise<void> {
    const { operations } = this.#environment;
    const wantsSocket = operations !== undefined;
    if (this.#config.admin === false || (this.#config.admin === undefined && !wantsSocket)) return;
    const { clock, logger, trustedProxies, security, bans } = this.#running();
    const dataFolder = dataFolderOf(this.#config, this.#environment.freeBytes);
    try {
      // Loaded here, so that a server without it does without it.
      const { Admin } = await import('./admin/admin.ts');
      this.#admin = await Admin.open(await this.#administered(dataFolder.path), {
        ...{
          config: this.#config,
          wantsSocket,
          dataFolder,
          clock,
          logger: logger.of('admin'),
          trustedProxies,
          security,
        },
        isBanned: address => bans.isBanned(address),
      });
    } catch (error) {
      this.#state = 'stopped';
      await this.#close(0);
      throw error;
    }
  }

  async #administered(dataFolder: string): Promise<Administered> {
    const { AdministeredServer } = await import('./administered.ts');
    return new AdministeredServer({
      version: packageVersion(),
      clock: this.#running().clock,
      startedAt: this.#startedAt,
      dataFolder,
      operations: this.#environment.operations ?? {},
      sessions: this.#sessions,
      streams: {},
      config: () => this.#config,
      assembly: () => this.#running(),
      state: () => this.#administeredState,
      isReady: () => this.#administeredState === 'running',
      listeners: () => this.#administeredListeners(),
      statistics: () => this.statistics().statistics,
      metrics: this.#metrics && (() => this.metrics()),
    });
  }

  get #administeredState(): 'starting' | 'running' | 'draining' {
    if (this.#stopping !== undefined || this.#state === 'stopped') return 'draining';
    return this.#isListening ? 'running' : 'starting';
  }

  #administeredListeners() {
    const internal = this.#internal ? [{ url: this.#internal.url, serves: 'backends' as const }] : [];
    const admin = this.#admin?.url === undefined ? [] : [{ url: this.#admin.url, serves: 'administrators' as const }];
    return [...this.urls.map(url => ({ url, serves: 'clients' as const })), ...internal, ...admin];
  }

  async #open(
    listen: ListenConfig,
    intakeOf: () => Intake,
    newcomers: Newcomers,
    doorkeeper?: Doorkeeper,
  ): Promise<Listener> {
    const { clock, logger, trustedProxies, security, certificates } = this.#running();
    try {
      const ofServer = logger.of('server');
      const port = new Port(listen, ofServer);
      const listener = new Listener(listen, port, intakeOf(), {
        ...{ config: this.#config, clock, logger: ofServer, trustedProxies, security, newcomers, doorkeeper },
        meters: this.#metrics?.meters,
        withdrawCertificates: (fingerprints, reason) => certificates.withdraw(fingerprints, reason),
      });
      await port.open();
      listener.open();
      return listener;
    } catch (error) {
      this.#state = 'stopped';
      await this.#close(0);
      throw error;
    }
  }

  #newIntake(hosts?: HostNames): PublicIntake {
    const intake = new PublicIntake({ ...this.#running(), hosts });
    this.#intakes.push(intake);
    return intake;
  }

  #intakeOf({ redirect, acmeChallenge, hosts: names }: ListenConfig): Intake {
    const hosts = names && new HostNames(names);
    if (!redirect) return this.#newIntake(hosts);
    return new HttpsRedirect({
      trustedProxies: this.#running().trustedProxies,
      hosts,
      acmeChallenge,
      httpsPort: this.#httpsPort,
    });
  }

  readonly #httpsPort = (): number => {
    const listener = this.#listeners.find(({ config }) => config.tls !== undefined);
    return listener?.config.publicPort ?? (listener?.port.number || 443);
  };

  async #stopStarted(drainMs: number): Promise<void> {
    // start() reports why it failed.
    await this.#starting?.catch(() => {});
    const wasRunning = this.#state === 'running';
    this.#state = 'stopped';
    if (wasRunning) await this.#close(drainMs);
  }

  async #close(drainMs: number): Promise<void> {
    const assembly = this.#running();
    // The clock's timers keep no process alive; without this it could end before the stores are closed.
    const alive = setInterval(() => {}, 60_000);
    for (const detach of this.#detach) detach();
    if (this.#metrics) this.#metrics.meters.isDraining = true;
    for (const intake of this.#intakes) intake.beginDraining();
    await drain(assembly, this.#listeners, drainMs);
    // Until then backends may need it to answer.
    const internal = this.#internal?.port.close();
    this.#internal?.close();
    this.#internal?.closeAll();
    await internal;
    // One that fails keeps no other from closing: the stores above all have something left to write.
    const endpoints = await Promise.allSettled(assembly.endpoints.map(endpoint => endpoint.stop()));
    await Promise.all([...assembly.upstreams.values()].map(upstream => upstream.close()));
    assembly.users.close();
    assembly.renewals.close();
    assembly.anomalies?.close();
    await assembly.schemes.close();
    await Promise.allSettled([...assembly.subscriptions.map(unsubscribe => unsubscribe()), assembly.bans.close()]);
    const sessions = await Promise.allSettled(assembly.openSessions.map(opened => opened.close()));
    // Last, so that a drain can be watched.
    await this.#admin?.close();
    clearInterval(alive);
    assembly.logger.flush();
    if (!this.#environment.logs) assembly.logs.close();
    const failed = [...endpoints, ...sessions].find(result => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  #running(): Assembly {
    if (this.#assembly) return this.#assembly;
    throw new HoldfastError('ERR_SERVER_STATE', 'the server is not running; await start() or attach() first');
  }
}
