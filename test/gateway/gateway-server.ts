import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import { AuthRenewals } from '../../src/gateway/auth-renewals.ts';
import type { UpstreamTls } from '../../src/gateway/connection/dialer.ts';
import type { SessionContext } from '../../src/gateway/held-session.ts';
import { LiveCertificates } from '../../src/gateway/live-certificates.ts';
import type { LiveSockets } from '../../src/gateway/live-sockets.ts';
import { LiveUsers } from '../../src/gateway/live-users.ts';
import { OwnNames } from '../../src/gateway/own-names.ts';
import { type RelayLimits, relayLimits } from '../../src/gateway/relay/limits.ts';
import type { Relay } from '../../src/gateway/relay/relay.ts';
import type { Route } from '../../src/gateway/route.ts';
import { RouteReadings } from '../../src/gateway/route-readings.ts';
import { createRouter } from '../../src/gateway/routing/router.ts';
import type { UpstreamOptions } from '../../src/gateway/upstream/options.ts';
import { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { emptyAddressList } from '../../src/http/address-list.ts';
import type { HeaderLine } from '../../src/http/header-line.ts';
import { Bans } from '../../src/policy/ban/bans.ts';
import { readBanSettings } from '../../src/policy/ban/options.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { RunningRequests } from '../../src/server/assembly/running-requests.ts';
import { PublicIntake } from '../../src/server/intakes/public.ts';
import { Http1Clients } from '../../src/server/listen/http1/clients.ts';
import { CountedResponse } from '../../src/server/listen/http1/counted-response.ts';
import type { RequestEntry } from '../../src/server/log/access-entry.ts';
import { LineAllowance } from '../../src/server/log/line-allowance.ts';
import { SERVER_PARTS, type SessionManager } from '../../src/session/manager.ts';
import type { SessionOwner } from '../../src/session/session.ts';
import { SessionSockets } from '../../src/websocket/session-sockets.ts';
import { TimerWheel } from '../../src/websocket/timer-wheel.ts';
import { Topics } from '../../src/websocket/topics.ts';
import { USUAL_CLOSE_CODES } from '../../src/wire/close-codes.ts';

export interface GatewayOptions extends Omit<Partial<UpstreamOptions>, 'session'> {
  tls?: UpstreamTls;
  /** Of the session that every request has. Default: none has one. */
  sid?: string;
  /** What else that session is. */
  session?: { readonly owner?: SessionOwner; invalidate?(): Promise<unknown> };
  /** What the client is told of it. */
  news?: readonly HeaderLine[];
  /** Sign the cookie of affinity. */
  keys?: readonly string[];
  sessionCookieName?: string;
  clock?: Clock;
  logger?: Logger;
  limits?: Partial<RelayLimits>;
  touchOnTraffic?: 'message' | 'any' | 'never';
  /** The session was touched. */
  onTraffic?(): void;
  /** Runs before the request is forwarded. */
  before?(response: http.ServerResponse): void;
}

/** The line of the access log, and of a refusal what the server's log says. */
export type Outcome = RequestEntry & { readonly code?: string; readonly reason?: string };

/** A server whose every request and upgrade goes to one upstream, by the intake and the flow of a real one. */
export class TestGateway {
  readonly server = http.createServer({ ServerResponse: CountedResponse });
  readonly upstream: Upstream;
  readonly outcomes: Outcome[] = [];
  readonly relays: Relay[] = [];
  #waiting: (() => void)[] = [];

  constructor(servers: UpstreamOptions['servers'], options: GatewayOptions = {}) {
    const { clock = systemClock, logger = silentLogger } = options;
    const own = new OwnNames();
    if (options.sessionCookieName !== undefined) own.cookies.add(options.sessionCookieName);
    const environment = {
      own,
      logger,
      ...(options.tls && { tls: options.tls }),
      ...(options.keys && { keys: options.keys }),
    };
    const { session: _, ...upstreamOptions } = options;
    this.upstream = new Upstream('app', { servers, ...upstreamOptions }, clock, environment);
    this.upstream.addNames();
    const sessions = options.sid === undefined ? undefined : sessionsOf(options.sid, options);
    const value: Route = {
      name: 'all',
      target: {
        kind: 'upstream',
        upstream: this.upstream,
        relay: { ...relayLimits(), ...options.limits },
        rewrite: undefined,
      },
      policies: [],
      upgradePolicies: [],
      demands: { origins: 'any', isConfidential: false, addresses: [], limits: [], others: {}, webSocket: 'none' },
      sessions,
      sessionMode: sessions ? 'existing' : 'none',
    };
    const entries = [{ pattern: '/*', name: 'all', value }];
    const router = createRouter(entries);
    const refusals: { readonly code: string; readonly reason: string }[] = [];
    const sockets: LiveSockets = new Set();
    const log = new Refusals(logger, clock, refusals);
    const security = new SecurityEvents(log);
    const users = new LiveUsers({ clock, logger, security: new SecurityEvents(CalmLogger.over(logger, clock)) });
    const intake = new PublicIntake();
    intake.use({
      router,
      readings: new RouteReadings(entries, router),
      trustedProxies: emptyAddressList,
      maxBodyBytes: Number.POSITIVE_INFINITY,
      urlParameters: new Set(),
      services: { wheel: new TimerWheel(clock), topics: new Topics(), logger },
      clock,
      logger: log,
      security,
      bans: new Bans(readBanSettings(), { clock, logger, events: security, trustedProxies: emptyAddressList }),
      accessLog: {
        isOn: true,
        needsDetail: false,
        request: entry => this.#report({ ...entry, ...(entry.status >= 400 && refusals.shift()) }),
        socketOpened: () => {
          this.relays.push([...sockets].at(-1)!.socket as Relay);
          this.#wake();
        },
        socketClosed: () => {},
      },
      users,
      renewals: new AuthRenewals(users, { clock, logger }),
      certificates: new LiveCertificates(),
      closeCodes: USUAL_CLOSE_CODES,
      exposeReason: false,
      handshakes: new Map(),
      lingering: new Set(),
      unlogged: new Set(),
      unreadLines: new LineAllowance({ clock, logger: log, trustedProxies: emptyAddressList }),
      routes: new Map([[value.name, value]]),
      meters: undefined,
      running: new RunningRequests(),
      sockets,
      answers: new Map(),
    });
    // As the listener does, without a minimum rate.
    const pace = { silenceMs: 60_000, bytesPerSecond: 0 };
    const clients = new Http1Clients({ pace, idleMs: 60_000, clock, logger });
    this.server.on('connection', socket => clients.add(socket));
    const onRequest = (request: http.IncomingMessage, response: http.ServerResponse) => {
      clients.begin(request, response);
      options.before?.(response);
      intake.onRequest(request, response);
    };
    this.server.on('request', onRequest);
    this.server.on('checkContinue', onRequest);
    this.server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, early: Buffer) => {
      clients.leave(socket);
      intake.onUpgrade(request, socket, early);
    });
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async listen(): Promise<this> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return this;
  }

  /** The outcome number `index`, as soon as it is there. */
  async outcome(index = 0): Promise<Outcome> {
    while (this.outcomes.length <= index) await new Promise<void>(resolve => this.#waiting.push(resolve));
    return this.outcomes[index]!;
  }

  async relay(index = 0): Promise<Relay> {
    while (this.relays.length <= index) await new Promise<void>(resolve => this.#waiting.push(resolve));
    return this.relays[index]!;
  }

  async close(): Promise<void> {
    await this.upstream.close();
    for (const relay of this.relays) relay.terminate();
    this.server.closeAllConnections();
    await new Promise(resolve => this.server.close(resolve));
  }

  #report(outcome: Outcome): void {
    this.outcomes.push(outcome);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Keeps what is said of refusals, of which the log itself counts those of a kind. */
class Refusals extends CalmLogger {
  readonly #kept: { readonly code: string; readonly reason: string }[];

  constructor(logger: Logger, clock: Clock, kept: { readonly code: string; readonly reason: string }[]) {
    super(logger, clock);
    this.#kept = kept;
  }

  override info(fields: { event?: string; code?: string }, reason: string): void {
    if (fields.event === 'refused') this.#kept.push({ code: fields.code!, reason });
    super.info(fields, reason);
  }
}

/** One session that every client has, that nobody changes and no store keeps. */
function sessionsOf(id: string, options: GatewayOptions): SessionContext {
  const { touchOnTraffic = 'message', onTraffic = () => {}, news = [] } = options;
  const session = { id, ...options.session };
  const nothing = () => {};
  const binding = {
    ...{ current: session, hasNews: news.length > 0, isDirty: false, touches: true },
    existing: async () => session,
    commit: async () => {},
    attach: async () => ({ session, isEnded: false, touch: onTraffic, release: async () => {} }),
    responseHeaders: () => news,
    ...{ release: nothing, markHeadersSent: nothing, markClientGone: nothing },
    ...{ followResponse: nothing, withdraw: nothing, takeBack: nothing },
  };
  const tracking = { urlParameter: 'sid', headerName: 'Sid' };
  const manager = {
    tracking,
    [SERVER_PARTS]: { tracking },
    bind: () => binding,
    bindTo: nothing,
  } as unknown as SessionManager;
  return { manager, sockets: new SessionSockets(), touchOnTraffic };
}

/** A raw TCP server; `port` is free after `close`. */
export async function listenTcp(
  onSocket: (socket: net.Socket) => void,
): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer(socket => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

/** A server whose queue of connections is full and stays so: the next one is neither accepted nor refused. */
export async function listenDeaf(): Promise<{ url: string; close(): Promise<void> }> {
  const worker = new Worker(
    `const server = require('node:net').createServer();
     server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       require('node:worker_threads').parentPort.postMessage(server.address().port);
       setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
     });`,
    { eval: true },
  );
  const [port] = await once(worker, 'message');
  const fillers = [1, 2].map(() => net.connect(port, '127.0.0.1'));
  for (const filler of fillers) await once(filler, 'connect');
  return {
    url: `http://127.0.0.1:${port}`,
    async close() {
      for (const filler of fillers) filler.destroy();
      await worker.terminate();
    },
  };
}

/** The address of a port on which nobody listens. */
export async function unusedServer(): Promise<string> {
  const { url, close } = await listenTcp(() => {});
  await close();
  return url;
}
