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

/**
 * The sockets that a service manager has opened for this process. Each can be taken once: who takes it closes it.
 *
 * @see sd_listen_fds(3)
 */
export class InheritedSockets {
  readonly #untaken: InheritedSocket[];
  readonly #names: readonly string[];
  /** Why there are none. */
  readonly #absence: string;

  /** Takes its variables out of the environment, so that no child process believes they are meant for it. */
  constructor(environment: Record<string, string | undefined>, pid: number = process.pid) {
    const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES = '' } = environment;
    for (const name of VARIABLES) delete environment[name];
    const count = LISTEN_PID === String(pid) && /^[1-9]\d{0,3}$/.test(LISTEN_FDS ?? '') ? Number(LISTEN_FDS) : 0;
    const names = LISTEN_FDNAMES.split(':');
    this.#untaken = Array.from({ length: count }, (_, index) => ({
      fd: FIRST + index,
      name: names[index] || 'unknown',
    }));
    this.#names = [...new Set(this.#untaken.map(({ name }) => name))];
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
    for (const socket of taken) this.#untaken.splice(this.#untaken.indexOf(socket), 1);
    if (taken.length > 0) return taken;
    throw new HoldfastError(
      'ERR_SERVER_LISTEN',
      `cannot listen on the socket ${JSON.stringify(name)}: ${this.#whyNot(name)}`,
    );
  }

  /** A listener has this descriptor by its number. */
  takeDescriptor(fd: number): void {
    const index = this.#untaken.findIndex(socket => socket.fd === fd);
    if (index >= 0) this.#untaken.splice(index, 1);
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
