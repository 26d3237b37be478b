import type { Socket } from 'node:net';
import { HoldfastError } from '../../base/errors.ts';
import { parseCloseFrame } from '../../websocket/protocol/close-frame.ts';
import { FrameReader, type FrameSink } from '../../websocket/protocol/frame-reader.ts';
import { FrameWriter, firstByte } from '../../websocket/protocol/frame-writer.ts';
import { Opcode } from '../../websocket/protocol/opcodes.ts';
import { CloseCode } from '../../wire/close-codes.ts';

/** How a WebSocket ended. */
export interface Ending {
  /** `close`: by a close frame of the server. `cut`: without one. `broken`: it sent what is not WebSocket. */
  readonly how: 'close' | 'cut' | 'broken';
  /** 1005 for a close frame without one, 1006 where there was none. */
  readonly code: number;
  /** Of the server: not fit for a terminal as it is. */
  readonly reason: string;
  /** Since it was open. */
  readonly afterMs: number;
}

const NO_LIMITS = { maxMessageBytes: Number.POSITIVE_INFINITY, maxFragments: Number.POSITIVE_INFINITY };
/** Pongs are not sent to a server that does not read them. */
const MOST_WAITING_BYTES = 64 * 1024;
/** How long a close frame waits for its answer, when there is as much time. */
const CLOSE_MS = 1_000;

/**
 * One open WebSocket as the doctor has it: it looks at frames and keeps none of what they carry, so that a server may send
 * what it likes.
 */
export class ProbeSocket {
  /** When pings of the server came, in ms since it was open; the first hundred. */
  readonly pingsAt: number[] = [];
  /** Whole messages that have come. */
  messages = 0;
  /** Payload bytes of the last whole message. */
  lastMessageBytes = 0;
  readonly ended: Promise<Ending>;
  readonly #socket: Socket;
  readonly #closeMs: number;
  readonly #writer = new FrameWriter(true);
  readonly #openedAt = performance.now();
  readonly #settle: (ending: Ending) => void;
  #isOver = false;
  readonly #pongs = new Map<string, () => void>();
  #pings = 0;
  #onMessage = () => {};

