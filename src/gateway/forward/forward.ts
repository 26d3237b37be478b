import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Timer } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import { type ClientTerms, setClientTerms } from '../../http/client-terms.ts';
import { isConnectionSignIn, withoutConnectionSignIn } from '../../http/connection-sign-in.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { endToEndHeaders, foldNames, withoutOwned } from '../../http/hop-by-hop.ts';
import { signInNeedsHttp1 } from '../../http/http1-required.ts';
import { isRefusal, type Refusal, refuse } from '../../http/refusal.ts';
import type { ResponseHead } from '../../http/response-head.ts';
import { keepFromSharedCaches } from '../../http/shared-caches.ts';
import type { Heard } from '../backend-session/backend-session.ts';
import { type AnswerSink, BackendConnection } from '../connection/connection.ts';
import { requestHeadText } from '../connection/request-head-text.ts';
import type { BackendExchange, Forwarded } from '../exchange/exchange.ts';
import { backendRequestHeaders, clientResponseHeaders } from '../exchange/headers.ts';
import { Rewriting } from '../exchange/rewriting.ts';
import type { BoundConnection } from '../upstream/bound-connections.ts';
import { errorName, type FailureReason, failureReason, upstreamRefusal } from '../upstream/failure.ts';
import type { Selection } from '../upstream/selection.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import { BodySender, type BodySenderEvents } from './body-sender.ts';
import { bodyTooLarge, refuseAnnouncedBody } from './body-watch.ts';

export interface ForwardOptions extends BackendExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

const CLIENT_GONE = 499;
/** More than a server has reason to send; each is written to the client whether it reads or not. */
const MAX_INTERIM = 64;

/** Without side effects, or with the same effect when sent twice. RFC 9110 §9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Methods that have no body unless one is announced; for others its absence is announced. RFC 9110 §8.6. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'DELETE']);

/**
 * Sends a request on to a backend and the answer back to the client, both as they come, with backpressure both ways.
 *
 * The next server is tried as long as no connection can be made, within the upstream's bounds for retries. Once a byte
 * of the request may have been sent no other server gets it, with one exception: a request that may be repeated and has
 * no body is sent again, once, to the same server, when the kept connection it was put on had been closed by the
 * server.
 *
 * A sign-in of the connection (NTLM, Negotiate) has a connection of its own, which is bound to the client's: what
 * follows on the one goes on the other, and nowhere else, also when that fails. HTTP/2 cannot carry it, so such a
 * request is refused, and so is an answer that asks for nothing else.
 *
 * A body may be as large as the upstream lets it; then the request is refused (413), or cut off once it was answered.
 * How long a client may be silent is for the listener to keep (`ClientTerms`): it is refused (408), or cut off.
 *
 * The server must hand over requests with `Expect: 100-continue` without answering 100 itself (`checkContinue`): the
 * backend's 100 is passed on.
 *
 * Never throws, and rejects only when the session cannot say what the backend is to be told, whatever the sockets of
 * either side do.
 *
 * @returns a refusal when nothing was sent to the client: the caller answers it. Otherwise how the exchange ended.
 */
