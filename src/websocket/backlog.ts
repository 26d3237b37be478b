import type { Http2Session } from 'node:http2';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { getOrInsert } from '../base/get-or-insert.ts';
import { ByteQueue, type Sum } from './byte-queue.ts';

/** What is written at once. */
const BATCH_BYTES = 64 * 1024;
/** The same where what is written is held a second time, encrypted. */
const ENCRYPTED_BATCH_BYTES = 16 * 1024;

const EMPTY = Buffer.alloc(0);

/** Bytes that wait for the streams of one HTTP/2 connection. */
const sums = new WeakMap<Http2Session, Sum>();

/** Of a TCP socket alone it is known that it keeps nothing of what it has written, and holds nothing twice. */
export function isPlainSocket(transport: Duplex): transport is Socket {
  return transport instanceof Socket && !(transport instanceof TLSSocket);
}

/** May so much be written to the transport at once? */
export function isOneWrite(transport: Duplex, bytes: number): boolean {
  return bytes <= ENCRYPTED_BATCH_BYTES || isPlainSocket(transport);
}

/**
 * What waits for a transport that has yet to take what it was given before.
 *
 * A stream of Node's keeps each write apart until it is its turn, at a kilobyte or more for a message of one byte. So
 * nothing is written while something is under way: it is gathered here, and written in few and large pieces, each when
 * the one before was taken.
 *
 * Whoever has one writes through it until it is empty, and then has none: connections at rest need no memory for it.
 */
export class Backlog {
  readonly #transport: Duplex;
  readonly #onEmpty: () => void;
  readonly #queue: ByteQueue;
  readonly #batch: number;
  /** Bytes that the transport was given. */
  #given = 0;
  /** In the order of their places. */
  #waiters: { readonly place: number; readonly callback: () => void }[] = [];
  #isUnderWay = false;
  #isEnding = false;
  #isDropped = false;

  /**
   * @param onEmpty Called when the transport has taken everything, or is not there any more. Not called after `drop`.
   */
  constructor(transport: Duplex, onEmpty: () => void) {
    this.#transport = transport;
    this.#onEmpty = onEmpty;
    this.#batch = isPlainSocket(transport) ? BATCH_BYTES : ENCRYPTED_BATCH_BYTES;
    this.#queue = waitingFor(transport);
    if (transport.writableLength === 0) return;
    this.#isUnderWay = true;
    // An empty write takes its place behind the others, which `drain` does not promise below the high-water mark.
    transport.write(EMPTY, this.#onTaken);
  }

  /** Bytes that were not yet given to the transport. */
  get bytes(): number {
    return this.#queue.bytes;
  }

  /** The memory that they hold. */
  get cost(): number {
    return this.#queue.cost;
  }

  /** Bytes that wait for the same TCP connection, here and for other streams of HTTP/2. */
  get bytesTogether(): number {
    return this.#queue.bytesTogether;
  }

  /** @param mayKeep The bytes will not change, and hold no other memory than their own. */
  append(bytes: Buffer, mayKeep: boolean): void {
    if (!this.#isDropped) this.#queue.append(bytes, mayKeep);
  }

  absorb(queue: ByteQueue): void {
    if (!this.#isDropped) this.#queue.absorb(queue);
  }

  /** Writes what was appended, unless it has to wait. */
  flush(): void {
    if (!this.#isUnderWay && !this.#isDropped) this.#writeNext();
  }

  /** Calls back when all that is in it now was taken, or never will be. */
  afterTaken(callback: () => void): void {
    if (this.#isDropped) callback();
    else this.#waiters.push({ place: this.#given + this.#queue.bytes, callback });
  }

  /** Ends our half of the transport behind the last byte. */
  end(): void {
    this.#isEnding = true;
  }

  /** Nothing of it will be written. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.#queue.clear();
    this.#settle(Number.POSITIVE_INFINITY);
  }

  readonly #onTaken = (error?: Error | null): void => {
    if (this.#isDropped) return;
    const transport = this.#transport;
    this.#isUnderWay = false;
    if (error || !transport.writable) {
      this.drop();
    } else {
      this.#settle(this.#given);
      if (this.#queue.bytes > 0) return this.#writeNext();
      this.#isDropped = true;
      if (this.#isEnding) transport.end();
    }
    this.#onEmpty();
  };

  #writeNext(): void {
    this.#isUnderWay = true;
    const transport = this.#transport;
    const queue = this.#queue;
    let room = this.#batch;
    // In one write, with the callback of the last piece for all of them.
    transport.cork();
    while (room > 0 && queue.bytes > 0) {
      const piece = queue.shift(room);
      room -= piece.length;
      this.#given += piece.length;
      if (room > 0 && queue.bytes > 0) transport.write(piece);
      else transport.write(piece, this.#onTaken);
    }
    transport.uncork();
  }

  #settle(place: number): void {
    while (this.#waiters.length > 0 && this.#waiters[0]!.place <= place) this.#waiters.shift()!.callback();
  }
}

/** A queue of bytes for the transport, which count together with others for the same TCP connection. */
export function waitingFor(transport: Duplex): ByteQueue {
  const { session } = transport as { session?: Http2Session };
  return new ByteQueue(session && getOrInsert(sums, session, () => ({ bytes: 0 })));
}
