import type { IncomingMessage } from 'node:http';
import type { TracedServer } from '../../gateway/exchange/exchange.ts';
import {
  type FlowEnd,
  type FlowObserver,
  type FlowStep,
  type FlowTrace,
  refusalOf,
  type SocketEnd,
  type StepFacts,
} from '../../gateway/flow-observer.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { isKnownMethod } from '../../http/methods.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';

export type OpenTelemetry = typeof import('@opentelemetry/api');
type Span = import('@opentelemetry/api').Span;
type Tracer = import('@opentelemetry/api').Tracer;
type Context = import('@opentelemetry/api').Context;
type Attributes = import('@opentelemetry/api').Attributes;

/** Steps that take next to no time, and are of one kind, are one span. */
const GROUPS: Readonly<Record<FlowStep, string>> = {
  head: 'entry',
  entry: 'entry',
  loop: 'entry',
  route: 'route',
  path: 'route',
  policies: 'policies',
  readings: 'policies',
  rates: 'policies',
  preflight: 'policies',
  constraints: 'policies',
  authenticate: 'authenticate',
  session: 'session',
  use: 'session',
  roles: 'authorize',
  'own-policy': 'authorize',
  'backend-session': 'backend-session',
  seat: 'limits',
};

/** Close codes that say that something went wrong. */
const FAULTS: ReadonlySet<number> = new Set([1002, 1006, 1007, 1009, 1011, 1013, 1014]);

/** Makes spans of requests, handshakes and WebSockets, by the semantic conventions for HTTP. */
export class SpanObserver implements FlowObserver {
  readonly #api: OpenTelemetry;
  readonly #tracer: Tracer;

  constructor(api: OpenTelemetry) {
    this.#api = api;
    this.#tracer = api.trace.getTracer('holdfast');
  }

  begin(request: IncomingMessage, kind: 'request' | 'handshake'): FlowTrace {
    return new SpanTrace(this.#api, this.#tracer, request, kind);
  }
}

class SpanTrace implements FlowTrace {
  readonly #api: OpenTelemetry;
  readonly #tracer: Tracer;
  readonly #span: Span;
  readonly #context: Context;
  readonly #kind: 'request' | 'handshake';
  readonly #method: string;
  #route: StepFacts['route'];
  /** What goes on now, of which the last step ended then. */
  #group: { readonly name: string; readonly startedAt: number; refusal?: Refusal | undefined } | undefined;
  #lastAt = now();
  #upstream: Span | undefined;
  #target: Span | undefined;
  #socket: Span | undefined;

