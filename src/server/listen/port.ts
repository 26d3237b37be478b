import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ListenConfig } from '../../config/config.ts';
import { setPeer } from '../../http/peer.ts';
import type { ProxyHeader } from '../../http/proxy-protocol.ts';
import { inheritedSockets } from './inherited.ts';
import { accessOf, type Place, placesOf } from './place.ts';
import { refusedPlace } from './refused-place.ts';
import { SocketFile, socketPathOf } from './socket-file.ts';

// A burst of reconnects must find room in the kernel's queue; the kernel cuts it to what it allows.
const BACKLOG = 4096;

/**
 * A connection on which nothing comes for so long is asked by TCP whether its other end is there, and ends ten seconds
 * later if it is not: a stream of events that has nothing to say would never find out.
 */
const TCP_KEEPALIVE_MS = 60_000;
const NET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS };

const ignore = () => {};

const local = new WeakSet<Socket>();

/** Has this connection come through a socket file? */
export function isLocal(socket: Socket): boolean {
  return local.has(socket);
}

/** It has. */
export function markLocal(socket: Socket): void {
  local.add(socket);
  setPeer(socket, LOCAL_PEER);
}

/** Takes the connections of a port. */
export interface ConnectionTaker {
  /** May a client end its side and still get its answers? */
  readonly allowsHalfOpen: boolean;
  take(socket: Socket): void;
}

/**
 * The other end of a connection through a socket file: a program of this machine. The kernel gives it no address, and an
 * address is what lists, limits and bans go by.
 */
export const LOCAL_PEER: ProxyHeader = { length: 0, source: { address: '127.0.0.1', port: 0 }, isSecure: false };

/** Where a listener's connections come from: a port of this process, or one of the process that it works for. */
export interface ListeningPort {
  /** The one that was free, when the configuration says 0. 0 for a socket file. */
  readonly number: number;
  /** The host in URLs; `''` for a socket file. */
  readonly host: string;
  /** Of a socket file, where its first socket is one. */
  readonly path: string | undefined;
  /** @throws {HoldfastError} ERR_SERVER_LISTEN when the port cannot be had. */
  open(): Promise<void>;
  /** From now on this one gets what connects. */
  giveTo(taker: ConnectionTaker): void;
  /**
   * Can it go on with these settings of its place?
   *
   * @throws {HoldfastError} ERR_SERVER_LISTEN when it would have to be opened again.
   */
  checkChange(listen: ListenConfig): void;
  /** Goes on with these settings. */
  change(listen: ListenConfig): void;
  /** How many of its connections are open. */
  connections(): Promise<number>;
  /** Accepts no more connections. Resolves when the last one is gone. */
  close(): Promise<void>;
  /**
   * The same while the process goes on: sockets that it has inherited stay open, so that another port can have them.
   * Nobody could open them again.
   */
  release(): Promise<void>;
}

export interface PortOptions {
  /** Leaves what clients send in the kernel, for the process that is to read it. Default false. */
  readonly pauseOnConnect?: boolean;
}

/**
 * A port, or a socket file, that is open: it accepts connections and gives each to its taker, which can be changed while
 * it listens, so that no client is turned away meanwhile.
 */
export class Port implements ListeningPort {
  number = 0;
  host = '';
  path: string | undefined;
  #listen: ListenConfig;
  readonly #logger: Logger;
  /** More than one where several inherited sockets have one name. */
  readonly #nets: NetServer[] = [];
  /** Stops this port's listening on the sockets that it has inherited, which stay open. */
  readonly #givingBack: (() => void)[] = [];
  readonly #pauseOnConnect: boolean;
  /** Of a socket file that is ours. */
  #file: SocketFile | undefined;
  #taker: ConnectionTaker | undefined;
  /** They came before there was a taker: behind a socket that was handed over, clients wait already. */
  readonly #early = new Set<Socket>();
  readonly #forget: (this: Socket) => void;

