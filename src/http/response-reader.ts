import type { HoldfastError } from '../base/errors.ts';
import {
  beginsWithStatusLine,
  MAX_HEAD_BYTES,
  malformed,
  parseFields,
  parseResponseHead,
  type ResponseHead,
} from './response-head.ts';
import { hasToken } from './token.ts';

/** Receives the parts of a response, in order. */
export interface ResponseSink {
  /** An interim response: 1xx, but not 101. */
  onInformation(head: ResponseHead): void;
  /** The final response, or 101: then the reader is done, and what follows is not HTTP. */
  onHead(head: ResponseHead): void;
  /**
   * A part of the body: `chunk[start..end]`, lent until it returns. `isLast`: all that was announced is there; `onEnd`
   * follows.
   */
  onBody(chunk: Buffer, start: number, end: number, isLast: boolean): void;
  /** @param rawTrailers Name, value, name, value ... */
  onEnd(rawTrailers: readonly string[]): void;
}

type State =
  | 'head'
  | 'no-body'
  | 'length'
  | 'until-close'
  | 'chunk-size'
  | 'chunk-data'
  | 'chunk-end'
  | 'trailers'
  | 'done';

/** Of every head. */
const BEGIN = 'HTTP/1.';
/** What a line with the size of a chunk begins with, as far as it has come. */
const BEGIN_OF_CHUNK = /^[\da-f]{1,12}[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?$/i;
const NO_TRAILERS: readonly string[] = [];
/** Size and extensions of one chunk. */
const MAX_CHUNK_LINE_BYTES = 1024;
/** RFC 9112 §7.1; extensions mean nothing to us. 13 digits are more than fits into a number without loss. */
const CHUNK_SIZE = /^([\da-f]{1,12})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n$/i;
const LENGTH = /^\d{1,15}$/;

/**
 * Reads the responses of one connection, one after the other, from the chunks in which they arrive.
 *
 * Where a body ends must be beyond doubt (RFC 9112 §6.3), or the next response would begin somewhere else for us than
 * for the server: two lengths, a length beside `Transfer-Encoding`, another coding than `chunked` alone, and a coding
 * in HTTP/1.0 are malformed.
 */
export class ResponseReader {
  /** Nothing more is read while it is true. */
  isPaused = false;
  readonly #sink: ResponseSink;
  #state: State = 'done';
  #isHeadRequest = false;
  #isKeptAlive = false;
  #keepAliveSeconds: number | undefined;
  /** Bytes of the body, or of the chunk, that have yet to come. */
  #remaining = 0;
  /** What has come of a line or head that is not complete. */
  #held = '';
  #at = 0;

  readonly #maxHeadBytes: number;

  /** @param maxHeadBytes Of a head, and of trailers. */
  constructor(sink: ResponseSink, maxHeadBytes: number = MAX_HEAD_BYTES) {
    this.#sink = sink;
    this.#maxHeadBytes = maxHeadBytes;
  }

  /** True before the first response, and when the last one is complete. */
  get isDone(): boolean {
    return this.#state === 'done';
  }

  /** May the server be sent another request when this response is complete? (RFC 9112 §9.3) */
  get isKeptAlive(): boolean {
    return this.#isKeptAlive;
  }

  /** How long the server says that it keeps the connection; undefined when it does not say. */
  get keepAliveSeconds(): number | undefined {
    return this.#keepAliveSeconds;
  }

  /** A response follows. @param method Of its request: the answer to `HEAD` has no body. */
  expect(method: string): void {
    this.#state = 'head';
    this.#isHeadRequest = method === 'HEAD';
    this.#isKeptAlive = false;
    this.#keepAliveSeconds = undefined;
    this.isPaused = false;
  }

  /**
   * Reads `chunk[start..end]`.
   *
   * @returns where it stopped: before `end` when the response is complete, or the reader was paused.
   * @throws {HoldfastError} ERR_HTTP_BAD_RESPONSE; nothing can be read any more then.
   */
  push(chunk: Buffer, start: number, end: number): number {
    this.#at = start;
    while ((this.#at < end || this.#state === 'no-body') && this.#state !== 'done' && !this.isPaused)
      this.#step(chunk, end);
    return this.#at;
  }

  /**
   * The connection has ended, by the server or because it broke. @returns false when that breaks off a response.
   */
  end(isProperEnd = true): boolean {
    if (this.#state === 'until-close' && isProperEnd) this.#finish(NO_TRAILERS);
    return this.isDone;
  }

  #step(chunk: Buffer, end: number): void {
    switch (this.#state) {
      case 'head': {
        const text = this.#take(chunk, end, '\r\n\r\n', this.#maxHeadBytes);
        if (text !== undefined) this.#onHead(parseResponseHead(text));
        // Data that is not HTTP may never contain a blank line.
        else if (!mayBeHead(this.#held)) throw malformed('it does not begin with the status line of HTTP/1');
        return;
      }
      case 'no-body':
        return this.#finish(NO_TRAILERS);
      case 'length':
        return this.#passBody(chunk, Math.min(end, this.#at + this.#remaining), true);
      case 'until-close':
        return this.#passBody(chunk, end, false);
      case 'chunk-size': {
        const line = this.#take(chunk, end, '\r\n', MAX_CHUNK_LINE_BYTES);
        if (line === undefined) {
          if (!BEGIN_OF_CHUNK.test(this.#held)) throw malformed('a chunk does not begin with its size');
          return;
        }
        const digits = CHUNK_SIZE.exec(line)?.[1];
        if (digits === undefined) throw malformed('a chunk does not begin with its size');
        this.#remaining = Number.parseInt(digits, 16);
        this.#state = this.#remaining === 0 ? 'trailers' : 'chunk-data';
        return;
      }
      case 'chunk-data':
        this.#passBody(chunk, Math.min(end, this.#at + this.#remaining), false);
        if (this.#remaining === 0) this.#state = 'chunk-end';
        return;
      case 'chunk-end':
        if (this.#take(chunk, end, '\r\n', 2) !== undefined) this.#state = 'chunk-size';
        else if (this.#held !== '\r') throw malformed('a chunk is longer than its size');
        return;
      case 'trailers':
        return this.#onTrailerLine(chunk, end);
      case 'done':
        return;
    }
  }

  #onHead(head: ResponseHead): void {
    const { status } = head;
    if (status >= 100 && status < 200 && status !== 101) {
      this.#sink.onInformation(head);
      return;
    }
    const framing = framingOf(head);
    this.#isKeptAlive = framing.isKeptAlive;
    this.#keepAliveSeconds = framing.keepAliveSeconds;
    if (status === 101) {
      this.#state = 'done';
      this.#sink.onHead(head);
      return;
    }
    const { length } = framing;
    if (this.#isHeadRequest || status === 204 || status === 304 || length === 0) {
      this.#state = 'no-body';
    } else if (length === 'chunked') {
      this.#state = 'chunk-size';
    } else if (length === undefined) {
      this.#state = 'until-close';
      this.#isKeptAlive = false;
    } else {
      this.#state = 'length';
      this.#remaining = length;
    }
    this.#sink.onHead(head);
  }

  #passBody(chunk: Buffer, end: number, endsResponse: boolean): void {
    const start = this.#at;
    this.#at = end;
    this.#remaining -= end - start;
    const isLast = endsResponse && this.#remaining === 0;
    this.#sink.onBody(chunk, start, end, isLast);
    if (isLast) this.#finish(NO_TRAILERS);
  }

  /** The lines of trailers are held together until the empty one. */
  #onTrailerLine(chunk: Buffer, end: number): void {
    const isEmpty = this.#held === '' && chunk[this.#at] === 0x0d;
    // Without trailers the empty line stands alone, and otherwise at the end of another.
    const text = this.#take(chunk, end, isEmpty || this.#held === '\r' ? '\r\n' : '\r\n\r\n', this.#maxHeadBytes);
    if (text !== undefined) this.#finish(parseFields(text, 0));
  }

  #finish(rawTrailers: readonly string[]): void {
    this.#state = 'done';
    this.#sink.onEnd(rawTrailers);
  }

  #tooLong(maxBytes: number): HoldfastError {
    if (this.#state === 'chunk-size') return malformed(`a chunk begins with a line of more than ${maxBytes} bytes`);
    const what = this.#state === 'head' ? 'its head is' : 'its trailers are';
    return malformed(`${what} longer than ${maxBytes} bytes (maxHeaderSize)`);
  }

  /** Everything up to the end of `terminator`, one character a byte; undefined while it has not all come. */
  #take(chunk: Buffer, end: number, terminator: '\r\n' | '\r\n\r\n', maxBytes: number): string | undefined {
    const start = this.#at;
    if (this.#held === '') {
      // Behind `end` may stand what is left of other reads.
      const found = chunk.indexOf(terminator, start, 'latin1') + terminator.length;
      if (found >= terminator.length && found <= end) {
        if (found - start > maxBytes) throw this.#tooLong(maxBytes);
        this.#at = found;
        return chunk.toString('latin1', start, found);
      }
    }
    const before = this.#held.length;
    const text = this.#held + chunk.toString('latin1', start, Math.min(end, start + maxBytes - before));
    const found = text.indexOf(terminator, Math.max(0, before - terminator.length)) + terminator.length;
    if (found >= terminator.length) {
      this.#held = '';
      this.#at = start + found - before;
      return text.slice(0, found);
    }
    if (text.length >= maxBytes) throw this.#tooLong(maxBytes);
    // Else what would end it may never come: who ends lines in another way is done, and waits.
    if (hasBareEnd(text, Math.max(0, before - 1))) throw malformed('a line of it ends without CRLF');
    this.#held = text;
    this.#at = end;
    return undefined;
  }
}

/** What has come of a head, without its end. */
function mayBeHead(text: string): boolean {
  return text.includes('\r\n') ? beginsWithStatusLine(text) : BEGIN.startsWith(text.slice(0, BEGIN.length));
}

/** A line feed without a carriage return before it, or that without a line feed behind it: RFC 9112 §2.2. */
function hasBareEnd(text: string, start: number): boolean {
  for (let at = text.indexOf('\n', start); at >= 0; at = text.indexOf('\n', at + 1))
    if (text.charCodeAt(at - 1) !== 0x0d) return true;
  for (let at = text.indexOf('\r', start); at >= 0 && at + 1 < text.length; at = text.indexOf('\r', at + 1))
    if (text.charCodeAt(at + 1) !== 0x0a) return true;
  return false;
}

interface Framing {
  readonly isKeptAlive: boolean;
  readonly keepAliveSeconds: number | undefined;
  /** Bytes of the body; undefined: until the connection ends. */
  readonly length: number | 'chunked' | undefined;
}

/** RFC 9112 §6.3, without what could be read in two ways. */
function framingOf({ rawHeaders, isHttp10 }: ResponseHead): Framing {
  let connection: string | undefined;
  let keepAlive: string | undefined;
  let coding: string | undefined;
  let length: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    const value = rawHeaders[i + 1]!;
    // Most names are told apart by their length alone.
    switch (name.length) {
      case 10: {
        const lower = name.toLowerCase();
        if (lower === 'connection') connection = connection === undefined ? value : `${connection},${value}`;
        else if (lower === 'keep-alive') keepAlive = value;
        break;
      }
      case 14:
        if (name.toLowerCase() !== 'content-length') break;
        if (length !== undefined || !LENGTH.test(value)) throw malformed('its Content-Length is not one number');
        length = value;
        break;
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') coding = coding === undefined ? value : `${coding},${value}`;
        break;
    }
  }
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') throw malformed('its Transfer-Encoding is not chunked alone');
    if (length !== undefined) throw malformed('it has a Content-Length beside its Transfer-Encoding');
    if (isHttp10) throw malformed('it is HTTP/1.0 and has a Transfer-Encoding');
  }
  const seconds = keepAlive === undefined ? undefined : /\btimeout=(\d{1,9})/i.exec(keepAlive)?.[1];
  return {
    isKeptAlive: isHttp10 ? hasToken(connection, 'keep-alive') : !hasToken(connection, 'close'),
    keepAliveSeconds: seconds === undefined ? undefined : Number(seconds),
    length: coding !== undefined ? 'chunked' : length === undefined ? undefined : Number(length),
  };
}
