import http, { type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Timer } from '../base/clock.ts';
import { HoldfastError } from '../base/errors.ts';
import { endToEndHeaders } from '../http/hop-by-hop.ts';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import { keepFromSharedCaches } from '../http/shared-caches.ts';
import type { HeaderLine } from '../session/tracking.ts';
import type { BackendExchange, Heard } from './backend-exchange.ts';
import { backendRequestHeaders, clientResponseHeaders } from './backend-headers.ts';
import { whenOpen } from './pool.ts';
import { type BodyKind, BodyWatch, bodyKind, refuseAnnouncedBody } from './request-body.ts';
import { Rewriting } from './rewriting.ts';
import type { Selection } from './selection.ts';
import { errorName, type FailureReason, failureReason, upstreamRefusal } from './upstream-failure.ts';
import type { UpstreamServer } from './upstream-server.ts';

export interface ForwardOptions extends BackendExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** An exchange that is over, for the access log. */
export interface Forwarded {
  /** What the client was sent; 499 when it was gone before there was an answer. */
  readonly status: number;
  /** False when the answer broke off; the client's connection was cut, so that it can tell. */
  readonly complete: boolean;
  readonly server: UpstreamServer;
}

const CLIENT_GONE = 499;

/** Without side effects, or with the same effect when sent twice. RFC 9110 §9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Methods that have no body unless one is announced; for others its absence is announced. RFC 9110 §8.6. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'DELETE']);

/**
 * Sends a request on to a backend and the answer back to the client, both as they come, with backpressure both ways.
 *
 * The next server is tried as long as no connection can be made, within the upstream's bounds for retries. Once a byte of the request
 * may have been sent no other server gets it, with one exception: a request that may be repeated and has no body is sent again, once,
 * to the same server, when the kept connection it was put on had been closed by the server.
 *
 * A body may be as large as the upstream lets it, and a client may be silent for `clientTimeoutMs` when it is to send the rest of it, or to take the
 * rest of an answer. Then the request is refused (413, 408), or cut off once it was answered.
 *
 * The server must hand over requests with `Expect: 100-continue` without answering 100 itself (`checkContinue`): the
 * backend's 100 is passed on.
 *
 * Never throws, and rejects only when the session cannot say what the backend is to be told, whatever the sockets of either side do.
 *
 * @returns a refusal when nothing was sent to the client: the caller answers it. Otherwise how the exchange ended.
 */
