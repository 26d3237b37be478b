import { isDeepStrictEqual } from 'node:util';
import type { RelayLimits } from './relay/limits.ts';

/** What a route asks of a request, as it was configured: two routes are compared by it. */
export interface RouteDemands {
  /** Origins that may open a WebSocket. */
  readonly origins: 'any' | 'accept' | readonly (string | RegExp)[];
  /** https and wss only. */
  readonly isConfidential: boolean;
  /** Lists of addresses, each of which has to let a client in. */
  readonly addresses: readonly unknown[];
  /** Limits, each of which holds. */
  readonly limits: readonly unknown[];
  /** The other policies, by name. */
  readonly others: Readonly<Record<string, unknown>>;
  /**
   * What its WebSockets are limited to. `none`: it takes none, though others would. `own`: it is no relay, and has
   * limits of its own.
   */
  readonly webSocket: Pick<RelayLimits, 'maxMessageBytes' | 'maxLifetimeMs'> | 'none' | 'own';
}

/** Does `a` ask for something that `b` does not? */
export function isStricter(a: RouteDemands, b: RouteDemands, isUpgrade: boolean): boolean {
  if (a.isConfidential && !b.isConfidential) return true;
  // Of every other policy it is not known which of two is the stricter: what is not the same does not count as enough.
  const asked = Object.entries(a.others).filter(([, value]) => value !== undefined);
  if (asked.some(([name, value]) => !isDeepStrictEqual(value, b.others[name]))) return true;
  if (!isWithin(a.addresses, b.addresses) || !isWithin(a.limits, b.limits)) return true;
  if (!isUpgrade || b.webSocket === 'none') return false;
  if (a.webSocket === 'none' || !allowsOnly(b.origins, a.origins)) return true;
  if (a.webSocket === 'own' || b.webSocket === 'own') return false;
  return (
    a.webSocket.maxMessageBytes < b.webSocket.maxMessageBytes || a.webSocket.maxLifetimeMs < b.webSocket.maxLifetimeMs
  );
}

/** What adds up asks for more where there is more of it. */
function isWithin(some: readonly unknown[], all: readonly unknown[]): boolean {
  return some.every(one => all.some(other => isDeepStrictEqual(one, other)));
}

/** Is every origin of `origins` one of `allowed`? */
function allowsOnly(origins: RouteDemands['origins'], allowed: RouteDemands['origins']): boolean {
  if (allowed === 'any') return true;
  if (origins === 'any' || origins === 'accept' || allowed === 'accept') return origins === allowed;
  return origins.every(origin => allowed.some(other => isDeepStrictEqual(other, origin)));
}
