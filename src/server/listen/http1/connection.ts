import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../../base/clock.ts';
import { answerBelow } from '../../../http/answered-below.ts';
import { linger } from '../../../http/linger.ts';
import { http } from '../../../http/node-http.ts';
import type { Refusal } from '../../../http/refusal.ts';
import { refusalResponse } from '../../../http/write-refusal.ts';
import { isBroken } from '../wire-bytes.ts';

/** Pipelined requests at which a connection is not read any more until they are answered. */
const MAX_WAITING = 32;
/**
 * How often a client that has ended its side, or sent something that is not a request, is checked for taking its
 * answer.
 */
const STEP_MS = 500;
/**
 * An answer that has begun is given up when nothing of it has left for this number of steps: for a client that has only
 * ended its side, as most do that leave, and for one that has also sent what is no request.
 */
const GIVE_UP_AFTER = 10;
const GIVE_UP_SOON_AFTER = 2;
/**
 * A client that has ended its side, and waits for an answer that has not begun, is sent something after this
 * number of steps, to see whether it is there, and then in steps of the second number. Not sooner, as most answers come
 * before; and not later, or stores and backends would work in vain.
 */
const ASK_AFTER = 7;
const ASK_EVERY = 60;
/**
 * How long one waits that cannot be asked. Proxies speak HTTP/1.0 more often than clients that end their side, and
 * their clients leave.
 */
const LONGEST_UNASKED = 20;
/** How long an answer of which nothing leaves keeps requests waiting that are so many that none is read. */
const LONGEST_STOPPED = 120;
/** Every client takes it, whether or not it has asked for it (RFC 9110 §15.2.1). */
const ARE_YOU_THERE = 'HTTP/1.1 100 Continue\r\n\r\n';

const ignore = () => {};

/** Of a response itself it is true as well while its head is held, until a session is stored. */
const isHeadWritten = (response: ServerResponse) =>
  Reflect.get(http.ServerResponse.prototype, 'headersSent', response) as boolean;

/**
 * The requests of one HTTP/1 connection: one at a time is worked on, and what came whole is answered in order, whatever
 * follows it.
 *
 * Nothing is looked at behind the last request: one with `Connection: close`, one whose `Upgrade` was ignored, one that
 * is answered with `Connection: close`, and what cannot be read as a request, which is refused when those before it are
 * done.
 *
 * @see RFC 9112 §9.3.2 and §9.6
 */