export async function forwardRequest(options: ForwardOptions): Promise<Forwarded | Refusal> {
  const { head, request, response, upstream, logger } = options;
  // An error of the client's connection is followed by `close` of the response, which is what we act on.
  request.on('error', ignore);
  response.on('error', ignore);

  const tooLarge = refuseAnnouncedBody(request, upstream);
  if (tooLarge) return tooLarge;
  const body = bodyKind(request);
  const added = options.session && (await options.session.requestHeaders());
  const rewriting = new Rewriting(options);
  const headers = backendRequestHeaders(head, {
    ...upstream.identity,
    sid: options.sid,
    added,
    own: options.own,
    rewriting,
  });
  // Transfer-Encoding concerns one connection only and is gone by now: where the body ends must be said anew.
  if (body === 'chunked') headers.push('Transfer-Encoding', 'chunked');
  else if (head.headers['content-length'] === undefined && !BODILESS.has(head.method))
    headers.push('Content-Length', '0');

  let refusal: Refusal | undefined;
  const selection = upstream.select(head, options.affinityKey ?? options.sid);
  for (let server = selection.next(); server; server = selection.next()) {
    for (let repeated = false; ; repeated = true) {
      const result = await new Exchange(options, selection, server, rewriting, headers, body).run(repeated);
      if (result === 'bad-request')
        return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'the request cannot be written to a backend');
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
        { upstream: upstream.name, server: server.url, reason: result.reason, error: result.error },
        'upstream failed',
      );
      if (result.isStale && !repeated && body === 'none' && IDEMPOTENT.has(head.method)) continue;
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

/** One request to one server and its answer. */
class Exchange {
  readonly #options: ForwardOptions;
  readonly #selection: Selection;
  readonly #server: UpstreamServer;
  readonly #rewriting: Rewriting;
  readonly #headers: readonly string[];
  readonly #body: BodyKind;
  #outgoing: ClientRequest | undefined;
  #bodyWatch: BodyWatch | undefined;
  #resolve: ((result: Forwarded | Failed | Refusal) => void) | undefined;
  #timer: Timer | undefined;
  #isConnected = false;
  #isContinued = false;
  #isAnswered = false;
  #bytesWritten = 0;

  constructor(
    options: ForwardOptions,
    selection: Selection,
    server: UpstreamServer,
    rewriting: Rewriting,
    headers: readonly string[],
    body: BodyKind,
  ) {
    this.#options = options;
    this.#selection = selection;
    this.#server = server;
    this.#rewriting = rewriting;
    this.#headers = headers;
    this.#body = body;
  }

  run(onNewConnection: boolean): Promise<Forwarded | Failed | Refusal | 'bad-request'> {
    const { head, response, upstream } = this.#options;
    if (response.closed) return Promise.resolve({ status: CLIENT_GONE, complete: false, server: this.#server });
    let outgoing: ClientRequest;
    try {
      outgoing = http.request({
        // Without an agent the connection serves this one request.
        ...(onNewConnection ? { createConnection: () => this.#server.openSocket() } : { agent: this.#server.agent }),
        method: head.method,
        path: this.#rewriting.target,
        headers: this.#headers,
      });
    } catch {
      // Node refuses to write some characters that its own parser lets through.
      return Promise.resolve('bad-request');
    }
    this.#outgoing = outgoing;
    this.#server.begin();
    this.#setTimer(upstream.connectTimeoutMs, () => {
      // A connection under way has its own timeout; this is a request that still waits for one.
      if (outgoing.socket === null) this.#fail('busy', 'no free connection');
    });
    response.on('close', this.#onClientClose);
    outgoing.on('socket', socket => whenOpen(socket, () => this.#onConnected()));
    outgoing.on('information', information => this.#onInformation(information));
    outgoing.on('response', answer => this.#onAnswer(answer));
    // Upgrades do not come this way: a backend that switches protocols here answers what nobody asked.
    outgoing.on('upgrade', (_, socket) => {
      socket.destroy();
      if (this.#resolve !== undefined) this.#fail('invalid', 'unexpected 101');
    });
    outgoing.on('error', error => this.#onError(error));
    if (this.#body === 'none') outgoing.end();
    return new Promise(resolve => {
      this.#resolve = resolve;
    });
  }

  #onConnected(): void {
    if (this.#resolve === undefined) return;
    const { clock, head, request, upstream } = this.#options;
    this.#isConnected = true;
    this.#setTimer(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    if (this.#body === 'none') return;
    // Not before there is a connection: a body that was begun cannot be sent to another server.
    request.pipe(this.#outgoing!);
    this.#bodyWatch = new BodyWatch(request, upstream, clock, refusal => this.#onBrokenBody(refusal));
    if (head.headers.expect === undefined) this.#bodyWatch.expect();
    request.once('end', () => {
      if (!this.#isAnswered && this.#resolve !== undefined)
        this.#setTimer(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    });
  }

  readonly #onAnswerTimeout = (): void => {
    const { head, request, upstream } = this.#options;
    const outgoing = this.#outgoing!;
    // The time runs from the request sent: not while the client is still sending it and the backend is taking it.
    const waitsForContinue = head.headers.expect !== undefined && !this.#isContinued;
    const waitsForClient = !request.complete && !outgoing.writableNeedDrain && !waitsForContinue;
    const bytesWritten = outgoing.socket?.bytesWritten ?? 0;
    const isTaken = !request.complete && bytesWritten !== this.#bytesWritten;
    this.#bytesWritten = bytesWritten;
    if (waitsForClient || isTaken) this.#setTimer(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    else
      outgoing.destroy(
        new HoldfastError('ERR_UPSTREAM_TIMEOUT', `no answer within ${upstream.answerTimeoutMs} ms`, { status: 504 }),
      );
  };

  #onInformation(information: http.InformationEvent): void {
    const { request, response, own } = this.#options;
    if (this.#resolve === undefined || request.httpVersion === '1.0') return;
    if (information.statusCode === 100) {
      this.#isContinued = true;
      this.#bodyWatch?.expect();
      if (request.headers.expect !== undefined) response.writeContinue();
      return;
    }
    try {
      response.writeInformation?.(
        information.statusCode,
        clientResponseHeaders(information.rawHeaders, own, this.#rewriting),
      );
    } catch {
      // Interim responses are optional; one that cannot be written is left out.
    }
  }

  #onAnswer(answer: IncomingMessage): void {
    if (this.#resolve === undefined) return;
    this.#clearTimer();
    answer.on('error', ignore);
    // Node takes the chunks off and no other coding, which the client would take for the content.
    if (!/^chunked$/i.test(answer.headers['transfer-encoding'] ?? 'chunked'))
      return this.#fail('invalid', 'a transfer coding other than chunked');
    const heard = this.#options.session?.answered(answer.rawHeaders, {
      status: answer.statusCode!,
      server: this.#server,
    });
    if (heard instanceof Promise) void heard.then(settled => this.#passAnswer(answer, settled));
    else this.#passAnswer(answer, heard);
  }

  #passAnswer(answer: IncomingMessage, heard: Heard | undefined): void {
    // The client may have gone while the session was asked, or the backend.
    if (this.#resolve === undefined) return;
    if (isRefusal(heard)) return this.#refuse(heard);
    if (answer.destroyed) return this.#fail('reset', 'broken off after its head');
    const { response, own } = this.#options;
    const headers = clientResponseHeaders(answer.rawHeaders, own, this.#rewriting);
    const tieingCookie = this.#selection.accepted(this.#server);
    try {
      writeHead(response, answer, headers, tieingCookie, heard);
    } catch (error) {
      for (let i = 0; i < headers.length; i += 2) response.removeHeader(headers[i]!);
      this.#fail('invalid', errorName(error));
      return;
    }
    this.#isAnswered = true;
    answer.on('close', () => {
      // What broke off must not look complete.
      if (!answer.complete) response.destroy();
    });
    answer.on('end', () => {
      if (answer.rawTrailers.length > 0) response.addTrailers(trailerPairs(answer.rawTrailers));
      this.#awaitClient();
    });
    // Whenever the client is slower than the backend.
    answer.on('pause', this.#awaitClient);
    answer.on('resume', () => this.#clearTimer());
    answer.pipe(response);
    // The head of a stream of events must not wait for the first event; that of an ordinary answer leaves with its body.
    setImmediate(() => {
      if (!answer.readableDidRead && !response.writableEnded && !response.destroyed) response.flushHeaders();
    });
  }

  /** It has been sent more than fits between us. */
  readonly #awaitClient = (): void => {
    const { response, upstream } = this.#options;
    if (this.#resolve !== undefined) this.#setTimer(upstream.clientTimeoutMs, () => response.destroy());
  };

  #onBrokenBody(refusal: Refusal): void {
    const { request, response } = this.#options;
    if (this.#resolve !== undefined && !this.#isAnswered) this.#refuse(refusal);
    // It can be told no more. Where it was told all, the connection waits for the rest of the body still.
    else if (!response.writableFinished) response.destroy();
    else request.destroy();
  }

  #onError(error: Error): void {
    if (this.#isAnswered) {
      // The backend answered without taking the whole body. The client may be unable to read before it has sent it.
      this.#discardBody();
      return;
    }
    if (this.#resolve !== undefined) this.#fail(failureReason(error, this.#outgoing!.socket), errorName(error));
  }

  readonly #onClientClose = (): void => {
    const { response } = this.#options;
    const complete = response.writableFinished;
    if (!complete) this.#outgoing!.destroy();
    this.#settle({ status: this.#isAnswered ? response.statusCode : CLIENT_GONE, complete, server: this.#server });
  };

  #fail(reason: FailureReason, error: string): void {
    const outgoing = this.#outgoing!;
    const isStale = outgoing.reusedSocket && reason === 'reset';
    this.#settle({ reason, error, isConnected: this.#isConnected, isStale });
    this.#discardBody();
    outgoing.destroy();
  }

  /** The answer is withheld. */
  #refuse(refusal: Refusal): void {
    this.#settle(refusal);
    this.#discardBody();
    this.#outgoing!.destroy();
  }

  #discardBody(): void {
    if (!this.#isConnected || this.#body === 'none') return;
    this.#options.request.unpipe(this.#outgoing);
    this.#options.request.resume();
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
    if (ms !== Number.POSITIVE_INFINITY) this.#timer = this.#options.clock.setTimeout(callback, ms);
  }

  #clearTimer(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

function ignore(): void {}

/** One header at a time, because others may have set some already: a `Set-Cookie` of ours must stay. */
function writeHead(
  response: ServerResponse,
  answer: IncomingMessage,
  headers: readonly string[],
  tieingCookie: string | undefined,
  sessionLines: readonly HeaderLine[] = [],
): void {
  const isChunked = answer.headers['transfer-encoding'] !== undefined;
  const seen = new Set(['set-cookie']);
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const lower = name.toLowerCase();
    // RFC 9112 §6.3: with Transfer-Encoding the length means nothing, and must not be passed on.
    if (isChunked && lower === 'content-length') continue;
    if (seen.has(lower)) response.appendHeader(name, headers[i + 1]!);
    else response.setHeader(name, headers[i + 1]!);
    seen.add(lower);
  }
  for (const { name, value } of sessionLines) response.appendHeader(name, value);
  if (tieingCookie !== undefined) response.appendHeader('Set-Cookie', tieingCookie);
  if (tieingCookie !== undefined || sessionLines.length > 0) keepFromSharedCaches(response);
  response.writeHead(answer.statusCode!, answer.statusMessage);
}

function trailerPairs(rawTrailers: readonly string[]): [string, string][] {
  const trailers = endToEndHeaders(rawTrailers);
  const pairs: [string, string][] = [];
  for (let i = 0; i < trailers.length; i += 2) {
    // RFC 9110 §6.5.1: what frames or authenticates a message has no meaning after it; and the last one is for us.
    if (!/^(?:content-length|set-cookie|host|authorization|holdfast-session)$/i.test(trailers[i]!))
      pairs.push([trailers[i]!, trailers[i + 1]!]);
  }
  return pairs;
}

/** A request body that nobody will read makes the connection useless for another request. */
function giveUpBody(request: IncomingMessage, refusal: Refusal): Refusal {
  return request.complete ? refusal : { ...refusal, headers: { ...refusal.headers, Connection: 'close' } };
}
