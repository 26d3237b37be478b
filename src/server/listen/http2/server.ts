import type { IncomingMessage, ServerResponse } from 'node:http';
import http2, { type Http2Session, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../../../base/clock.ts';
import { afterReading, RunningTime } from '../../../base/deadlines.ts';
import type { Logger } from '../../../base/logger.ts';
import { peerAddressOf } from '../../../http/peer.ts';
import { type Refusal, refuse } from '../../../http/refusal.ts';
import { checkInterval, type PaceLimits } from '../client-pace.ts';
import type { Intake } from '../intake.ts';
import type { HeadLimits } from '../listener-options.ts';
import type { Newcomer } from '../newcomers.ts';
import { unreadRequest } from '../unread-request.ts';
import { Http2Connection } from './connection.ts';
import { Http2Request, Http2Response, Http2Upgrade } from './exchange.ts';
import { endStream } from './stream.ts';
import { toUpgradeSocket } from './upgrade-socket.ts';

export interface Http2ServerOptions {
  readonly head: HeadLimits;
  readonly pace: PaceLimits;
  /** How long a connection is kept without a stream. */
  readonly keepAliveMs: number;
  /** RFC 8441. */
  readonly allowWebSocket: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Requests and sockets that one connection may have at a time: what RFC 9113 §6.5.2 recommends. */
const MAX_STREAMS = 100;
/** Of an answer, before it is compressed. Node sends 64 KiB otherwise, and resets the stream of what is larger. */
const MAX_SENT_HEAD_BYTES = 16 * 1024 * 1024;
/** Headers of one request; browsers send every cookie as one. Their size has a limit of its own. */
const MAX_HEADERS = 512;

const ignore = () => {};
const NOTHING = Buffer.alloc(0);

/**
 * HTTP/2 for sockets whose TLS has agreed on it.
 *
 * A request comes to the intake as one of HTTP/1.1 would, and an extended CONNECT (RFC 8441) as an upgrade. It works on
 * the `stream` event: Node's compatibility layer would answer extended CONNECT with 405. Streams that are reset faster
 * than they could be of use end the connection (CVE-2023-44487), which is Node's part.
 */
export class Http2Server {
  readonly #server: http2.Http2Server;
  readonly #intake: Intake;
  readonly #options: Http2ServerOptions;
  readonly #connections = new Map<Http2Session, Http2Connection>();
  readonly #intervalMs: number;
  /** The one that `emit` is handing over. */
  #taken: { readonly socket: TLSSocket; readonly newcomer: Newcomer } | undefined;
  readonly #time: RunningTime;
  #timer: Timer | undefined;
  #lookedAt = 0;
  #isClosing = false;

  constructor(intake: Intake, options: Http2ServerOptions) {
    this.#intake = intake;
    this.#options = options;
    this.#intervalMs = Math.min(checkInterval(options.pace), options.head.timeoutMs);
    this.#time = new RunningTime(options.clock, 2 * this.#intervalMs);
    this.#server = http2.createServer({
      maxHeaderListPairs: MAX_HEADERS,
      // What a backend may say is bounded by its upstream.
      maxSendHeaderBlockLength: MAX_SENT_HEAD_BYTES,
      // What a backend says twice is passed on as it is, as over HTTP/1. Else Node throws, wherever it comes to send
      // it.
      strictSingleValueFields: false,
      settings: {
        enableConnectProtocol: options.allowWebSocket,
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: options.head.maxBytes,
      },
    });
    this.#server.on('session', this.#onSession);
    this.#server.on('stream', this.#onStream);
    this.#server.on('sessionError', error => options.logger.debug({ err: error }, 'HTTP/2 connection failed'));
  }

  /** Its connections. */
  get size(): number {
    return this.#connections.size;
  }

  take(socket: TLSSocket, newcomer: Newcomer): void {
    socket.on('error', ignore);
    this.#taken = { socket, newcomer };
    this.#server.emit('connection', socket);
    this.#taken = undefined;
  }

  /** Tells every client to open no more streams. Connections end with their last one. */
  close(): void {
    this.#isClosing = true;
    for (const session of this.#connections.keys()) session.close();
  }

  closeAll(): void {
    for (const connection of this.#connections.values()) connection.cut();
  }

  /** Ends connections of these clients, each after its last stream. */
  endOf(hits: (address: string) => boolean): void {
    for (const { session } of this.#of(hits)) session.close();
  }

  cutOf(hits: (address: string) => boolean): void {
    end(this.#of(hits));
  }

  #of(hits: (address: string) => boolean): Http2Connection[] {
    return [...this.#connections.values()].filter(({ socket }) => hits(peerAddressOf(socket)));
  }

  /** Ends connections that wait for a request, those that have waited longest first. @returns how many. */
  endIdle(limit: number): number {
    const idle = [...this.#connections.values()].filter(({ idleSince }) => idleSince !== undefined);
    return end(idle.sort((a, b) => a.idleSince! - b.idleSince!).slice(0, limit));
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const { clock, head, pace, keepAliveMs, logger } = this.#options;
    const now = this.#time.read();
    const options = {
      clock,
      pace,
      keepAliveMs,
      headTimeoutMs: head.timeoutMs,
      logger,
      time: this.#time,
      newcomer: this.#taken!.newcomer,
    };
    this.#connections.set(session, new Http2Connection(session, this.#taken!.socket, options));
    session.on('error', ignore);
    session.on('close', () => this.#connections.delete(session));
    if (this.#isClosing) session.close();
    if (this.#timer !== undefined) return;
    this.#lookedAt = now;
    this.#schedule();
  };

  #schedule(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = this.#options.clock.setTimeout(() => afterReading(this.#look), this.#intervalMs);
  }

  readonly #look = (): void => {
    const now = this.#time.read();
    // Time in which this process could not look is not the clients'.
    const ms = now - this.#lookedAt;
    this.#lookedAt = now;
    this.#timer = undefined;
    for (const connection of this.#connections.values()) connection.look(now, ms);
    if (this.#connections.size > 0) this.#schedule();
  };

  readonly #onStream = (
    stream: ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    _flags: number,
    rawHeaders: string[],
  ): void => {
    // Every error is followed by `close`, which is what is acted on.
    stream.on('error', ignore);
    const connection = stream.session && this.#connections.get(stream.session);
    if (!connection) {
      stream.destroy();
      return;
    }
    connection.beginStream(stream);
    if (headers[':method'] !== 'CONNECT') {
      const request = new Http2Request(stream, headers, rawHeaders, connection.socket);
      const response = new Http2Response(stream);
      connection.watch(stream, request, response);
      this.#intake.onRequest(request as unknown as IncomingMessage, response as unknown as ServerResponse);
    } else if (headers[':protocol'] === 'websocket') {
      const request = new Http2Upgrade(headers, rawHeaders, connection.socket) as unknown as IncomingMessage;
      this.#intake.onUpgrade(request, toUpgradeSocket(stream), NOTHING);
    } else {
      // RFC 8441 §4: an unknown protocol. Without one it asks for a forward proxy, which this is not.
      const refusal = refusedConnect(headers);
      const line = { method: 'CONNECT', target: headers[':path'] ?? headers[':authority'] ?? '', httpVersion: '2.0' };
      const about = { event: 'bad-request', address: peerAddressOf(connection.socket), status: refusal.status };
      this.#options.logger.debug(about, refusal.reason);
      this.#intake.onRefused?.(unreadRequest(connection.socket, line), refusal, stream);
      stream.respond({ ':status': refusal.status });
      endStream(stream, NOTHING, ignore);
    }
  };
}

function refusedConnect({ ':protocol': protocol }: http2.IncomingHttpHeaders): Refusal {
  if (protocol !== undefined)
    return refuse(501, 'ERR_HTTP_BAD_REQUEST', 'CONNECT asks for a protocol that is not spoken here', { body: '' });
  const reason = 'CONNECT asks for a forward proxy, which this is not';
  return refuse(400, 'ERR_HTTP_BAD_REQUEST', reason, { body: '' });
}

function end(connections: readonly Http2Connection[]): number {
  for (const connection of connections) connection.cut();
  return connections.length;
}
