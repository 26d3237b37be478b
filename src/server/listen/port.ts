import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ListenConfig } from '../../config/config.ts';

// A burst of reconnects must find room in the kernel's queue; the kernel cuts it to what it allows.
const BACKLOG = 4096;

/**
 * A connection on which nothing comes for so long is asked by TCP whether its other end is there, and ends ten seconds
 * later if it is not: a stream of events that has nothing to say would never find out.
 */
const TCP_KEEPALIVE_MS = 60_000;

/** Takes the connections of a port. */
export interface ConnectionTaker {
  /** May a client end its side and still get its answers? */
  readonly allowsHalfOpen: boolean;
  take(socket: Socket): void;
}

/**
 * A port that is open: it accepts connections and gives each to its taker, which can be changed while it listens, so that
 * no client is turned away meanwhile.
 */
export class Port {
  /** The one that was free, when the configuration says 0. */
  number = 0;
  /** The host in URLs. */
  host = '';
  readonly #net: NetServer;
  readonly #place: ListenConfig;
  readonly #logger: Logger;
  #taker: ConnectionTaker | undefined;

  constructor(place: ListenConfig, logger: Logger) {
    this.#place = place;
    this.#logger = logger;
    this.#net = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS }, socket => {
      // As in node:http, which ends the connection of a client that sends nothing more by itself; a WebSocket has its
      // closing handshake first.
      socket.allowHalfOpen = this.#taker!.allowsHalfOpen;
      this.#taker!.take(socket);
    });
  }

  /** From now on this one gets what connects. */
  giveTo(taker: ConnectionTaker): void {
    this.#taker = taker;
  }

  /** @throws {HoldfastError} ERR_SERVER_LISTEN when the port cannot be had. */
  async open(): Promise<void> {
    await listenOn(this.#net, this.#place);
    const { address, family, port } = this.#net.address() as AddressInfo;
    this.host = isEveryAddress(address) ? 'localhost' : family === 'IPv6' ? `[${address}]` : address;
    this.number = port;
    this.#net.on('error', error => this.#logger.error({ err: error }, 'listener failed'));
  }

  /** How many of its connections are open. */
  connections(): Promise<number> {
    return new Promise(resolve => this.#net.getConnections((error, count) => resolve(error ? 0 : count)));
  }

  /** Accepts no more connections. Resolves when the last one is gone. */
  close(): Promise<void> {
    return new Promise<void>(resolve => this.#net.close(() => resolve()));
  }
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
