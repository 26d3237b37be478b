import type { IncomingMessage, ServerResponse } from 'node:http';
import http2, { type Http2Session, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { Http2Request, Http2Response, Http2Upgrade } from './http2-exchange.ts';
import { endStream } from './http2-stream.ts';
import { toUpgradeSocket } from './http2-upgrade-socket.ts';
import type { HeadLimits, Intake } from './listen.ts';

export interface Http2ServerOptions {
  readonly head: HeadLimits;
  /** RFC 8441. */
  readonly allowWebSocket: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Requests and sockets that one connection may have at a time. */
const MAX_STREAMS = 250;
/** Headers of one request; browsers send every cookie as one. Their size has a limit of its own. */
const MAX_HEADERS = 512;
/** A connection without a stream for so long is ended. */
const IDLE_MS = 60_000;
const CHECK_INTERVAL_MS = 1_000;

const ignore = () => {};
const NOTHING = Buffer.alloc(0);

/** What is known of a connection besides what Node knows. */
interface Known {
  readonly socket: TLSSocket;
  streams: number;
  /** When it last had no stream. */
  idleSince: number;
  hasServed: boolean;
}

/**
 * HTTP/2 for sockets whose TLS has agreed on it.
 *
 * A request comes to the intake as one of HTTP/1.1 would, and an extended CONNECT (RFC 8441) as an upgrade. It works on the `stream` event:
 * Node's compatibility layer would answer extended CONNECT with 405. Streams that are reset faster than they could be of use end the
 * connection (CVE-2023-44487), which is Node's part.
 */
export class Http2Server {
  readonly #server: http2.Http2Server;
  readonly #intake: Intake;
  readonly #options: Http2ServerOptions;
  readonly #sessions = new Map<Http2Session, Known>();
  /** The one that `emit` is handing over. */
  #taken: TLSSocket | undefined;
  #timer: Timer | undefined;
  #isClosing = false;

  constructor(intake: Intake, options: Http2ServerOptions) {
    this.#intake = intake;
    this.#options = options;
    this.#server = http2.createServer({
      maxHeaderListPairs: MAX_HEADERS,
      // What a backend says twice is passed on as it is, as over HTTP/1. Else Node throws, wherever it comes to send it.
      strictSingleValueFields: false,
      settings: {
        enableConnectProtocol: options.allowWebSocket,
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: options.head.maxBytes,
      },
    });
    this.#server.on('session', this.#onSession);
    this.#server.on('stream', this.#onStream);
    this.#server.on('sessionError', error =>
      options.logger.debug({ error: error.message }, 'HTTP/2 connection failed'),
    );
  }

  take(socket: TLSSocket): void {
    socket.on('error', ignore);
    this.#taken = socket;
    this.#server.emit('connection', socket);
    this.#taken = undefined;
  }

  /** Tells every client to open no more streams. Connections end with their last one. */
  close(): void {
    this.#isClosing = true;
    for (const session of this.#sessions.keys()) session.close();
  }

  closeAll(): void {
    for (const session of this.#sessions.keys()) session.destroy();
  }

  readonly #onSession = (session: ServerHttp2Session): void => {
    const { clock } = this.#options;
    this.#sessions.set(session, { socket: this.#taken!, streams: 0, idleSince: clock.monotonic(), hasServed: false });
    session.on('error', ignore);
    session.on('close', () => this.#sessions.delete(session));
    if (this.#isClosing) session.close();
    if (this.#sessions.size === 1) this.#scheduleCheck();
  };

  #scheduleCheck(): void {
    const { clock, head } = this.#options;
    clock.clearTimeout(this.#timer);
    this.#timer = clock.setTimeout(this.#endIdle, Math.min(CHECK_INTERVAL_MS, head.timeoutMs));
  }

  /** A head that comes in too slowly is no stream yet. */
  readonly #endIdle = (): void => {
    const { clock, head } = this.#options;
    const now = clock.monotonic();
    for (const [session, { streams, idleSince, hasServed }] of this.#sessions) {
      if (streams === 0 && now - idleSince >= (hasServed ? IDLE_MS : head.timeoutMs)) session.destroy();
    }
    if (this.#sessions.size > 0) this.#scheduleCheck();
  };

  readonly #onStream = (
    stream: ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    _flags: number,
    rawHeaders: string[],
  ): void => {
    // Every error is followed by `close`, which is what is acted on.
    stream.on('error', ignore);
    const known = stream.session && this.#sessions.get(stream.session);
    if (!known) {
      stream.destroy();
      return;
    }
    known.streams++;
    known.hasServed = true;
    stream.once('close', () => {
      known.streams--;
      known.idleSince = this.#options.clock.monotonic();
    });
    if (headers[':method'] !== 'CONNECT') {
      const request = new Http2Request(stream, headers, rawHeaders, known.socket) as unknown as IncomingMessage;
      this.#intake.onRequest(request, new Http2Response(stream) as unknown as ServerResponse);
    } else if (headers[':protocol'] === 'websocket') {
      const request = new Http2Upgrade(headers, rawHeaders, known.socket) as unknown as IncomingMessage;
      this.#intake.onUpgrade(request, toUpgradeSocket(stream), NOTHING);
    } else {
      // RFC 8441 §4: an unknown protocol. Without one it asks for a forward proxy, which this is not.
      stream.respond({ ':status': headers[':protocol'] === undefined ? 400 : 501 });
      endStream(stream, NOTHING, ignore);
    }
  };
}
