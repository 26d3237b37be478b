import type { SessionManager } from '../../session/manager.ts';
import type { SessionStatistics, StoreCalls } from '../../session/reports/statistics.ts';
import type { Source } from './growing-totals.ts';
import { type Metric, type MetricSource, one, type Sample } from './metric.ts';

/** Where the totals of sessions stand among those of other parts. */
const PREFIX = 'sessions ';
const CALLS = { read: 'reads', glance: 'glances', write: 'writes' } as const;

/** By the part of the key, what of the statistics only grows. */
type Counter = keyof {
  [K in keyof SessionStatistics as SessionStatistics[K] extends number ? K : never]: true;
};

const COUNTERS = [
  'created',
  'noRoom',
  'noRoomForChanges',
  'noRoomForPages',
  'cacheDiscards',
  'cacheHits',
  'cacheMisses',
  'affinityBreaks',
  'gone',
  'conflicts',
  'unknownTypes',
  'deadSecrets',
  'unauthorized',
] as const satisfies readonly Counter[];

/** What a manager of sessions has counted since it was made. */
export function sessionSource(manager: Pick<SessionManager, 'statistics'>): Source {
  return { of: manager, read: () => readStatistics(manager.statistics()) };
}

function* readStatistics(statistics: SessionStatistics): Generator<readonly [string, number]> {
  for (const name of COUNTERS) yield [PREFIX + name, statistics[name]];
  for (const [reason, count] of Object.entries(statistics.endedBy)) yield [`${PREFIX}ended ${reason}`, count];
  yield [`${PREFIX}lifetime count`, statistics.lifetimeMs.count];
  yield [`${PREFIX}lifetime sum`, statistics.lifetimeMs.sum];
  for (const [operation, name] of Object.entries(CALLS)) {
    const calls: StoreCalls = statistics[name];
    yield [`${PREFIX}${operation} count`, calls.count];
    yield [`${PREFIX}${operation} failures`, calls.failures];
    yield [`${PREFIX}${operation} ms`, calls.totalMs];
    yield [`${PREFIX}${operation} bytes`, calls.bytes];
  }
}

/** Sessions, and the calls of their stores. */
export const SESSION_METRICS: readonly Metric[] = [
  counter('holdfast_sessions_created_total', 'Sessions that were begun and put into the store.', 'created'),
  {
    name: 'holdfast_sessions_ended_total',
    type: 'counter',
    help: 'Sessions that this process has ended, by reason: expired, absolute, logout, evicted, admin, security.',
    labels: ['reason'],
    read: source => totals(source, 'ended ', reason => ({ reason })),
  },
  {
    name: 'holdfast_sessions_lifetime_seconds_total',
    type: 'counter',
    help: 'Seconds from creation to end, of all sessions that ended, together.',
    labels: [],
    read: source => one(total(source, 'lifetime sum') / 1_000),
  },
  gauge('holdfast_sessions_active', 'Sessions that a request or a socket of this process holds now.', 'activeNow'),
  gauge('holdfast_sessions_in_memory', 'Sessions in the memory of this process.', 'liveNow'),
  gauge('holdfast_sessions_memory_bytes', 'Bytes of the sessions in the memory of this process.', 'liveBytesNow'),
  {
    name: 'holdfast_session_requests_total',
    type: 'counter',
    help: 'Requests with the session of a client, by where it was found: memory, store, or gone (its ticket is genuine, the session has ended).',
    labels: ['found'],
    read: source => [
      { labels: { found: 'memory' }, value: total(source, 'cacheHits') },
      { labels: { found: 'store' }, value: total(source, 'cacheMisses') },
      { labels: { found: 'gone' }, value: total(source, 'gone') },
    ],
  },
  {
    name: 'holdfast_sessions_refused_total',
    type: 'counter',
    help: 'No room in the store or on the disk: for a new session, for changes of one, or for the anonymous session of a page.',
    labels: ['what'],
    read: source => [
      { labels: { what: 'new' }, value: total(source, 'noRoom') },
      { labels: { what: 'change' }, value: total(source, 'noRoomForChanges') },
      { labels: { what: 'page' }, value: total(source, 'noRoomForPages') },
    ],
  },
  counter(
    'holdfast_session_conflicts_total',
    "Commits that met somebody else's change of the same attribute.",
    'conflicts',
  ),
  counter(
    'holdfast_session_affinity_breaks_total',
    'Requests for a session that another process has used last.',
    'affinityBreaks',
  ),
  counter(
    'holdfast_session_dead_secrets_total',
    'Requests with a secret that was replaced by a login more than a minute ago.',
    'deadSecrets',
  ),
  counter('holdfast_session_strangers_total', "Requests with somebody else's session.", 'unauthorized'),
  counter('holdfast_session_unknown_types_total', 'Values of a type that this process does not know.', 'unknownTypes'),
  counter('holdfast_session_cache_discards_total', 'Sessions that left the memory to make room.', 'cacheDiscards'),
  storeCalls('holdfast_store_operations_total', 'Calls to the session store.', 'count', 1),
  storeCalls('holdfast_store_failures_total', 'Calls to the session store that failed.', 'failures', 1),
  storeCalls('holdfast_store_seconds_total', 'Seconds that calls to the session store took, together.', 'ms', 1_000),
  storeCalls('holdfast_store_bytes_total', 'Bytes of attributes that were read or written.', 'bytes', 1),
];

function counter(name: string, help: string, key: (typeof COUNTERS)[number]): Metric {
  return { name, type: 'counter', help, labels: [], read: source => one(total(source, key)) };
}

function gauge(name: string, help: string, key: 'activeNow' | 'liveNow' | 'liveBytesNow'): Metric {
  const read = ({ assembly }: MetricSource) =>
    one([...assembly.openManagers].reduce((sum, manager) => sum + manager.statistics()[key], 0));
  return { name, type: 'gauge', help, labels: [], read };
}

function storeCalls(name: string, help: string, key: string, divisor: number): Metric {
  return {
    name,
    type: 'counter',
    help,
    labels: ['operation'],
    read: source =>
      Object.keys(CALLS).map(operation => ({
        labels: { operation },
        value: total(source, `${operation} ${key}`) / divisor,
      })),
  };
}

function total({ totals }: MetricSource, key: string): number {
  return totals.of(PREFIX + key);
}

function* totals({ totals }: MetricSource, prefix: string, labels: (rest: string) => Sample['labels']) {
  for (const [rest, value] of totals.under(PREFIX + prefix)) yield { labels: labels(rest), value };
}
