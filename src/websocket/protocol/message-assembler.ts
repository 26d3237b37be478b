import { isUtf8 } from 'node:buffer';
import { HoldfastError } from '../../base/errors.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import { parseCloseFrame } from './close-frame.ts';
import { type FrameLimits, FrameReader, type FrameSink } from './frame-reader.ts';
import { applyMask, rotateMask } from './mask.ts';
import { Opcode } from './opcodes.ts';
import { InflatingMessage, type PerMessageDeflate } from './permessage-deflate.ts';
import { Utf8Validator } from './utf8.ts';

/** The limits of a whole message. Kept, not copied: a change takes effect with the next frame. */
export interface MessageLimits extends FrameLimits {
  /** Bytes of one message after inflating. */
  maxInflatedBytes: number;
}

/** Holds a peer to what it may send. */
export interface FrameMeter {
  /**
   * A frame begins. @returns 0: it is taken; more than 0: so is it, and none after it for so many milliseconds; -1: the
   * message is to be thrown away; -2: the connection closes.
   */
  take(opcode: number, fin: boolean, payloadLength: number): number;
}

/** Who gets what a connection receives. Binary payloads are valid until the call returns. */
export interface MessageHandler {
  /** Left out: the peer may send as much as it likes. */
  readonly frameLimit?: FrameMeter | undefined;
  /** By `frameLimit`: nothing is to be read for so many milliseconds. */
  hold?(ms: number): void;
  /** True: fragmented messages are handed out piece by piece, in `onFragment`. */
  readonly wantsFragments: boolean;
  /** @param wasFragmented It came in several frames. */
  onMessage(data: string | Buffer, wasFragmented?: boolean): void;
  onFragment(data: string | Buffer, last: boolean): void;
  onPing(payload: Buffer): void;
  onPong(payload: Buffer): void;
  /** The peer's close frame; code 1005 when it has none. Nothing follows it. */
  onCloseFrame(code: number, reason: string): void;
  /** The peer broke the protocol or a limit; `error.closeCode` is what to close with. Nothing follows it. */
  onProtocolError(error: HoldfastError): void;
}

/** Decides when compressed messages are inflated: those of all connections share one event loop. */
export interface InflateSchedule {
  /** What a message may have, and what it may inflate to, in the event loop. */
  readonly mostPayloadBytes: number;
  readonly mostBytes: number;
  /**
   * `later`: the assembler keeps the message until `inflateWaiting`; the reader must be paused until then. `never`:
   * it is not wanted any more, nor any after it.
   */
  decide(payloadBytes: number): 'now' | 'later' | 'never';
  /** A message was inflated, or could not be, in the event loop. Called before it is handed on. */
  onInflated(message: InflatingMessage): void;
  /** The same, in the thread pool. */
  onInflatedAside(message: InflatingMessage): void;
  /**
   * The message is larger than that: the assembler keeps it until `inflateWaitingAside`; the reader must be paused
   * until then.
   */
  onLarge(): void;
}

const EMPTY = Buffer.alloc(0);
// What `toString('latin1', start, end)` calls, without the look-up of the encoding's name: worth it for every message.
const { latin1Slice } = Buffer.prototype as unknown as {
  latin1Slice(this: Buffer, start: number, end: number): string;
};
const MAX_CONTROL_PAYLOAD = 125;
const MAX_EXACT_ALLOCATION = 1024 * 1024;

/**
 * Puts frames together into messages: unmasks in place, inflates, and checks UTF-8 as the bytes arrive (RFC 6455 §8.1).
 *
 * A frame that lies whole in one chunk is handed on without a copy. Otherwise the payload is copied once, into a buffer
 * that is no larger than what the peer has announced and the limits allow.
 */
export class MessageAssembler implements FrameSink {
  readonly reader: FrameReader;
  /** May be changed while the `reader` is at rest, when the bytes that follow are those of another connection. */
  handler: MessageHandler | undefined;
  readonly #limits: MessageLimits;
  readonly #deflate: PerMessageDeflate | undefined;

  #isText = false;
  #isCompressed = false;
  /** The current message came, or is coming, in more than one frame. */
  #isFragmented = false;
  /** It is handed on in fragments. Decided once for each message: what an endpoint wants may change while one comes. */
  #isInPieces = false;
  /** The current message is thrown away. What is compressed is inflated all the same: the next one may build on it. */
  #isDropped = false;
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  #utf8: Utf8Validator | undefined;
  #control: Buffer | undefined;
  readonly #schedule: InflateSchedule | undefined;
  /** A compressed message that waits for its turn. */
  #waiting: InflatingMessage | undefined;

