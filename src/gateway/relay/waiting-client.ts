import type { Duplex } from 'node:stream';
import { ByteQueue } from '../../websocket/byte-queue.ts';
import { pauseReads, startReads } from '../../websocket/transport-reads.ts';

/** What a client may send before the backend has taken the WebSocket; then it is not read any more. */
const MAX_EARLY_BYTES = 64 * 1024;

/** A client during the handshake with the backend: what it sends is kept, and that it leaves is noticed. */
export class WaitingClient {
  /** Called when it leaves. */
  onGone: (() => void) | undefined;
  readonly #socket: Duplex;
  readonly #early: ByteQueue = new ByteQueue();

  constructor(socket: Duplex, early: Buffer) {
    this.#socket = socket;
    this.#early.append(early, true);
    // For the rest of the socket's life: errors are followed by `close`.
    socket.on('error', ignore);
    startReads(socket, this.#onRead);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onEnd);
  }

  get isGone(): boolean {
    return this.#socket.destroyed;
  }

  /** Stops listening, with the socket paused. */
  release(): Buffer {
    const socket = this.#socket;
    pauseReads(socket);
    socket.off('end', this.#onEnd);
    socket.off('close', this.#onEnd);
    return this.#early.shiftAll();
  }

  readonly #onRead = (length: number, buffer: Buffer): void => {
    this.#early.append(buffer.subarray(0, length), false);
    if (this.#early.bytes > MAX_EARLY_BYTES) pauseReads(this.#socket);
  };

  readonly #onEnd = (): void => {
    this.#socket.destroy();
    this.onGone?.();
  };
}

function ignore(): void {}
