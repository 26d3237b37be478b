import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { parseSize } from '../../base/size.ts';
import type { Config, ListenConfig } from '../../config/config.ts';
import { unmapIpv4 } from '../../http/ip-address.ts';
import { peerAddressOf } from '../../http/peer.ts';
import type { PaceLimits } from './client-pace.ts';
import { type ConnectionHolder, descriptors } from './descriptors.ts';
import { Http1Server } from './http1/server.ts';
import { Http2Server } from './http2/server.ts';
import type { Intake } from './intake.ts';
import type { HeadLimits, ListenerOptions } from './listener-options.ts';
import type { Newcomer } from './newcomers.ts';
import { readProxyHeader } from './proxy-header.ts';
import { TlsListener } from './tls.ts';
import { wireOf } from './wire-bytes.ts';

// A burst of reconnects must find room in the kernel's queue; the kernel cuts it to what it allows.
const BACKLOG = 4096;
/** A connection that was just opened may have its request on the way. */
const MIN_AGE_MS = 1_000;

/**
 * A connection on which nothing comes for so long is asked by TCP whether its other end is there, and ends ten seconds
 * later if it is not: a stream of events that has nothing to say would never find out.
 */
const TCP_KEEPALIVE_MS = 60_000;

const ignore = () => {};

/**
 * One open port: net socket → PROXY header → TLS → ALPN → the HTTP/1 server or the HTTP/2 server.
 *
 * Every step has the time of a request head, and a connection that does not come through is cut. No error of a socket
 * leaves it.
 */
