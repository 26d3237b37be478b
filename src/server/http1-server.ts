import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Logger } from '../base/logger.ts';
import { setPeer } from '../http/peer.ts';
import type { ProxyHeader } from '../http/proxy-protocol.ts';
import { refuse } from '../http/refusal.ts';
import { refusalResponse } from '../websocket/protocol/handshake.ts';
import type { HeadLimits, Intake } from './listen.ts';

// How often Node looks for clients that are late with their request head.
const CHECK_INTERVAL_MS = 1_000;
/** Pipelined requests at which a connection is not read any more until they are answered. */
const MAX_WAITING = 32;

/** HTTP/1 for sockets that a listener has accepted. It never listens itself. */
export class Http1Server {
  readonly #server: http.Server;

  constructor(intake: Intake, { timeoutMs, maxBytes }: HeadLimits, logger: Logger) {
    const responses = new LastResponses();
    this.#server = http.createServer({
      maxHeaderSize: maxBytes,
      headersTimeout: timeoutMs,
      // Bodies may take as long as their target lets them; a head may not.
      requestTimeout: 0,
      // Node would answer what has none by itself, and go on with what follows: it is for `readRequestHead` to refuse.
      requireHostHeader: false,
      connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, timeoutMs),
      // Any other Upgrade is ignored (RFC 9110 §7.8) and the request answered as what it is.
      shouldUpgradeCallback: request => intake.isUpgrade(request) && responses.areDone(request.socket),
    });
    const onRequest = (request: IncomingMessage, response: ServerResponse) => {
      // Node drops what came together with a request whose Upgrade it was told to ignore: nothing that follows can be trusted.
      if (request.headers.upgrade !== undefined) response.shouldKeepAlive = false;
      responses.inTurn(request.socket, response, () => intake.onRequest(request, response));
    };
    this.#server.on('request', onRequest);
    // Not answered with 100 by Node: a backend may want to answer it itself.
    this.#server.on('checkContinue', onRequest);
    this.#server.on('upgrade', intake.onUpgrade);
    // Without a listener Node cuts the connection and answers nothing.
    this.#server.on('connect', (_request, socket) => answerConnect(socket));
    this.#server.on('clientError', (error, socket) => answerClientError(error, socket, responses, logger));
    // Only then does Node look for late heads.
    this.#server.emit('listening');
  }

  /** @param header Who the client is, when that is not the other end of the socket. */
  take(socket: Socket, header?: ProxyHeader): void {
    if (header) setPeer(socket, header);
    this.#server.emit('connection', socket);
  }

  close(): void {
    this.#server.close();
  }

  closeIdle(): void {
    this.#server.closeIdleConnections();
  }

  closeAll(): void {
    this.#server.closeAllConnections();
  }
}

/** The last response of each connection, by which it is known whether one is under way: pipelined requests are answered in order. */
class LastResponses {
  readonly #last = new WeakMap<Duplex, ServerResponse>();
  readonly #waiting = new WeakMap<Duplex, number>();

  /**
   * Begins with a request when the one before it on the same connection is done, and never when that was the end of the connection: then
   * it is not certain that these bytes are a request at all. So a client has one request at a time in work on each connection.
   */
  inTurn(socket: Socket, response: ServerResponse, begin: () => void): void {
    const last = this.#last.get(socket);
    this.#last.set(socket, response);
    if (last === undefined || last.closed) return begin();
    const waiting = (this.#waiting.get(socket) ?? 0) + 1;
    this.#waiting.set(socket, waiting);
    if (waiting >= MAX_WAITING) socket.pause();
    last.once('close', () => {
      if (!socket.writable) return;
      const left = this.#waiting.get(socket)! - 1;
      this.#waiting.set(socket, left);
      if (left === 0) socket.resume();
      begin();
    });
  }

  /** True when all has left that the connection was to be sent. Forgets the last response then. */
  areDone(socket: Duplex): boolean {
    const last = this.#last.get(socket);
    if (last !== undefined && !last.writableFinished) return false;
    this.#last.delete(socket);
    return true;
  }

  /** True when a response has left in part, or others wait behind it: what is written now would stand inside it. */
  hasBegun(socket: Duplex): boolean {
    const last = this.#last.get(socket);
    return last !== undefined && !last.writableFinished && (last.headersSent || last.socket === null);
  }
}

function answerConnect(socket: Duplex): void {
  socket.on('error', () => {});
  const refusal = refuse(400, 'ERR_HTTP_BAD_REQUEST', 'CONNECT asks for a forward proxy, which this is not');
  socket.end(refusalResponse(refusal), () => socket.destroy());
}

/** What Node could not parse, or did not get in time. */
function answerClientError(
  error: NodeJS.ErrnoException,
  socket: Duplex,
  responses: LastResponses,
  logger: Logger,
): void {
  logger.debug({ error: error.code }, 'request could not be read');
  if (!socket.writable || error.code === 'ECONNRESET' || responses.hasBegun(socket)) {
    socket.destroy();
    return;
  }
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  socket.end(refusalResponse(refuse(status, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be read')), () =>
    socket.destroy(),
  );
}
