import type { Socket } from 'node:net';
import type { ResponseHead } from '../../http/response-head.ts';
import { ResponseReader, type ResponseSink } from '../../http/response-reader.ts';
import { breakOf, hearLastWords, isEndedBefore } from '../../websocket/last-words.ts';
import { shareReads } from '../../websocket/shared-reads.ts';
import { whenOpen } from './stage.ts';

/** Sends a request on a connection, and receives its answer. */
export interface AnswerSink extends ResponseSink {
  /** The connection is open: the request can be sent. */
  onOpen(): void;
  /** The connection takes bytes again, after `write` was false. */
  onDrain(): void;
  /**
   * The connection is lost, or what came is not an answer, or the answer is complete and the server does not want the rest
   * of the request. Nothing follows.
   */
  onLost(error: Error): void;
}

/** Where a connection goes when it is free, and is missed when it is gone. */
export interface ConnectionKeeper {
  onFree(connection: BackendConnection): void;
  onGone(connection: BackendConnection): void;
}

const NOTHING = Buffer.alloc(0);

/**
 * A connection to a backend that carries HTTP/1.1, one request after the other.
 *
 * A connection whose answer leaves a doubt (bytes behind it, a server that means to close, a request that was not sent
 * as a whole) is closed and not used again. When it breaks, what the server had sent is read first: the answer to an
 * upload that it did not want to the end.
 */
export class BackendConnection implements ResponseSink {
  readonly socket: Socket;
  #owner: ConnectionKeeper | undefined;
  readonly #reader: ResponseReader;
  #sink: AnswerSink | undefined;
  #error: Error | undefined;
  #hasEnded = false;
  #isReading = false;
  #isLastAnswer = false;
  #isRequestSent = false;
  #requests = 0;
  /** What came while nothing was to be read. */
  #rest: Buffer = NOTHING;
  #onDetached: ((early: Buffer) => void) | undefined;

