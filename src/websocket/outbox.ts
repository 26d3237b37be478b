import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { byteLengthOf, plainBytes } from '../base/bytes.ts';
import type { EndpointLimits } from './endpoint-limits.ts';
import { encodeFrame, FrameWriter, firstByte } from './protocol/frame-writer.ts';
import { Opcode } from './protocol/opcodes.ts';
import { checkedLength } from './protocol/outgoing.ts';
import type { PerMessageDeflate } from './protocol/permessage-deflate.ts';
import type { SharedMessage } from './shared-message.ts';

const EMPTY = Buffer.alloc(0);

/** A peer that lets more than this multiple of `maxBufferedBytes` pile up is disconnected, whatever the policy. */
const CUT_OFF_FACTOR = 4;

// Frames are gathered only between an event and the write that ends it: a connection at rest needs no writer.
const idleWriters: FrameWriter[] = [];
const MAX_IDLE_WRITERS = 64;

// Sends that happen outside a data event are gathered until the end of the current microtask run, over all connections.
const waitingForFlush: Outbox[] = [];

function flushWaiting(): void {
  for (let i = 0; i < waitingForFlush.length; i++) waitingForFlush[i]!.flush();
  waitingForFlush.length = 0;
}

/** Who is told that the peer reads too slowly to go on. */
export interface OutboxOwner {
  onSlowReader(bufferedBytes: number): void;
}

/**
 * The sending half of one connection: keeps frames in order, writes once for everything that one event produced, and applies
 * the slow-reader policy.
 */
export class Outbox {
  readonly #transport: Duplex;
  readonly #limits: EndpointLimits;
  readonly #owner: OutboxOwner;
  readonly #deflate: PerMessageDeflate | undefined;
  readonly #copiesOnWrite: boolean;
  /** All that is gathered, when that is one frame which others get, too: the rule in a broadcast. */
  #sharedFrame: Buffer | undefined;
  /** What is gathered otherwise. */
  #writer: FrameWriter | undefined;
  #isCorked = false;
  #isFlushScheduled = false;
  #isEnded = false;

  /** The type of the message that is being streamed. */
  #stream: 'none' | 'text' | 'binary' = 'none';
  /** Half a surrogate pair at the end of a text fragment. */
  #streamRest = '';
  #afterStream: Buffer[] | undefined;
  /** The latest message that waits for a slow reader, under the policy `conflate`. */
  #latest: Buffer | undefined;
  #heldBytes = 0;
  #latestPong: Buffer | undefined;
  droppedMessages = 0;

  constructor(
    transport: Duplex,
    options: { limits: EndpointLimits; owner: OutboxOwner; deflate?: PerMessageDeflate | undefined },
  ) {
    this.#transport = transport;
    this.#copiesOnWrite = transport instanceof Socket && !(transport instanceof TLSSocket);
    this.#limits = options.limits;
    this.#owner = options.owner;
    this.#deflate = options.deflate;
  }

  get bufferedAmount(): number {
    return this.#transport.writableLength + this.#gatheredBytes + this.#heldBytes;
  }

  /** Until `uncork`, sends are gathered; it writes them all at once. */
  cork(): void {
    this.#isCorked = true;
  }

  uncork(): void {
    this.#isCorked = false;
    this.flush();
  }

