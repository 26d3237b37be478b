import { isUtf8 } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { HoldfastError } from '../base/errors.ts';
import { FrameReader, type FrameSink } from '../websocket/protocol/frame-reader.ts';
import { FrameWriter, firstByte } from '../websocket/protocol/frame-writer.ts';
import { applyMask } from '../websocket/protocol/mask.ts';
import { Opcode } from '../websocket/protocol/opcodes.ts';
import { CloseCode, isSendableCloseCode } from '../wire/close-codes.ts';

/** What went in one direction. */
export interface RelayTraffic {
  messages: number;
  /** Bytes on the wire, frame headers included; frames of our own do not count. */
  bytes: number;
}

/** What a close frame said. */
export interface CloseFrame {
  /** 1005 when it had no code. */
  readonly code: number;
  readonly reason: string;
}

/** Who is told what happens in a direction. Called after everything that came before was written to the target. */
export interface DirectionOwner {
  /** Frames were passed on. */
  onPassed(direction: RelayDirection): void;
  /** The source sent its close frame, or something illegal: nothing more is read from it. */
  onSourceDone(direction: RelayDirection): void;
  /** The target was sent a close frame: nothing more is written to it. */
  onTargetDone(direction: RelayDirection): void;
}

export interface DirectionOptions {
  readonly from: 'client' | 'backend';
  readonly source: Duplex;
  readonly target: Duplex;
  readonly maxMessageBytes: number;
  readonly allowRsv1: boolean;
}

/** The payload of our pings, by which their pongs are known. */
const PING_TAG = randomBytes(12);

/**
 * One direction of a relay: reads the frames of `source` and passes them on to `target` as they are, still masked.
 *
 * It looks into close frames and pongs only, holds back an incomplete header so that `target` never stands inside one, and
 * puts in our own frames where one frame ends and the next has not begun. Each `push` makes at most one write. A target that
 * does not take what it is sent stops the reading of the source.
 */
export class RelayDirection implements FrameSink {
  readonly from: 'client' | 'backend';
  readonly traffic: RelayTraffic = { messages: 0, bytes: 0 };
  /** Did anything arrive from the source since this was last set to false? */
  wasHeard = false;
  readonly #owner: DirectionOwner;
  readonly #source: Duplex;
  readonly #target: Duplex;
  readonly #reader: FrameReader;
  #error: HoldfastError | undefined;
  #closeFrame: CloseFrame | undefined;
  #isTargetDone = false;

  // Of the chunk being read, [#start, #end) is to be passed on as it is, after #pieces.
  #chunk: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  #pieces: Buffer[] | undefined;
  /** Bytes of an incomplete header that earlier chunks ended with. */
  #heldHeaderBytes = 0;
  /** The begin of a data frame or ping was passed on, its end was not. */
  #isInsideFrame = false;
  /** A close frame or pong while it is collected. */
  #control: Buffer | undefined;
  /** Our own frames that wait for the end of the frame that is being passed on. */
  #waitingPing: Buffer | undefined;
  #waitingClose: Buffer | undefined;

