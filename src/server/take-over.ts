import { sameValue } from '../base/same-value.ts';
import type { LiveSocket } from '../gateway/live-sockets.ts';
import type { Route } from '../gateway/route.ts';
import { isEventStream } from '../http/event-stream.ts';
import type { Assembly } from './assembly/build.ts';
import { drainSettings } from './assembly/drain-settings.ts';
import { holdToRules, ROUTE_GONE, routeNow } from './assembly/hold-to-rules.ts';
import { Spread } from './assembly/spread.ts';

/** What a reload has changed: routes by their names. */
export interface ReloadReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** WebSockets that are told to go: their route, server or session store is not there any more. */
  readonly sockets: number;
}

const SESSIONS_GONE = 'session store is leaving';

/** What a configuration that counts from now on means for what is open. */
export function takeOver(before: Assembly, now: Assembly): ReloadReport {
  const isChanged = (route: Route) => !sameValue(before.routes.get(route.name)?.madeFrom, route.madeFrom);
  const report = {
    added: [...now.routes.keys()].filter(name => !before.routes.has(name)),
    changed: [...now.routes.values()].filter(route => before.routes.has(route.name) && isChanged(route)).map(nameOf),
    removed: [...before.routes.keys()].filter(name => !now.routes.has(name)),
  };
  const leaving = [...now.sockets].flatMap(live => judge(live, now));
  endStreams(now, new Set([...report.changed, ...report.removed]));
  now.users.forgetUnused();
  new Spread(now.clock, leaving, drainSettings(now.config).overMs);
  return { ...report, sockets: leaving.length };
}

const nameOf = ({ name }: Route) => name;

/** @returns tells it to go, where there is nothing left that it is open for. */
function judge(live: LiveSocket, now: Assembly): { close(): void }[] {
  const { goingAway, restart } = now.closeCodes;
  const route = routeNow(live, now.routes);
  if (!route) return [{ close: () => live.close(goingAway, ROUTE_GONE) }];
  const manager = live.route.sessions?.manager;
  holdToRules(live, now);
  const hasLost = live.sid !== undefined && manager !== undefined && route.sessions?.manager !== manager;
  return hasLost ? [{ close: () => live.close(restart, SESSIONS_GONE) }] : [];
}

/** Their clients open them again, and are answered by what the route is now. */
function endStreams({ answers }: Assembly, routes: ReadonlySet<string>): void {
  for (const [response, { route }] of answers) if (routes.has(route.name) && isEventStream(response)) response.end();
}
