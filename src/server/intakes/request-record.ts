import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ErrorCode } from '../../base/errors.ts';
import type { SecurityEventName } from '../../base/security-events.ts';
import type { Admitted, Answered, Gateway, Refused } from '../../gateway/admit.ts';
import { CLIENT_GONE_STATUS } from '../../gateway/exchange/exchange.ts';
import type { FlowTrace } from '../../gateway/flow-observer.ts';
import type { Served } from '../../gateway/serve.ts';
import type { Ended } from '../../gateway/upgrade.ts';
import { refusalBelow } from '../../http/answered-below.ts';
import { http } from '../../http/node-http.ts';
import { peerAddressOf } from '../../http/peer.ts';
import { isRefusal, type Refusal } from '../../http/refusal.ts';
import { clientAddressOf, type RequestHead } from '../../http/request-head.ts';
import { traceIdIn } from '../../http/trace-context.ts';
import { refusalBody } from '../../http/write-refusal.ts';
import type { Assembly } from '../assembly/build.ts';
import type { AccessFacts } from '../log/access-entry.ts';
import type { LineAllowance } from '../log/line-allowance.ts';
import { RequestFacts } from './request-detail.ts';

/** What a refusal says of its client, besides that it is one. */
function attemptIn({ status, code }: Refusal): SecurityEventName | undefined {
  switch (code) {
    case 'ERR_ROUTE_NOT_FOUND':
      return status === 404 ? 'not-found' : undefined;
    case 'ERR_HTTP_BAD_REQUEST':
    case 'ERR_HTTP_METHOD_UNKNOWN':
      return 'bad-request';
    case 'ERR_HTTP_BODY_TIMEOUT':
      return 'slow-client';
    case 'ERR_WS_BAD_HANDSHAKE':
    case 'ERR_WS_BAD_VERSION':
      return 'bad-handshake';
    default:
      return undefined;
  }
}

/** By the credentials of the request, or by its session. */
function userOf({ principal, held }: Admitted): string | undefined {
  try {
    return principal?.name ?? held?.session?.owner?.name;
  } catch {
    // The session has ended meanwhile.
    return undefined;
  }
}

/** What is known of a request, whoever answers it. A redirect to https knows no more than its head. */
type Known = Admitted | Answered | Refused | { readonly head: RequestHead; readonly route?: undefined };

/** What keeps records. */
export type Recording = Pick<Gateway, 'clock' | 'logger' | 'observer' | 'requestIds' | 'security' | 'trustedProxies'> &
  Pick<Assembly, 'accessLog' | 'meters' | 'unlogged'>;

/** Records what a listener has answered by itself. */
export function recordRefusedBelow(
  assembly: Recording & { readonly unreadLines: LineAllowance },
  request: IncomingMessage,
  refusal: Refusal,
  answer: ServerResponse | Duplex,
): void {
  const isLogged = assembly.accessLog.isOn && assembly.unreadLines.allows(peerAddressOf(request.socket));
  new RequestRecord(request, assembly, 'request', isLogged).refusedBelow(refusal, answer);
}

/** What is known of a request so far, and the lines that the logs have of it. */
export class RequestRecord<Serving extends Recording = Recording> {
  #flow: Known | undefined;
  /** Taken at once: a session that has ended or was let go of does not say whose it is. */
  #user: string | undefined;
  /** Who has answered, or why nobody did. */
  outcome: Partial<Served & Refusal> | undefined;
  readonly #request: IncomingMessage;
  /** What it is served by. */
  readonly assembly: Serving;
  readonly #startedAt: number;
  readonly #kind: 'request' | 'handshake';
  readonly trace: FlowTrace | undefined;
  /** Undefined where no access log asks for it. */
  readonly #detail: RequestFacts | undefined;
  /** Somebody may follow a log from the middle of a request on: this one is not among its lines. */
  readonly #isLogged: boolean;
  #hasEnded = false;
  #requestId: string | undefined;

