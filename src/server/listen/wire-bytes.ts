import type { Socket } from 'node:net';
import { constants } from 'node:os';

/** Node's own timeouts go by these counters; only `Socket` does not hand them on. */
interface Handle {
  readonly bytesRead?: number;
  readonly bytesWritten?: number;
  readonly writeQueueSize?: number;
  /** @returns a negative error number, or 0. */
  getpeername?(out: object): number;
  /** Of TLS: the connection below. */
  readonly _parent?: Handle;
}

/** The TCP connection that a socket speaks on, TLS or not, as Node has it: the same object for both. */
export function wireOf(socket: Socket): Handle | undefined {
  let handle = (socket as Socket & { _handle?: Handle | null })._handle ?? undefined;
  while (handle?._parent) handle = handle._parent;
  return handle;
}

/**
 * True when the connection is known to be broken. A reset that comes while TLS itself writes is told to nobody: the
 * write takes the error, what is read after it looks like an end, and what is written after it never leaves. The kernel
 * knows: such a connection has no other end.
 */
export function isBroken(socket: Socket): boolean {
  return wireOf(socket)?.getpeername?.({}) === -constants.errno.ENOTCONN;
}

/** What has passed through a TCP connection, whatever speaks on it: bytes of TLS and HTTP/2 framing count. */
export class WireBytes {
  readonly #handle: Handle | undefined;

  constructor(socket: Socket) {
    this.#handle = wireOf(socket);
  }

  get received(): number {
    return this.#handle?.bytesRead ?? 0;
  }

  /** What the kernel has taken of what was written. It takes more only as the client takes what it has. */
  get taken(): number {
    return (this.#handle?.bytesWritten ?? 0) - this.waiting;
  }

  /** Written, and not taken yet. */
  get waiting(): number {
    return this.#handle?.writeQueueSize ?? 0;
  }
}