export class Listener implements ConnectionHolder {
  readonly logger: Logger;
  readonly config: ListenConfig;
  /** Where it listens; `''` before `open`. */
  url = '';
  /** The one that was free, when the configuration says 0. */
  port = 0;
  readonly #net: NetServer;
  readonly #options: ListenerOptions;
  readonly #limits: HeadLimits;
  readonly #http1: Http1Server;
  readonly #tls: TlsListener | undefined;
  readonly #http2: Http2Server | undefined;
  /**
   * Connections that no HTTP server has yet, or that are not its own to end: all of TLS, the others until their PROXY
   * header is read.
   */
  readonly #raw = new Set<Socket>();
  /** Those that no HTTP server has yet. By what Node has in common for a socket and its TLS. */
  readonly #opening = new Map<object, Newcomer>();

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when a certificate cannot be used. */
  constructor(listen: ListenConfig, intake: Intake, options: ListenerOptions) {
    const { config, clock, logger } = options;
    this.config = listen;
    this.#options = options;
    this.logger = logger;
    this.#limits = {
      timeoutMs: parseDuration(config.headerTimeout ?? '10s'),
      maxBytes: parseSize(config.maxHeaderSize ?? '16KiB'),
    };
    this.#tls = listen.tls && new TlsListener(listen, this.#limits.timeoutMs, options, this.#onSecure);
    const served = this.#tls?.hsts === undefined ? intake : withHsts(intake, this.#tls.hsts);
    const keepAliveMs = parseDuration(config.keepAliveTimeout ?? '75s');
    const held = { head: this.#limits, pace: paceLimits(config), keepAliveMs, clock, logger };
    const countsBytes = (config.log?.access ?? 'off') !== 'off';
    this.#http1 = new Http1Server(served, { ...held, countsBytes });
    this.#http2 =
      this.#tls && listen.http2 !== false
        ? new Http2Server(served, { ...held, allowWebSocket: allowsWebSocket(listen) })
        : undefined;
    // As in node:http, which ends the connection of a client that sends nothing more by itself; a WebSocket has its
    // closing handshake first.
    this.#net = createServer(
      {
        allowHalfOpen: listen.tls === undefined,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: TCP_KEEPALIVE_MS,
      },
      this.#onConnection,
    );
  }

  /** @throws {HoldfastError} ERR_SERVER_LISTEN when the port cannot be had. */
  async open(): Promise<void> {
    await listenOn(this.#net, this.config);
    const { address, family, port } = this.#net.address() as AddressInfo;
    const host = isEveryAddress(address) ? 'localhost' : family === 'IPv6' ? `[${address}]` : address;
    this.url = `${this.#tls ? 'https' : 'http'}://${host}:${port}`;
    this.port = port;
    descriptors.add(this);
    this.#net.on('error', error => this.#options.logger.error({ err: error }, 'listener failed'));
  }

  /** Takes no more connections. Resolves when the last one is gone. */
  close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#net.close(() => resolve()));
    descriptors.remove(this);
    this.#options.doorkeeper?.letGo();
    this.#http1.close();
    this.#http2?.close();
    this.#tls?.close();
    return closed;
  }

  /** Ends the connections that wait for a request. */
  closeIdle(): void {
    this.#http1.closeIdle();
  }

  closeAll(): void {
    this.#http1.closeAll();
    this.#http2?.closeAll();
    for (const socket of this.#raw) socket.destroy();
  }

  /** Ends connections of these clients: each after what is under way on it. */
  endOf(hits: (address: string) => boolean): void {
    for (const { socket } of this.#opening.values()) if (hits(peerAddressOf(socket))) socket.destroy();
    this.#http1.clients.endOf(hits);
    this.#http2?.endOf(hits);
  }

  /** Cuts all connections of these clients. */
  cutOf(hits: (address: string) => boolean): void {
    this.#http1.clients.cutOf(hits);
    this.#http2?.cutOf(hits);
    for (const socket of this.#raw) if (hits(peerAddressOf(socket))) socket.destroy();
  }

  endIdle(limit: number): number {
    const ended = this.#http1.clients.endIdle(limit);
    return ended + (this.#http2?.endIdle(limit - ended) ?? 0);
  }

  endUnused(limit: number): number {
    const { clock, newcomers } = this.#options;
    return newcomers.endOldest(limit, clock.monotonic() - MIN_AGE_MS);
  }

  readonly #onConnection = (socket: Socket): void => {
    if (!descriptors.admit()) {
      socket.destroy();
      return;
    }
    const { proxyProtocol } = this.config;
    const { doorkeeper } = this.#options;
    if (doorkeeper?.turnsAway(socket, peerAddressOf(socket))) return;
    const newcomer = this.#options.newcomers.enter(socket);
    if (proxyProtocol === undefined && this.#tls === undefined) return this.#http1.take(socket, newcomer);
    const wire = wireOf(socket)!;
    const forget = () => {
      this.#raw.delete(socket);
      this.#opening.delete(wire);
    };
    const leave = () => newcomer.leave();
    this.#raw.add(socket);
    this.#opening.set(wire, newcomer);
    socket.on('error', ignore).on('close', forget).on('close', leave);
    if (proxyProtocol === undefined) return this.#tls!.take(socket);
    const { clock, logger, trustedProxies } = this.#options;
    readProxyHeader(socket, {
      isRequired: proxyProtocol === 'required',
      trustedProxies,
      timeoutMs: this.#limits.timeoutMs,
      clock,
      logger,
      onDone: header => {
        const { source } = header ?? {};
        if (source) {
          const address = unmapIpv4(source.address);
          if (doorkeeper?.turnsAway(socket, address)) return newcomer.leave();
          newcomer.identify(address);
        }
        if (this.#tls) return this.#tls.take(socket, header);
        forget();
        socket.off('error', ignore).off('close', forget).off('close', leave);
        this.#http1.take(socket, newcomer, header);
      },
    });
  };

  readonly #onSecure = (socket: TLSSocket): void => {
    const wire = wireOf(socket)!;
    const newcomer = this.#opening.get(wire);
    this.#opening.delete(wire);
    // It has been closed meanwhile.
    if (!newcomer) return void socket.destroy();
    if (socket.alpnProtocol === 'h2' && this.#http2) this.#http2.take(socket, newcomer);
    else this.#http1.take(socket, newcomer);
  };
}

function paceLimits({ clientTimeout = '60s', clientRate = 500 }: Config): PaceLimits {
  const bytesPerSecond = parseSize(clientRate);
  return {
    silenceMs: parseDuration(clientTimeout),
    bytesPerSecond: bytesPerSecond === Number.POSITIVE_INFINITY ? 0 : bytesPerSecond,
  };
}

function allowsWebSocket({ http2 = true }: ListenConfig): boolean {
  return typeof http2 === 'boolean' ? http2 : http2.websocket !== false;
}

/** Before anybody else, so that a backend or handler that has its own words on it has the last. */
function withHsts(intake: Intake, value: string): Intake {
  return {
    isUpgrade: request => intake.isUpgrade(request),
    onUpgrade: (request, socket, early) => intake.onUpgrade(request, socket, early),
    onRequest(request, response) {
      response.setHeader('Strict-Transport-Security', value);
      intake.onRequest(request, response);
    },
  };
}

function listenOn(server: NetServer, { port, host }: ListenConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const where = host === undefined ? `port ${port}` : `${host} port ${port}`;
      const why =
        cause.code === 'EADDRINUSE' ? 'another program listens there; stop it or choose another port' : cause.message;
      reject(new HoldfastError('ERR_SERVER_LISTEN', `cannot listen on ${where}: ${why}`, { cause }));
    });
    server.listen({ port, host, backlog: BACKLOG }, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

function isEveryAddress(address: string): boolean {
  return address === '::' || address === '0.0.0.0' || address === '::1' || address === '127.0.0.1';
}
