import type { IncomingMessage } from 'node:http';
import type { HeaderLine } from '../http/header-line.ts';
import { isRefusal, type Refusal } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import type { Principal } from '../policy/auth/scheme.ts';
import type { LookedAt } from '../session/identity/tracking.ts';
import type { ShownStanding } from '../session/request/session-request.ts';
import type { ObservedExchange } from './backend-session/observed/observer.ts';
import type { ExchangeTrace, TracedServer } from './exchange/exchange.ts';
import type { HeldSession } from './held-session.ts';
import type { Route } from './route.ts';

/** The arrows of the flow, in their order (`admit.ts`, then `serve.ts` or `upgrade.ts`). */
export const FLOW_STEPS = [
  'head',
  'entry',
  'loop',
  'route',
  'path',
  'policies',
  'readings',
  'rates',
  'preflight',
  'constraints',
  'authenticate',
  'session',
  'use',
  'roles',
  'own-policy',
  'backend-session',
  'seat',
] as const;

export type FlowStep = (typeof FLOW_STEPS)[number];

/** What is known of a request behind a step. */
export interface StepFacts {
  readonly head?: RequestHead;
  readonly route?: Route;
  readonly authentication?: Authentication | undefined;
  readonly shown?: Principal | undefined;
  readonly held?: HeldSession | undefined;
  readonly principal?: Principal | undefined;
  readonly observed?: ObservedExchange | undefined;
}

/** How an answer ended. */
export interface FlowEnd {
  readonly status: number;
  /** False for what broke off. */
  readonly complete: boolean;
  readonly refusal?: Refusal | undefined;
  /** A handshake of a server that is attached, and not ours: others answer it, by whichever status. */
  readonly isLeft?: boolean;
}

/** How a WebSocket ended. */
export interface SocketEnd {
  readonly code: number;
  readonly reason: string;
  /** Who began it, where that is known. */
  readonly by?: string | undefined;
}

/**
 * Follows one request or handshake on its way, and the WebSocket that comes of it. None of its methods changes what
 * becomes of the request; what one throws is lost.
 */
export interface FlowTrace extends ExchangeTrace {
  /** Of the W3C trace that the request belongs to; undefined: none. */
  readonly traceId: string | undefined;
  /** Runs what handles the request, so that whoever asks for the active trace in it gets this one. */
  run<T>(work: () => T): T;
  /** A step is over. What comes back is what it gave, or a refusal; undefined: it had nothing to say. */
  step(name: FlowStep, outcome: StepFacts | Refusal | undefined): void;
  /** Where a session is looked for, and what is there. */
  lookedFor(places: readonly LookedAt[]): void;
  /** What became of a session that the request shows. */
  judged(sid: string, standing: ShownStanding): void;
  /** The answer is over; with 101 a WebSocket is open. */
  ended(end: FlowEnd): void;
  /** The WebSocket is open. */
  opened(connectionId: string): void;
  closed(end: SocketEnd): void;
}

/** Whoever wants to follow requests. */
export interface FlowObserver {
  /** @returns what follows this one; undefined: it is of no interest. */
  begin(request: IncomingMessage, kind: 'request' | 'handshake'): FlowTrace | undefined;
}

/** Those who follow requests now. It lives as long as the server; with nobody in it a request costs one call. */
export class FlowObservers implements FlowObserver {
  readonly #observers = new Set<FlowObserver>();

  /** @returns ends that. */
  add(observer: FlowObserver): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  begin(request: IncomingMessage, kind: 'request' | 'handshake'): FlowTrace | undefined {
    if (this.#observers.size === 0) return undefined;
    const traces = [...this.#observers].flatMap(
      observer => safely(() => observer.begin(request, kind), undefined) ?? [],
    );
    return traces.length > 0 ? new GuardedTraces(traces) : undefined;
  }
}

/** Those that follow one request. What one of them throws is lost, and harms neither the request nor the others. */
class GuardedTraces implements FlowTrace {
  readonly #traces: readonly FlowTrace[];

  constructor(traces: readonly FlowTrace[]) {
    this.#traces = traces;
  }

  get traceId(): string | undefined {
    for (const trace of this.#traces) {
      const traceId = safely(() => trace.traceId, undefined);
      if (traceId !== undefined) return traceId;
    }
    return undefined;
  }

  run<T>(work: () => T): T {
    return this.#traces.reduce((inner, trace) => () => runIn(trace, inner), work)();
  }

  step(name: FlowStep, outcome: StepFacts | Refusal | undefined): void {
    this.#tell(trace => trace.step(name, outcome));
  }

  lookedFor(places: readonly LookedAt[]): void {
    this.#tell(trace => trace.lookedFor(places));
  }

  judged(sid: string, standing: ShownStanding): void {
    this.#tell(trace => trace.judged(sid, standing));
  }

  contextHeaders(): readonly HeaderLine[] {
    return this.#traces.flatMap(trace => safely(() => trace.contextHeaders(), []));
  }

  sent(headers: readonly string[]): void {
    this.#tell(trace => trace.sent(headers));
  }

  chosen(server: TracedServer): void {
    this.#tell(trace => trace.chosen(server));
  }

  failed(server: TracedServer, reason: string): void {
    this.#tell(trace => trace.failed(server, reason));
  }

  ended(end: FlowEnd): void {
    this.#tell(trace => trace.ended(end));
  }

  opened(connectionId: string): void {
    this.#tell(trace => trace.opened(connectionId));
  }

  closed(end: SocketEnd): void {
    this.#tell(trace => trace.closed(end));
  }

  #tell(call: (trace: FlowTrace) => void): void {
    for (const trace of this.#traces) safely(() => call(trace), undefined);
  }
}

/** Does the work exactly once, whatever becomes of the trace: what of it throws is lost, what the work throws is not. */
function runIn<T>(trace: FlowTrace, work: () => T): T {
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  const once = () => {
    if (!outcome)
      try {
        outcome = { value: work() };
      } catch (error) {
        outcome = { error };
      }
    return given(outcome);
  };
  safely(() => trace.run(once), undefined);
  return once();
}

function given<T>(outcome: { readonly value: T } | { readonly error: unknown }): T {
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

/** An SDK, or an exporter in it, is the user's. */
function safely<T>(work: () => T, otherwise: T): T {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

/** The refusal that a step gave, if it did. */
export function refusalOf(outcome: StepFacts | Refusal | undefined): Refusal | undefined {
  return isRefusal(outcome) ? outcome : undefined;
}