  /**
   * @param maxHeadBytes Of an answer: larger ones cannot be read.
   * @param owner Takes it back after each answer; without one it is closed.
   */
  constructor(socket: Socket, maxHeadBytes: number, owner?: ConnectionKeeper) {
    this.socket = socket;
    this.#reader = new ResponseReader(this, maxHeadBytes);
    this.#owner = owner;
    // A client that does not take its answer has its time for that.
    hearLastWords(socket, true);
    socket.on('error', this.#onError);
    socket.on('end', this.#onSocketEnd);
    socket.on('close', this.#onClose);
    socket.on('drain', this.#onDrain);
    whenOpen(socket, this.#onOpen);
  }

  /** An earlier request was answered on it. */
  get isReused(): boolean {
    return this.#requests > 1;
  }

  /** Does it go back to somebody after its answer? */
  get isKept(): boolean {
    return this.#owner !== undefined && !this.#isLastAnswer;
  }

  /** By the head of its answer the server takes no other request on it, and nothing more of this one than it has. */
  get isClosedByServer(): boolean {
    return !this.#reader.isKeptAlive;
  }

  /** Can it take another request? */
  get isUsable(): boolean {
    return this.#sink === undefined && !this.#hasEnded && !this.socket.destroyed;
  }

  /** What the server says of the time for which it keeps the connection; undefined when it says nothing. */
  get keepAliveSeconds(): number | undefined {
    return this.#reader.keepAliveSeconds;
  }

  /** Another keeper takes it back from now on, and is the one that misses it. */
  handTo(owner: ConnectionKeeper): void {
    this.#owner = owner;
  }

  /** It is closed after this answer. */
  endAfterAnswer(): void {
    this.#isLastAnswer = true;
  }

  /** Its next request comes from this sink, whose `onOpen` is called when it is open: at once, or later. */
  take(sink: AnswerSink): void {
    this.#sink = sink;
    this.#requests++;
    if (this.#requests > 1) sink.onOpen();
    else whenOpen(this.socket, this.#tellOpen);
  }

  /** Sends the head of a request. @param hasBody `finish` follows when it is sent. */
  start(method: string, head: string, hasBody: boolean): void {
    this.#isRequestSent = !hasBody;
    this.#reader.expect(method);
    this.socket.write(head, 'latin1');
  }

  /** The request is sent as a whole. */
  finish(): void {
    this.#isRequestSent = true;
    this.#freeIfDone();
  }

  /** Reads no more, and tells the sink nothing of the answer, until `resume`. */
  pause(): void {
    this.#reader.isPaused = true;
    this.socket.pause();
  }

  resume(): void {
    if (!this.#reader.isPaused || this.#sink === undefined) return;
    this.#reader.isPaused = false;
    const rest = this.#rest;
    this.#rest = NOTHING;
    this.#read(rest, rest.length);
    if (this.#reader.isPaused) return;
    if (this.#hasEnded) this.#end();
    else this.socket.resume();
  }

  /**
   * From within `onHead` of a 101: the socket is given away as soon as all of it is read, paused, with what came behind
   * it.
   */
  detach(onDetached: (early: Buffer) => void): void {
    this.#onDetached = onDetached;
  }

  /**
   * The sink is not called any more. Cuts the connection, unless its answer is complete: another request may be on it by
   * now.
   */
  leave(sink: AnswerSink): void {
    if (this.#sink === sink) this.destroy();
  }

  /** Cuts the connection. The sink is not called any more. */
  destroy(): void {
    this.#sink = undefined;
    this.socket.destroy();
  }

  onInformation(head: ResponseHead): void {
    this.#sink?.onInformation(head);
  }

  onHead(head: ResponseHead): void {
    this.#sink?.onHead(head);
  }

  onBody(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    this.#sink?.onBody(chunk, start, end, isLast);
  }

  onEnd(rawTrailers: readonly string[]): void {
    this.#sink?.onEnd(rawTrailers);
  }

  #read(chunk: Buffer, length: number): void {
    // A server sends nothing without a request.
    if (this.#sink === undefined) return void this.socket.destroy();
    let at: number;
    this.#isReading = true;
    try {
      at = this.#reader.push(chunk, 0, length);
    } catch (error) {
      this.#lose(error as Error);
      return;
    } finally {
      this.#isReading = false;
    }
    if (this.#onDetached) this.#giveAway(chunk.subarray(at, length));
    else if (at === length) this.#freeIfDone();
    else if (this.#reader.isPaused) this.#rest = Buffer.from(chunk.subarray(at, length));
    else this.#lose(new Error('there is more than the answer'));
  }

  #giveAway(early: Buffer): void {
    const { socket } = this;
    socket.pause();
    socket.off('end', this.#onSocketEnd);
    socket.off('close', this.#onClose);
    socket.off('drain', this.#onDrain);
    socket.off('data', this.#onData);
    // Its new owner listens for `error` before this returns.
    socket.off('error', this.#onError);
    this.#sink = undefined;
    this.#owner?.onGone(this);
    this.#onDetached!(Buffer.from(early));
  }

  #freeIfDone(): void {
    if (this.#isReading || this.#sink === undefined || !this.#reader.isDone || this.#reader.isPaused) return;
    const isKept = this.#reader.isKeptAlive && !this.#hasEnded && breakOf(this.socket) === undefined;
    if (!this.#isRequestSent) {
      if (!isKept) this.#lose(new Error('answered without taking the whole request'));
      return;
    }
    this.#sink = undefined;
    if (isKept && this.#owner && !this.#isLastAnswer) this.#owner.onFree(this);
    else this.socket.destroy();
  }

  /** All that the server has sent is read. */
  #end(): void {
    const broke = breakOf(this.socket);
    // What nothing but the end of the connection delimits is complete only when the server has ended it.
    const isProperEnd = broke === undefined || isEndedBefore(broke);
    if (this.#sink !== undefined && this.#reader.end(isProperEnd)) this.#freeIfDone();
    else this.#lose(broke ?? brokenOff());
  }

  #lose(error: Error): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.socket.destroy();
    sink?.onLost(error);
  }

  readonly #onOpen = (): void => {
    const { socket } = this;
    if (!shareReads(socket, (length, buffer) => this.#read(buffer, length))) socket.on('data', this.#onData);
  };

  readonly #tellOpen = (): void => this.#sink?.onOpen();

  readonly #onData = (chunk: Buffer): void => this.#read(chunk, chunk.length);

  readonly #onDrain = (): void => this.#sink?.onDrain();

  readonly #onError = (error: Error): void => {
    this.#error ??= error;
  };

  readonly #onSocketEnd = (): void => {
    this.#hasEnded = true;
    // TLS tells of the end also while nothing is to be read: then `#rest` comes before it.
    if (!this.#reader.isPaused) this.#end();
  };

  readonly #onClose = (): void => {
    this.#owner?.onGone(this);
    const isHeldBack = this.#hasEnded && this.#reader.isPaused;
    if (this.#sink !== undefined && !isHeldBack) this.#lose(this.#error ?? brokenOff());
  };
}

function brokenOff(): Error {
  return Object.assign(new Error('the server closed the connection'), { code: 'ECONNRESET' });
}