export async function forwardRequest(options: ForwardOptions): Promise<Forwarded | Refusal> {
  const { head, request, response, upstream } = options;
  const { logger } = upstream;
  // An error of the client's connection is followed by `close` of the response, which is what we act on.
  request.on('error', ignore);
  response.on('error', ignore);

  const tooLarge = refuseAnnouncedBody(request, upstream.maxBodyBytes);
  if (tooLarge) return tooLarge;
  setClientTerms(request, upstream);
  const body = BodySender.of(request, upstream.maxBodyBytes);
  const added = options.session && (await options.session.requestHeaders());
  const rewriting = new Rewriting(options);
  const headers = backendRequestHeaders(options, rewriting, added);
  // Streams of HTTP/2 share a connection, and no backend could tell whose they are.
  const client = request.httpVersionMajor === 1 ? request.socket : undefined;
  // Cheap for the many requests without credentials.
  const isSignIn = head.headers.authorization !== undefined && isConnectionSignIn(headers);
  if (isSignIn && !client) return giveUpBody(request, signInNeedsHttp1());
  // Transfer-Encoding concerns one connection only and is gone by now: where the body ends must be said anew.
  if (body?.isChunked) headers.push('Transfer-Encoding', 'chunked');
  else if (head.headers['content-length'] === undefined && !BODILESS.has(head.method))
    headers.push('Content-Length', '0');
  const text = requestHeadText(head.method, rewriting.target, headers);
  if (text === undefined) return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend');

  let refusal: Refusal | undefined;
  const selection = upstream.select(head, options.affinityKey ?? options.sid);
  const bound = client && upstream.bound.of(client);
  const common = { options, selection, rewriting, text, body, client, isSignIn };
  for (let server = bound?.server ?? selection.next(); server; server = selection.next()) {
    for (let repeated = false; ; repeated = true) {
      const result = await new Exchange(common, server).run(repeated, bound);
      if (isRefusal(result)) return giveUpBody(request, result);
      if ('status' in result) {
        if (result.status === CLIENT_GONE)
          logger.info(
            { upstream: upstream.name, server: server.url, status: CLIENT_GONE },
            'client gone before the answer',
          );
        return result;
      }
      logger.warn(
        { upstream: upstream.name, server: server.url, reason: result.reason, err: result.error },
        'upstream failed',
      );
      const mayRepeat = body === undefined && IDEMPOTENT.has(head.method) && !bound;
      if (result.isStale && !repeated && mayRepeat) continue;
      // To close a kept connection is a server's right.
      if (!result.isStale) selection.failed(server, result.reason, result.isConnected);
      refusal = upstreamRefusal(upstream, server, result.reason);
      if (result.isConnected) return giveUpBody(request, refusal);
      break;
    }
  }
  return giveUpBody(request, refusal ?? upstream.refusal(selection));
}

/** No answer came from a server. */
interface Failed {
  readonly reason: FailureReason;
  readonly error: string;
  /** False: no byte of the request can have reached the server. */
  readonly isConnected: boolean;
  /** The connection came from the pool, and the server had closed it. */
  readonly isStale: boolean;
}

/** What the tries of one request have in common. */
interface ExchangeParts {
  readonly options: ForwardOptions;
  readonly selection: Selection;
  readonly rewriting: Rewriting;
  readonly text: string;
  readonly body: BodySender | undefined;
  /** The connection that the client alone uses; undefined with HTTP/2. */
  readonly client: Duplex | undefined;
  /** The request has credentials that sign in the connection it is sent on. */
  readonly isSignIn: boolean;
}

/** One request to one server and its answer. */
class Exchange implements AnswerSink, BodySenderEvents, ClientTerms {
  readonly clientTimeoutMs: number | undefined;
  /** The client is expected to send: it has no 100 to wait for. */
  isBodyAwaited = false;
  readonly #options: ForwardOptions;
  readonly #selection: Selection;
  readonly #server: UpstreamServer;
  readonly #rewriting: Rewriting;
  readonly #text: string;
  readonly #body: BodySender | undefined;
  readonly #client: Duplex | undefined;
  readonly #isSignIn: boolean;
  #connection: BackendConnection | undefined;
  #isOnlyRequest = false;
  #resolve: ((result: Forwarded | Failed | Refusal) => void) | undefined;
  #timer: Timer | undefined;
  #isConnected = false;
  #isContinued = false;
  #interim = 0;
  /** The backend's answer has begun; the client has not heard of it before `#isAnswered`. */
  #hasHead = false;
  #isAnswered = false;
  /** Something of the answer behind its head was written, or its end. */
  #hasBegun = false;
  #isComplete = false;
  #isWaitingForDrain = false;
  #bytesWritten = 0;

  constructor({ options, selection, rewriting, text, body, client, isSignIn }: ExchangeParts, server: UpstreamServer) {
    this.#options = options;
    this.clientTimeoutMs = options.upstream.clientTimeoutMs;
    this.#selection = selection;
    this.#server = server;
    this.#rewriting = rewriting;
    this.#text = text;
    this.#body = body;
    this.#client = client;
    this.#isSignIn = isSignIn;
  }

