import { readFileSync } from 'node:fs';
import http, { type IncomingMessage, type ServerOptions, type ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { parseDuration } from '../base/duration.ts';
import { HoldfastError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { parseSize } from '../base/size.ts';
import type { Config, ListenConfig } from '../config/config.ts';
import { refuse } from '../http/refusal.ts';
import { refusalResponse } from '../websocket/protocol/handshake.ts';

/** Who takes what comes in. Neither may throw. */
export interface Intake {
  onRequest(request: IncomingMessage, response: ServerResponse): void;
  onUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer): void;
  /** Should this request be taken as an upgrade, rather than answered as plain HTTP? */
  isUpgrade(request: IncomingMessage): boolean;
}

/** One open port. */
export interface Listener {
  readonly url: string;
  readonly server: http.Server;
}

// A burst of reconnects must find room in the kernel's queue; the kernel cuts it to what it allows.
const BACKLOG = 4096;
// How often Node looks for clients that are late with their request head.
const CHECK_INTERVAL_MS = 1_000;

/** @throws {HoldfastError} ERR_SERVER_LISTEN when the port cannot be had; ERR_CONFIG_INVALID when the certificate cannot be read. */
export async function openListener(
  listen: ListenConfig,
  config: Config,
  intake: Intake,
  logger: Logger,
): Promise<Listener> {
  const responses = new LastResponses();
  const server = createHttpServer(
    listen,
    config,
    request => intake.isUpgrade(request) && responses.areDone(request.socket),
  );
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    responses.note(request.socket, response);
    intake.onRequest(request, response);
  };
  server.on('request', onRequest);
  // Not answered with 100 by Node: a backend may want to answer it itself.
  server.on('checkContinue', onRequest);
  server.on('upgrade', intake.onUpgrade);
  // Without a listener Node cuts the connection and answers nothing.
  server.on('connect', (_request, socket) => answerConnect(socket));
  server.on('clientError', (error, socket) => answerClientError(error, socket, responses, logger));
  server.on('tlsClientError', (error, socket) => {
    logger.debug({ error: error.message }, 'TLS handshake failed');
    // An answer could only be sent through the TLS that is not there.
    socket.destroy();
  });
  await listenOn(server, listen);
  server.on('error', error => logger.error({ error }, 'listener failed'));
  const { port, address, family } = server.address() as AddressInfo;
  const host = isEveryAddress(address) ? 'localhost' : family === 'IPv6' ? `[${address}]` : address;
  return { url: `${listen.tls ? 'https' : 'http'}://${host}:${port}`, server };
}

function createHttpServer(
  listen: ListenConfig,
  config: Config,
  shouldUpgrade: (request: IncomingMessage) => boolean,
): http.Server {
  const headersTimeout = parseDuration(config.headerTimeout ?? '10s');
  const options: ServerOptions = {
    maxHeaderSize: parseSize(config.maxHeaderSize ?? '16KiB'),
    headersTimeout,
    // Bodies may take as long as their target lets them; a head may not.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, headersTimeout),
    // Any other Upgrade is ignored (RFC 9110 §7.8) and the request answered as what it is.
    shouldUpgradeCallback: shouldUpgrade,
  };
  if (!listen.tls) return http.createServer(options);
  return https.createServer({
    ...options,
    // The time for the head begins after the TLS handshake.
    handshakeTimeout: headersTimeout,
    cert: readPem(listen.tls.certificate),
    key: readPem(listen.tls.key),
  });
}

function readPem(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new HoldfastError('ERR_CONFIG_INVALID', `tls: ${file} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function listenOn(server: http.Server, { port, host }: ListenConfig): Promise<void> {
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

/** The last response of each connection, by which it is known whether one is under way: pipelined requests are answered in order. */
class LastResponses {
  readonly #last = new WeakMap<Duplex, ServerResponse>();

  note(socket: Duplex, response: ServerResponse): void {
    this.#last.set(socket, response);
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
