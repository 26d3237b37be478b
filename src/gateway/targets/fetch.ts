import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import { plainBytes, typedArrayName } from '../../base/bytes.ts';
import type { Logger } from '../../base/logger.ts';
import { drained } from '../../http/drained.ts';
import { HeadersBefore } from '../../http/headers-before.ts';
import { type Refusal, refuse, refuseUnforeseen } from '../../http/refusal.ts';
import { bodyKind, IncomingBody, refuseAnnouncedBody } from '../../http/request-body.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { AnswerPolicy } from '../../policy/answer-policy.ts';
import type { ResponseCommit } from '../../session/request/response-commit.ts';
import type { Session } from '../../session/session.ts';
import type { User } from '../../websocket/handshake.ts';
import type { UrlClient } from '../exchange/url-client.ts';
import { sessionFailure } from '../session-failure.ts';

/** What a fetch handler gets beside the web-standard request. */
export interface FetchContext {
  readonly session: Session | undefined;
  readonly user: User | undefined;
  /** Who the client is, after trusted proxies were taken into account. */
  readonly clientAddress: string;
  /** The values of the pattern's `:name` segments, percent-decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
}

/** How far a client of HTTP/2 is with its answer shows by whole writes only. */
const MAX_HTTP2_WRITE_BYTES = 64 * 1024;

/** A web-standard handler. What it throws is logged and answered with 500. */
export type FetchHandler = (request: Request, context: FetchContext) => Response | Promise<Response>;

export interface RunFetchHandlerOptions {
  readonly logger: Logger;
  /** Of the request; `Infinity`: no limit. */
  readonly maxBodyBytes: number;
  /** Sees the request before the handler does. */
  readonly onRequest?: (request: Request) => void;
  readonly commit?: ResponseCommit | undefined;
  /** Left out for a client that shows its session by other means than links. */
  readonly urlClient?: UrlClient | undefined;
  /** What policies say in the answer. */
  readonly policy?: AnswerPolicy | undefined;
}

/**
 * Runs a web-standard handler for a Node request and writes its answer.
 *
 * The request must come without a 100 having been sent (`checkContinue`): it is sent when the handler first reads the
 * body.
 *
 * Bodies stream both ways at the reader's pace. `request.signal` aborts when the client goes away before the answer is
 * complete (over HTTP/1.1 it may take 4 s until that is known, over HTTP/1.0 10 s); then the body of the response is
 * cancelled. A handler that throws, or returns what is no `Response`, is answered with 500 and an id; the log has the
 * error under the same id. An answer that fails after its head has left is cut off.
 *
 * Never rejects. Resolves when the answer is written or the client is gone.
 *
 * @returns a refusal that is still to be answered: 413 for a larger body, announced or not, and 408 for one that does
 * not come, unless the handler made something of the error that reading it gave; 503 when the handler threw because the
 * session store cannot be asked.
 */
export async function runFetchHandler(
  handler: FetchHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  head: RequestHead,
  context: FetchContext,
  options: RunFetchHandlerOptions,
): Promise<Refusal | undefined> {
  // Fetch §2.2.1 forbids these in a Request.
  if (/^(?:connect|trace|track)$/i.test(head.method))
    return refuse(501, 'ERR_HTTP_BAD_REQUEST', `a fetch handler cannot be given the method ${head.method}`, {
      body: 'this method is not supported\n',
    });

  const { maxBodyBytes } = options;
  const announced = refuseAnnouncedBody(incoming, maxBodyBytes);
  if (announced) return announced;
  const clientGone = new AbortController();
  let request: Request | undefined;
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) clientGone.abort();
    // Held until now: its signal follows ours by a weak reference, and a handler that waits for the signal alone is
    // held by nobody.
    request = undefined;
  });
  // A body on GET or HEAD has no meaning, and a Request cannot hold one.
  const isBodiless = head.method === 'GET' || head.method === 'HEAD' || bodyKind(incoming) === 'none';
  const body = isBodiless ? undefined : new IncomingBody(incoming, outgoing, maxBodyBytes);
  const maxWriteBytes = incoming.httpVersionMajor >= 2 ? MAX_HTTP2_WRITE_BYTES : Number.POSITIVE_INFINITY;
  const before = new HeadersBefore(outgoing);
  try {
    request = toRequest(head, body, clientGone.signal);
    options.onRequest?.(request);
    const response = await handler(request, context);
    if (!isResponse(response)) throw new TypeError('the fetch handler returned something that is not a Response');
    const refusal = await writeResponse(response, outgoing, {
      isHead: head.method === 'HEAD',
      maxWriteBytes,
      clientGone,
      commit: options.commit,
      urlClient: options.urlClient,
      policy: options.policy,
    });
    if (refusal) before.restore();
    return refusal;
  } catch (error) {
    if (clientGone.signal.aborted) return undefined;
    if (!outgoing.headersSent) {
      before.restore();
      options.commit?.tellAgain();
      if (body?.refusal) return body.refusal;
    }
    const { method, path } = head;
    const failed = refuseUnforeseen(error, options.logger, 'a fetch handler failed', { method, path });
    if (outgoing.headersSent) {
      outgoing.destroy();
      return undefined;
    }
    const refused = sessionFailure(error);
    if (refused) return refused;
    // A handler that fails has not refused anything: what it has set is kept.
    return (await options.commit?.beforeEnd()) ?? failed;
  } finally {
    body?.discardRest();
  }
}

