import type {
  BanEntry,
  BanList,
  ConnectionEntry,
  ConnectionList,
  LimitList,
  Status,
  TopicList,
  UpstreamEntry,
  UpstreamList,
} from './shapes.ts';

/** What one of several worker processes has answered. */
export interface OfWorker<T> {
  readonly worker: number;
  readonly answer: T;
}

/**
 * The status of several workers under the one of their supervisor: counts, memory and processor time are sums, and
 * `workers` says what each has. It is ready when every worker is.
 *
 * @param supervisor Its own; its memory and time are added.
 */
export function mergeStatus(supervisor: Status, workers: readonly OfWorker<Status>[]): Status {
  const all = workers.map(({ answer }) => answer);
  const states = new Set(all.map(({ state }) => state));
  return {
    ...supervisor,
    state: supervisor.state === 'running' && states.size === 1 ? all[0]!.state : supervisor.state,
    isReady: supervisor.isReady && all.length > 0 && all.every(({ isReady }) => isReady),
    listeners: uniqueListeners([supervisor, ...all]),
    counts: sums(all.map(({ counts }) => counts)) ?? supervisor.counts,
    memory: sums([supervisor, ...all].map(({ memory }) => memory))!,
    cpu: sums([supervisor, ...all].map(({ cpu }) => cpu))!,
    workers: workers.map(({ worker, answer: { pid, state, startedAt, counts, memory, cpu } }) => {
      return { worker, pid, state, startedAt, counts, memory, cpu };
    }),
  };
}

/** Each with its worker, the oldest first, at most `limit`. */
export function mergeConnections(answers: readonly OfWorker<ConnectionList>[], limit: number): ConnectionList {
  const all: ConnectionEntry[] = answers.flatMap(({ worker, answer }) => {
    return answer.connections.map(connection => ({ ...connection, worker }));
  });
  all.sort((a, b) => a.openedAt - b.openedAt);
  const total = answers.reduce((sum, { answer }) => sum + answer.total, 0);
  const connections = all.slice(0, limit);
  return { connections, total, isPartial: total > connections.length };
}

/** The servers of every worker, each with its worker: one may have ejected what another has not. Counters are sums. */
export function mergeUpstreams(answers: readonly OfWorker<UpstreamList>[]): UpstreamList {
  const byName = new Map<string, UpstreamEntry>();
  for (const { worker, answer } of answers)
    for (const { servers, ...upstream } of answer.upstreams) {
      const before = byName.get(upstream.name);
      byName.set(upstream.name, {
        name: upstream.name,
        servers: [...(before?.servers ?? []), ...servers.map(server => ({ ...server, worker }))],
        moves: (before?.moves ?? 0) + upstream.moves,
        retries: (before?.retries ?? 0) + upstream.retries,
        clientViolations: (before?.clientViolations ?? 0) + upstream.clientViolations,
      });
    }
  return { upstreams: [...byName.values()] };
}

/** Subscribers of all workers together, the largest topics first, at most `limit`. Of a partial answer some may be missing. */
export function mergeTopics(answers: readonly OfWorker<TopicList>[], limit: number): TopicList {
  const subscribers = new Map<string, number>();
  for (const { answer } of answers)
    for (const one of answer.topics) subscribers.set(one.topic, (subscribers.get(one.topic) ?? 0) + one.subscribers);
  const all = Array.from(subscribers, ([topic, count]) => ({ topic, subscribers: count }));
  all.sort((a, b) => b.subscribers - a.subscribers);
  const topics = all.slice(0, limit);
  const isPartial = all.length > limit || answers.some(({ answer }) => answer.isPartial);
  // Of a worker that has told only some, it is not known which of the others have them too.
  const total = Math.max(all.length, ...answers.map(({ answer }) => answer.total));
  return { topics, total, isPartial };
}

/** Of each client the ban that lasts longest, at most `limit`: workers without a ledger know only their own. */
export function mergeBans(answers: readonly OfWorker<BanList>[], limit: number): BanList {
  const byClient = new Map<string, BanEntry>();
  for (const ban of answers.flatMap(({ answer }) => answer.bans)) {
    const known = byClient.get(ban.client);
    if (!known || known.until < ban.until) byClient.set(ban.client, ban);
  }
  const bans = [...byClient.values()].slice(0, limit);
  const total = Math.max(byClient.size, ...answers.map(({ answer }) => answer.total));
  return { bans, total, isPartial: total > bans.length };
}

/** What each worker has taken, each with its worker. */
export function mergeLimits(answers: readonly OfWorker<LimitList>[]): LimitList {
  return { limits: answers.flatMap(({ worker, answer }) => answer.limits.map(limit => ({ ...limit, worker }))) };
}

/** Adds numbers by their names. @returns undefined of nothing. */
function sums<T extends Record<string, number>>(all: readonly T[]): T | undefined {
  const [first, ...others] = all;
  if (!first) return undefined;
  const entries = Object.entries(first).map(([name, value]) => {
    return [name, others.reduce((sum, other) => sum + (other[name] ?? 0), value)];
  });
  return Object.fromEntries(entries);
}

/** They share their ports. */
function uniqueListeners(all: readonly Status[]): Status['listeners'] {
  const byUrl = new Map(
    all.flatMap(({ listeners }) => listeners.map(one => [`${one.serves} ${one.url}`, one] as const)),
  );
  return [...byUrl.values()];
}