  /** @param options.schedule Default: every message is inflated at once. */
  constructor(
    handler: MessageHandler,
    options: {
      role: 'server' | 'client';
      limits: MessageLimits;
      deflate?: PerMessageDeflate | undefined;
      schedule?: InflateSchedule | undefined;
    },
  ) {
    this.handler = handler;
    this.#limits = options.limits;
    this.#deflate = options.deflate;
    this.#schedule = options.schedule;
    this.reader = new FrameReader(this, {
      role: options.role,
      limits: options.limits,
      allowRsv1: options.deflate !== undefined,
    });
  }

  onFrameStart(): void {
    const { opcode, fin, rsv1, payloadLength } = this.reader;
    const limit = this.handler?.frameLimit;
    const verdict = limit === undefined ? 0 : limit.take(opcode, fin, payloadLength);
    if (verdict !== 0) this.#hold(verdict);
    if (opcode === Opcode.continuation || opcode >= Opcode.close) return;
    this.#isText = opcode === Opcode.text;
    this.#isCompressed = rsv1;
    this.#isFragmented = !fin;
    this.#isInPieces = !fin && this.handler?.wantsFragments === true;
    this.#isDropped = verdict === -1;
    this.#gatheredBytes = 0;
    this.#utf8?.reset();
  }

  #hold(verdict: number): void {
    if (verdict > 0) this.handler?.hold?.(verdict);
    else if (verdict === -2)
      this.#fail(
        new HoldfastError('ERR_POLICY_RATE', 'the client sends more than "limits" allow it over one WebSocket', {
          closeCode: CloseCode.policyViolation,
        }),
      );
  }

  onFramePayload(chunk: Buffer, start: number, end: number): void {
    const { reader } = this;
    if (this.#isDropped && reader.opcode < Opcode.close && !this.#isCompressed) return;
    const isWholeFrame = end - start === reader.payloadLength;
    const ascii = reader.masked && applyMask(chunk, start, end, rotateMask(reader.mask, reader.payloadOffset));
    if (reader.opcode >= Opcode.close) {
      if (isWholeFrame) this.#onControl(chunk.subarray(start, end));
      else this.#gatherControl(chunk, start, end);
    } else if (isWholeFrame && !this.#isFragmented) {
      this.#onWholeMessage(chunk, start, end, ascii);
    } else {
      if (this.#isText && !this.#isCompressed) {
        this.#utf8 ??= new Utf8Validator();
        if (!this.#utf8.write(chunk, start, end)) return this.#fail(invalidUtf8());
      }
      this.#gather(chunk, start, end);
    }
  }

  onFrameEnd(): void {
    const { reader } = this;
    if (reader.opcode >= Opcode.close) {
      if (reader.payloadLength === 0) this.#onControl(EMPTY);
    } else if (this.#isDropped && !this.#isCompressed) {
      return;
    } else if (!this.#isFragmented) {
      // A frame that lay whole in one chunk was handed on when its payload came.
      if (reader.payloadLength === 0) this.#onWholeMessage(EMPTY, 0, 0, true);
      else if (this.#gatheredBytes > 0) this.#onGatheredMessage();
    } else if (this.#isInPieces && !this.#isCompressed) {
      this.#onGatheredFragment(reader.fin);
    } else if (reader.fin) {
      this.#onGatheredMessage();
    }
  }

  onReaderError(error: HoldfastError): void {
    this.handler?.onProtocolError(error);
  }

  #onWholeMessage(chunk: Buffer, start: number, end: number, ascii: boolean): void {
    if (this.#isCompressed) return this.#onCompressedMessage(chunk.subarray(start, end));
    if (!this.#isText) return this.handler?.onMessage(chunk.subarray(start, end));
    if (ascii) return this.handler?.onMessage(latin1Slice.call(chunk, start, end));
    if (!isUtf8(chunk.subarray(start, end))) return this.#fail(invalidUtf8());
    this.handler?.onMessage(chunk.toString('utf8', start, end));
  }

  #onGatheredMessage(): void {
    const bytes = this.#gatheredBytes === 0 ? EMPTY : this.#gathered!.subarray(0, this.#gatheredBytes);
    this.#gathered = undefined;
    this.#gatheredBytes = 0;
    if (this.#isCompressed) return this.#onCompressedMessage(bytes);
    if (!this.#isText) return this.handler?.onMessage(bytes, this.#isFragmented);
    if (this.#utf8 !== undefined && !this.#utf8.isComplete) return this.#fail(invalidUtf8());
    this.handler?.onMessage(bytes.toString('utf8'), this.#isFragmented);
  }

  /** Inflates the message that has waited, and hands it on. */
  inflateWaiting(): void {
    const message = this.#waiting;
    this.#waiting = undefined;
    if (message !== undefined) this.#inflate(message);
  }

  /** The same with the thread pool, for what would take longer than a turn of the event loop. Never rejects. */
  async inflateWaitingAside(): Promise<void> {
    const message = this.#waiting;
    if (message === undefined) return;
    const error = await this.#deflate!.inflateAside(message).then(
      () => undefined,
      (error: HoldfastError) => error,
    );
    this.#schedule?.onInflatedAside(message);
    // It may have been dropped meanwhile.
    if (this.#waiting !== message) return;
    this.#waiting = undefined;
    if (error) this.#fail(error);
    else this.#onInflatedMessage(message.bytes);
  }

  /** The message that waits is not wanted any more. */
  dropWaiting(): void {
    this.#waiting = undefined;
  }

  #onCompressedMessage(payload: Buffer): void {
    const when = this.#schedule?.decide(payload.length) ?? 'now';
    if (when === 'never') return;
    const message = new InflatingMessage(payload, this.#limits.maxInflatedBytes);
    if (when === 'now') this.#inflate(message);
    else this.#waiting = message;
  }

  #inflate(message: InflatingMessage): void {
    const schedule = this.#schedule;
    let isWhole = false;
    try {
      if (schedule === undefined || message.payloadBytes <= schedule.mostPayloadBytes)
        isWhole = this.#deflate!.inflate(message, schedule?.mostBytes);
    } catch (error) {
      return this.#fail(error as HoldfastError);
    } finally {
      schedule?.onInflated(message);
    }
    if (isWhole) return this.#onInflatedMessage(message.bytes);
    this.#waiting = message;
    schedule?.onLarge();
  }

  #onInflatedMessage(bytes: Buffer): void {
    if (this.#isDropped) return;
    if (this.#isText && !isUtf8(bytes)) return this.#fail(invalidUtf8());
    const data = this.#isText ? bytes.toString('utf8') : bytes;
    // A deflate stream cannot be cut at frames, so a compressed message is one fragment, the last.
    if (this.#isInPieces) this.handler?.onFragment(data, true);
    else this.handler?.onMessage(data, this.#isFragmented);
  }

  /** Hands on what the frame added. Text is cut at code points: the bytes of an open one wait for the next fragment. */
  #onGatheredFragment(last: boolean): void {
    const gathered = this.#gatheredBytes === 0 ? EMPTY : this.#gathered!;
    if (!this.#isText) {
      const bytes = gathered.subarray(0, this.#gatheredBytes);
      this.#gathered = undefined;
      this.#gatheredBytes = 0;
      return this.handler?.onFragment(bytes, last);
    }
    const open = this.#utf8?.pendingBytes ?? 0;
    if (last && open > 0) return this.#fail(invalidUtf8());
    const complete = this.#gatheredBytes - open;
    const text = gathered.toString('utf8', 0, complete);
    gathered.copyWithin(0, complete, this.#gatheredBytes);
    this.#gatheredBytes = open;
    if (last) this.#gathered = undefined;
    this.handler?.onFragment(text, last);
  }

  #gather(chunk: Buffer, start: number, end: number): void {
    const needed = this.#gatheredBytes + end - start;
    const capacity = this.#gathered?.length ?? 0;
    if (needed > capacity) {
      const { reader } = this;
      const announced = this.#gatheredBytes + reader.payloadLength - reader.payloadOffset;
      // Room for all that the frame announces, at once: pages that are never filled cost nothing. Beyond a mebibyte the
      // buffer grows with what really arrives.
      const wanted = announced <= MAX_EXACT_ALLOCATION ? announced : Math.max(needed, MAX_EXACT_ALLOCATION);
      const grown = Buffer.allocUnsafeSlow(
        this.#isFragmented || wanted < announced ? Math.max(wanted, capacity * 2) : wanted,
      );
      this.#gathered?.copy(grown, 0, 0, this.#gatheredBytes);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered!, this.#gatheredBytes, start, end);
    this.#gatheredBytes = needed;
  }

  #gatherControl(chunk: Buffer, start: number, end: number): void {
    this.#control ??= Buffer.allocUnsafe(MAX_CONTROL_PAYLOAD);
    const { payloadOffset, payloadLength } = this.reader;
    chunk.copy(this.#control, payloadOffset, start, end);
    if (payloadOffset + end - start === payloadLength) this.#onControl(this.#control.subarray(0, payloadLength));
  }

  #onControl(payload: Buffer): void {
    switch (this.reader.opcode) {
      case Opcode.ping:
        return this.handler?.onPing(payload);
      case Opcode.pong:
        return this.handler?.onPong(payload);
      default:
        return this.#onClose(payload);
    }
  }

  #onClose(payload: Buffer): void {
    const frame = parseCloseFrame(payload);
    if (frame instanceof HoldfastError) return this.#fail(frame);
    this.reader.stop();
    this.handler?.onCloseFrame(frame.code, frame.reason);
  }

  #fail(error: HoldfastError): void {
    this.reader.stop();
    this.#gathered = undefined;
    this.handler?.onProtocolError(error);
  }
}

function invalidUtf8(): HoldfastError {
  return new HoldfastError('ERR_WS_INVALID_UTF8', 'text is not UTF-8; send binary data as binary messages', {
    closeCode: CloseCode.invalidData,
  });
}
