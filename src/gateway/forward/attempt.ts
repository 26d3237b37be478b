import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { type Deadline, setDeadline } from '../../base/deadlines.ts';
import { HoldfastError } from '../../base/errors.ts';
import { type ClientTerms, setClientTerms } from '../../http/client-terms.ts';
import { isConnectionSignIn, withoutConnectionSignIn } from '../../http/connection-sign-in.ts';
import { signInNeedsHttp1 } from '../../http/http1-required.ts';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import { bodyTooLarge } from '../../http/request-body.ts';
import { joinHeaders, type ResponseHead } from '../../http/response-head.ts';
import type { AnswerPolicy } from '../../policy/answer-policy.ts';
import type { Heard } from '../backend-session/backend-session.ts';
import type { AnswerSink, BackendConnection } from '../connection/connection.ts';
import type { BackendExchange, Forwarded } from '../exchange/exchange.ts';
import { clientResponseHeaders } from '../exchange/headers.ts';
import type { HtmlLinks } from '../exchange/html-links.ts';
import type { Rewriting } from '../exchange/rewriting.ts';
import { announcedToClient, clientTrailers } from '../exchange/trailers.ts';
import type { BoundConnection } from '../upstream/bound-connections.ts';
import { errorName, type Failed, type FailureReason, failureReason } from '../upstream/failure.ts';
import type { Selection } from '../upstream/selection.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import { writeHead } from './answer-head.ts';
import type { BodySender, BodySenderEvents } from './body-sender.ts';
import { beginPage, OF_OTHER_BYTES } from './page.ts';

export interface ForwardOptions extends BackendExchange {
  /** What policies say in the answer. */
  readonly policy?: AnswerPolicy | undefined;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** More than a server has reason to send; each is written to the client whether it reads or not. */
const MAX_INTERIM = 64;

/** A request as each server that is tried gets it. */
export interface ForwardedRequest {
  readonly options: ForwardOptions;
  readonly selection: Selection;
  readonly rewriting: Rewriting;
  /** Request line and headers. */
  readonly text: string;
  readonly body: BodySender | undefined;
  /** The client takes trailers, so the backend is told. */
  readonly takesTrailers: boolean;
  /** The connection that the client alone uses; undefined with HTTP/2. */
  readonly client: Duplex | undefined;
  /** The request has credentials that sign in the connection it is sent on. */
  readonly isSignIn: boolean;
}

/** No answer came from a server. */
export interface FailedAttempt extends Failed {
  /** The connection came from the pool, and the server had closed it. */
  readonly isStale: boolean;
}

/** One request to one server and its answer. */
export class Attempt implements AnswerSink, BodySenderEvents, ClientTerms {
  readonly clientTimeoutMs: number | undefined;
  /** The client is expected to send: it has no 100 to wait for. */
  isBodyAwaited = false;
  readonly #options: ForwardOptions;
  readonly #shared: ForwardedRequest;
  readonly #server: UpstreamServer;
  #connection: BackendConnection | undefined;
  #isOnlyRequest = false;
  #resolve: ((result: Forwarded | FailedAttempt | Refusal) => void) | undefined;
  #deadline: Deadline | undefined;
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
  /** The answer is a page whose links get a ticket. */
  #page: HtmlLinks | undefined;

  constructor(shared: ForwardedRequest, server: UpstreamServer) {
    this.#shared = shared;
    this.#options = shared.options;
    this.clientTimeoutMs = shared.options.upstream.clientTimeoutMs;
    this.#server = server;
  }

