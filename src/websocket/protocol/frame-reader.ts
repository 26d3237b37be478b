import { HoldfastError } from '../../base/errors.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { Opcode } from './opcodes.ts';

/** The limits that a reader enforces. It keeps the object, so changing a value takes effect with the next frame. */
export interface FrameLimits {
  /** Payload bytes of one message over all its frames, as they are on the wire. */
  maxMessageBytes: number;
  /** Frames of one message. */
  maxFragments: number;
}

/**
 * Takes what the reader finds. For each frame: `onFrameStart`, `onFramePayload` zero or more times, `onFrameEnd`.
 *
 * A sink may call `reader.stop()` at any point; nothing more is reported then.
 */
export interface FrameSink {
  /** A header is complete and legal; its fields stand on the reader until the next call. */
  onFrameStart(): void;
  /**
   * The next piece of the frame's payload, still masked. The bytes belong to the sink: it may change them in place, and
   * must copy what it keeps after it returns to the caller of `push`.
   */
  onFramePayload(chunk: Buffer, start: number, end: number): void;
  onFrameEnd(): void;
  /** The bytes are not legal; `error.closeCode` says which close frame is due. The reader has stopped. */
  onReaderError(error: HoldfastError): void;
}

export interface FrameReaderOptions {
  /** Whose frames are read: a server reads masked frames, a client unmasked ones. */
  role: 'server' | 'client';
  limits: FrameLimits;
  /** True when permessage-deflate was agreed: RSV1 may stand on the first frame of a message. */
  allowRsv1: boolean;
}

const MAX_HEADER_BYTES = 14;

/**
 * Reads the frames of one direction of a connection (RFC 6455 §5), in whatever pieces the bytes arrive.
 *
 * It checks everything that a header alone can tell, keeps track of fragmentation, and enforces the size limits before
 * a byte of payload is taken. It neither unmasks nor copies: putting messages together, handing out fragments, and
 * relaying are the work of its sink.
 */
export class FrameReader {
  fin = false;
  rsv1 = false;
  opcode = 0;
  masked = false;
  /** The mask key, first byte of the wire in the lowest byte; 0 when the frame is not masked. */
  mask = 0;
  payloadLength = 0;
  /** Payload bytes of the current frame that were reported before the current `onFramePayload`. */
  payloadOffset = 0;
  /**
   * Where the header stands in the chunk being pushed, or -1 when it came in several chunks: then `header` holds it.
   */
  headerStart = -1;
  headerLength = 0;
  /** The bytes of a header that came in several chunks. */
  header: Buffer | undefined;

  readonly #sink: FrameSink;
  readonly #limits: FrameLimits;
  readonly #expectMask: boolean;
  readonly #allowRsv1: boolean;
  #heldHeaderBytes = 0;
  #inPayload = false;
  #stopped = false;
  #paused = false;
  #rest: Buffer | undefined;
  #messageOpen = false;
  #messageBytes = 0;
  #fragments = 0;

  constructor(sink: FrameSink, options: FrameReaderOptions) {
    this.#sink = sink;
    this.#limits = options.limits;
    this.#expectMask = options.role === 'server';
    this.#allowRsv1 = options.allowRsv1;
  }

  /** True between frames: nothing of a next one has arrived. Here a relay may put in frames of its own. */
  get isAtFrameBoundary(): boolean {
    return !this.#inPayload && this.#heldHeaderBytes === 0;
  }

  /** True between messages: it keeps nothing of those it has read, and is ready for the next. */
  get isAtRest(): boolean {
    return this.isAtFrameBoundary && !this.#messageOpen && !this.#stopped && !this.#paused && this.#rest === undefined;
  }

  /** Reports nothing more; bytes pushed from now on are ignored. */
  stop(): void {
    this.#stopped = true;
  }

  /** From the next frame on, nothing is reported until `resume`. What is pushed meanwhile is kept. */
  pause(): void {
    this.#paused = true;
  }

  /** Goes on with what was left when it paused. */
  resume(): void {
    const rest = this.#rest;
    this.#paused = false;
    this.#rest = undefined;
    if (rest !== undefined) this.#read(rest, rest.length, true);
  }

  /** As `resume`, for a caller that pushes itself what was left. Undefined: there is nothing. */
  takeRest(): Buffer | undefined {
    const rest = this.#rest;
    this.#paused = false;
    this.#rest = undefined;
    return rest;
  }

  /** Reads the first `end` bytes, by default all. Nothing of the chunk is needed after it returns. */
  push(chunk: Buffer, end = chunk.length): void {
    this.#read(chunk, end, false);
  }