  constructor(listen: ListenConfig, logger: Logger, options: PortOptions = {}) {
    this.#listen = listen;
    this.#logger = logger;
    this.#pauseOnConnect = options.pauseOnConnect ?? false;
    const early = this.#early;
    this.#forget = function () {
      early.delete(this);
    };
  }

  giveTo(taker: ConnectionTaker): void {
    this.#taker = taker;
    const early = [...this.#early];
    this.#early.clear();
    for (const socket of early) {
      socket.off('error', ignore).off('close', this.#forget);
      if (!socket.destroyed) this.#give(socket, taker);
    }
  }

  async open(): Promise<void> {
    try {
      const places = placesOf(this.#listen);
      // Before it listens: nothing may stand between that and the taker's taking over.
      const paths = await Promise.all(places.map(pathOf));
      this.path = paths[0];
      const opened = await Promise.allSettled(places.map((place, index) => this.#openAt(place, paths[index])));
      for (const one of opened) if (one.status === 'rejected') throw one.reason;
    } catch (error) {
      await this.release();
      throw error;
    }
  }

  checkChange(listen: ListenConfig): void {
    accessOf(listen);
    checkReusePort(this.#listen, listen, this.number);
  }

  change(listen: ListenConfig): void {
    const { mode, group } = this.#listen;
    this.#listen = listen;
    if (!this.#file || (mode === listen.mode && group === listen.group)) return;
    this.#file
      .change(accessOf(listen))
      .catch(err =>
        this.#logger.error({ err, socket: listen.socket }, 'mode and group of a socket file could not be changed'),
      );
  }

  async connections(): Promise<number> {
    const counts = await Promise.all(this.#nets.map(countConnections));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async close(): Promise<void> {
    for (const socket of this.#early) socket.destroy();
    this.#file?.remove();
    await Promise.all(this.#nets.map(net => new Promise<void>(resolve => net.close(() => resolve()))));
  }

  async release(): Promise<void> {
    for (const giveBack of this.#givingBack.splice(0)) giveBack();
    await this.close();
  }

  async #openAt(place: Place, path: string | undefined): Promise<void> {
    const isInherited = place.kind === 'inherited';
    const parked = isInherited ? inheritedSockets().parkedAt(place.fd) : undefined;
    const net = parked ?? createServer({ ...NET_OPTIONS, pauseOnConnect: this.#pauseOnConnect });
    const take = (socket: Socket) => this.#take(socket, path !== undefined);
    const onError = (error: Error) => this.#logger.error({ err: error }, 'listener failed');
    net.on('connection', take);
    this.#nets.push(net);
    if (isInherited)
      this.#givingBack.push(() => {
        net.off('connection', take).off('error', onError);
        this.#nets.splice(this.#nets.indexOf(net), 1);
        inheritedSockets().giveBack(place.fd, net);
      });
    if (!parked) this.#file = await listenOn(net, place);
    net.on('error', onError);
    const address = net.address();
    if (this.#nets[0] === net && address !== null && typeof address === 'object') this.#isAt(address);
  }

  #isAt({ address, family, port }: AddressInfo): void {
    this.host = isEveryAddress(address) ? 'localhost' : family === 'IPv6' ? `[${address}]` : address;
    this.number = port;
  }

  #take(socket: Socket, isOfFile: boolean): void {
    if (isOfFile) markLocal(socket);
    if (this.#taker) return this.#give(socket, this.#taker);
    this.#early.add(socket);
    socket.on('error', ignore).on('close', this.#forget);
  }

  #give(socket: Socket, taker: ConnectionTaker): void {
    // As in node:http, which ends the connection of a client that sends nothing more by itself; a WebSocket has its
    // closing handshake first.
    socket.allowHalfOpen = taker.allowsHalfOpen;
    taker.take(socket);
  }
}

/** @throws {HoldfastError} ERR_SERVER_LISTEN: a socket that is open shares its port, or does not. */
export function checkReusePort(open: ListenConfig, next: ListenConfig, port: number): void {
  const { reusePort = false } = next;
  if (reusePort === (open.reusePort ?? false)) return;
  const message = `port ${port} is open with "reusePort: ${!reusePort}", which a reload cannot change; restart the server, or leave it as it was`;
  throw new HoldfastError('ERR_SERVER_LISTEN', message);
}

function countConnections(net: NetServer): Promise<number> {
  return new Promise(resolve => net.getConnections((error, count) => resolve(error ? 0 : count)));
}

/** Of a socket file. */
async function pathOf(place: Place): Promise<string | undefined> {
  if (place.kind === 'inherited') return await socketPathOf(place.fd);
  return place.kind === 'unix' ? place.path : undefined;
}

/** @throws {HoldfastError} ERR_SERVER_LISTEN. */
async function listenOn(net: NetServer, place: Place): Promise<SocketFile | undefined> {
  try {
    if (place.kind === 'unix') return await SocketFile.listen(net, [place.path], place.access, BACKLOG);
    await listening(net, place);
    return undefined;
  } catch (error) {
    throw await refusedPlace(place, error as NodeJS.ErrnoException);
  }
}

function listening(net: NetServer, place: Exclude<Place, { kind: 'unix' }>): Promise<void> {
  return new Promise((resolve, reject) => {
    net.once('error', reject);
    const done = () => {
      net.off('error', reject);
      resolve();
    };
    const backlog = BACKLOG;
    if (place.kind === 'inherited') net.listen({ fd: place.fd, backlog }, done);
    else net.listen({ port: place.port, host: place.host, reusePort: place.reusePort, backlog }, done);
  });
}

function isEveryAddress(address: string): boolean {
  return address === '::' || address === '0.0.0.0' || address === '::1' || address === '127.0.0.1';
}