  run(onNewConnection: boolean, bound: BoundConnection | undefined): Promise<Forwarded | FailedAttempt | Refusal> {
    const { response, upstream } = this.#options;
    const server = this.#server;
    if (response.closed) return Promise.resolve({ isAnswered: false, server });
    return new Promise(resolve => {
      this.#resolve = resolve;
      server.begin();
      response.on('close', this.#onClientClose);
      this.#isOnlyRequest = onNewConnection;
      if (bound) this.#onConnection(bound.connection);
      else if (onNewConnection) this.#onConnection(server.openConnection());
      // A kept one may be closed by now, and credentials for a connection are not sent twice.
      else server.connections.take(this.#onConnection, this.#shared.isSignIn);
      // A connection under way has its own timeout; this is a request that still waits for one.
      if (this.#connection === undefined)
        this.#setDeadline(upstream.connectTimeoutMs, () => this.#fail('busy', 'no free connection'));
    });
  }

  readonly #onConnection = (connection: BackendConnection): void => {
    this.#clearDeadline();
    this.#connection = connection;
    if (this.#shared.isSignIn) this.#bind();
    connection.take(this);
  };

  /** Nobody else's request may be sent on the connection from here on. */
  #bind(): void {
    const { client } = this.#shared;
    if (client) this.#options.upstream.bound.bind(client, this.#server, this.#connection!);
    else this.#connection!.endAfterAnswer();
  }

  onOpen(): void {
    const { head, request, upstream } = this.#options;
    const connection = this.#connection!;
    const body = this.#shared.body;
    this.#isConnected = true;
    this.#setDeadline(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    const end = this.#isOnlyRequest ? 'close' : 'keep-alive';
    const asked = this.#shared.takesTrailers ? ', TE\r\nTE: trailers' : '';
    connection.start(head.method, `${this.#shared.text}Connection: ${end}${asked}\r\n\r\n`, body !== undefined);
    // Not before there is a connection: a body that was begun cannot be sent to another server.
    if (body === undefined) return;
    this.isBodyAwaited = head.headers.expect === undefined;
    setClientTerms(request, this);
    body.sendTo(connection, this);
  }

  onSent(): void {
    if (!this.#hasHead && this.#resolve !== undefined)
      this.#setDeadline(this.#options.upstream.answerTimeoutMs, this.#onAnswerTimeout);
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
      response.writeInformation?.(
        status,
        clientResponseHeaders({ status, rawHeaders }, upstream, this.#shared.rewriting),
      );
    } catch {
      // Interim responses are optional; one that cannot be written is left out.
    }
  }

  onHead(received: ResponseHead): void {
    let head = received;
    // Upgrades do not come this way: a backend that switches protocols here answers what nobody asked.
    if (head.status === 101) return this.#fail('invalid', 'unexpected 101');
    this.#hasHead = true;
    this.#clearDeadline();
    if (isConnectionSignIn(head.rawHeaders)) {
      if (head.status === 401 && !this.#shared.client) {
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
    const headers = clientResponseHeaders(head, upstream, this.#shared.rewriting);
    const { urlClient } = this.#options;
    if (urlClient) {
      urlClient.protect(headers);
      this.#page = beginPage(urlClient, head.status, headers, upstream);
    }
    this.#options.policy?.putInto(headers);
    this.#addHopByHop(head, headers);
    const tieingCookie = this.#shared.selection.accepted(this.#server);
    // RFC 9112 §9.6: a server that wants no more of the request says so, and a client may stop sending it.
    const isTurnedAway =
      head.status >= 300 && this.#shared.body?.isSent === false && this.#connection!.isClosedByServer;
    if (isTurnedAway) response.shouldKeepAlive = false;
    try {
      writeHead(response, head, headers, tieingCookie, heard);
    } catch (error) {
      return this.#fail('invalid', errorName(error));
    }
    this.#isAnswered = true;
    // The head of a stream of events must not wait for the first event; that of an ordinary answer leaves with its
    // body.
    setImmediate(this.#flushHead);
  }

  /** What of the answer concerns the client's connection too. */
  #addHopByHop({ status, rawHeaders }: ResponseHead, headers: string[]): void {
    const { head, request, response } = this.#options;
    if (status === 426 && request.httpVersion === '1.1' && headers.includes('Upgrade'))
      headers.push('Connection', response.shouldKeepAlive ? 'Upgrade' : 'close, Upgrade');
    const mayHaveTrailers = request.httpVersion !== '1.0' && head.method !== 'HEAD' && status !== 204 && status !== 304;
    const trailer = mayHaveTrailers ? announcedToClient(rawHeaders, this.#page && OF_OTHER_BYTES) : undefined;
    // Without a length it is chunked for the client as well.
    if (trailer !== undefined && joinHeaders(rawHeaders)['transfer-encoding'] !== undefined)
      headers.push('Trailer', trailer);
  }

  readonly #flushHead = (): void => {
    const { response } = this.#options;
    if (!this.#hasBegun && !response.destroyed) response.flushHeaders();
  };

  onBody(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    const { response } = this.#options;
    // A reload has ended it, as a stream of events; a write would look like a failure to the client.
    if (response.writableEnded) return this.#leave();
    this.#hasBegun = true;
    if (this.#page) return this.#onPageBody(this.#page, chunk.toString('latin1', start, end), isLast);
    if (isLast) {
      this.#isComplete = true;
      // A string of bytes leaves in one piece with the head, and is cheaper than a buffer beside it.
      response.end(chunk.toString('latin1', start, end), 'latin1');
      return;
    }
    const part = Buffer.allocUnsafe(end - start);
    chunk.copy(part, 0, start, end);
    this.#write(part);
  }

  #onPageBody(page: HtmlLinks, chunk: string, isLast: boolean): void {
    const part = page.write(chunk);
    if (isLast) {
      this.#isComplete = true;
      this.#options.response.end(part + page.end(), 'latin1');
    } else if (part !== '') this.#write(Buffer.from(part, 'latin1'));
  }

  #write(part: Buffer): void {
    const { response } = this.#options;
    if (response.write(part) || this.#isWaitingForDrain) return;
    this.#isWaitingForDrain = true;
    this.#connection!.pause();
    response.once('drain', this.#onClientDrain);
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
      if (rawTrailers.length > 0) response.addTrailers(clientTrailers(rawTrailers, this.#page && OF_OTHER_BYTES));
      if (this.#page) response.end(this.#page.end(), 'latin1');
      else response.end();
    }
    // A client that waits to be told to go on will not send its body now.
    if (this.#shared.body?.isSent === false && head.headers.expect !== undefined && !this.#isContinued) {
      this.#connection!.leave(this);
      this.#discardBody();
    }
  }

  #discardBody(): void {
    this.isBodyAwaited = false;
    this.#shared.body?.discard();
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
    this.#shared.body?.resume();
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
    if (waitsForClient || isTaken) this.#setDeadline(upstream.answerTimeoutMs, this.#onAnswerTimeout);
    else
      this.onLost(
        new HoldfastError('ERR_UPSTREAM_TIMEOUT', `no answer within ${upstream.answerTimeoutMs} ms`, { status: 504 }),
      );
  };

  readonly #onClientClose = (): void => {
    const { response } = this.#options;
    // A reload ends event streams while their backends go on.
    if (!this.#isComplete || !response.writableFinished) this.#leave();
    this.#settle({ isAnswered: this.#isAnswered, server: this.#server });
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

  #settle(result: Forwarded | FailedAttempt | Refusal): void {
    this.#clearDeadline();
    this.#options.response.off('close', this.#onClientClose);
    if (this.#resolve === undefined) return;
    this.#resolve(result);
    this.#resolve = undefined;
    this.#server.end();
  }

  #setDeadline(ms: number, callback: () => void): void {
    this.#clearDeadline();
    this.#deadline = setDeadline(this.#options.upstream.clock, ms, callback);
  }

  #clearDeadline(): void {
    this.#deadline?.clear();
    this.#deadline = undefined;
  }
}
