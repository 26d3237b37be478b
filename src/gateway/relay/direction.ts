import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { Timer } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import { CLOSE, DROP, type FrameLimit } from '../../policy/limits/frame-limit.ts';
import { Backlog, isPlainSocket } from '../../websocket/backlog.ts';
import { type CloseFrame, parseCloseFrame } from '../../websocket/protocol/close-frame.ts';
import { FrameReader, type FrameSink } from '../../websocket/protocol/frame-reader.ts';
import { FrameWriter, firstByte } from '../../websocket/protocol/frame-writer.ts';
import { applyMask } from '../../websocket/protocol/mask.ts';
import { Opcode } from '../../websocket/protocol/opcodes.ts';
import type { TimerWheel } from '../../websocket/timer-wheel.ts';
import { areReadsPaused, pauseReads, resumeReads, startReads } from '../../websocket/transport-reads.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { writeFromSlab } from './slab.ts';

/** What went in one direction. */
export interface RelayTraffic {
  messages: number;
  /** Bytes on the wire, frame headers included; frames of our own do not count. */
  bytes: number;
}

/** Receives what happens in a direction. Called after everything that came before was written to the target. */
export interface DirectionOwner {
  /** Frames were passed on. */
  onPassed(direction: RelayDirection): void;
  /** Our ping number `sequence` was written to the target. */
  onPingSent(direction: RelayDirection, sequence: number): void;
  /** The source has answered our ping number `sequence`. */
  onPong(direction: RelayDirection, sequence: number): void;
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
  readonly wheel: TimerWheel;
  /** What the source may send. Left out: as much as it likes. */
  readonly frameLimit?: FrameLimit | undefined;
  /** The same of the target, which has to answer pings. */
  readonly answerer?: FrameLimit | undefined;
  /** Judges whole messages before any of them is passed on. The error that it returns ends the direction. */
  readonly inspect?: ((message: string | Buffer) => HoldfastError | undefined) | undefined;
}

/** What the payload of our pings begins with, by which their pongs are known. Their number follows, in four bytes. */
const PING_TAG = randomBytes(8);
const NOTHING = Buffer.alloc(0);
/** While so much waits for the target, the source is not read. */
const MOST_WAITING_BYTES = 16 * 1024;
/** Of a source whose target wants no more: what may still come, beside one message, before its close frame. */
const MOST_UNWANTED_BYTES = 16 * 1024 * 1024;

/** Of one message that is judged. */
const MOST_HELD_FRAMES = 1024;

/**
 * One direction of a relay: reads the frames of `source` and passes them on to `target` as they are, still masked.
 *
 * It looks into close frames and pongs only, holds back an incomplete header so that `target` never stands inside one,
 * and puts in our own frames where one frame ends and the next has not begun. Each chunk read makes at most one write.
 * A target that does not take what it is sent stops the reading of the source, so that no more than 16 KiB and one
 * chunk is held.
 */
export class RelayDirection implements FrameSink {
  readonly from: 'client' | 'backend';
  readonly traffic: RelayTraffic = { messages: 0, bytes: 0 };
  /** When something last arrived from the source, in the wheel's time. */
  heardAt: number;
  /** Sent to the target in place of the source's close frame. */
  closeInstead: { readonly code: number; readonly reason: string } | undefined;
  readonly #owner: DirectionOwner;
  readonly #source: Duplex;
  readonly #target: Duplex;
  readonly #wheel: TimerWheel;
  readonly #reader: FrameReader;
  #error: HoldfastError | undefined;
  #closeFrame: CloseFrame | undefined;
  readonly #inspect: DirectionOptions['inspect'];
  /** Of a message that is judged: its frames so far, as they came, and what is in them. */
  #heldFrames: Buffer[] = [];
  #heldPayloads: Buffer[] = [];
  #isHeldText = false;
  #isTargetDone = false;
  /** The source's bytes stand in memory that the next read of any connection overwrites. */
  #isSourceShared = false;
  readonly #writesAtOnce: boolean;
  readonly #mostUnwantedBytes: number;
  #unwantedBytes = 0;
  readonly #frameLimit: FrameLimit | undefined;
  readonly #answerer: FrameLimit | undefined;
  /** The source has sent too much, and is not read for a while. */
  #isHeld = false;
  #holdTimer: Timer | undefined;
  /** The message that arrives is not passed on. */
  #isDropping = false;
  /** The target is not waited for: what it does not take at once is thrown away, with all that follows. */
  #isImpatient = false;
  /** What waits while the target has yet to take what was written before. */
  #backlog: Backlog | undefined;
  #pings = 0;