export class Http1Connection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  /** Of the newest request. */
  #last: ServerResponse | undefined;
  /** Of the newest request that was begun. */
  #begun: ServerResponse | undefined;
  /** What had been written when it began. */
  #writtenBefore = 0;
  #waiting = 0;
  #isStopping = false;
  /** Nothing is read until those that wait are done: the end of the client's side would not be seen. */
  #isStopped = false;
  #isWatched = false;
  /** Nothing that comes now is looked at. */
  #isOver = false;
  /** What is said about that which cannot be read. */
  #refusal: Refusal | undefined;
  #onRefused = ignore;

  constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    // Answers may still be under way when the client ends its side. A plain listener accepts connections so.
    socket.allowHalfOpen = true;
    socket.on('end', this.#onHalfClosed);
    // Node calls it when an answer that ends the connection has left.
    socket.destroySoon = this.#end;
  }

  /** @param begin Called when every request before this one is done, and never when one of them was the last. */
  take(request: IncomingMessage, response: ServerResponse, begin: () => void): void {
    if (!this.#socket.writable) return;
    if (this.#isOver) {
      // It is behind the last request. Node would keep all that follows it until that is answered.
      this.#discard();
      this.#watch();
      return;
    }
    const previous = this.#last;
    this.#last = response;
    // Node drops what came together with a request whose Upgrade it was told to ignore: nothing that follows can be
    // trusted.
    if (request.headers.upgrade !== undefined) response.shouldKeepAlive = false;
    // An answer can say something else about the connection later.
    if (!response.shouldKeepAlive) {
      this.#isOver = true;
      response.once('close', this.#end);
    }
    const start = () => {
      this.#begun = response;
      this.#writtenBefore = this.#socket.bytesWritten;
      begin();
    };
    if (previous === undefined || previous.closed) return start();
    if (++this.#waiting >= MAX_WAITING) this.#readNoMore();
    previous.once('close', () => {
      if (!this.#socket.writable) return;
      if (--this.#waiting === 0) {
        this.#isStopped = false;
        this.#socket.resume();
      }
      if (this.#refusal && !request.complete) return this.#refuse();
      start();
    });
  }

  /**
   * Until those that wait are done. After each request that it parses Node reads on, so it is stopped when all that was
   * read is parsed.
   */
  #readNoMore(): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    // Node goes on one tick after it has said so, too.
    process.nextTick(() => process.nextTick(this.#stop));
  }

  readonly #stop = (): void => {
    this.#isStopping = false;
    if (this.#waiting < MAX_WAITING || this.#isOver) return;
    this.#isStopped = true;
    this.#socket.pause();
    this.#watch();
  };

  /**
   * What comes now cannot be read as a request, or has not come in time. Requests that came whole before it are
   * answered first.
   *
   * @param onRefused Called when the refusal is written, as an answer of its own: one to a request whose rest cannot be
   *   read is that request's answer.
   */
  fail(refusal: Refusal, onRefused: () => void): void {
    const last = this.#last;
    const isWhole = last === undefined || last.req.complete;
    // It is behind the last request, or behind what could not be read.
    if (this.#refusal || (this.#isOver && isWhole)) return;
    this.#isOver = true;
    this.#refusal = refusal;
    this.#onRefused = onRefused;
    this.#discard();
    if (isWhole) {
      if (last === undefined || last.closed) this.#refuse();
      else {
        last.once('close', this.#refuse);
        this.#watch();
      }
    } else if (last.closed) {
      // It was answered before the rest of its body could not be read.
      this.#end();
    } else if (this.#begun === last) {
      if (last.headersSent) this.#socket.destroy();
      else {
        answerBelow(last, refusal);
        this.#socket.end(refusalResponse(refusal), () => this.#socket.destroy());
      }
    }
    // Else it waits for its turn.
  }

  /** What Node does no more for an answer that is under way once it has let go of the connection. */
  readonly onDrain = (): void => void this.#begun?.emit('drain');

  /** True when all has left that the connection was to be sent: it may be taken for something else than requests. */
  release(): boolean {
    if (this.#isOver || (this.#last !== undefined && !this.#last.writableFinished)) return false;
    this.#socket.off('end', this.#onHalfClosed);
    this.#last = undefined;
    this.#begun = undefined;
    return true;
  }

  readonly #refuse = (): void => {
    if (!this.#socket.writable) return;
    this.#onRefused();
    this.#endGently(refusalResponse(this.#refusal!));
  };

  readonly #end = (): void => {
    if (this.#socket.writable) this.#endGently();
  };

  /** Ends our side, then reads on for a while without looking. */
  #endGently(bytes?: string): void {
    const socket = this.#socket;
    this.#isOver = true;
    linger(socket, this.#clock);
    if (bytes === undefined) socket.end();
    else socket.end(bytes);
    this.#discard();
  }

  /**
   * The client sends nothing more. Whether it waits for its answers or has gone only shows when it is sent something.
   */
  readonly #onHalfClosed = (): void => {
    if (isBroken(this.#socket)) this.#socket.destroy();
    else this.#watch();
  };

  /**
   * No answer keeps the connection for ever: not when its client has gone, nor one that has begun and has no end in
   * sight.
   */
  #watch(): void {
    if (this.#isWatched) return;
    this.#isWatched = true;
    const socket = this.#socket;
    let written = socket.bytesWritten;
    let idle = 0;
    let steps = 0;
    let awaited: ServerResponse | undefined;
    const check = () => {
      if (awaited !== this.#begun) steps = 0;
      awaited = this.#begun;
      idle = socket.writableLength === 0 && socket.bytesWritten === written ? idle + 1 : 0;
      const isGivenUp = idle >= this.#patience && (socket.readableEnded || this.#begun?.headersSent);
      const mayHaveGone = socket.readableEnded || this.#isStopped;
      if (this.#isAwaited ? mayHaveGone && !this.#mayBeThere(++steps) : isGivenUp) {
        socket.destroy();
        return;
      }
      written = socket.bytesWritten;
      timer = this.#clock.setTimeout(check, STEP_MS);
    };
    let timer = this.#clock.setTimeout(check, STEP_MS);
    socket.once('close', () => this.#clock.clearTimeout(timer));
  }

  /** Steps in which nothing leaves, after which an answer that has begun is given up. */
  get #patience(): number {
    if (this.#isOver && (this.#refusal || !this.#socket.readableEnded)) return GIVE_UP_SOON_AFTER;
    if (this.#socket.readableEnded) return GIVE_UP_AFTER;
    return this.#isStopped ? LONGEST_STOPPED : Number.POSITIVE_INFINITY;
  }

  /** Nothing of the answer has left yet but interim ones. */
  get #isAwaited(): boolean {
    const begun = this.#begun;
    if (begun === undefined || begun.closed) return false;
    return !(isHeadWritten(begun) && this.#socket.bytesWritten > this.#writtenBefore);
  }

  /**
   * A client that has gone answers what it is sent with a reset, which shows when it is sent something else: so it is
   * asked twice. One that waits is left in peace otherwise.
   *
   * @param steps Since it has ended its side, or is not read any more, and waits for this answer.
   */
  #mayBeThere(steps: number): boolean {
    // HTTP/1.0 knows no interim answers.
    if (this.#begun!.req.httpVersionMinor === 0) return steps < LONGEST_UNASKED;
    if (steps >= ASK_AFTER && (steps - ASK_AFTER) % ASK_EVERY < 2 && !this.#begun!.headersSent) {
      this.#socket.write(ARE_YOU_THERE);
      this.#writtenBefore = this.#socket.bytesWritten;
    }
    return true;
  }

  /**
   * Reads on, so that the end of the connection is seen, and looks at nothing: Node's parser is off the connection
   * then.
   */
  #discard(): void {
    const socket = this.#socket;
    socket.removeAllListeners('data').removeAllListeners('end');
    socket.on('data', ignore).on('end', this.#onHalfClosed).resume();
  }
}
