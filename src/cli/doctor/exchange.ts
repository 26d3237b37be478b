import type { Socket } from 'node:net';
import { isHoldfastError } from '../../base/errors.ts';
import { messageOf } from '../../base/message-of.ts';
import { joinHeaders, type ResponseHead } from '../../http/response-head.ts';
import { ResponseReader } from '../../http/response-reader.ts';
import { shownTime } from './shown.ts';

/** What came back for one request. Nothing here is shown to people as it is: it may hold cookies and tokens. */
export interface Answer {
  readonly head: ResponseHead;
  /** Names in lower case; repeated ones joined. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** One for each `Set-Cookie`. */
  readonly setCookies: readonly string[];
  /** As far as it came in time and fits, one character for each byte. */
  readonly body: string;
  /** What came behind a 101. */
  readonly early: Buffer;
  readonly ms: number;
}

/** There was no answer. */
export interface Broken {
  readonly reason: 'timeout' | 'closed' | 'reset' | 'garbage';
  /** For people. */
  readonly text: string;
  /** The code of the error, where there is one. */
  readonly code?: string | undefined;
}

const MOST_BODY_BYTES = 16 * 1024;
/** Of interim answers, head and body: a server may send without end. */
const MOST_BYTES = 256 * 1024;
/** A body that takes longer is not waited for: an event stream has no end. */
const BODY_MS = 500;

/**
 * Sends one request on a connection of its own and reads the answer, in bounded time and memory. After a 101 the socket is
 * paused and belongs to the caller; otherwise it is closed.
 *
 * @param bytes The whole request, without a body.
 */
export async function exchange(socket: Socket, bytes: Buffer, timeoutMs: number): Promise<Answer | Broken> {
  const { promise, resolve } = Promise.withResolvers<Answer | Broken>();
  const reading = new Reading(resolve);
  const timer = setTimeout(
    () => reading.fail({ reason: 'timeout', text: `no answer within ${shownTime(timeoutMs)}` }),
    timeoutMs,
  );
  const onData = (chunk: Buffer) => reading.push(chunk);
  const onEnd = () => reading.onEnd();
  const onError = (error: NodeJS.ErrnoException) =>
    reading.fail({ reason: 'reset', text: error.code ?? messageOf(error), code: error.code });
  socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError);
  socket.write(bytes);
  const result = await promise;
  clearTimeout(timer);
  reading.stop();
  socket.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError);
  // What breaks later is of no interest, and must not end the program.
  socket.on('error', () => {});
  if ('head' in result && result.head.status === 101) socket.pause();
  else socket.destroy();
  return result;
}

/** One answer as it arrives. */
class Reading {
  readonly #resolve: (result: Answer | Broken) => void;
  readonly #reader: ResponseReader;
  readonly #startedAt = performance.now();
  #head: ResponseHead | undefined;
  #body = '';
  #bytes = 0;
  #isDone = false;
  #bodyTimer: NodeJS.Timeout | undefined;

  constructor(resolve: (result: Answer | Broken) => void) {
    this.#resolve = resolve;
    this.#reader = new ResponseReader({
      onInformation() {},
      onHead: head => this.#onHead(head),
      onBody: (chunk, start, end) => this.#onBody(chunk, start, end),
      onEnd: () => this.#finish(Buffer.alloc(0)),
    });
    this.#reader.expect('GET');
  }

  push(chunk: Buffer): void {
    if (this.#isDone) return;
    this.#bytes += chunk.length;
    try {
      const read = this.#reader.push(chunk, 0, chunk.length);
      if (this.#head?.status === 101) this.#finish(Buffer.from(chunk.subarray(read)));
    } catch (error) {
      // Of a body that cannot be read, the head is still worth something.
      if (this.#head) this.#finish(Buffer.alloc(0));
      else
        this.fail({ reason: 'garbage', text: messageOf(error), code: isHoldfastError(error) ? error.code : undefined });
    }
    if (this.#bytes > MOST_BYTES) this.#cut('it does not end');
  }

  onEnd(): void {
    this.#reader.end();
    this.#cut(this.#bytes > 0 ? 'the connection was closed in the middle of an answer' : 'the connection was closed');
  }

  fail(broken: Broken): void {
    if (this.#head) return this.#finish(Buffer.alloc(0));
    this.#settle(broken);
  }

  stop(): void {
    clearTimeout(this.#bodyTimer);
  }

  #cut(text: string): void {
    this.fail({ reason: this.#bytes > MOST_BYTES ? 'garbage' : 'closed', text });
  }

  #onHead(head: ResponseHead): void {
    this.#head = head;
    if (head.status === 101) this.#reader.isPaused = true;
    else this.#bodyTimer = setTimeout(() => this.#finish(Buffer.alloc(0)), BODY_MS);
  }

  #onBody(chunk: Buffer, start: number, end: number): void {
    this.#body += chunk.toString('latin1', start, Math.min(end, start + MOST_BODY_BYTES - this.#body.length));
    if (this.#body.length >= MOST_BODY_BYTES) this.#finish(Buffer.alloc(0));
  }

  #finish(early: Buffer): void {
    const head = this.#head!;
    this.#settle({
      head,
      headers: joinHeaders(head.rawHeaders),
      setCookies: head.rawHeaders.filter(
        (_, i) => head.rawHeaders[i - 1]?.toLowerCase() === 'set-cookie' && i % 2 === 1,
      ),
      body: this.#body,
      early,
      ms: performance.now() - this.#startedAt,
    });
  }

  #settle(result: Answer | Broken): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#resolve(result);
  }
}

export function isBroken(result: Answer | Broken): result is Broken {
  return 'reason' in result;
}
