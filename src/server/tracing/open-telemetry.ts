import { HoldfastError } from '../../base/errors.ts';
import type { FlowObserver } from '../../gateway/flow-observer.ts';
import type { OpenTelemetry } from './span-observer.ts';

/** Where `@opentelemetry/api` keeps what is registered: the same for every copy of it. */
const REGISTRY = Symbol.for('opentelemetry.js.api.1');

/**
 * Makes spans for the tracer provider that the program has registered.
 *
 * The API is loaded only where there is one: without it, nothing of tracing is.
 *
 * @param wanted `undefined`: if there is one now.
 * @returns undefined: there is none.
 * @throws {HoldfastError} ERR_CONFIG_INVALID when it is wanted and the API is not installed.
 */
export async function openTracing(wanted: boolean | undefined): Promise<FlowObserver | undefined> {
  if (wanted === false || (wanted === undefined && !isRegistered())) return undefined;
  const api = await loadApi();
  if (!api) {
    if (!wanted) return undefined;
    const message = 'tracing: @opentelemetry/api cannot be loaded; install it with an SDK, or remove "tracing"';
    throw new HoldfastError('ERR_CONFIG_INVALID', message);
  }
  const { SpanObserver } = await import('./span-observer.ts');
  return new SpanObserver(api);
}

function isRegistered(): boolean {
  const registered = (globalThis as { [REGISTRY]?: { trace?: unknown } })[REGISTRY];
  return registered?.trace !== undefined;
}

async function loadApi(): Promise<OpenTelemetry | undefined> {
  try {
    return await import('@opentelemetry/api');
  } catch {
    return undefined;
  }
}
