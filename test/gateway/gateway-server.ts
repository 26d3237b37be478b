import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { type Logger, silentLogger } from '../../src/base/logger.ts';
import type { BackendSession } from '../../src/gateway/backend-session/backend-session.ts';
import type { UpstreamTls } from '../../src/gateway/connection/dialer.ts';
import type { Forwarded } from '../../src/gateway/exchange/exchange.ts';
import { forwardRequest } from '../../src/gateway/forward/forward.ts';
import { OwnNames } from '../../src/gateway/own-names.ts';
import type { RelayedAnswer } from '../../src/gateway/relay/declined-answer.ts';
import { type RelayLimits, relayLimits } from '../../src/gateway/relay/limits.ts';
import { openRelay } from '../../src/gateway/relay/opening.ts';
import { Relay } from '../../src/gateway/relay/relay.ts';
import type { UpstreamOptions } from '../../src/gateway/upstream/options.ts';
import { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { emptyAddressList } from '../../src/http/address-list.ts';
import { isRefusal, type Refusal } from '../../src/http/refusal.ts';
import { type RequestHead, readRequestHead } from '../../src/http/request-head.ts';
import { parseUpgrade } from '../../src/http/upgrade-request.ts';
import { refusalResponse } from '../../src/http/write-refusal.ts';
import { Http1Clients } from '../../src/server/listen/http1/clients.ts';
import { TimerWheel } from '../../src/websocket/timer-wheel.ts';

export interface GatewayOptions extends Omit<Partial<UpstreamOptions>, 'session'> {
  tls?: UpstreamTls;
  /** The same for every request, or told by it. */
  sid?: string | ((head: RequestHead) => string | undefined);
  /** The same for every request. */
  session?: BackendSession;
  /** Sign the cookie of affinity. */
  keys?: readonly string[];
  sessionCookieName?: string;
  clock?: Clock;
  logger?: Logger;
  limits?: Partial<RelayLimits>;
  touchOnTraffic?: 'message' | 'any' | 'never';
  onTraffic?(): void;
  /** Runs before the request is forwarded. */
  before?(response: http.ServerResponse): void;
}

export type Outcome = Forwarded | RelayedAnswer | Refusal;

/** A server whose every request and upgrade goes to one upstream. */
export class TestGateway {
  readonly server = http.createServer();
  readonly upstream: Upstream;
  readonly outcomes: Outcome[] = [];
  readonly relays: Relay[] = [];
  #waiting: (() => void)[] = [];

  constructor(servers: UpstreamOptions['servers'], options: GatewayOptions = {}) {
    const clock = options.clock ?? systemClock;
    const logger = options.logger ?? silentLogger;
    const own = new OwnNames();
    if (options.sessionCookieName !== undefined) own.cookies.add(options.sessionCookieName);
    const environment = {
      own,
      logger,
      ...(options.tls && { tls: options.tls }),
      ...(options.keys && { keys: options.keys }),
    };
    const { session, ...upstreamOptions } = options;
    this.upstream = new Upstream('app', { servers, ...upstreamOptions }, clock, environment);
    const sidOf = (head: RequestHead) => (typeof options.sid === 'function' ? options.sid(head) : options.sid);
    const wheel = new TimerWheel(clock);
    const shared = { upstream: this.upstream, session };
    // As the listener does, without a minimum rate.
    const pace = { silenceMs: 60_000, bytesPerSecond: 0 };
    const clients = new Http1Clients({ pace, idleMs: 60_000, clock, logger });
    this.server.on('connection', socket => clients.add(socket));
    const onRequest = async (request: http.IncomingMessage, response: http.ServerResponse) => {
      clients.begin(request, response);
      options.before?.(response);
      const head = readHead(request);
      const result = await forwardRequest({ head, sid: sidOf(head), request, response, ...shared });
      if (isRefusal(result)) {
        response.writeHead(result.status, result.headers);
        response.end(result.code);
      }
      this.#report(result);
    };
    this.server.on('request', onRequest);
    this.server.on('checkContinue', onRequest);
    this.server.on('upgrade', async (request: http.IncomingMessage, socket: Duplex, early: Buffer) => {
      clients.leave(socket);
      const head = readHead(request);
      const handshake = parseUpgrade(head);
      if (isRefusal(handshake)) throw new Error(handshake.reason);
      const limits = { ...relayLimits(), ...options.limits };
      const result = await openRelay({
        head,
        sid: sidOf(head),
        handshake,
        socket,
        early,
        limits,
        wheel,
        attached: options.onTraffic && {
          sid: undefined,
          touchOnTraffic: options.touchOnTraffic ?? 'message',
          touch: options.onTraffic,
          responseHeaders: () => [],
        },
        ...shared,
      });
      if (result instanceof Relay) {
        this.relays.push(result);
        this.#wake();
        return;
      }
      if (isRefusal(result)) socket.end(refusalResponse(result), () => socket.destroy());
      this.#report(result);
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

function readHead(request: http.IncomingMessage): RequestHead {
  const head = readRequestHead(request, { trustedProxies: emptyAddressList });
  if (isRefusal(head)) throw new Error(head.reason);
  return head;
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