  /** @param isOwn The chunk is ours: what is left of it need not be copied. */
  #read(chunk: Buffer, end: number, isOwn: boolean): void {
    let position = 0;
    while (!this.#stopped) {
      if (!this.#inPayload) {
        if (position === end) return;
        if (this.#paused) {
          const left = chunk.subarray(position, end);
          if (this.#rest !== undefined) this.#rest = Buffer.concat([this.#rest, left]);
          else this.#rest = isOwn ? left : Buffer.from(left);
          return;
        }
        const next = this.#readHeader(chunk, position, end);
        if (next < 0) return;
        position = next;
        this.#inPayload = true;
        this.payloadOffset = 0;
        this.#sink.onFrameStart();
        if (this.#stopped) return;
      }
      const remaining = this.payloadLength - this.payloadOffset;
      if (remaining > 0) {
        if (position === end) return;
        const stop = Math.min(end, position + remaining);
        this.#sink.onFramePayload(chunk, position, stop);
        this.payloadOffset += stop - position;
        position = stop;
        if (this.payloadOffset < this.payloadLength) return;
      }
      this.#inPayload = false;
      if (this.#stopped) return;
      this.#sink.onFrameEnd();
    }
  }

  /** Returns where the payload begins, or -1 when the header is incomplete or illegal. */
  #readHeader(chunk: Buffer, position: number, end: number): number {
    if (this.#heldHeaderBytes === 0 && end - position >= 2) {
      const length = headerLength(chunk[position + 1]!);
      if (end - position >= length) {
        this.headerStart = position;
        this.headerLength = length;
        return this.#parseHeader(chunk, position) ? position + length : -1;
      }
    }
    // The header is split over chunks, which is rare: collect it byte by byte.
    const header = (this.header ??= Buffer.allocUnsafe(MAX_HEADER_BYTES));
    while (position < end) {
      header[this.#heldHeaderBytes++] = chunk[position++]!;
      if (this.#heldHeaderBytes >= 2 && this.#heldHeaderBytes === headerLength(header[1]!)) {
        this.headerStart = -1;
        this.headerLength = this.#heldHeaderBytes;
        this.#heldHeaderBytes = 0;
        return this.#parseHeader(header, 0) ? position : -1;
      }
    }
    return -1;
  }

  #parseHeader(bytes: Buffer, at: number): boolean {
    const first = bytes[at]!;
    const second = bytes[at + 1]!;
    const opcode = first & 0x0f;
    const fin = (first & 0x80) !== 0;
    const rsv1 = (first & 0x40) !== 0;
    const masked = (second & 0x80) !== 0;
    let length = second & 0x7f;
    let position = at + 2;

    // RFC 6455 §5.2: reserved bits are zero unless an extension says otherwise; RFC 7692 §6: RSV1 on first frames of
    // data only.
    if ((first & 0x30) !== 0) return this.#fail('reserved bits RSV2 or RSV3 are set');
    if (rsv1 && (!this.#allowRsv1 || (opcode !== Opcode.text && opcode !== Opcode.binary)))
      return this.#fail('reserved bit RSV1 is set where no extension allows it');
    if (masked !== this.#expectMask)
      return this.#fail(masked ? 'a frame from the server is masked' : 'a frame from the client is not masked');

    if (opcode >= 8) {
      if (opcode > Opcode.pong) return this.#fail(`opcode ${opcode} is reserved`);
      // RFC 6455 §5.5: control frames carry at most 125 bytes and are not fragmented.
      if (!fin) return this.#fail('a control frame is fragmented');
      if (length > 125) return this.#fail('a control frame is longer than 125 bytes');
    } else {
      if (length === 126) {
        length = (bytes[position]! << 8) | bytes[position + 1]!;
        position += 2;
        if (length < 126) return this.#fail('a payload length is not in its shortest form');
      } else if (length === 127) {
        if ((bytes[position]! & 0x80) !== 0) return this.#fail('a 64-bit payload length has its highest bit set');
        length = bytes.readUInt32BE(position) * 0x1_0000_0000 + bytes.readUInt32BE(position + 4);
        position += 8;
        if (length < 0x1_0000) return this.#fail('a payload length is not in its shortest form');
      }
      if (opcode === Opcode.continuation) {
        if (!this.#messageOpen) return this.#fail('a continuation frame has no message to continue');
      } else if (opcode > Opcode.binary) {
        return this.#fail(`opcode ${opcode} is reserved`);
      } else {
        if (this.#messageOpen) return this.#fail('a new message begins inside a fragmented one');
        this.#messageBytes = 0;
        this.#fragments = 0;
      }
      this.#messageBytes += length;
      if (this.#messageBytes > this.#limits.maxMessageBytes)
        return this.#refuse(
          'ERR_WS_MESSAGE_TOO_BIG',
          `a message of at least ${this.#messageBytes} bytes is over the limit of ${this.#limits.maxMessageBytes}; raise maxMessageSize or send less`,
          CloseCode.messageTooBig,
        );
      if (++this.#fragments > this.#limits.maxFragments)
        return this.#refuse(
          'ERR_WS_TOO_MANY_FRAGMENTS',
          `a message has more than ${this.#limits.maxFragments} fragments; raise maxFragments or send larger pieces`,
          CloseCode.policyViolation,
        );
      this.#messageOpen = !fin;
    }

    this.fin = fin;
    this.rsv1 = rsv1;
    this.opcode = opcode;
    this.masked = masked;
    this.payloadLength = length;
    this.mask = masked
      ? bytes[position]! | (bytes[position + 1]! << 8) | (bytes[position + 2]! << 16) | (bytes[position + 3]! << 24)
      : 0;
    return true;
  }

  #fail(message: string): false {
    return this.#refuse('ERR_WS_PROTOCOL', message, CloseCode.protocolError);
  }

  #refuse(
    code: 'ERR_WS_PROTOCOL' | 'ERR_WS_MESSAGE_TOO_BIG' | 'ERR_WS_TOO_MANY_FRAGMENTS',
    message: string,
    closeCode: number,
  ): false {
    this.#stopped = true;
    this.#sink.onReaderError(new HoldfastError(code, message, { closeCode }));
    return false;
  }
}

function headerLength(second: number): number {
  const length = second & 0x7f;
  return 2 + (length === 126 ? 2 : length === 127 ? 8 : 0) + ((second & 0x80) !== 0 ? 4 : 0);
}