  /** @throws {TypeError} when the data is neither text nor bytes. Nothing has changed then. */
  message(data: string | Uint8Array): boolean {
    const isText = typeof data === 'string';
    if (!this.#mayWriteNow()) {
      // Not compressed: it may never be sent, and with context takeover the peer's window must hold all that was compressed.
      return this.#hold(
        encodeFrame(firstByte(isText ? Opcode.text : Opcode.binary), isText ? Buffer.from(data) : data),
      );
    }
    const opcode = isText ? Opcode.text : Opcode.binary;
    // Without compression it is the writer that looks at them, once.
    let length = isText ? data.length : this.#deflate === undefined ? 0 : checkedLength(data);
    if (this.#deflate !== undefined && length >= this.#deflate.threshold) {
      const compressed = this.#deflate.compress(isText ? Buffer.from(data) : plainBytes(data));
      this.#frames.binary(firstByte(opcode, true, true), compressed);
    } else if (isText) {
      this.#frames.text(firstByte(opcode), data);
    } else {
      length = this.#frames.binary(firstByte(opcode), data);
    }
    this.#scheduleFlush();
    return this.#withinLimit(length);
  }

  /** A message that is shared with other connections. It is not written before `flush`: who shares it spreads the writes. */
  shared(message: SharedMessage): boolean {
    if (!this.#mayWriteNow()) return this.#hold(message.frameFor(undefined));
    const frame = message.frameFor(this.#deflate);
    this.#addEncoded(frame);
    return this.#withinLimit(frame.length);
  }

  fragment(chunk: string | Uint8Array, last: boolean): boolean {
    const isText = typeof chunk === 'string';
    const type = isText ? 'text' : 'binary';
    const opcode = this.#stream === 'none' ? Opcode[type] : Opcode.continuation;
    if (this.#stream !== 'none' && this.#stream !== type) {
      throw new TypeError(
        'stream: text and binary fragments cannot be mixed in one message; end it with last = true first',
      );
    }
    // It was sent before.
    if (this.#stream === 'none') this.#releaseLatest();
    const first = firstByte(opcode, last);
    if (isText) this.#frames.text(first, this.#wholeCodePoints(chunk, last));
    else this.#frames.binary(first, chunk);
    this.#stream = last ? 'none' : type;
    if (last && this.#afterStream) {
      for (const frame of this.#afterStream) {
        this.#heldBytes -= frame.length;
        this.#addEncoded(frame);
      }
      this.#afterStream = undefined;
    }
    this.#scheduleFlush();
    return this.#withinLimit(isText ? chunk.length : byteLengthOf(chunk));
  }

  /** Control frames pass everything that is held: they may stand between fragments (RFC 6455 §5.4). */
  control(opcode: number, payload: Uint8Array): void {
    this.#frames.binary(firstByte(opcode), payload);
    this.#scheduleFlush();
    this.#withinLimit(byteLengthOf(payload));
  }

  /**
   * Answers a ping. While the peer does not read, only its latest ping is answered (RFC 6455 §5.5.3): pongs are not ours to choose, so
   * they must not pile up.
   */
  pong(payload: Uint8Array): void {
    if (this.#latestPong === undefined && !this.#isOverLimit()) return this.control(Opcode.pong, payload);
    const isFirst = this.#latestPong === undefined;
    this.#latestPong = Buffer.from(payload);
    if (isFirst) this.afterFlushed(() => this.#releasePong());
  }

  /** The close frame, after what the policy `conflate` held back. Nothing can be sent after it. */
  close(code: number | undefined, reason: string): void {
    if (this.#isEnded) return;
    if (this.#latest && this.#stream === 'none') this.#addEncoded(this.#latest);
    this.#latest = undefined;
    this.#afterStream = undefined;
    this.#heldBytes = 0;
    this.#frames.close(code, reason);
    this.#write();
    this.#isEnded = true;
  }

  /** The connection is over: nothing more is written. */
  stop(): void {
    this.#isEnded = true;
  }

  /** Writes what has been gathered, in one write. */
  flush(): void {
    this.#isFlushScheduled = false;
    if (!this.#isCorked && !this.#isEnded) this.#write();
  }

  #write(): void {
    if (this.#sharedFrame !== undefined) {
      const frame = this.#sharedFrame;
      this.#sharedFrame = undefined;
      this.#transport.write(frame);
      return;
    }
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    const isShared = writer.isEncodedElsewhere;
    const frames = writer.take();
    if (idleWriters.length < MAX_IDLE_WRITERS) idleWriters.push(writer);
    if (frames === undefined) return;
    if (!Array.isArray(frames)) {
      this.#transport.write(frames);
      // Only of a TCP socket is it known that it keeps nothing of what it has written.
      if (!isShared && this.#copiesOnWrite && this.#transport.writableLength === 0) FrameWriter.reuse(frames);
    } else {
      this.#transport.cork();
      for (const frame of frames) this.#transport.write(frame);
      this.#transport.uncork();
    }
  }

  get #gatheredBytes(): number {
    return this.#sharedFrame?.length ?? this.#writer?.bytes ?? 0;
  }

  /** Where frames are gathered. */
  get #frames(): FrameWriter {
    if (this.#writer === undefined) {
      this.#writer = idleWriters.pop() ?? new FrameWriter(false);
      if (this.#sharedFrame !== undefined) this.#writer.encoded(this.#sharedFrame);
      this.#sharedFrame = undefined;
    }
    return this.#writer;
  }

  /** A frame that was encoded before. It is not copied. */
  #addEncoded(frame: Buffer): void {
    if (this.#writer === undefined && this.#sharedFrame === undefined) this.#sharedFrame = frame;
    else this.#frames.encoded(frame);
  }

  /** Calls back when all that was written so far has left the process, or never will. */
  afterFlushed(callback: () => void): void {
    // Also in the middle of a data event, whose sends are otherwise gathered until its end.
    if (!this.#isEnded) this.#write();
    // An empty write takes its place behind the others, which `drain` does not promise below the high-water mark.
    if (this.#transport.writable && this.#transport.writableLength > 0) this.#transport.write(EMPTY, () => callback());
    else callback();
  }

  /** True when nothing forbids writing a message at once. */
  #mayWriteNow(): boolean {
    if (this.#stream !== 'none') return false;
    const { slowReader } = this.#limits;
    if (slowReader === 'wait') return true;
    if (this.#latest !== undefined) return false;
    return !this.#isOverLimit();
  }

  #isOverLimit(): boolean {
    const { maxBufferedBytes } = this.#limits;
    if (this.bufferedAmount <= maxBufferedBytes) return false;
    // What is gathered here and was never written is no fault of the peer's.
    if (!this.#isEnded) this.#write();
    return this.bufferedAmount > maxBufferedBytes;
  }

  /** The message could not be written now: it waits for the end of the stream, or the slow-reader policy decides. */
  #hold(frame: Buffer): boolean {
    const isOver = this.#isOverLimit();
    const { slowReader } = this.#limits;
    if (this.#latest !== undefined || (isOver && slowReader === 'conflate')) return this.#replaceLatest(frame);
    if (isOver && slowReader === 'drop') {
      this.droppedMessages++;
      return false;
    }
    if (isOver && slowReader === 'close') {
      this.#owner.onSlowReader(this.bufferedAmount);
      return false;
    }
    this.#afterStream ??= [];
    this.#afterStream.push(frame);
    this.#heldBytes += frame.length;
    return this.#withinLimit(frame.length);
  }

  #replaceLatest(frame: Buffer): boolean {
    const replaced = this.#latest;
    this.#latest = frame;
    this.#heldBytes += frame.length;
    if (replaced === undefined) {
      this.afterFlushed(() => this.#releaseLatest());
    } else {
      this.droppedMessages++;
      this.#heldBytes -= replaced.length;
    }
    return false;
  }

  #releaseLatest(): void {
    const frame = this.#latest;
    if (frame === undefined || this.#isEnded) return;
    this.#latest = undefined;
    if (this.#stream !== 'none') {
      (this.#afterStream ??= []).push(frame);
      return;
    }
    this.#heldBytes -= frame.length;
    this.#addEncoded(frame);
    this.#scheduleFlush();
  }

  #releasePong(): void {
    const payload = this.#latestPong;
    this.#latestPong = undefined;
    if (payload !== undefined && !this.#isEnded) this.control(Opcode.pong, payload);
  }

  /** `added`: the size of the message that was just sent. However large it is, only what was left of others tells of a slow reader. */
  #withinLimit(added: number): boolean {
    if (!this.#isOverLimit()) return true;
    const left = this.bufferedAmount - added;
    if (left > this.#limits.maxBufferedBytes * CUT_OFF_FACTOR) this.#owner.onSlowReader(left);
    return false;
  }

  #scheduleFlush(): void {
    if (this.#isCorked || this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    if (waitingForFlush.push(this) === 1) queueMicrotask(flushWaiting);
  }

  #wholeCodePoints(chunk: string, last: boolean): string {
    const text = this.#streamRest + chunk;
    this.#streamRest = '';
    const end = text.charCodeAt(text.length - 1);
    if (last || !(end >= 0xd800 && end <= 0xdbff)) return text;
    this.#streamRest = text.slice(-1);
    return text.slice(0, -1);
  }
}