  constructor(owner: DirectionOwner, options: DirectionOptions) {
    this.from = options.from;
    this.#owner = owner;
    this.#source = options.source;
    this.#target = options.target;
    this.#reader = new FrameReader(this, {
      role: options.from === 'client' ? 'server' : 'client',
      // Fragments are not kept here, so their number costs nothing.
      limits: { maxMessageBytes: options.maxMessageBytes, maxFragments: Number.POSITIVE_INFINITY },
      allowRsv1: options.allowRsv1,
    });
    this.#target.on('drain', () => this.#source.resume());
  }

  /** The close frame of the source. */
  get closeFrame(): CloseFrame | undefined {
    return this.#closeFrame;
  }

  /** What the source did wrong. */
  get error(): HoldfastError | undefined {
    return this.#error;
  }

  /** The source has sent its last frame, or something illegal. */
  get isSourceDone(): boolean {
    return this.#closeFrame !== undefined || this.#error !== undefined;
  }

  /** The target was sent a close frame. */
  get isTargetDone(): boolean {
    return this.#isTargetDone;
  }

  /** A frame was passed on in part: until it ends, the target can be told nothing. */
  get isInsideFrame(): boolean {
    return this.#isInsideFrame && !this.#isTargetDone;
  }

  push(chunk: Buffer): void {
    this.wasHeard = true;
    if (this.isSourceDone) return;
    const wasTargetDone = this.#isTargetDone;
    this.#chunk = chunk;
    this.#start = this.#end = 0;
    this.#reader.push(chunk);
    this.#heldHeaderBytes += chunk.length - this.#end;
    this.#flush();
    if (this.#isTargetDone && !wasTargetDone) this.#owner.onTargetDone(this);
    if (this.isSourceDone) this.#owner.onSourceDone(this);
  }

  /** Pings the target. @returns false when it has yet to take what it was sent before, so that no answer can be expected. */
  ping(): boolean {
    if (this.#isTargetDone || this.#target.writableNeedDrain) return false;
    const frame = this.#encode(writer => writer.binary(firstByte(Opcode.ping), PING_TAG));
    if (this.#isInsideFrame) this.#waitingPing = frame;
    else this.#target.write(frame);
    return true;
  }

  /** Sends the target a close frame of ours as soon as a frame may begin; what the source sends after that is dropped. */
  close(code: number, reason: string): void {
    if (this.#isTargetDone || this.#waitingClose) return;
    const frame = this.#encode(writer => writer.close(code, reason));
    if (this.#isInsideFrame) {
      this.#waitingClose = frame;
      return;
    }
    if (this.#target.writable) this.#target.write(frame);
    this.#endTarget();
    this.#owner.onTargetDone(this);
  }

  onFrameStart(): void {
    const { opcode, headerStart, headerLength, payloadLength, header } = this.#reader;
    const isSplit = headerStart < 0;
    const isHeld = opcode === Opcode.close || opcode === Opcode.pong;
    if (isSplit || isHeld) this.#takeRange();
    this.#end = isSplit ? headerLength - this.#heldHeaderBytes : headerStart + headerLength;
    this.#heldHeaderBytes = 0;
    if (isHeld) {
      this.#control = Buffer.allocUnsafe(headerLength + payloadLength);
      if (isSplit) header!.copy(this.#control, 0, 0, headerLength);
      else this.#chunk.copy(this.#control, 0, headerStart, this.#end);
      this.#start = this.#end;
      return;
    }
    this.#isInsideFrame = true;
    if (isSplit) {
      this.#pass(Buffer.from(header!.subarray(0, headerLength)));
      this.#start = this.#end;
    }
  }

  onFramePayload(chunk: Buffer, start: number, end: number): void {
    this.#end = end;
    if (this.#control === undefined) return;
    chunk.copy(this.#control, this.#reader.headerLength + this.#reader.payloadOffset, start, end);
    this.#start = end;
  }

  onFrameEnd(): void {
    const { fin, opcode } = this.#reader;
    const control = this.#control;
    if (control !== undefined) {
      this.#control = undefined;
      if (opcode === Opcode.close) this.#onClose(control);
      else if (!this.#payloadOf(control).equals(PING_TAG)) this.#pass(control);
      return;
    }
    this.#isInsideFrame = false;
    if (fin && opcode < Opcode.close && !this.#isTargetDone) this.traffic.messages++;
    if (this.#waitingPing) {
      this.#takeRange().push(this.#waitingPing);
      this.#waitingPing = undefined;
    }
    if (this.#waitingClose) {
      this.#takeRange().push(this.#waitingClose);
      this.#waitingClose = undefined;
      this.#endTarget();
    }
  }

  onReaderError(error: HoldfastError): void {
    this.#error = error;
  }

  #onClose(frame: Buffer): void {
    this.#reader.stop();
    const payload = this.#payloadOf(frame);
    const code = payload.length < 2 ? CloseCode.noStatus : payload.readUInt16BE(0);
    const reason = payload.subarray(2);
    // RFC 6455 §5.5.1, §7.4: a body begins with a code that may stand there.
    if (payload.length === 1 || (payload.length > 1 && !isSendableCloseCode(code))) {
      this.#error = new HoldfastError(
        'ERR_WS_INVALID_CLOSE',
        `a close frame has the code ${payload.length === 1 ? 'cut off' : code}`,
        {
          closeCode: CloseCode.protocolError,
        },
      );
    } else if (!isUtf8(reason)) {
      this.#error = new HoldfastError('ERR_WS_INVALID_UTF8', 'the reason of a close frame is not UTF-8', {
        closeCode: CloseCode.invalidData,
      });
    } else {
      this.#closeFrame = { code, reason: reason.toString() };
      if (this.#isTargetDone) return;
      this.#pass(frame);
      this.#endTarget();
    }
  }

  #payloadOf(frame: Buffer): Buffer {
    const { headerLength, masked, mask } = this.#reader;
    const payload = frame.subarray(headerLength);
    if (!masked) return payload;
    const plain = Buffer.from(payload);
    applyMask(plain, 0, plain.length, mask);
    return plain;
  }

  #encode(put: (writer: FrameWriter) => void): Buffer {
    // A client masks its frames, and to the backend we are the client.
    const writer = new FrameWriter(this.from === 'client');
    put(writer);
    return writer.take() as Buffer;
  }

  /** Nothing follows to the target. The source is read on, because its close frame and its end must be seen. */
  #endTarget(): void {
    this.#isTargetDone = true;
    this.#isInsideFrame = false;
    this.#source.resume();
  }

  #pass(piece: Buffer): void {
    if (this.#isTargetDone) return;
    this.traffic.bytes += piece.length;
    (this.#pieces ??= []).push(piece);
  }

  #takeRange(): Buffer[] {
    this.#pieces ??= [];
    if (this.#end > this.#start) this.#pass(this.#chunk.subarray(this.#start, this.#end));
    this.#start = this.#end;
    return this.#pieces;
  }

  #flush(): void {
    const target = this.#target;
    let pieces = this.#pieces;
    if (pieces !== undefined) {
      pieces = this.#takeRange();
      this.#pieces = undefined;
      if (pieces.length === 0 || !target.writable) return;
      if (pieces.length > 1) target.cork();
      for (const piece of pieces) target.write(piece);
      if (pieces.length > 1) target.uncork();
    } else {
      if (this.#end === this.#start || this.#isTargetDone || !target.writable) return;
      const chunk = this.#chunk;
      const isWhole = this.#start === 0 && this.#end === chunk.length;
      this.traffic.bytes += this.#end - this.#start;
      target.write(isWhole ? chunk : chunk.subarray(this.#start, this.#end));
    }
    // What follows the close frame is dropped, so it need not wait.
    if (target.writableNeedDrain && !this.#isTargetDone) this.#source.pause();
    this.#owner.onPassed(this);
  }
}