  /** @param early What came behind the 101. */
  constructor(
    socket: Socket,
    early: Buffer,
    { isCompressed, timeoutMs }: { isCompressed: boolean; timeoutMs: number },
  ) {
    this.#closeMs = Math.min(CLOSE_MS, timeoutMs);
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.ended = promise;
    this.#socket = socket;
    this.#settle = resolve;
    const sink = new ProbeSink({
      onPing: payload => this.#onPing(payload),
      onPong: payload => this.#pongs.get(payload.toString('latin1'))?.(),
      onMessage: bytes => this.#onWholeMessage(bytes),
      onClose: (code, reason) => this.#end('close', code, reason),
      onBroken: () => this.#end('broken', CloseCode.protocolError, ''),
    });
    const reader = new FrameReader(sink, { role: 'client', limits: NO_LIMITS, allowRsv1: isCompressed });
    sink.reader = reader;
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => {});
    socket.on('end', () => this.#end('cut', CloseCode.abnormal, ''));
    socket.on('close', () => this.#end('cut', CloseCode.abnormal, ''));
    if (early.length > 0) reader.push(Buffer.from(early));
    socket.resume();
  }

  get isOpen(): boolean {
    return !this.#isOver;
  }

  /** True when its pong has come in time. */
  async ping(timeoutMs: number): Promise<boolean> {
    if (this.#isOver) return false;
    const payload = `doctor ${this.#pings++}`;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(resolve, timeoutMs, false);
    this.#pongs.set(payload, () => resolve(true));
    void this.ended.then(() => resolve(false));
    this.#writer.binary(firstByte(Opcode.ping), Buffer.from(payload));
    this.#flush();
    const isAnswered = await promise;
    clearTimeout(timer);
    this.#pongs.delete(payload);
    return isAnswered;
  }

  /** Sends text of so many bytes. @param isWhole False: as the first part of a message that never ends. */
  sendText(bytes: number, isWhole: boolean): void {
    if (this.#isOver) return;
    this.#writer.binary(firstByte(Opcode.text, isWhole), Buffer.alloc(bytes, 'x'));
    this.#flush();
  }

  /** True when a whole message has come in time. */
  async nextMessage(timeoutMs: number): Promise<boolean> {
    if (this.#isOver) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(resolve, timeoutMs, false);
    this.#onMessage = () => resolve(true);
    void this.ended.then(() => resolve(false));
    const hasCome = await promise;
    clearTimeout(timer);
    this.#onMessage = () => {};
    return hasCome;
  }

  /** How it ended, if it does within this time. */
  async endsWithin(ms: number): Promise<Ending | undefined> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(resolve, ms, undefined);
    const ending = await Promise.race([this.ended, promise]);
    clearTimeout(timer);
    return ending;
  }

  /** Says goodbye, waits a moment for the answer, and closes the connection. */
  async close(): Promise<void> {
    if (!this.#isOver) {
      this.#writer.close(CloseCode.normal);
      this.#flush();
      await this.endsWithin(this.#closeMs);
    }
    this.cut();
  }

  /** Closes the connection at once. */
  cut(): void {
    this.#end('cut', CloseCode.abnormal, '');
  }

  #onPing(payload: Buffer): void {
    if (this.pingsAt.length < 100) this.pingsAt.push(performance.now() - this.#openedAt);
    if (this.#isOver || this.#socket.writableLength > MOST_WAITING_BYTES) return;
    this.#writer.binary(firstByte(Opcode.pong), payload);
    this.#flush();
  }

  #onWholeMessage(bytes: number): void {
    this.messages++;
    this.lastMessageBytes = bytes;
    this.#onMessage();
  }

  #end(how: Ending['how'], code: number, reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#settle({ how, code, reason, afterMs: performance.now() - this.#openedAt });
    if (how === 'close' && this.#socket.writable) {
      // RFC 6455 §5.5.1: a close frame is answered, and the server ends the connection.
      this.#writer.close(code === CloseCode.noStatus ? undefined : code);
      this.#flush();
      this.#socket.end();
      setTimeout(() => this.#socket.destroy(), this.#closeMs).unref();
    } else this.#socket.destroy();
  }

  #flush(): void {
    const frames = this.#writer.take();
    if (frames === undefined || !this.#socket.writable) return;
    for (const frame of [frames].flat()) this.#socket.write(frame);
  }
}

interface ProbeHandler {
  onPing(payload: Buffer): void;
  onPong(payload: Buffer): void;
  onMessage(bytes: number): void;
  onClose(code: number, reason: string): void;
  onBroken(): void;
}

/** Counts what messages carry, and reads control frames. */
class ProbeSink implements FrameSink {
  declare reader: FrameReader;
  readonly #handler: ProbeHandler;
  #messageBytes = 0;
  #control: Buffer[] = [];

  constructor(handler: ProbeHandler) {
    this.#handler = handler;
  }

  onFrameStart(): void {
    this.#control = [];
  }

  onFramePayload(chunk: Buffer, start: number, end: number): void {
    if (this.reader.opcode >= Opcode.close) this.#control.push(Buffer.from(chunk.subarray(start, end)));
    else this.#messageBytes += end - start;
  }

  onFrameEnd(): void {
    const { opcode, fin } = this.reader;
    const handler = this.#handler;
    if (opcode < Opcode.close) {
      if (!fin) return;
      handler.onMessage(this.#messageBytes);
      this.#messageBytes = 0;
      return;
    }
    const payload = Buffer.concat(this.#control);
    if (opcode === Opcode.ping) return handler.onPing(payload);
    if (opcode === Opcode.pong) return handler.onPong(payload);
    this.reader.stop();
    const frame = parseCloseFrame(payload);
    if (frame instanceof HoldfastError) handler.onBroken();
    else handler.onClose(frame.code, frame.reason);
  }

  onReaderError(): void {
    this.#handler.onBroken();
  }
}