  constructor(api: OpenTelemetry, tracer: Tracer, request: IncomingMessage, kind: 'request' | 'handshake') {
    const { ROOT_CONTEXT, SpanKind, propagation, trace } = api;
    const { method = '', headers } = request;
    this.#api = api;
    this.#tracer = tracer;
    this.#kind = kind;
    this.#method = isKnownMethod(method) ? method : '_OTHER';
    const parent = propagation.extract(ROOT_CONTEXT, headers);
    const attributes = {
      'http.request.method': this.#method,
      'network.protocol.name': 'http',
      'network.protocol.version': request.httpVersion.replace(/\.0$/, match =>
        request.httpVersionMajor > 1 ? '' : match,
      ),
    };
    this.#span = tracer.startSpan(
      nameOf(this.#method),
      { kind: SpanKind.SERVER, startTime: this.#lastAt, attributes },
      parent,
    );
    this.#context = trace.setSpan(parent, this.#span);
  }

  get traceId(): string | undefined {
    const spanContext = this.#span.spanContext();
    return this.#api.isSpanContextValid(spanContext) ? spanContext.traceId : undefined;
  }

  run<T>(work: () => T): T {
    return this.#api.context.with(this.#context, work);
  }

  step(name: FlowStep, outcome: StepFacts | Refusal | undefined): void {
    if (!this.#span.isRecording()) return;
    const group = GROUPS[name];
    if (this.#group?.name !== group) {
      this.#endGroup();
      this.#group = { name: group, startedAt: this.#lastAt };
    }
    this.#lastAt = now();
    const refusal = refusalOf(outcome);
    if (refusal) {
      this.#group.refusal = refusal;
      this.#endGroup();
    } else if (outcome) this.#learn(name, outcome as StepFacts);
    if (name === 'seat') this.#endGroup();
  }

  contextHeaders(): readonly HeaderLine[] {
    const { SpanKind, propagation, trace } = this.#api;
    // One for the exchange, whichever server answers in the end.
    this.#upstream ??= this.#tracer.startSpan(
      nameOf(this.#method),
      { kind: SpanKind.CLIENT, attributes: { 'http.request.method': this.#method } },
      this.#context,
    );
    const lines: HeaderLine[] = [];
    propagation.inject(trace.setSpan(this.#context, this.#upstream), lines, {
      set: (carrier, name, value) => void carrier.push({ name, value }),
    });
    return lines;
  }

  lookedFor(): void {}

  judged(): void {}

  sent(): void {}

  chosen({ upstream, url, why }: TracedServer): void {
    const { hostname, port, protocol } = new URL(url);
    this.#upstream?.setAttributes({
      'server.address': hostname,
      'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
      'holdfast.upstream': upstream,
      'holdfast.upstream.why': why,
    });
  }

  failed({ url }: TracedServer, reason: string): void {
    this.#upstream?.addEvent('no usable answer', { 'holdfast.upstream.server': url, 'error.type': reason });
  }

  ended({ status, complete, refusal, isLeft }: FlowEnd): void {
    this.#endGroup();
    if (isLeft) return this.#span.end();
    const { SpanStatusCode } = this.#api;
    const isOfBackend = this.#upstream !== undefined && refusal === undefined;
    if (this.#upstream) {
      if (isOfBackend) this.#upstream.setAttribute('http.response.status_code', status);
      if (refusal || status >= 400) this.#upstream.setStatus({ code: SpanStatusCode.ERROR });
      if (refusal) this.#upstream.setAttribute('error.type', refusal.failure ?? refusal.code);
      this.#upstream.end();
    }
    this.#target?.end();
    this.#span.setAttribute('http.response.status_code', status);
    if (!complete) this.#span.setAttribute('holdfast.incomplete', true);
    if (refusal) this.#span.setAttributes(attributesOf(refusal));
    if (status >= 500) {
      this.#span.setAttribute('error.type', refusal?.code ?? String(status));
      this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#span.end();
  }

  opened(connectionId: string): void {
    const attributes = { 'holdfast.connection': connectionId, ...(this.#route && { 'http.route': this.#route.name }) };
    this.#socket = this.#tracer.startSpan('websocket', { attributes }, this.#context);
  }

  closed({ code, by }: SocketEnd): void {
    const socket = this.#socket;
    if (!socket) return;
    // Its reason is a text of the peer's, which may hold anything.
    const attributes = { 'holdfast.close.code': code, ...(by !== undefined && { 'holdfast.close.by': by }) };
    socket.addEvent('close', attributes);
    socket.setAttributes(attributes);
    if (FAULTS.has(code)) socket.setStatus({ code: this.#api.SpanStatusCode.ERROR });
    socket.end();
  }

  #endGroup(): void {
    const group = this.#group;
    if (!group) return;
    this.#group = undefined;
    const { name, startedAt, refusal } = group;
    const span = this.#tracer.startSpan(`holdfast.${name}`, { startTime: startedAt }, this.#context);
    if (refusal) span.setAttributes(attributesOf(refusal));
    span.end(this.#lastAt);
  }

  #learn(name: FlowStep, facts: StepFacts): void {
    if (name === 'head') this.#span.setAttributes(attributesOfHead(facts.head!));
    else if (name === 'route') {
      this.#route = facts.route;
      this.#span.setAttribute('http.route', facts.route!.name);
      this.#span.updateName(nameOf(this.#method, facts.route!.name));
    } else if (name === 'session') this.#span.setAttribute('holdfast.session', facts.held?.session !== undefined);
    else if (name === 'seat') {
      const { kind } = this.#route!.target;
      if (kind === 'upstream') return;
      // For endpoints the time in which the application decides.
      const target = kind === 'endpoint' && this.#kind === 'handshake' ? 'accept' : kind;
      this.#target = this.#tracer.startSpan(`holdfast.${target}`, { startTime: this.#lastAt }, this.#context);
    }
  }
}

/** In ms since the epoch, with fractions. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

function nameOf(method: string, route?: string): string {
  const name = method === '_OTHER' ? 'HTTP' : method;
  return route === undefined ? name : `${name} ${route}`;
}

/** Without query, path parameters, cookies and credentials: what may open something is never in a span. */
function attributesOfHead({ path, isSecure, host, clientAddress, peerAddress, headers }: RequestHead): Attributes {
  const { 'user-agent': userAgent } = headers;
  return {
    'url.scheme': isSecure ? 'https' : 'http',
    'url.path': path.replaceAll(/;[^/]*/g, ''),
    ...(host !== '' && { 'server.address': host.replace(/:\d+$/, '') }),
    ...(clientAddress !== '' && { 'client.address': clientAddress }),
    ...(peerAddress !== '' && { 'network.peer.address': peerAddress }),
    ...(userAgent !== undefined && { 'user_agent.original': userAgent }),
  };
}

function attributesOf({ status, code, failure }: Refusal): Attributes {
  return {
    'holdfast.refusal.status': status,
    'holdfast.refusal.code': code,
    ...(failure !== undefined && { 'holdfast.refusal.failure': failure }),
  };
}
