import type { Duplex } from 'node:stream';
import { byteLengthOf, plainBytes } from '../base/bytes.ts';
import { Backlog, isOneWrite, isPlainSocket, waitingFor } from './backlog.ts';
import type { ByteQueue } from './byte-queue.ts';
import type { EndpointLimits } from './endpoint-options.ts';
import { encodeFrame, FrameWriter, firstByte } from './protocol/frame-writer.ts';
import { Opcode } from './protocol/opcodes.ts';
import { checkedLength } from './protocol/outgoing.ts';
import type { PerMessageDeflate } from './protocol/permessage-deflate.ts';
import type { SharedMessage } from './shared-message.ts';

const EMPTY = Buffer.alloc(0);

/** A peer that lets more than this multiple of `maxBufferedBytes` pile up is disconnected, whatever the policy. */
const CUT_OFF_FACTOR = 1.25;

/**
 * What may wait for all WebSockets of one TCP connection before it counts as over the limit of each, unless its own
 * limit is higher.
 */
const TCP_CONNECTION_BYTES = 4 * 1024 * 1024;
/** What each of them may have waiting whatever waits for the others. */
const OWN_SHARE_BYTES = 16 * 1024;

/** Frames that are gathered before they are written, where each is a piece of memory of its own. */
const MOST_PIECES = 64;

// Frames are gathered only between an event and the write that ends it: a connection at rest needs no writer.
const idleWriters: FrameWriter[] = [];
const MAX_IDLE_WRITERS = 64;

// Sends that happen outside a data event are gathered until the end of the current microtask run, over all connections.
const waitingForFlush: Outbox[] = [];

function flushWaiting(): void {
  for (let i = 0; i < waitingForFlush.length; i++) waitingForFlush[i]!.flush();
  waitingForFlush.length = 0;
}

/** Learns that the peer reads too slowly to go on. */
export interface OutboxOwner {
  onSlowReader(bufferedBytes: number): void;
}

