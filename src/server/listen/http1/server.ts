import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, LONGEST_TIMER_MS, systemClock } from '../../../base/clock.ts';
import { afterReading, type Deadline, setDeadline } from '../../../base/deadlines.ts';
import type { Logger } from '../../../base/logger.ts';
import { markLastAccepted } from '../../../http/last-accepted.ts';
import { unknownMethod } from '../../../http/methods.ts';
import { http } from '../../../http/node-http.ts';
import { peerAddressOf, setPeer } from '../../../http/peer.ts';
import type { ProxyHeader } from '../../../http/proxy-protocol.ts';
import { type Refusal, refuse } from '../../../http/refusal.ts';
import { writeRefusal } from '../../../http/write-refusal.ts';
import type { PaceLimits } from '../client-pace.ts';
import type { Intake } from '../intake.ts';
import type { HeadLimits } from '../listener-options.ts';
import type { Newcomer } from '../newcomers.ts';
import { PREFACE, requestLineIn, unreadRequest } from '../unread-request.ts';
import { WireBytes } from '../wire-bytes.ts';
import { Http1Clients } from './clients.ts';
import { Http1Connection } from './connection.ts';
import { CountedResponse } from './counted-response.ts';

// How often Node looks for clients that are late with their request head.
/** Whole seconds, and one that Node adds. */
const LONGEST_KEEP_ALIVE_MS = Math.floor(LONGEST_TIMER_MS / 1_000 - 1) * 1_000;
const CHECK_INTERVAL_MS = 1_000;
/** What a head that is late is given, at most: it may have arrived while this process was busy. */
const READING_MS = 250;

export interface Http1ServerOptions {
  readonly head: HeadLimits;
  readonly pace: PaceLimits;
  /** How long a connection is kept between two requests. */
  readonly keepAliveMs: number;
  /** Do responses count their bytes? */
  readonly countsBytes: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** HTTP/1 for sockets that a listener has accepted. It never listens itself. */
export class Http1Server {
  readonly #server: Server;
  readonly #intake: Intake;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly clients: Http1Clients;
  #isClosing = false;
  /** Those that have had a request and are not WebSockets. */
  readonly #connections = new WeakMap<Duplex, Http1Connection>();
  /** Connections whose head is late by Node's timer. */
  readonly #late = new Map<Duplex, Deadline>();
  readonly #readingMs: number;