/** Ends the answer when what was changed in its session is committed. */
function end(
  outgoing: ServerResponse,
  commit: ResponseCommit | undefined,
  last?: string | Uint8Array,
): Awaitable<Refusal | undefined> {
  return whenThere(commit?.beforeEnd(), refusal => {
    if (!refusal && !outgoing.destroyed) outgoing.end(last);
    return refusal;
  });
}

/**
 * Also true for a Response of another fetch implementation. `Response.error()` has status 0 and is none that could be
 * sent.
 */
function isResponse(value: unknown): value is Response {
  const { status, headers } = (value ?? {}) as Partial<Response>;
  return Number.isInteger(status) && status! >= 200 && status! <= 599 && typeof headers?.keys === 'function';
}

function toRequest(head: RequestHead, body: IncomingBody | undefined, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(head.headers)) {
    for (const one of Array.isArray(value) ? value : [value ?? '']) headers.append(name, one);
  }
  const query = head.query === '' ? '' : `?${head.query}`;
  // A request of HTTP/1.0 may name no host, and a URL has one.
  return new Request(`${head.isSecure ? 'https' : 'http'}://${head.host || 'localhost'}${head.path}${query}`, {
    method: head.method,
    headers,
    signal,
    ...(body && { body: body.stream, duplex: 'half' }),
  });
}

interface WriteOptions {
  readonly isHead: boolean;
  readonly maxWriteBytes: number;
  readonly clientGone: AbortController;
  readonly commit: ResponseCommit | undefined;
  readonly urlClient: UrlClient | undefined;
  readonly policy: AnswerPolicy | undefined;
}

