import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { parseDuration } from '../../base/duration.ts';
import type { Logger } from '../../base/logger.ts';
import { parseSize } from '../../base/size.ts';
import type { Config, ListenConfig } from '../../config/config.ts';
import { unmapIpv4 } from '../../http/ip-address.ts';
import { peerAddressOf } from '../../http/peer.ts';
import type { CertificateTerm } from './certificate-files.ts';
import type { PaceLimits } from './client-pace.ts';
import { type ConnectionHolder, descriptors } from './descriptors.ts';
import { Http1Server } from './http1/server.ts';
import type { Http2Server } from './http2/server.ts';
import type { Intake } from './intake.ts';
import type { HeadLimits, ListenerOptions } from './listener-options.ts';
import type { Newcomer } from './newcomers.ts';
import { type ConnectionTaker, isLocal, type ListeningPort, LOCAL_PEER } from './port.ts';
import { readProxyHeader } from './proxy-header.ts';
import { setPublicPort } from './public-port.ts';
import { TlsListener } from './tls.ts';
import { wireOf } from './wire-bytes.ts';

/** A connection that was just opened may have its request on the way. */
const MIN_AGE_MS = 1_000;

const ignore = () => {};

/**
 * What happens to the connections of a port: PROXY header → TLS → ALPN → the HTTP/1 server or the HTTP/2 server.
 *
 * Every step has the time of a request head, and a connection that does not come through is cut. No error of a socket
 * leaves it.
 */
export class Listener implements ConnectionHolder, ConnectionTaker {
  readonly logger: Logger;
  readonly config: ListenConfig;
  readonly allowsHalfOpen: boolean;
  /** Where its connections come from. */
  readonly port: ListeningPort;
  readonly #options: ListenerOptions;
  readonly #limits: HeadLimits;
  readonly #http1: Http1Server;
  readonly #tls: TlsListener | undefined;
  /** Makes it with the first connection that speaks it: until then nothing of it is loaded. Undefined: not offered. */
  readonly #makeHttp2: (() => Promise<Http2Server>) | undefined;
  #http2: Http2Server | undefined;
  #http2Coming: Promise<Http2Server> | undefined;
  #isClosed = false;
  /**
   * Connections that no HTTP server has yet, or that are not its own to end: all of TLS, the others until their PROXY
   * header is read.
   */
  readonly #raw = new Set<Socket>();
  /** Those that no HTTP server has yet. By what Node has in common for a socket and its TLS. */
  readonly #opening = new Map<object, Newcomer>();

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when a certificate cannot be used. */
  constructor(listen: ListenConfig, port: ListeningPort, intake: Intake, options: ListenerOptions) {
    const { config, clock, logger } = options;
    this.config = listen;
    this.port = port;
    this.allowsHalfOpen = listen.tls === undefined;
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
    // Also without an access log: a reload or a follower may ask for lines at any time.
    this.#http1 = new Http1Server(served, { ...held, countsBytes: true });
    if (this.#tls && listen.http2 !== false)
      this.#makeHttp2 = async () => {
        const { Http2Server } = await import('./http2/server.ts');
        return new Http2Server(served, { ...held, allowWebSocket: allowsWebSocket(listen) });
      };
  }

  /** Where it listens, as soon as its port is open. */
  get url(): string {
    if (this.port.path !== undefined) return `unix:${this.port.path}`;
    return `${this.#tls ? 'https' : 'http'}://${this.port.host}:${this.port.number}`;
  }

  /** From now on it takes what connects to its port. */
  open(): void {
    this.port.giveTo(this);
    descriptors.add(this);
  }

  /** Is there no connection that it looks after? WebSockets of plain connections look after themselves. */
  get isEmpty(): boolean {
    return this.#raw.size === 0 && this.#http1.clients.size === 0 && (this.#http2?.size ?? 0) === 0;
  }

  /** Certificates that have changed are taken at once. */
  readFiles(): void {
    this.#tls?.readFiles();
  }

  /** Takes no more connections, and no request behind those that are under way. */
  close(): void {
    descriptors.remove(this);
    this.#isClosed = true;
    this.#http1.close();
    this.#http2?.close();
    this.#tls?.close();
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

  /** Nothing comes any more: what looks after connections ends, too. */
  end(): void {
    this.close();
    this.closeAll();
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

  /** Those that its clients are shown: a name of each, and until when it is good, in ms since the epoch. */
  get certificates(): readonly CertificateTerm[] {
    return this.#tls?.certificates ?? [];
  }

  take(socket: Socket): void {
    const { meters } = this.#options;
    if (meters) meters.connectionsAccepted++;
    if (!descriptors.admit()) {
      socket.destroy();
      return;
    }
    // A client that has reset its connection already has no address that lists, limits and bans could judge it by. One
    // that does so later keeps it.
    if (peerAddressOf(socket) === '') return void socket.destroy();
    const { proxyProtocol } = this.config;
    const { doorkeeper } = this.#options;
    if (doorkeeper?.turnsAway(socket, peerAddressOf(socket))) return;
    const newcomer = this.#options.newcomers.enter(socket);
    if (proxyProtocol === undefined && this.#tls === undefined) return this.#http1.take(socket, newcomer);
    const local = isLocal(socket) ? LOCAL_PEER : undefined;
    const wire = wireOf(socket)!;
    const forget = () => {
      this.#raw.delete(socket);
      this.#opening.delete(wire);
    };
    const leave = () => newcomer.leave();
    this.#raw.add(socket);
    this.#opening.set(wire, newcomer);
    socket.on('error', ignore).on('close', forget).on('close', leave);
    if (proxyProtocol === undefined) return this.#tls!.take(socket, local);
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
        if (this.#tls) return this.#tls.take(socket, source ? header : local);
        forget();
        socket.off('error', ignore).off('close', forget).off('close', leave);
        this.#http1.take(socket, newcomer, header);
      },
    });
  }

  readonly #onSecure = (socket: TLSSocket): void => {
    const wire = wireOf(socket)!;
    const newcomer = this.#opening.get(wire);
    const speaksHttp2 = socket.alpnProtocol === 'h2' && this.#makeHttp2 !== undefined;
    if (speaksHttp2 && !this.#http2) return this.#awaitHttp2(socket);
    this.#opening.delete(wire);
    // It has been closed meanwhile.
    if (!newcomer) return void socket.destroy();
    if (this.config.publicPort !== undefined) setPublicPort(socket, this.config.publicPort);
    if (speaksHttp2) this.#http2!.take(socket, newcomer);
    else this.#http1.take(socket, newcomer);
  };

  /** Meanwhile it is one of those that no HTTP server has yet. */
  #awaitHttp2(socket: TLSSocket): void {
    socket.on('error', ignore);
    const take = (http2: Http2Server) => {
      if (!this.#http2 && this.#isClosed) http2.close();
      this.#http2 ??= http2;
      socket.off('error', ignore);
      if (!socket.destroyed) this.#onSecure(socket);
    };
    this.#http2Coming ??= this.#makeHttp2!();
    this.#http2Coming.then(take, () => socket.destroy());
  }
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
    onRefused: (request, refusal, answer) => intake.onRefused?.(request, refusal, answer),
    onRequest(request, response) {
      response.setHeader('Strict-Transport-Security', value);
      intake.onRequest(request, response);
    },
  };
}