  // Of the chunk being read, [#start, #end) is to be passed on as it is, after #pieces.
  #chunk: Buffer = NOTHING;
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
  #isPingWaiting = false;
  #waitingClose: Buffer | undefined;

  constructor(owner: DirectionOwner, options: DirectionOptions) {
    this.from = options.from;
    this.#owner = owner;
    this.#source = options.source;
    this.#target = options.target;
    this.#wheel = options.wheel;
    this.heardAt = options.wheel.now;
    this.#frameLimit = options.frameLimit;
    this.#answerer = options.answerer;
    this.#inspect = options.inspect;
    this.#mostUnwantedBytes = options.maxMessageBytes + MOST_UNWANTED_BYTES;
    this.#reader = new FrameReader(this, {
      role: options.from === 'client' ? 'server' : 'client',
      // Fragments are not kept here, so their number costs nothing; but for those of a message that is judged.
      limits: {
        maxMessageBytes: options.maxMessageBytes,
        maxFragments: options.inspect ? MOST_HELD_FRAMES : Number.POSITIVE_INFINITY,
      },
      allowRsv1: options.allowRsv1,
    });
    // Only of a TCP socket is it known that it keeps nothing of what it has written.
    this.#writesAtOnce = isPlainSocket(this.#target);
  }

  /** Begins to read the source, after what of it was read before. */
  start(early: Buffer): void {
    const source = this.#source;
    if (early.length > 0) this.push(early);
    this.#isSourceShared = startReads(source, (length, buffer) => this.push(buffer, length));
    if (this.#isWaitingForTarget) pauseReads(source);
  }

  /** Ends our half of the target, after what was written. */
  endTarget(): void {
    if (this.#backlog === undefined) this.#target.end();
    else this.#backlog.end();
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

  /** The source is not read, because the target does not take what it is sent. */
  get isPaused(): boolean {
    return areReadsPaused(this.#source);
  }

  /** It is not read because it has sent too much. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** The target was sent a close frame. */
  get isTargetDone(): boolean {
    return this.#isTargetDone;
  }

  /** A frame was passed on in part: until it ends, the target can be told nothing. */
  get isInsideFrame(): boolean {
    return this.#isInsideFrame && !this.#isTargetDone;
  }

  /** Takes the first `length` bytes, by default all. */
  push(chunk: Buffer, length = chunk.length): void {
    this.heardAt = this.#wheel.now;
    if (this.isSourceDone) return;
    if (this.#isTargetDone) {
      this.#unwantedBytes += length;
      if (this.#unwantedBytes > this.#mostUnwantedBytes) return void this.#source.destroy();
    }
    const waitMs = this.#isTargetDone ? 0 : (this.#frameLimit?.takeBytes(length) ?? 0);
    this.#read(chunk, length);
    if (waitMs > 0 && !this.isSourceDone && !this.#isTargetDone) this.#hold(waitMs);
  }

  #read(chunk: Buffer, length: number): void {
    const wasTargetDone = this.#isTargetDone;
    this.#chunk = chunk;
    this.#start = this.#end = 0;
    this.#reader.push(chunk, length);
    // Of what is held back until later, nothing is the begin of a header.
    if (!this.#isHeld) this.#heldHeaderBytes += length - this.#end;
    this.#flush();
    this.#chunk = NOTHING;
    if (this.#isTargetDone && !wasTargetDone) this.#owner.onTargetDone(this);
    if (this.isSourceDone) this.#owner.onSourceDone(this);
  }

  /** The source has sent too much: nothing of it is read for so many milliseconds. */
  #hold(ms: number): void {
    this.#reader.pause();
    pauseReads(this.#source);
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#holdTimer = this.#frameLimit!.clock.setTimeout(() => this.#endHold(), ms);
  }

  /** The source is gone: nothing more of it is waited for. */
  leave(): void {
    this.#frameLimit?.clock.clearTimeout(this.#holdTimer);
  }

  #endHold(): void {
    if (!this.#isHeld) return;
    this.leave();
    this.#isHeld = false;
    this.heardAt = this.#wheel.now;
    const rest = this.#reader.takeRest();
    this.#frameLimit?.takeBytes(0);
    if (rest && !this.isSourceDone) this.#read(rest, rest.length);
    this.#resumeSource();
  }

  #resumeSource(): void {
    if (!this.#isHeld && !this.#isWaitingForTarget) resumeReads(this.#source);
  }

  /**
   * Pings the target. @returns false when it has yet to take what it was sent before, so that no answer can be
   * expected.
   */
  ping(): boolean {
    if (this.#isTargetDone || this.#isWaitingForTarget) return false;
    if (this.#isInsideFrame) this.#isPingWaiting = true;
    else this.#writeOwn(this.#nextPing());
    return true;
  }

  /**
   * Sends the target a close frame of ours as soon as a frame may begin; what the source sends after that is dropped.
   */
  close(code: number, reason: string): void {
    if (this.#isTargetDone || this.#waitingClose) return;
    const frame = this.#encode(writer => writer.close(code === CloseCode.noStatus ? undefined : code, reason));
    if (this.#isInsideFrame) {
      this.#waitingClose = frame;
      return;
    }
    if (this.#target.writable) this.#writeOwn(frame);
    this.#noteEnd();
    this.#owner.onTargetDone(this);
  }

  /**
   * The target has said its last, and may read no more: from now on what it does not take is thrown away. The source is
   * read on until its close frame.
   */
  waitNoMore(): void {
    this.#isImpatient = true;
    this.#dropIfHeldUp();
  }

  #dropIfHeldUp(): void {
    if (!this.#isImpatient || !this.#isWaitingForTarget) return;
    this.#backlog?.drop();
    this.#backlog = undefined;
    this.#noteEnd();
    this.#owner.onTargetDone(this);
  }

  onFrameStart(): void {
    const { opcode, headerStart, headerLength, payloadLength, header } = this.#reader;
    const isSplit = headerStart < 0;
    if (opcode === Opcode.ping) this.#answerer?.expectPong();
    if (this.#frameLimit !== undefined && !this.#isTargetDone) this.#judge(this.#frameLimit);
    if (this.isSourceDone) return;
    if (this.#isDropping && opcode < Opcode.close) {
      this.#takeRange();
      this.#start = this.#end = isSplit ? headerLength - this.#heldHeaderBytes : headerStart + headerLength;
      this.#heldHeaderBytes = 0;
      return;
    }
    const isHeld =
      opcode === Opcode.close || opcode === Opcode.pong || (this.#inspect !== undefined && opcode < Opcode.close);
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

  #judge(limit: FrameLimit): void {
    const { opcode, fin, payloadLength } = this.#reader;
    const verdict = limit.take(opcode, fin, payloadLength);
    if (opcode === Opcode.text || opcode === Opcode.binary) this.#isDropping = verdict === DROP;
    if (verdict > 0) return this.#hold(verdict);
    if (verdict !== CLOSE) return;
    this.#reader.stop();
    const message = 'the client sends more than "limits" allow it over one WebSocket';
    this.#error = new HoldfastError('ERR_POLICY_RATE', message, { closeCode: CloseCode.policyViolation });
  }

  onFramePayload(chunk: Buffer, start: number, end: number): void {
    this.#end = end;
    if (this.#isDropping && this.#control === undefined && this.#reader.opcode < Opcode.close) this.#start = end;
    if (this.#control === undefined) return;
    chunk.copy(this.#control, this.#reader.headerLength + this.#reader.payloadOffset, start, end);
    this.#start = end;
  }

  onFrameEnd(): void {
    const { fin, opcode } = this.#reader;
    const control = this.#control;
    if (control !== undefined) {
      this.#control = undefined;
      if (opcode < Opcode.close) this.#onHeldFrame(control, opcode, fin);
      else if (opcode === Opcode.close) this.#onClose(control);
      else this.#onPong(control);
      return;
    }
    this.#isInsideFrame = false;
    if (fin && opcode < Opcode.close && !this.#isTargetDone && !this.#isDropping) this.traffic.messages++;
    if (this.#isPingWaiting && !this.#waitingClose) {
      this.#takeRange().push(this.#nextPing());
      this.#isPingWaiting = false;
    }
    if (this.#waitingClose) {
      this.#takeRange().push(this.#waitingClose);
      this.#waitingClose = undefined;
      this.#noteEnd();
    }
  }

  onReaderError(error: HoldfastError): void {
    this.#error = error;
  }

  #onHeldFrame(frame: Buffer, opcode: number, fin: boolean): void {
    if (opcode !== Opcode.continuation) this.#isHeldText = opcode === Opcode.text;
    this.#heldFrames.push(frame);
    this.#heldPayloads.push(this.#payloadOf(frame));
    if (!fin) return;
    const frames = this.#heldFrames;
    const payload = this.#heldPayloads.length === 1 ? this.#heldPayloads[0]! : Buffer.concat(this.#heldPayloads);
    this.#heldFrames = [];
    this.#heldPayloads = [];
    const error = this.#inspect!(this.#isHeldText ? payload.toString() : payload);
    if (error) {
      this.#reader.stop();
      this.#error = error;
      return;
    }
    if (!this.#isTargetDone) this.traffic.messages++;
    for (const one of frames) this.#pass(one);
  }

  #onClose(frame: Buffer): void {
    this.#reader.stop();
    const read = parseCloseFrame(this.#payloadOf(frame));
    if (read instanceof HoldfastError) {
      this.#error = read;
      return;
    }
    this.#closeFrame = read;
    if (this.#isTargetDone) return;
    const instead = this.closeInstead;
    if (instead) this.#takeRange().push(this.#encode(writer => writer.close(instead.code, instead.reason)));
    else this.#pass(frame);
    this.#noteEnd();
  }

  #onPong(frame: Buffer): void {
    const payload = this.#payloadOf(frame);
    const isOurs = payload.length === PING_TAG.length + 4 && payload.subarray(0, PING_TAG.length).equals(PING_TAG);
    if (isOurs) this.#owner.onPong(this, payload.readUInt32BE(PING_TAG.length));
    else this.#pass(frame);
  }

  #nextPing(): Buffer {
    this.#pings = (this.#pings + 1) >>> 0;
    const payload = Buffer.allocUnsafe(PING_TAG.length + 4);
    PING_TAG.copy(payload);
    payload.writeUInt32BE(this.#pings, PING_TAG.length);
    this.#owner.onPingSent(this, this.#pings);
    return this.#encode(writer => writer.binary(firstByte(Opcode.ping), payload));
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
  #noteEnd(): void {
    this.#isTargetDone = true;
    this.#isInsideFrame = false;
    if (this.#isHeld) queueMicrotask(() => this.#endHold());
    else resumeReads(this.#source);
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
      if (pieces.length === 1) this.#write(pieces[0]!, 0, pieces[0]!.length);
      else this.#writeOwn(Buffer.concat(pieces));
    } else {
      if (this.#end === this.#start || this.#isTargetDone || !target.writable) return;
      this.traffic.bytes += this.#end - this.#start;
      this.#write(this.#chunk, this.#start, this.#end);
    }
    if (this.#isWaitingForTarget) {
      pauseReads(this.#source);
      // Tells when it has taken everything.
      this.#backlog ??= new Backlog(target, this.#onTaken);
    }
    this.#owner.onPassed(this);
    this.#dropIfHeldUp();
  }

  /** What follows the close frame is dropped, so it need not wait. */
  get #isWaitingForTarget(): boolean {
    if (this.#isTargetDone) return false;
    return this.#target.writableLength + (this.#backlog?.bytes ?? 0) >= MOST_WAITING_BYTES;
  }

  #write(bytes: Buffer, start: number, end: number): void {
    if (this.#backlog !== undefined || this.#target.writableLength > 0) {
      this.#wait(bytes.subarray(start, end));
    } else if (this.#isSourceShared && this.#writesAtOnce) {
      writeFromSlab(this.#target, bytes, start, end);
    } else {
      const part = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
      this.#target.write(this.#isSourceShared ? Buffer.from(part) : part);
    }
  }

  /** @param bytes In memory that nobody else uses. */
  #writeOwn(bytes: Buffer): void {
    if (this.#backlog !== undefined || this.#target.writableLength > 0) this.#wait(bytes);
    else this.#target.write(bytes);
  }

  #wait(bytes: Buffer): void {
    this.#backlog ??= new Backlog(this.#target, this.#onTaken);
    this.#backlog.append(bytes, false);
    this.#backlog.flush();
  }

  /** The target has taken all it was sent. */
  readonly #onTaken = (): void => {
    this.#backlog = undefined;
    this.#resumeSource();
  };
}
