import type { Server as NetServer, Socket } from 'node:net';
import { HoldfastError } from '../../base/errors.ts';
import { nearestName } from '../../base/nearest-name.ts';

/** The first descriptor that a service manager hands over: `SD_LISTEN_FDS_START`. */
const FIRST = 3;
const VARIABLES = ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'];

/** A socket that was open before this process began. */
export interface InheritedSocket {
  readonly fd: number;
  /** `FileDescriptorName=` of its unit, which is the unit's own name if it says nothing. */
  readonly name: string;
}

const ignore = () => {};

/** There is nobody for them. */
const turnAway = (socket: Socket) => void socket.destroy();

/**
 * The sockets that a service manager has opened for this process. Each has one taker at a time, which closes it when the
 * server stops, and gives it back when the server goes on without it: nobody in this process could open it again.
 *
 * @see sd_listen_fds(3)
 */
export class InheritedSockets {
  #untaken: readonly InheritedSocket[];
  readonly #all: readonly InheritedSocket[];
  /** Given back, by their descriptors. They are open still: what connects is turned away. */
  readonly #parked = new Map<number, NetServer>();
  readonly #names: readonly string[];
  /** Why there are none. */
  readonly #absence: string;

  /** Takes its variables out of the environment, so that no child process believes they are meant for it. */
  constructor(environment: Record<string, string | undefined>, pid: number = process.pid) {
    const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES = '' } = environment;
    for (const name of VARIABLES) delete environment[name];
    const count = LISTEN_PID === String(pid) && /^[1-9]\d{0,3}$/.test(LISTEN_FDS ?? '') ? Number(LISTEN_FDS) : 0;
    const names = LISTEN_FDNAMES.split(':');
    this.#all = Array.from({ length: count }, (_, index) => ({
      fd: FIRST + index,
      name: names[index] || 'unknown',
    }));
    this.#untaken = this.#all;
    this.#names = [...new Set(this.#all.map(({ name }) => name))];
    this.#absence =
      LISTEN_FDS === undefined
        ? 'this process was given no sockets; start it by its socket unit (systemctl start NAME.socket), or take a port'
        : `the sockets are meant for process ${LISTEN_PID}, and this is ${pid}; let the unit start node itself, not npm, npx or a shell`;
  }

  /** Those that no listener has. */
  get untaken(): readonly InheritedSocket[] {
    return this.#untaken;
  }

  /**
   * All sockets of this name.
   *
   * @throws {HoldfastError} ERR_SERVER_LISTEN when there are none.
   */
  take(name: string): InheritedSocket[] {
    const taken = this.#untaken.filter(socket => socket.name === name);
    this.#untaken = this.#untaken.filter(socket => socket.name !== name);
    if (taken.length > 0) return taken;
    throw new HoldfastError(
      'ERR_SERVER_LISTEN',
      `cannot listen on the socket ${JSON.stringify(name)}: ${this.#whyNot(name)}`,
    );
  }

  /** A listener has this descriptor by its number. */
  takeDescriptor(fd: number): void {
    this.#untaken = this.#untaken.filter(socket => socket.fd !== fd);
  }

  /** What listens on this descriptor already, and belongs to the caller from now on. */
  parkedAt(fd: number): NetServer | undefined {
    const net = this.#parked.get(fd);
    this.#parked.delete(fd);
    return net?.off('connection', turnAway).off('error', ignore).ref();
  }

  /** It can be taken again. */
  giveBack(fd: number, net: NetServer): void {
    const isFree = (socket: InheritedSocket) => socket.fd === fd || this.#untaken.includes(socket);
    this.#untaken = this.#all.filter(isFree);
    // It may be a socket that cannot listen.
    if (net.listening) this.#parked.set(fd, net.on('connection', turnAway).on('error', ignore).unref());
  }

  #whyNot(name: string): string {
    if (this.#names.length === 0) return this.#absence;
    if (this.#names.includes(name)) return 'another listener has it';
    const near = nearestName(name, this.#names);
    const names = this.#names.map(known => JSON.stringify(known)).join(', ');
    return `the sockets of this process are ${names}; ${near ? `did you mean "${near}"?` : 'set "FileDescriptorName=" in the socket unit'}`;
  }
}

let ofThisProcess: InheritedSockets | undefined;

/** Those of this process, which has them once, however many servers it runs. */
export function inheritedSockets(): InheritedSockets {
  ofThisProcess ??= new InheritedSockets(process.env);
  return ofThisProcess;
}