  constructor(intake: Intake, { head, pace, keepAliveMs, countsBytes, clock, logger }: Http1ServerOptions) {
    this.#intake = intake;
    this.#clock = clock;
    this.#logger = logger;
    this.#readingMs = Math.min(READING_MS, head.timeoutMs / 4);
    this.#server = http.createServer({
      ...(countsBytes && { ServerResponse: CountedResponse }),
      maxHeaderSize: head.maxBytes,
      // Answers say it in whole seconds, and it must be true.
      keepAliveTimeout: Math.min(Math.ceil(keepAliveMs / 1_000) * 1_000, LONGEST_KEEP_ALIVE_MS),
      headersTimeout: head.timeoutMs,
      // Bodies may take as long as their target lets them; a head may not.
      requestTimeout: 0,
      // Node would answer what has none by itself, and go on with what follows: it is for `readRequestHead` to refuse.
      requireHostHeader: false,
      connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, head.timeoutMs),
      // Any other Upgrade is ignored (RFC 9110 §7.8) and the request answered as what it is.
      shouldUpgradeCallback: request => intake.isUpgrade(request) && this.#release(request.socket),
    });
    // A client that has sent its requests and ends its side still gets its answers. Node's types do not know it.
    (this.#server as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
    const onRequest = (request: IncomingMessage, response: ServerResponse) =>
      this.#take(request, response, () => {
        // Node's parser takes 0.9 and 2.0 for versions of what it reads.
        if (request.httpVersionMajor === 1) intake.onRequest(request, response);
        else {
          this.#logAttempt(request.socket, unreadable(505));
          this.#answer(request, response, unreadable(505));
        }
      });
    this.#server.on('request', onRequest);
    // Not answered with 100 by Node: a backend may want to answer it itself.
    this.#server.on('checkContinue', onRequest);
    this.#server.on('checkExpectation', (request, response) =>
      this.#take(request, response, () => this.#answer(request, response, unreadable(417))),
    );
    this.#server.on('upgrade', (request, socket, early) => {
      this.#hasHead(socket);
      // From here on it has limits of its own: those of a handshake, then those of a WebSocket.
      this.clients.leave(socket);
      intake.onUpgrade(request, socket, early);
    });
    // Without a listener Node cuts the connection and answers nothing.
    this.#server.on('connect', this.#onConnect);
    this.#server.on('clientError', this.#onClientError);
    this.#server.on('timeout', this.#onIdle);
    // Only then does Node look for late heads.
    this.#server.emit('listening');
    const { keepAliveTimeout, keepAliveTimeoutBuffer = 0 } = this.#server;
    // Node begins the time of a kept connection anew with every byte, and that of a head with the first byte that is
    // not an empty line.
    const idleMs = keepAliveTimeout + keepAliveTimeoutBuffer + head.timeoutMs + 2 * CHECK_INTERVAL_MS;
    this.clients = new Http1Clients({ pace, idleMs, clock, logger });
  }

  /** @param header Who the client is, when that is not the other end of the socket. */
  take(socket: Socket, newcomer: Newcomer, header?: ProxyHeader): void {
    if (header) setPeer(socket, header);
    this.clients.add(socket, newcomer);
    this.#server.emit('connection', socket);
  }

  /** Takes no more connections. Every answer that begins from now on is the last of its connection, and says so. */
  close(): void {
    this.#isClosing = true;
    this.clients.endAfterAnswers();
  }

  /** Ends the connections that wait for a request; none of them while a new one may have its first one on the way. */
  closeIdle(): void {
    // Node would end the new ones too: a client that has just connected, and sent its request, would see a reset.
    if (!this.clients.mayHaveSent) this.#server.closeIdleConnections();
  }

  closeAll(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #take(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
    if (this.#isClosing) {
      response.shouldKeepAlive = false;
      if (this.clients.isNew(request.socket)) markLastAccepted(request);
    }
    this.#hasHead(request.socket);
    this.#connection(request.socket).take(request, response, () => {
      this.clients.begin(request, response);
      answer();
    });
  }

  /** What no intake takes. */
  #answer(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
    this.#intake.onRefused?.(request, refusal, response);
    writeRefusal(response, refusal);
  }

  #logAttempt(socket: Socket, { status, reason }: Refusal): void {
    this.#logger.debug({ event: 'bad-request', address: peerAddressOf(socket), status }, reason);
  }

  /** Ends the connection with what is said of something that is not a request. */
  #fail(request: () => IncomingMessage, socket: Socket, refusal: Refusal): void {
    this.#connection(socket).fail(refusal, () => this.#intake.onRefused?.(request(), refusal, socket));
  }

  #connection(socket: Socket): Http1Connection {
    let connection = this.#connections.get(socket);
    if (!connection) {
      connection = new Http1Connection(socket, this.#clock);
      this.#connections.set(socket, connection);
    }
    return connection;
  }

  /** True when the connection may become a WebSocket. */
  #release(socket: Socket): boolean {
    const isReleased = this.#connections.get(socket)?.release() ?? true;
    if (isReleased) this.#connections.delete(socket);
    return isReleased;
  }

  /** Node has let go of the connection, and hands it over before the answers of earlier requests have left. */
  readonly #onConnect = (request: IncomingMessage, socket: Duplex): void => {
    this.#hasHead(socket);
    const connection = this.#connection(socket as Socket);
    socket.on('error', () => {}).on('drain', connection.onDrain);
    const refusal = refuse(400, 'ERR_HTTP_BAD_REQUEST', 'CONNECT asks for a forward proxy, which this is not');
    this.#logAttempt(socket as Socket, refusal);
    this.#fail(() => request, socket as Socket, refusal);
  };

  /** A kept connection on which Node has seen no request in time, though one may have arrived. */
  readonly #onIdle = (socket: Socket): void => {
    const wire = new WireBytes(socket);
    const { received } = wire;
    afterReading(() => {
      if (wire.received === received) socket.destroy();
    });
  };

  /** What Node could not parse, or did not get in time. */
  readonly #onClientError = (error: ReadError, socket: Duplex): void => {
    this.#hasHead(socket);
    if (error.code !== 'ERR_HTTP_REQUEST_TIMEOUT') return this.#refuse(error, socket);
    // Node's timers run before it reads what has arrived.
    const deadline = setDeadline(systemClock, this.#readingMs, () => {
      this.#late.delete(socket);
      this.#refuse(error, socket);
    });
    this.#late.set(socket, deadline!);
    socket.once('close', () => this.#hasHead(socket));
  };

  /** Or is gone, or has sent something else. */
  #hasHead(socket: Duplex): void {
    if (this.#late.size === 0) return;
    this.#late.get(socket)?.clear();
    this.#late.delete(socket);
  }

  #refuse(error: ReadError, socket: Duplex): void {
    const address = peerAddressOf(socket as Socket);
    const isUnknown = isOfUnknownMethod(error);
    const status = isUnknown ? unknownMethod().status : statusOf(error);
    // Browsers open connections that they do not need: one without a request is late, too. And any page makes them speak
    // TLS to this port.
    const isAttempt = status !== undefined && !isTls(error);
    const event = isAttempt ? (status === 408 ? 'slow-client' : 'bad-request') : undefined;
    this.#logger.debug({ ...(event && { event, address, status }), code: error.code }, 'request could not be read');
    if (status === undefined) return void socket.destroy();
    const { code, rawPacket, bytesParsed } = error;
    const isPreface = code === 'HPE_PAUSED_H2_UPGRADE';
    const request = () => unreadRequest(socket as Socket, isPreface ? PREFACE : requestLineIn(rawPacket, bytesParsed));
    this.#fail(request, socket as Socket, isUnknown ? unknownMethod() : unreadable(status));
  }
}

