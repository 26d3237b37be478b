import type { SessionMinute } from './history.ts';
import { MAX_SLOWEST, SessionMeters, type SessionStatistics, type SlowCall } from './statistics.ts';

/** These are the highest of all; every other number is a sum. */
const HIGHEST: ReadonlySet<string> = new Set(['max', 'maxMs']);

/**
 * The statistics of several processes or contexts as one: counters and levels are added, of each `max` the highest
 * counts, and of the slowest calls the ten slowest.
 *
 * @example
 * import { MemoryStore, SessionManager, sumStatistics } from 'holdfast/session';
 *
 * const keys = [crypto.getRandomValues(new Uint8Array(32))];
 * const contexts = [1, 2].map(() => new SessionManager({ store: new MemoryStore(), keys }));
 * console.log(sumStatistics(contexts.map(sessions => sessions.statistics())).created); // 0
 */
export function sumStatistics(all: Iterable<SessionStatistics>): SessionStatistics {
  let sum = NOTHING;
  const slowest: SlowCall[] = [];
  for (const one of all) {
    sum = added(sum, one) as SessionStatistics;
    slowest.push(...one.slowest);
  }
  return { ...sum, slowest: slowest.sort((a, b) => b.ms - a.ms).slice(0, MAX_SLOWEST) };
}

/** Minute by minute, the oldest first. */
export function sumHistories(all: Iterable<readonly SessionMinute[]>): SessionMinute[] {
  const minutes = new Map<number, SessionMinute>();
  for (const history of all)
    for (const minute of history) {
      const before = minutes.get(minute.at);
      const sum = before ? (added(before, minute) as SessionMinute) : minute;
      minutes.set(minute.at, { ...sum, at: minute.at });
    }
  return [...minutes.values()].sort((a, b) => a.at - b.at);
}

/** What another process has said, as far as it is statistics; what it does not say is 0. */
export function readStatistics(said: unknown): SessionStatistics {
  const { slowest } = (said ?? {}) as { slowest?: unknown };
  const calls = Array.isArray(slowest) ? slowest.slice(0, MAX_SLOWEST) : [];
  return { ...(added(NOTHING, said) as SessionStatistics), slowest: calls.filter(isSlowCall) };
}

const NOTHING: SessionStatistics = new SessionMeters().read({ size: 0, bytes: 0 });

/** The numbers that the first one has. */
function added(first: object, second: unknown): object {
  const other = (second ?? {}) as Record<string, unknown>;
  const entries = Object.entries(first).map(([name, value]) => {
    if (typeof value !== 'number') return [name, Array.isArray(value) ? value : added(value, other[name])];
    const more = typeof other[name] === 'number' && Number.isFinite(other[name]) ? other[name] : 0;
    return [name, HIGHEST.has(name) ? Math.max(value, more) : value + more];
  });
  return Object.fromEntries(entries);
}

function isSlowCall(call: Partial<SlowCall> | null): call is SlowCall {
  return typeof call?.operation === 'string' && Number.isFinite(call.ms) && Number.isFinite(call.at);
}
