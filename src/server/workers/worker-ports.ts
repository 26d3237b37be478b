import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { ListenConfig } from '../../config/config.ts';
import { type ConnectionTaker, checkReusePort, type ListeningPort, markLocal } from '../listen/port.ts';
import type { PortOf } from '../listeners.ts';
import { type HandedConnection, RECEIPT_FD, receiptOf } from './handed-connection.ts';
import type { Link } from './link.ts';
import type { PortAddress } from './shared-ports.ts';

/** Of a listener, what its place is. The rest of it is the worker's own. */
const PLACE = ['host', 'port', 'reusePort', 'socket', 'mode', 'group', 'activation', 'fd'] as const;

/** The ports of a worker, which its supervisor has opened. */
export class WorkerPorts {
  readonly #link: Link;
  readonly #ports = new Map<string, WorkerPort>();
  /** The last connection that has come. */
  #last = 0;

  constructor(link: Link) {
    this.#link = link;
  }

  readonly portOf: PortOf = (listen, _logger, key) => {
    const port = new WorkerPort(listen, key, this.#link, () => {
      if (this.#ports.get(key) === port) this.#ports.delete(key);
    });
    this.#ports.set(key, port);
    return port;
  };

  /** A connection has come from the supervisor. */
  receive({ id, key }: HandedConnection, socket: Socket | undefined): void {
    this.#last = id;
    // The supervisor has waited too long and has let go of it, or Node could not pass it on.
    if (!socket) return void acknowledge(id, false);
    const taker = this.#ports.get(key);
    const isTaken = taker?.isTaking === true;
    // Before anything can be read from it: if this process ends before, another one gets the connection.
    if (!acknowledge(id, isTaken) || !isTaken) return void socket.destroy();
    taker.take(socket);
  }

  /** The supervisor has heard nothing of this connection: Node passes on none without a descriptor for it. */
  say(id: number): void {
    if (id !== this.#last) acknowledge(id, false);
  }
}

/** Of the supervisor's side of the pipe: it has ended, and this process is about to. */
function acknowledge(id: number, isTaken: boolean): boolean {
  try {
    writeSync(RECEIPT_FD, receiptOf(id, isTaken));
    return true;
  } catch {
    return false;
  }
}

/** One of them, for its listener. */
class WorkerPort implements ListeningPort {
  number = 0;
  host = '';
  path: string | undefined;
  #listen: ListenConfig;
  readonly #key: string;
  readonly #link: Link;
  readonly #onEnd: () => void;
  readonly #sockets = new Set<Socket>();
  #taker: ConnectionTaker | undefined;
  #isClosed = false;
  #onEmpty = () => {};

  constructor(listen: ListenConfig, key: string, link: Link, onEnd: () => void) {
    this.#listen = listen;
    this.#key = key;
    this.#link = link;
    this.#onEnd = onEnd;
  }

  get isTaking(): boolean {
    return this.#taker !== undefined && !this.#isClosed;
  }

  async open(): Promise<void> {
    const { number, host, path } = await this.#link.call<PortAddress>('listen', [this.#key, placeOf(this.#listen)]);
    this.number = number;
    this.host = host;
    this.path = path;
  }

  giveTo(taker: ConnectionTaker): void {
    const isFirst = this.#taker === undefined;
    this.#taker = taker;
    if (isFirst) this.#link.tell('take', this.#key);
  }

  checkChange(listen: ListenConfig): void {
    checkReusePort(this.#listen, listen, this.number);
  }

  change(listen: ListenConfig): void {
    this.#listen = listen;
    this.#link.tell('changePort', this.#key, placeOf(listen));
  }

  async connections(): Promise<number> {
    return this.#sockets.size;
  }

  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#onEnd();
      this.#link.tell('letGo', this.#key);
    }
    if (this.#sockets.size === 0) return;
    await new Promise<void>(resolve => {
      this.#onEmpty = resolve;
    });
  }

  release(): Promise<void> {
    return this.close();
  }

  take(socket: Socket): void {
    const taker = this.#taker!;
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#onEmpty();
    });
    if (this.path !== undefined) markLocal(socket);
    socket.allowHalfOpen = taker.allowsHalfOpen;
    taker.take(socket);
  }
}

function placeOf(listen: ListenConfig): ListenConfig {
  return Object.fromEntries(PLACE.map(key => [key, listen[key]]).filter(([, value]) => value !== undefined));
}

/** What `fork` gives with a message. */
export function socketOf(handle: unknown): Socket | undefined {
  return handle instanceof Socket ? handle : undefined;
}