interface ReadError extends NodeJS.ErrnoException {
  readonly reason?: string;
  /** What was read last, and where in it the error is. */
  readonly rawPacket?: Buffer;
  readonly bytesParsed?: number;
}

/** A request line with a method that is a token. */
const REQUEST_LINE = /^[!#$%&'*+.^_`|~\w-]+ \S+ HTTP\/1\.\d\r?\n/;
/** The same, as far as it has come. */
const BEGIN_OF_REQUEST_LINE = /^[!#$%&'*+.^_`|~\w-]+(?: \S*(?: \S*)?)?\r?$/;
const LONGEST_LINE_BYTES = 16 * 1024;

/**
 * Is it a request, and only its method is none that Node knows? Its first letters may have come before, and its last
 * ones are perhaps still to come; Node gives up at the first letter that no method has there.
 */
function isOfUnknownMethod({ code, reason, rawPacket, bytesParsed = 0 }: ReadError): boolean {
  if (reason === 'Invalid method for HTTP/x.x request') return true;
  if (code !== 'HPE_INVALID_METHOD' || rawPacket === undefined) return false;
  const start = bytesParsed === 0 ? 0 : rawPacket.lastIndexOf(0x0a, bytesParsed - 1) + 1;
  const text = rawPacket.toString('latin1', start, start + LONGEST_LINE_BYTES);
  return REQUEST_LINE.test(text) || BEGIN_OF_REQUEST_LINE.test(text);
}

/** The begin of a handshake of TLS (RFC 8446 §5.1), where HTTP was meant to come. */
function isTls({ rawPacket }: ReadError): boolean {
  return rawPacket?.[0] === 22 && rawPacket[1] === 3;
}

/** Undefined when it is the connection that has failed. */
function statusOf({ code, reason }: ReadError): number | undefined {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return 408;
    case 'HPE_HEADER_OVERFLOW':
      return 431;
    case 'HPE_PAUSED_H2_UPGRADE':
      return 505;
    case 'HPE_INVALID_VERSION':
      // For one that is written as a version is. What has another form is no HTTP.
      return reason === 'Invalid HTTP version' ? 505 : 400;
    default:
      return code?.startsWith('HPE_') ? 400 : undefined;
  }
}

function unreadable(status: number): Refusal {
  return refuse(status, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be read', { headers: { Connection: 'close' } });
}