  /** @param isLogged Default: as the access log asks for lines. */
  constructor(
    request: IncomingMessage,
    assembly: Serving,
    kind: 'request' | 'handshake' = 'request',
    isLogged: boolean = assembly.accessLog.isOn,
  ) {
    this.outcome = undefined;
    this.#request = request;
    this.assembly = assembly;
    this.#kind = kind;
    this.trace = assembly.observer?.begin(request, kind);
    const { isOn, needsDetail } = assembly.accessLog;
    this.#isLogged = isLogged;
    this.#startedAt = isOn || assembly.meters ? assembly.clock.monotonic() : 0;
    this.#detail = needsDetail && isLogged ? new RequestFacts(request, assembly.clock.now()) : undefined;
  }

  get flow(): Known | undefined {
    return this.#flow;
  }

  set flow(flow: Known) {
    this.#flow = flow;
    if (this.#isLogged && 'route' in flow && 'held' in flow) this.#user = userOf(flow);
  }

  /** The request has its line when this response closes. */
  endWith(response: ServerResponse): void {
    const { meters } = this.assembly;
    if (meters) meters.requestsNow++;
    if (!this.#isLogged) {
      if (meters || this.trace)
        response.once('close', () => {
          const { writableFinished: complete } = response;
          const below = refusalBelow(response);
          if (below) this.#endBelow(below);
          else setImmediate(() => this.end({ status: this.#statusOf(response), bytes: 0, complete }));
        });
      return;
    }
    this.assembly.unlogged.add(this);
    response.once('close', () => {
      const { headersSent, statusCode, writableFinished: complete } = response;
      const below = refusalBelow(response);
      if (below) return setImmediate(() => this.#endBelow(below));
      const hasBody = headersSent && this.#request.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
      const bytes = hasBody ? (response as ServerResponse & { bytesWritten: number }).bytesWritten : 0;
      // What the target makes of its end is known when all that listens has run.
      setImmediate(() => {
        this.end({ status: this.#statusOf(response), bytes, complete }, response);
      });
    });
  }

  #endBelow(refusal: Refusal): void {
    this.outcome = refusal;
    const bytes = Buffer.byteLength(refusalBody(refusal));
    this.end({ status: refusal.status, bytes, complete: this.#request.socket.writableFinished });
  }

  /** 499: the client has left before the answer. */
  #statusOf({ headersSent, statusCode }: ServerResponse): number {
    if (headersSent) return statusCode;
    return this.outcome?.requiresHttp1 ? this.outcome.status! : CLIENT_GONE_STATUS;
  }

  /** Writes its line in the access log, once. */
  end({ status, bytes, complete }: Ended, response?: ServerResponse): void {
    const { accessLog, clock, unlogged } = this.assembly;
    if (this.#hasEnded) return;
    const elapsedMs = clock.monotonic() - this.#startedAt;
    this.#measure(status, complete, elapsedMs);
    unlogged.delete(this);
    if (!this.#isLogged) return;
    const durationMs = Math.round(elapsedMs);
    this.#detail?.finish(elapsedMs, response);
    accessLog.request({ ...this.facts(), status, bytesSent: bytes, complete, durationMs });
  }

  /** Counts it, once. */
  #measure(status: number, complete: boolean, elapsedMs: number): void {
    this.#hasEnded = true;
    this.trace?.ended({ status, complete, refusal: isRefusal(this.outcome) ? this.outcome : undefined });
    const { meters } = this.assembly;
    if (!meters) return;
    const route = this.flow?.route?.name;
    if (this.#kind === 'request') {
      meters.requestsNow--;
      return meters.answered(route, status, elapsedMs);
    }
    const isOurs = isRefusal(this.outcome);
    meters.shookHands(route, status === CLIENT_GONE_STATUS ? 'client-gone' : isOurs ? 'refused' : 'declined');
  }

  /**
   * The listener has answered by itself, and has its line for that: of bytes that are not a request, it is a request
   * that was refused at its head.
   */
  refusedBelow(refusal: Refusal, answer: ServerResponse | Duplex): void {
    this.outcome = refusal;
    const { meters } = this.assembly;
    meters?.refused(refusal, this.#kind);
    this.trace?.step('head', refusal);
    if (answer instanceof http.ServerResponse) return this.endWith(answer);
    if (meters) meters.requestsNow++;
    this.endWithSocket(answer, refusal.status, Buffer.byteLength(refusalBody(refusal)));
  }

  /** The handshake has its line when the answer has left by which it is refused, or the socket has closed before. */
  endWithSocket(socket: Duplex, status: number, bytes: number): void {
    if (this.#isLogged) this.assembly.unlogged.add(this);
    const end = () => this.end({ status, bytes, complete: socket.writableFinished });
    socket.once('finish', end).once('close', end);
  }

  refuse(refusal: Refusal): void {
    this.outcome = refusal;
    this.assembly.meters?.refused(refusal, this.#kind);
    const { status, code, reason, failure } = refusal;
    const { method } = this.#request;
    const address = this.#address;
    const event = attemptIn(refusal);
    if (event) {
      this.#attempt(event, address, { status, code, reason });
    }
    const crossSite = this.#crossSite;
    const { requestId, traceId } = this;
    if (this.#detail) this.#detail.logId = requestId;
    const about = { event: 'refused', address, requestId, status, code, failure, method };
    this.assembly.logger.info(
      { ...about, ...(crossSite && { crossSite }), ...(traceId !== undefined && { traceId }) },
      reason,
    );
  }

  /** The application has answered that there is nothing. */
  notFound(): void {
    this.#attempt('not-found', this.#address, { status: 404, reason: 'the application knows no such path' });
  }

  #attempt(
    event: SecurityEventName,
    address: string,
    about: { status: number; code?: ErrorCode; reason: string },
  ): void {
    const head = this.flow?.head;
    this.assembly.security.report({
      ...{ event, address, ...about, method: this.#request.method },
      // Sessions of applications stand in path parameters.
      path: head?.path.replaceAll(/;[^/]*/g, ''),
      crossSite: this.#crossSite,
    });
  }

  /** Also of a request that cannot be understood. */
  get #crossSite(): true | undefined {
    return this.#request.headers['sec-fetch-site'] === 'cross-site' ? true : undefined;
  }

  get #address(): string {
    return this.flow?.head?.clientAddress ?? clientAddressOf(this.#request, this.assembly);
  }

  /** Of the W3C trace that it belongs to, whoever has begun that. */
  get traceId(): string | undefined {
    return this.trace?.traceId ?? traceIdIn(this.#request.headers.traceparent);
  }

  /** Names the request: also one that cannot be understood. */
  get requestId(): string | undefined {
    this.#requestId ??= this.flow?.head?.requestId ?? this.assembly.requestIds?.of(this.#request, false);
    return this.#requestId;
  }

  /** The socket that the handshake has made is gone. */
  socketEnded(facts: AccessFacts, durationMs: number): void {
    if (facts.detail === this.#detail) this.#detail?.finish(durationMs);
  }

  facts(): AccessFacts {
    const { method = '', url = '', httpVersion, headers } = this.#request;
    const { route, head, held, observed } = (this.flow ?? {}) as Partial<Admitted>;
    const { upstream, server } = this.outcome ?? {};
    const { traceId } = this;
    const { referer, 'user-agent': userAgent } = headers;
    const sid = held?.session?.id ?? observed?.liveKey;
    const user = this.#user;
    const { requestId } = this;
    const detail = this.#detail;
    if (detail && route) detail.handler = route.target.kind === 'upstream' ? 'proxy-server' : route.target.kind;
    // All of one shape, without parts that are spread: there is one for each request.
    return {
      clientAddress: this.#address,
      method,
      target: url,
      httpVersion,
      route: route?.name,
      upstream,
      server,
      requestId,
      host: head?.host || undefined,
      user,
      sid,
      referer,
      userAgent,
      traceId,
      detail,
    };
  }
}
