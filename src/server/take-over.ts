import type { LiveSocket } from '../gateway/live-sockets.ts';
import type { Assembly } from './assembly/build.ts';
import { drainSettings } from './assembly/drain-settings.ts';
import { holdToRules } from './assembly/hold-to-rules.ts';
import { isSameRoute, keyOf, routeNow } from './assembly/known-routes.ts';
import { Spread } from './assembly/spread.ts';
import { endIfStale } from './assembly/stale-streams.ts';

/** What a reload has changed: routes by their names, with methods and path where several have one name. */
export interface ReloadReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** WebSockets that are told to go: their route, server or session store is not there any more. */
  readonly sockets: number;
}

/** What a configuration that counts from now on means for what is open. */
export function takeOver(before: Assembly, now: Assembly): ReloadReport {
  const pairs = Array.from(before.routes.values(), route => ({ was: route, is: routeNow(route, now.routes) }));
  const known = new Set(pairs.map(({ is }) => is));
  const report = {
    added: [...now.routes.values()].filter(route => !known.has(route)).map(keyOf),
    changed: pairs.flatMap(({ was, is }) => (is && !isSameRoute(was, is) ? [keyOf(is)] : [])),
    removed: pairs.filter(({ is }) => !is).map(({ was }) => keyOf(was)),
  };
  const leaving = [...now.sockets].flatMap(live => judge(live, now));
  for (const [response, answer] of now.answers) endIfStale(response, answer, now);
  now.users.forgetUnused();
  new Spread(now.clock, leaving, drainSettings(now.config).overMs);
  return { ...report, sockets: leaving.length };
}

/** @returns tells it to go, where there is nothing left that it is open for. */
function judge(live: LiveSocket, now: Assembly): { close(): void }[] {
  const leaving = holdToRules(live, now);
  return leaving ? [{ close: () => live.close(leaving.code, leaving.reason) }] : [];
}