/**
 * The sending half of one connection: keeps frames in order, writes once for everything that one event produced, and
 * applies the slow-reader policy.
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
  /** What waits while the transport has yet to take what was written before. */
  #backlog: Backlog | undefined;
  #isCorked = false;
  #isFlushScheduled = false;
  #isFlushClaimed = false;
  #isEnded = false;

  /** The type of the message that is being streamed. */
  #stream: 'none' | 'text' | 'binary' = 'none';
  /** Half a surrogate pair at the end of a text fragment. */
  #streamRest = '';
  #afterStream: ByteQueue | undefined;
  /** The latest message that waits for a slow reader, under the policy `conflate`. */
  #latest: Buffer | undefined;
  /** Nobody else has its bytes. */
  #isLatestOwn = false;
  #latestPong: Buffer | undefined;
  droppedMessages = 0;
  /** Of frames that were given to the transport, with their headers. */
  bytesSent = 0;

  constructor(
    transport: Duplex,
    options: { limits: EndpointLimits; owner: OutboxOwner; deflate?: PerMessageDeflate | undefined },
  ) {
    this.#transport = transport;
    this.#copiesOnWrite = isPlainSocket(transport);
    this.#limits = options.limits;
    this.#owner = options.owner;
    this.#deflate = options.deflate;
  }

  get bufferedAmount(): number {
    const { writableLength } = this.#transport;
    return (
      writableLength +
      this.#gatheredBytes +
      (this.#backlog?.bytes ?? 0) +
      (this.#afterStream?.bytes ?? 0) +
      (this.#latest?.length ?? 0)
    );
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
      // Also when it is not sent.
      if (!isText) checkedLength(data);
      if (!this.#mayWait()) return false;
      // Not compressed: it may never be sent, and with context takeover the peer's window must hold all that was
      // compressed.
      const replaced = this.#isLatestOwn ? this.#latest : undefined;
      return this.#hold(encodeFrame(firstByte(isText ? Opcode.text : Opcode.binary), data, replaced), true);
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

  /**
   * A message that is shared with other connections. It is not written before `flush`: who shares it spreads the
   * writes.
   */
  shared(message: SharedMessage): boolean {
    if (!this.#mayWriteNow()) return this.#mayWait() && this.#hold(message.frameFor(undefined), false);
    const frame = message.frameFor(this.#deflate);
    this.#addEncoded(frame);
    if (this.#backlog !== undefined) this.#write();
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
      this.#write();
      this.#backlog ??= this.#newBacklog();
      this.bytesSent += this.#afterStream.bytes;
      this.#backlog.absorb(this.#afterStream);
      this.#backlog.flush();
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
   * Answers a ping. While the peer does not read, only its latest ping is answered (RFC 6455 §5.5.3): pongs are not
   * ours to choose, so they must not pile up.
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
    this.#afterStream?.clear();
    this.#afterStream = undefined;
    this.#frames.close(code, reason);
    this.#write();
    this.#isEnded = true;
  }

  /** Ends our half of the transport, after what was written. */
  end(): void {
    this.#isEnded = true;
    if (this.#backlog === undefined) this.#transport.end();
    else this.#backlog.end();
  }

  /** The connection is over: nothing more is written. */
  stop(): void {
    this.#isEnded = true;
    this.#backlog?.drop();
    this.#backlog = undefined;
    this.#afterStream?.clear();
    this.#afterStream = undefined;
  }

  /** Must the caller call `flush` for what was gathered? True once, until that was done. */
  claimFlush(): boolean {
    if (this.#isFlushClaimed || this.#gatheredBytes === 0) return false;
    this.#isFlushClaimed = true;
    return true;
  }

  /** Writes what has been gathered, in one write. */
  flush(): void {
    this.#isFlushScheduled = false;
    this.#isFlushClaimed = false;
    if (!this.#isCorked && !this.#isEnded) this.#write();
  }

  #write(): void {
    if (this.#sharedFrame !== undefined) {
      const frame = this.#sharedFrame;
      this.#sharedFrame = undefined;
      this.#pass(frame, true);
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
      if (this.#pass(frames, isShared) && !isShared) FrameWriter.reuse(frames);
    } else {
      this.#backlog ??= this.#newBacklog();
      for (const frame of frames) {
        this.bytesSent += frame.length;
        this.#backlog.append(frame, !FrameWriter.isFromSlab(frame));
      }
      this.#backlog.flush();
    }
  }

  /**
   * @param mayKeep The bytes are not part of a larger piece of memory.
   * @returns true when the memory is not needed any more.
   */
  #pass(frames: Buffer, mayKeep: boolean): boolean {
    const transport = this.#transport;
    this.bytesSent += frames.length;
    if (this.#backlog === undefined && transport.writableLength === 0 && isOneWrite(transport, frames.length)) {
      transport.write(frames);
      // Only of a TCP socket is it known that it keeps nothing of what it has written.
      return this.#copiesOnWrite && transport.writableLength === 0;
    }
    this.#backlog ??= this.#newBacklog();
    this.#backlog.append(frames, mayKeep);
    this.#backlog.flush();
    return !mayKeep;
  }

  #newBacklog(): Backlog {
    return new Backlog(this.#transport, () => {
      this.#backlog = undefined;
    });
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
    if (this.#backlog !== undefined) this.#backlog.afterTaken(callback);
    // An empty write takes its place behind the others, which `drain` does not promise below the high-water mark.
    else if (this.#transport.writable && this.#transport.writableLength > 0)
      this.#transport.write(EMPTY, () => callback());
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

  /**
   * How much waits, as a part of the limit, if `without` bytes of it are left out: this connection's own, with the
   * memory that it needs beside its bytes, or what waits for the same TCP connection.
   */
  #fullness(without: number): number {
    const { maxBufferedBytes } = this.#limits;
    const backlog = this.#backlog;
    const afterStream = this.#afterStream;
    let own = this.bufferedAmount - without;
    if (backlog !== undefined) own += backlog.cost - backlog.bytes;
    if (afterStream !== undefined) own += afterStream.cost - afterStream.bytes;
    const queue = backlog ?? afterStream;
    if (queue === undefined || own <= OWN_SHARE_BYTES) return own / maxBufferedBytes;
    const together = (queue.bytesTogether - without) / Math.max(maxBufferedBytes, TCP_CONNECTION_BYTES);
    return Math.max(own / maxBufferedBytes, together);
  }

  #isOverLimit(): boolean {
    if (this.#fullness(0) <= 1) return false;
    // What is gathered here and was never written is not the peer's fault.
    if (!this.#isEnded) this.#write();
    return this.#fullness(0) > 1;
  }

  /** The message could not be written now: may it wait, by the slow-reader policy? */
  #mayWait(): boolean {
    const { slowReader } = this.#limits;
    if (this.#latest !== undefined || (slowReader !== 'drop' && slowReader !== 'close') || !this.#isOverLimit())
      return true;
    if (slowReader === 'drop') this.droppedMessages++;
    else this.#owner.onSlowReader(this.bufferedAmount);
    return false;
  }

  /** The message waits for the end of the stream, or as the latest for what was written before. */
  #hold(frame: Buffer, isOwn: boolean): boolean {
    if (this.#latest !== undefined || (this.#limits.slowReader === 'conflate' && this.#isOverLimit()))
      return this.#replaceLatest(frame, isOwn);
    this.#afterStream ??= waitingFor(this.#transport);
    this.#afterStream.append(frame, true);
    return this.#withinLimit(frame.length);
  }

  #replaceLatest(frame: Buffer, isOwn: boolean): boolean {
    const isFirst = this.#latest === undefined;
    this.#latest = frame;
    this.#isLatestOwn = isOwn;
    if (isFirst) this.afterFlushed(() => this.#releaseLatest());
    else this.droppedMessages++;
    return false;
  }

  #releaseLatest(): void {
    const frame = this.#latest;
    if (frame === undefined || this.#isEnded) return;
    this.#latest = undefined;
    if (this.#stream !== 'none') {
      (this.#afterStream ??= waitingFor(this.#transport)).append(frame, true);
      return;
    }
    this.#addEncoded(frame);
    this.#scheduleFlush();
  }

  #releasePong(): void {
    const payload = this.#latestPong;
    this.#latestPong = undefined;
    if (payload !== undefined && !this.#isEnded) this.control(Opcode.pong, payload);
  }

  /**
   * `added`: the size of the message that was just sent. However large it is, only what was left of others tells of a
   * slow reader.
   */
  #withinLimit(added: number): boolean {
    if (this.#writer !== undefined && this.#writer.pieces >= MOST_PIECES) this.#write();
    if (!this.#isOverLimit()) return true;
    if (this.#fullness(added) > CUT_OFF_FACTOR) this.#owner.onSlowReader(this.bufferedAmount);
    return false;
  }

  #scheduleFlush(): void {
    if (this.#isCorked || this.#isFlushScheduled) return;
    if (this.#backlog !== undefined) return this.#write();
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
