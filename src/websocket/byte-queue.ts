const SMALLEST_SLAB = 1024;
const LARGEST_SLAB = 64 * 1024;
/** What is larger may be kept as it is: its objects cost less than a copy for each connection that waits with it. */
const MOST_COPIED = 1024;
/** What the objects of a piece that is kept cost beside its bytes. */
const PIECE_COST = 512;

/** Bytes in several queues. */
export interface Sum {
  bytes: number;
}

/**
 * Bytes that wait, first in, first out, at little more than a byte for a byte however small the pieces are that they
 * come in: small ones are gathered in slabs that grow with the queue.
 */
export class ByteQueue {
  readonly #sum: Sum;
  #pieces: Buffer[] = [];
  /** Those before it were taken. */
  #first = 0;
  #bytes = 0;
  // Of the newest slab, [#start, #used) is no piece yet, and what follows is free.
  #slab: Buffer | undefined;
  #start = 0;
  #used = 0;

  /** @param sum Of this queue and others. */
  constructor(sum: Sum = { bytes: 0 }) {
    this.#sum = sum;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What all queues of the sum hold. */
  get bytesTogether(): number {
    return this.#sum.bytes;
  }

  /** What it holds of memory: its bytes and the objects they are in. */
  get cost(): number {
    return this.#bytes + (this.#pieces.length - this.#first) * PIECE_COST;
  }

  /**
   * @param mayKeep The bytes will not change, and hold no other memory than their own. They may be shared with other
   * queues.
   */
  append(bytes: Buffer, mayKeep: boolean): void {
    const { length } = bytes;
    this.#bytes += length;
    this.#sum.bytes += length;
    if (mayKeep && length > MOST_COPIED) {
      this.#seal();
      this.#pieces.push(bytes);
      return;
    }
    let done = 0;
    while (done < length) {
      if (this.#slab === undefined || this.#used === this.#slab.length) this.#grow();
      const slab = this.#slab!;
      const end = done + Math.min(length - done, slab.length - this.#used);
      if (end - done > 32) bytes.copy(slab, this.#used, done, end);
      else for (let i = done; i < end; i++) slab[this.#used + i - done] = bytes[i]!;
      this.#used += end - done;
      done = end;
    }
  }

  /** All of the other queue, which is empty afterwards. */
  absorb(other: ByteQueue): void {
    while (other.#bytes > 0) this.append(other.shift(other.#bytes), true);
  }

  /** Removes what comes first, at most so many bytes. It must not be empty. */
  shift(most: number): Buffer {
    if (this.#first === this.#pieces.length) this.#seal();
    const piece = this.#pieces[this.#first]!;
    const length = Math.min(piece.length, most);
    this.#bytes -= length;
    this.#sum.bytes -= length;
    if (length < piece.length) {
      this.#pieces[this.#first] = piece.subarray(length);
      return piece.subarray(0, length);
    }
    this.#first++;
    if (this.#first > 32 && this.#first * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#first);
      this.#first = 0;
    }
    return piece;
  }

  /** Removes everything. */
  shiftAll(): Buffer {
    const pieces: Buffer[] = [];
    while (this.#bytes > 0) pieces.push(this.shift(this.#bytes));
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }

  clear(): void {
    this.#sum.bytes -= this.#bytes;
    this.#pieces = [];
    this.#slab = undefined;
    this.#first = this.#bytes = this.#start = this.#used = 0;
  }

  #grow(): void {
    this.#seal();
    // Few bytes hold little, and of many only a small part is not used yet.
    this.#slab = Buffer.allocUnsafeSlow(Math.max(SMALLEST_SLAB, Math.min(LARGEST_SLAB, this.#bytes)));
    this.#start = this.#used = 0;
  }

  /** What was gathered so far becomes a piece. */
  #seal(): void {
    if (this.#used > this.#start) this.#pieces.push(this.#slab!.subarray(this.#start, this.#used));
    this.#start = this.#used;
  }
}
