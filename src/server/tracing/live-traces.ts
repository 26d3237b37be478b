import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../base/clock.ts';
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
import { peerAddressOf } from '../../http/peer.ts';
import type { Refusal } from '../../http/refusal.ts';
import { traceIdIn } from '../../http/trace-context.ts';
import type { LookedAt } from '../../session/identity/tracking.ts';
import type { ShownStanding } from '../../session/request/session-request.ts';
import { describeHeaders, describeRefusal, describeSession, describeStep } from './step-texts.ts';

/** Which requests are followed. All of it must fit; left out: any. */
export interface TraceQuery {
  /** The first characters of a `sid`. */
  readonly session?: string | undefined;
  /** Of the client. */
  readonly address?: string | undefined;
  /** The path, or the beginning of it. */
  readonly path?: string | undefined;
}

/** One arrow of the flow. */
export interface TraceLine {
  /** ISO 8601, UTC. */
  readonly time: string;
  /** The same for all lines of one request, and of the WebSocket that comes of it. */
  readonly id: string;
  readonly step: FlowStep | 'headers' | 'server' | 'answer' | 'open' | 'close';
  /** Since the line before of the same request. */
  readonly ms: number;
  /** False: this step refuses the request, or something failed here. */
  readonly ok: boolean;
  readonly text: string;
}

export interface LiveTracesOptions {
  readonly query: TraceQuery;
  readonly onLine: (line: TraceLine) => void;
  readonly clock: Clock;
  /** For those that are nearest to a path without a route. */
  readonly routeNames: () => readonly string[];
}

let lastId = 0;

/** Follows requests for one reader: a line for each arrow of the flow. */
export class LiveTraces implements FlowObserver {
  readonly #options: LiveTracesOptions;

  constructor(options: LiveTracesOptions) {
    this.#options = options;
  }

  begin(request: IncomingMessage, kind: 'request' | 'handshake'): FlowTrace {
    return new LiveTrace(this.#options, request, kind);
  }
}

/** Lines wait until it is known whether the request is one of those that are asked for. */
class LiveTrace implements FlowTrace {
  readonly traceId: string | undefined;
  readonly #options: LiveTracesOptions;
  readonly #request: IncomingMessage;
  readonly #kind: 'request' | 'handshake';
  readonly #id = `t${(++lastId).toString(36)}`;
  #lastAt: number;
  #waiting: TraceLine[] = [];
  #state: 'undecided' | 'followed' | 'ignored' = 'undecided';
  #hasFit = false;
  #facts: StepFacts = {};
  #places: readonly LookedAt[] = [];
  readonly #judged: [sid: string, standing: ShownStanding][] = [];
  #server: TracedServer | undefined;

  constructor(options: LiveTracesOptions, request: IncomingMessage, kind: 'request' | 'handshake') {
    this.#options = options;
    this.#request = request;
    this.#kind = kind;
    this.#lastAt = options.clock.monotonic();
    this.traceId = traceIdIn(request.headers.traceparent);
  }

  run<T>(work: () => T): T {
    return work();
  }

  step(step: FlowStep, outcome: StepFacts | Refusal | undefined): void {
    if (this.#state === 'ignored') return;
    const refusal = refusalOf(outcome);
    if (!refusal && outcome) this.#facts = { ...this.#facts, ...(outcome as StepFacts) };
    if (step === 'head') {
      if (!this.#fitsHead(refusal)) return this.#ignore();
      this.#hasFit = true;
    }
    const { routeNames } = this.#options;
    const about = { facts: this.#facts, request: this.#request, kind: this.#kind, routeNames };
    let text = refusal ? describeRefusal(step, refusal, about) : describeStep(step, about);
    if (step === 'session') {
      const found = describeSession(this.#places, this.#judged, this.#facts);
      text = refusal ? `${text}; ${found}` : found;
      if (!this.#fitsSession()) return this.#ignore();
    }
    if (text !== undefined) this.#say(step, refusal === undefined, text);
  }

  lookedFor(places: readonly LookedAt[]): void {
    this.#places = places;
  }

  judged(sid: string, standing: ShownStanding): void {
    this.#judged.push([sid, standing]);
  }

  contextHeaders(): readonly HeaderLine[] {
    return [];
  }

  sent(headers: readonly string[]): void {
    this.#say('headers', true, describeHeaders(headers, this.#facts));
  }

  chosen(server: TracedServer): void {
    this.#server = server;
    this.#say('server', true, `${server.upstream}: ${server.url} (${server.why})`);
  }

  failed(server: TracedServer, reason: string): void {
    this.#say('server', false, `${server.upstream}: ${server.url} gave no usable answer: ${reason}`);
  }

  ended({ status, complete, refusal, isLeft }: FlowEnd): void {
    if (isLeft) return this.#say('answer', true, 'left to others who listen for upgrades');
    const from = refusal ? '' : this.#server ? ` from ${this.#server.url}` : '';
    const why = refusal ? `: ${refusal.code}, ${refusal.reason}` : '';
    const text = `${status}${status === 499 ? ' (the client has left)' : from}${why}${complete ? '' : '; it broke off'}`;
    this.#say('answer', status < 400 && complete, text);
  }

  opened(connectionId: string): void {
    this.#say('open', true, `WebSocket ${connectionId}`);
  }

  closed({ code, reason, by }: SocketEnd): void {
    const why = reason === '' ? '' : ` ${JSON.stringify(reason)}`;
    this.#say('close', code === 1000 || code === 1001, `${code}${why}${by === undefined ? '' : `, by ${by}`}`);
  }

  get #peer(): string {
    return peerAddressOf(this.#request.socket);
  }

  #fitsHead(refusal: Refusal | undefined): boolean {
    const { address, path } = this.#options.query;
    const { head } = this.#facts;
    // Nothing but the other end of its connection is known for certain.
    if (refusal) return !isFiltered({ ...this.#options.query, ...(address === this.#peer && { address: undefined }) });
    if (address !== undefined && head!.clientAddress !== address) return false;
    return path === undefined || head!.path.startsWith(path);
  }

  /** One that was shown counts, too: whoever asks for it wants to know why it was not found. */
  #fitsSession(): boolean {
    const { session } = this.#options.query;
    if (session === undefined) return true;
    const sid = this.#facts.held?.session?.id;
    return sid?.startsWith(session) === true || this.#judged.some(([shown]) => shown.startsWith(session));
  }

  #ignore(): void {
    this.#state = 'ignored';
    this.#waiting = [];
  }

  #say(step: TraceLine['step'], ok: boolean, text: string): void {
    if (this.#state === 'ignored') return;
    const { clock, onLine, query } = this.#options;
    // One that is answered before it is looked at, as by a server that drains, may be anybody's.
    if (!this.#hasFit && this.#state === 'undecided' && isFiltered(query)) return this.#ignore();
    const at = clock.monotonic();
    const ms = Math.round((at - this.#lastAt) * 1_000) / 1_000;
    this.#lastAt = at;
    const line = { time: new Date(clock.now()).toISOString(), id: this.#id, step, ms, ok, text };
    if (this.#state === 'undecided') {
      const isDecided = query.session === undefined ? step !== 'head' || !ok : step === 'session';
      this.#waiting.push(line);
      if (!isDecided) {
        // It has ended before a session was looked for.
        if (step === 'answer') this.#ignore();
        return;
      }
      this.#state = 'followed';
      for (const waiting of this.#waiting.splice(0)) onLine(waiting);
      return;
    }
    onLine(line);
  }
}

function isFiltered({ session, address, path }: TraceQuery): boolean {
  return session !== undefined || address !== undefined || path !== undefined;
}
