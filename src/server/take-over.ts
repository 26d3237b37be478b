import type { LiveSocket } from '../gateway/live-sockets.ts';
import type { Assembly } from './assembly/build.ts';
import { drainSettings } from './assembly/drain-settings.ts';
import { holdToRules } from './assembly/hold-to-rules.ts';
import { isSameRoute, keyOf, routeNow } from './assembly/known-routes.ts';
import { Spread } from './assembly/spread.ts';
import { endIfStale } from './assembly/stale-streams.ts';
import { type Lasting, needsRestart } from './needs-restart.ts';

/** What a reload has changed: routes by their names, with methods and path where several have one name. */
export interface ReloadReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** WebSockets that are told to go: their route, server or session store is not there any more. */
  readonly sockets: number;
  /** Keys of the configuration that are as they were until a restart: `metrics` and `workers`. */
  readonly needsRestart: readonly string[];
}

/** What a configuration that counts from now on means for what is open. */
export function takeOver(before: Assembly, now: Assembly, lasting: Lasting): ReloadReport {
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
  const restart = needsRestart(now, lasting);
  if (!lasting.isWorker) sayRestart(restart, now);
  new Spread(now.clock, leaving, drainSettings(now.config).overMs);
  return { ...report, sockets: leaving.length, needsRestart: restart };
}

function sayRestart(keys: readonly string[], { logger }: Assembly): void {
  const message = `restart the server for what has changed in ${keys.join(', ')}`;
  if (keys.length > 0) logger.of('server').warn({ event: 'reload-needs-restart', keys }, message);
}

/** @returns tells it to go, where there is nothing left that it is open for. */
function judge(live: LiveSocket, now: Assembly): { close(): void }[] {
  const leaving = holdToRules(live, now);
  return leaving ? [{ close: () => live.close(leaving.code, leaving.reason) }] : [];
}