  run(onNewConnection: boolean, bound: BoundConnection | undefined): Promise<Forwarded | Failed | Refusal> {
    const { response, upstream } = this.#options;
    const server = this.#server;
    if (response.closed) return Promise.resolve({ status: CLIENT_GONE, complete: false, server });
    return new Promise(resolve => {
      this.#resolve = resolve;
      server.begin();
      response.on('close', this.#onClientClose);
      this.#isOnlyRequest = onNewConnection;
      if (bound) this.#onConnection(bound.connection);
      else if (onNewConnection) this.#onConnection(new BackendConnection(server.openSocket()));
      // A kept one may be closed by now, and credentials for a connection are not sent twice.
      else server.connections.take(this.#onConnection, this.#isSignIn);
      // A connection under way has its own timeout; this is a request that still waits for one.
      if (this.#connection === undefined)
        this.#setTimer(upstream.connectTimeoutMs, () => this.#fail('busy', 'no free connection'));
    });
  }

  readonly #onConnection = (connection: BackendConnection): void => {
    this.#clearTimer();
    this.#connection = connection;
    if (this.#isSignIn) this.#bind();
    connection.take(this);
  };

  /** Nobody else's request may be sent on the connection from here on. */
  #bind(): void {
    if (this.#client) this.#options.upstream.bound.bind(this.#client, this.#server, this.#connection!);
    else this.#connection!.endAfterAnswer();
  }

  onOpen(): void {
    const { head, request, upstream } = this.#options;
    const connection = this.#connection!;
    const body = this.#body;
    this.#isConnected = true;
    this.#setTimer(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    const end = this.#isOnlyRequest ? 'Connection: close\r\n\r\n' : 'Connection: keep-alive\r\n\r\n';
    connection.start(head.method, this.#text + end, body !== undefined);
    // Not before there is a connection: a body that was begun cannot be sent to another server.
    if (body === undefined) return;
    this.isBodyAwaited = head.headers.expect === undefined;
    setClientTerms(request, this);
    body.sendTo(connection, this);
  }

  onSent(): void {
    if (!this.#hasHead && this.#resolve !== undefined)
      this.#setTimer(this.#options.upstream.answerTimeoutMs, this.#onAnswerTimeout);
  }

  onTooLarge(): void {
    this.#onBrokenBody(bodyTooLarge(this.#options.upstream.maxBodyBytes));
  }

  onSlowBody(refusal: Refusal): void {
    this.#onBrokenBody(refusal);
  }

  onInformation({ status, rawHeaders }: ResponseHead): void {
    const { request, response, upstream } = this.#options;
    if (isConnectionSignIn(rawHeaders)) this.#bind();
    if (++this.#interim > MAX_INTERIM) return this.#fail('invalid', `more than ${MAX_INTERIM} interim answers`);
    if (request.httpVersion === '1.0') return;
    if (status === 100) {
      this.#isContinued = true;
      this.isBodyAwaited = true;
      if (request.headers.expect !== undefined) response.writeContinue();
      return;
    }
    try {
      response.writeInformation?.(status, withoutLength(clientResponseHeaders(rawHeaders, upstream, this.#rewriting)));
    } catch {
      // Interim responses are optional; one that cannot be written is left out.
    }
  }

  onHead(received: ResponseHead): void {
    let head = received;
    // Upgrades do not come this way: a backend that switches protocols here answers what nobody asked.
    if (head.status === 101) return this.#fail('invalid', 'unexpected 101');
    this.#hasHead = true;
    this.#clearTimer();
    if (isConnectionSignIn(head.rawHeaders)) {
      if (head.status === 401 && !this.#client) {
        const rawHeaders = withoutConnectionSignIn(head.rawHeaders);
        // Nothing was done for a request that is answered with 401, so it may come again.
        if (rawHeaders === undefined) return this.#refuse(signInNeedsHttp1());
        head = { ...head, rawHeaders };
      }
      this.#bind();
    }
    const heard = this.#options.session?.answered(head.rawHeaders, { status: head.status, server: this.#server });
    if (!(heard instanceof Promise)) return this.#passHead(head, heard);
    this.#connection!.pause();
    void heard.then(settled => {
      this.#passHead(head, settled);
      this.#connection!.resume();
    });
  }

  #passHead(head: ResponseHead, heard: Heard | undefined): void {
    // The client may have gone while the session was asked, or the backend.
    if (this.#resolve === undefined) return;
    if (isRefusal(heard)) return this.#refuse(heard);
    const { response, upstream } = this.#options;
    const passed = clientResponseHeaders(head.rawHeaders, upstream, this.#rewriting);
    const headers = head.status === 204 ? withoutLength(passed) : passed;
    const tieingCookie = this.#selection.accepted(this.#server);
    try {
      writeHead(response, head, headers, tieingCookie, heard);
    } catch (error) {
      for (let i = 0; i < headers.length; i += 2) response.removeHeader(headers[i]!);
      this.#fail('invalid', errorName(error));
      return;
    }
    this.#isAnswered = true;
    // The head of a stream of events must not wait for the first event; that of an ordinary answer leaves with its
    // body.
    setImmediate(this.#flushHead);
  }

  readonly #flushHead = (): void => {
    const { response } = this.#options;
    if (!this.#hasBegun && !response.destroyed) response.flushHeaders();
  };

  onBody(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    const { response } = this.#options;
    this.#hasBegun = true;
    if (isLast) {
      this.#isComplete = true;
      // A string of bytes leaves in one piece with the head, and is cheaper than a buffer beside it.
      response.end(chunk.toString('latin1', start, end), 'latin1');
      return;
    }
    const part = Buffer.allocUnsafe(end - start);
    chunk.copy(part, 0, start, end);
    if (!response.write(part) && !this.#isWaitingForDrain) {
      this.#isWaitingForDrain = true;
      this.#connection!.pause();
      response.once('drain', this.#onClientDrain);
    }
  }

  readonly #onClientDrain = (): void => {
    this.#isWaitingForDrain = false;
    this.#connection!.resume();
  };

  onEnd(rawTrailers: readonly string[]): void {
    const { head, response } = this.#options;
    // No client may act on it there, but the backend has said what it means.
    if (isConnectionSignIn(rawTrailers)) this.#bind();
    if (!this.#isComplete) {
      this.#isComplete = true;
      this.#hasBegun = true;
      if (rawTrailers.length > 0) response.addTrailers(trailerPairs(rawTrailers));
      response.end();
    }
    // A client that waits to be told to go on will not send its body now.
    if (this.#body?.isSent === false && head.headers.expect !== undefined && !this.#isContinued) {
      this.#connection!.leave(this);
      this.#discardBody();
    }
  }

  #discardBody(): void {
    this.isBodyAwaited = false;
    this.#body?.discard();
  }

  #onBrokenBody(refusal: Refusal): void {
    const { request, response } = this.#options;
    if (this.#resolve !== undefined && !this.#isAnswered) this.#refuse(refusal);
    // It was told all, and the connection waits for the rest of the body still.
    else if (response.writableFinished) request.destroy();
    // It can be told no more. A refusal that is on its way ends the connection by itself.
    else if (this.#isAnswered) response.destroy();
  }

  onDrain(): void {
    this.#body?.resume();
  }

  onLost(error: Error): void {
    if (!this.#isAnswered) {
      this.#fail(failureReason(error, this.#connection!.socket), errorName(error));
      return;
    }
    // What broke off must not look complete.
    if (!this.#isComplete) this.#options.response.destroy();
    // The client may be unable to read the answer before it has sent what the backend did not take.
    this.#discardBody();
  }

  readonly #onAnswerTimeout = (): void => {
    const { head, request, upstream } = this.#options;
    const { socket } = this.#connection!;
    // The time runs from the request sent: not while the client is still sending it and the backend is taking it.
    const waitsForContinue = head.headers.expect !== undefined && !this.#isContinued;
    const waitsForClient = !request.complete && !socket.writableNeedDrain && !waitsForContinue;
    const { bytesWritten } = socket;
    const isTaken = !request.complete && bytesWritten !== this.#bytesWritten;
    this.#bytesWritten = bytesWritten;
    if (waitsForClient || isTaken) this.#setTimer(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    else
      this.onLost(
        new HoldfastError('ERR_UPSTREAM_TIMEOUT', `no answer within ${upstream.answerTimeoutMs} ms`, { status: 504 }),
      );
  };

  readonly #onClientClose = (): void => {
    const { response } = this.#options;
    const complete = response.writableFinished;
    if (!complete) this.#leave();
    this.#settle({ status: this.#isAnswered ? response.statusCode : CLIENT_GONE, complete, server: this.#server });
  };

  #fail(reason: FailureReason, error: string): void {
    // What was answered, if only by a head, was not too late for its connection, and must not be done twice.
    const isStale = reason === 'reset' && this.#connection!.isReused && !this.#hasHead;
    this.#settle({ reason, error, isConnected: this.#isConnected, isStale });
    this.#leave();
  }

  /** The answer is withheld. */
  #refuse(refusal: Refusal): void {
    this.#settle({ ...refusal, upstream: this.#options.upstream.name, server: this.#server.url });
    this.#leave();
  }

  #leave(): void {
    if (this.#isConnected) this.#discardBody();
    if (this.#connection) this.#connection.leave(this);
    else this.#server.connections.leave(this.#onConnection);
  }

  #settle(result: Forwarded | Failed | Refusal): void {
    this.#clearTimer();
    this.#options.response.off('close', this.#onClientClose);
    if (this.#resolve === undefined) return;
    this.#resolve(result);
    this.#resolve = undefined;
    this.#server.end();
  }

  #setTimer(ms: number, callback: () => void): void {
    this.#clearTimer();
    if (ms !== Number.POSITIVE_INFINITY) this.#timer = this.#options.upstream.clock.setTimeout(callback, ms);
  }

  #clearTimer(): void {
    if (this.#timer === undefined) return;
    this.#options.upstream.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

function ignore(): void {}

const LENGTH = foldNames(['Content-Length']);

/** RFC 9110 §8.6: not in what never has a body. A client of HTTP/2 takes it for a violation. */
function withoutLength(headers: readonly string[]): string[] {
  return withoutOwned(headers, LENGTH);
}

function writeHead(
  response: ServerResponse,
  { status, statusMessage }: ResponseHead,
  headers: readonly string[],
  tieingCookie: string | undefined,
  sessionLines: readonly HeaderLine[] | undefined,
): void {
  const becomesPrivate = tieingCookie !== undefined || (sessionLines !== undefined && sessionLines.length > 0);
  if (!becomesPrivate && response.getHeaderNames().length === 0) {
    response.writeHead(status, statusMessage, headers as string[]);
    return;
  }
  // One header at a time, because others have set some already: a `Set-Cookie` of ours must stay.
  const seen = new Set(['set-cookie']);
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const lower = name.toLowerCase();
    if (seen.has(lower)) response.appendHeader(name, headers[i + 1]!);
    else response.setHeader(name, headers[i + 1]!);
    seen.add(lower);
  }
  for (const { name, value } of sessionLines ?? []) response.appendHeader(name, value);
  if (tieingCookie !== undefined) response.appendHeader('Set-Cookie', tieingCookie);
  if (becomesPrivate) keepFromSharedCaches(response);
  response.writeHead(status, statusMessage);
}

function trailerPairs(rawTrailers: readonly string[]): [string, string][] {
  const trailers = endToEndHeaders(rawTrailers);
  const pairs: [string, string][] = [];
  for (let i = 0; i < trailers.length; i += 2) {
    // RFC 9110 §6.5.1: what frames or authenticates a message has no meaning after it; and the last one is for us.
    if (
      !/^(?:content-length|set-cookie|host|authorization|(?:www|proxy)-authenticate|persistent-auth|holdfast-session)$/i.test(
        trailers[i]!,
      )
    )
      pairs.push([trailers[i]!, trailers[i + 1]!]);
  }
  return pairs;
}

/** A request body that nobody will read makes the connection useless for another request. */
function giveUpBody(request: IncomingMessage, refusal: Refusal): Refusal {
  return request.complete ? refusal : { ...refusal, headers: { ...refusal.headers, Connection: 'close' } };
}
