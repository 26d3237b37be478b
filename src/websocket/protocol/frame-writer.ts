import { randomFillSync } from 'node:crypto';
import { applyMask } from './mask.ts';
import { Opcode } from './opcodes.ts';
import { checkData, checkedLength } from './outgoing.ts';

/** The first byte of a frame: FIN, RSV1 and the opcode (RFC 6455 §5.2). */
export function firstByte(opcode: number, fin = true, rsv1 = false): number {
  return (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode;
}

// Frames are written one behind the other into a slab that all connections share, so that what one data event produces
// is one piece of memory and one write. A full slab is left to the garbage collector with the last write that uses it;
// as long as the kernel takes what it is given, the same warm bytes are used again and again.
const SLAB_BYTES = 64 * 1024;
const MAX_SLAB_PAYLOAD = 32 * 1024;
const MAX_HEADER_BYTES = 14;
let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let slabUsed = 0;

const maskKeys = new Int32Array(2048);
let maskKeysUsed = maskKeys.length;

function reserve(bytes: number): number {
  if (slabUsed + bytes > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabUsed = 0;
  }
  return slabUsed;
}

/**
 * Encodes frames and gathers them, in order, until `take`.
 *
 * Payload is copied exactly once, at once: the caller may change its buffer afterwards. With `masked` (the client half)
 * every frame gets a fresh random mask key (RFC 6455 §5.3).
 *
 * What is not a payload throws a TypeError before anything has changed. What the slab holds depends on lengths that are
 * true: the frames of other connections stand beside this one.
 */
export class FrameWriter {
  readonly #masked: boolean;
  /** The one chunk there is, if it is not in the slab. */
  #only: Buffer | undefined;
  #chunks: Buffer[] | undefined;
  #slab: Buffer | undefined;
  #start = 0;
  #end = 0;
  #bytes = 0;

  constructor(masked: boolean) {
    this.#masked = masked;
  }

  /** Bytes gathered and not yet taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many pieces of memory it is in, or 0 when that is one. */
  get pieces(): number {
    return this.#chunks?.length ?? 0;
  }

  /** True when all there is was given by `encoded`, so that nothing of it stands in the slab. */
  get isEncodedElsewhere(): boolean {
    return this.#only !== undefined;
  }

  text(first: number, payload: string): void {
    if (typeof payload !== 'string') checkData('send', payload);
    // A UTF-16 unit becomes at most three bytes.
    const most = payload.length * 3;
    if (most > MAX_SLAB_PAYLOAD) {
      this.#own(first, payload);
      return;
    }
    const at = this.#open(most + MAX_HEADER_BYTES);
    const head = (this.#masked ? 6 : 2) + (payload.length > 125 ? 2 : 0);
    const length = slab.write(payload, at + head);
    let start = at + head;
    if (length > 125 && payload.length <= 125) {
      // The guess that the short header is enough was wrong: non-ASCII text. Make room for the two bytes.
      slab.copyWithin(start + 2, start, start + length);
      start += 2;
    }
    this.#header(at, first, length);
    this.#mask(slab, start, start + length);
    this.#close(at, start + length);
  }

  /** @returns how many bytes the payload has. */
  binary(first: number, payload: Uint8Array): number {
    const length = checkedLength(payload);
    if (length > MAX_SLAB_PAYLOAD) {
      this.#own(first, payload);
      return length;
    }
    const at = this.#open(length + MAX_HEADER_BYTES);
    const start = at + this.#header(at, first, length);
    slab.set(payload, start);
    this.#mask(slab, start, start + length);
    this.#close(at, start + length);
    return length;
  }

  /** A close frame (RFC 6455 §5.5.1); without a code its body is empty. */
  close(code?: number, reason = ''): void {
    const body = code === undefined ? Buffer.alloc(0) : Buffer.allocUnsafe(2 + Buffer.byteLength(reason));
    if (code !== undefined) {
      body.writeUInt16BE(code, 0);
      body.write(reason, 2);
    }
    this.binary(firstByte(Opcode.close), body);
  }

  /** Frames that were encoded before, and may be shared with other connections. The bytes are not copied. */
  encoded(frames: Buffer): void {
    if (this.#bytes === 0) {
      // The rule in a broadcast: one frame, written before there is another.
      this.#only = frames;
    } else {
      this.#seal();
      this.#addChunk(frames);
    }
    this.#bytes += frames.length;
  }

  /**
   * Everything gathered, as one buffer or as a list, or undefined when there is nothing. The writer is empty
   * afterwards.
   */
  take(): Buffer | Buffer[] | undefined {
    if (this.#bytes === 0) return undefined;
    this.#bytes = 0;
    if (this.#only !== undefined) {
      const only = this.#only;
      this.#only = undefined;
      return only;
    }
    if (this.#chunks === undefined) {
      const only = this.#slab!.subarray(this.#start, this.#end);
      this.#slab = undefined;
      return only;
    }
    this.#seal();
    const chunks = this.#chunks;
    this.#chunks = undefined;
    return chunks;
  }

  /** Is it part of memory that other frames are in? Then it must not be kept for long. */
  static isFromSlab(frames: Buffer): boolean {
    return frames.buffer.byteLength === SLAB_BYTES;
  }

  /** What `take` returned has been copied by the kernel: its room may be used again. */
  static reuse(frames: Buffer): void {
    if (frames.buffer === slab.buffer && frames.byteOffset + frames.length === slab.byteOffset + slabUsed)
      slabUsed -= frames.length;
  }

  #own(first: number, data: string | Uint8Array): void {
    if (!this.#masked) return this.encoded(encodeFrame(first, data));
    const payload = typeof data === 'string' ? Buffer.from(data) : data;
    const length = checkedLength(payload);
    const frame = Buffer.allocUnsafeSlow(length + MAX_HEADER_BYTES);
    const start = writeHeader(frame, 0, first, length, this.#masked);
    frame.set(payload, start);
    this.#mask(frame, start, start + length);
    this.encoded(frame.subarray(0, start + length));
  }

  #open(bytes: number): number {
    const at = reserve(bytes);
    if (this.#slab !== slab || this.#end !== at) {
      this.#seal();
      this.#slab = slab;
      this.#start = this.#end = at;
    }
    return at;
  }

  #close(at: number, end: number): void {
    this.#end = slabUsed = end;
    this.#bytes += end - at;
  }

  /** What has been gathered so far becomes a list, to which more is added. */
  #seal(): void {
    if (this.#only !== undefined) {
      this.#chunks = [this.#only];
      this.#only = undefined;
    }
    if (this.#slab !== undefined && this.#end > this.#start)
      this.#addChunk(this.#slab.subarray(this.#start, this.#end));
    this.#slab = undefined;
  }

  #addChunk(chunk: Buffer): void {
    this.#chunks ??= [];
    this.#chunks.push(chunk);
  }

  #header(at: number, first: number, length: number): number {
    return writeHeader(slab, at, first, length, this.#masked);
  }

  #mask(target: Buffer, start: number, end: number): void {
    if (this.#masked) applyMask(target, start, end, target.readInt32LE(start - 4));
  }
}

/**
 * One whole unmasked frame in memory of its own, for sharing among connections.
 *
 * @param replaced An earlier one that is not needed any more: its memory is used, where the new one fits in it.
 */
export function encodeFrame(first: number, payload: string | Uint8Array, replaced?: Buffer): Buffer {
  const isText = typeof payload === 'string';
  const length = isText ? Buffer.byteLength(payload) : checkedLength(payload);
  const room = length + MAX_HEADER_BYTES;
  const memory = replaced?.buffer;
  const fits = memory !== undefined && memory.byteLength >= room && memory.byteLength <= 2 * room;
  const frame = fits ? Buffer.from(memory) : Buffer.allocUnsafeSlow(room);
  const start = writeHeader(frame, 0, first, length, false);
  if (isText) frame.write(payload, start);
  else frame.set(payload, start);
  return frame.subarray(0, start + length);
}

function writeHeader(target: Buffer, at: number, first: number, length: number, masked: boolean): number {
  const maskBit = masked ? 0x80 : 0;
  target[at] = first;
  let position = at + 2;
  if (length < 126) {
    target[at + 1] = maskBit | length;
  } else if (length < 0x1_0000) {
    target[at + 1] = maskBit | 126;
    target[at + 2] = length >> 8;
    target[at + 3] = length & 0xff;
    position += 2;
  } else {
    target[at + 1] = maskBit | 127;
    target.writeUInt32BE(Math.floor(length / 0x1_0000_0000), at + 2);
    target.writeUInt32BE(length >>> 0, at + 6);
    position += 8;
  }
  if (masked) {
    if (maskKeysUsed === maskKeys.length) {
      randomFillSync(maskKeys);
      maskKeysUsed = 0;
    }
    target.writeInt32LE(maskKeys[maskKeysUsed++]!, position);
    position += 4;
  }
  return position - at;
}