async function writeResponse(
  response: Response,
  outgoing: ServerResponse,
  { isHead, maxWriteBytes, clientGone, commit, urlClient, policy }: WriteOptions,
): Promise<Refusal | undefined> {
  const hasNoBody = isHead || response.status === 204 || response.status === 304;
  const reader = response.body?.getReader();
  outgoing.statusCode = response.status;
  outgoing.statusMessage = response.statusText;
  for (const [name, value] of response.headers) {
    // Of another implementation, or of none.
    if (typeof value !== 'string')
      throw new TypeError(`the value of the header ${name} is a string, not a value of the type ${typeof value}`);
    // Added to what the session may have set.
    if (name === 'set-cookie') outgoing.appendHeader(name, value);
    else outgoing.setHeader(name, urlClient?.toClient(name, value) ?? value);
  }
  urlClient?.protectResponse(outgoing);
  policy?.putOn(outgoing);
  if (!reader || hasNoBody) {
    const refusal = await end(outgoing, commit);
    await reader?.cancel();
    return refusal;
  }
  // Asynchronous: what the body's source throws at once must not be thrown into the event.
  const { signal } = clientGone;
  const cancel = async () => reader.cancel(signal.reason);
  const giveUp = () => void cancel().catch(() => {});
  if (signal.aborted) return void giveUp();
  signal.addEventListener('abort', giveUp);
  // Finished or not: a reload ends event streams while their sources go on.
  const onClose = () => clientGone.abort();
  outgoing.on('close', onClose);
  try {
    const refusal = await writeBody(reader, outgoing, maxWriteBytes, commit);
    if (refusal) giveUp();
    return refusal;
  } catch (error) {
    giveUp();
    throw error;
  } finally {
    outgoing.off('close', onClose);
    signal.removeEventListener('abort', giveUp);
  }
}

/**
 * What the body yields within one turn of the event loop leaves together with the head: with a `Content-Length` when it
 * is all. A body that takes longer does not hold the head back, nor a chunk the one before it.
 */
async function writeBody(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  outgoing: ServerResponse,
  maxWriteBytes: number,
  commit: ResponseCommit | undefined,
): Promise<Refusal | undefined> {
  let refusal: Refusal | undefined;
  let isOver = false;
  const flush = setImmediate(async () => {
    try {
      refusal = await commit?.beforeHead();
      // What has failed meanwhile has another head.
      if (isOver) return;
      if (!refusal) return outgoing.flushHeaders();
    } catch {
      // A head that cannot be written fails again at the end.
    }
    // The source may never yield anything.
    await reader.cancel().catch(() => {});
  });
  try {
    const first = await reader.read().finally(() => clearImmediate(flush));
    if (first.done) return refusal ?? (await end(outgoing, commit));
    const begin = dataIn(first.value);
    const second = reader.read();
    const isWhole = await Promise.race([second.then(chunk => chunk.done), nextTurn()]);
    if (isWhole && begin.length <= maxWriteBytes) return await end(outgoing, commit, begin);
    refusal = await commit?.beforeHead();
    if (refusal) return refusal;
    await write(outgoing, begin, maxWriteBytes);
    for (let chunk = await second; !chunk.done; chunk = await reader.read())
      await write(outgoing, dataIn(chunk.value), maxWriteBytes);
    return await end(outgoing, commit);
  } finally {
    isOver = true;
  }
}

/**
 * What a body yielded, as bytes that are what they seem: Node would take a function for a callback, and believe what
 * bytes say of their length.
 *
 * @throws {TypeError} when it is neither text nor bytes.
 */
function dataIn(chunk: unknown): string | Uint8Array {
  if (typeof chunk === 'string') return chunk;
  if (typedArrayName(chunk) === 'Uint8Array') return plainBytes(chunk as Uint8Array);
  throw new TypeError(
    `the body of a Response yields Uint8Arrays or strings, not ${chunk === null ? 'null' : `a value of the type ${typeof chunk}`}; encode it first`,
  );
}

function nextTurn(): Promise<false> {
  return new Promise(resolve => setImmediate(resolve, false));
}

/** Resolves when more may be written, or nobody is there to read it. */
async function write(outgoing: ServerResponse, data: string | Uint8Array, maxWriteBytes: number): Promise<void> {
  // A reload has ended it, as a stream of events; a write would look like a failure to the client.
  if (outgoing.writableEnded) return drained(outgoing);
  let rest = data;
  if (typeof rest === 'string' && rest.length > maxWriteBytes) rest = Buffer.from(rest);
  while (typeof rest !== 'string' && rest.length > maxWriteBytes) {
    if (!outgoing.write(rest.subarray(0, maxWriteBytes))) await drained(outgoing);
    if (outgoing.destroyed) return;
    rest = rest.subarray(maxWriteBytes);
  }
  if (!outgoing.write(rest)) await drained(outgoing);
}
