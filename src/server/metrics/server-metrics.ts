import { performance } from 'node:perf_hooks';
import type { ThreadPool } from '../../websocket/threads/thread-pool.ts';
import { type Metric, type MetricSource, one } from './metric.ts';

/** The server itself: its ports, certificates, security events, log, threads. */
export const SERVER_METRICS: readonly Metric[] = [
  {
    name: 'holdfast_connections_accepted_total',
    type: 'counter',
    help: 'TCP connections that were accepted.',
    labels: [],
    read: ({ meters }) => one(meters.connectionsAccepted),
  },
  {
    name: 'holdfast_connections_open',
    type: 'gauge',
    help: 'TCP connections that are open.',
    labels: [],
    read: ({ connections }) => one(connections),
  },
  {
    name: 'holdfast_tls_handshakes_total',
    type: 'counter',
    help: 'TLS handshakes by result: completed, failed, timeout.',
    labels: ['result'],
    read: ({ meters }) => Object.entries(meters.tls).map(([result, value]) => ({ labels: { result }, value })),
  },
  {
    name: 'holdfast_certificate_expiry_timestamp_seconds',
    type: 'gauge',
    help: 'When the certificate of a listener ends, in seconds since the epoch.',
    labels: ['listener', 'name'],
    aggregator: 'min',
    *read({ listeners }) {
      for (const { port, certificates } of listeners)
        for (const { name, validTo } of certificates)
          yield { labels: { listener: port.number, name }, value: validTo / 1_000 };
    },
  },
  {
    name: 'holdfast_bans_active',
    type: 'gauge',
    help: 'Clients that are banned now. Processes that share a ledger know the same.',
    labels: [],
    aggregator: 'max',
    read: ({ assembly }) => one(assembly.bans.list().length),
  },
  {
    name: 'holdfast_security_events_total',
    type: 'counter',
    help: 'Security events by name (docs/reference/security-log.md).',
    labels: ['event'],
    *read({ meters }) {
      for (const [event, value] of meters.securityEvents) yield { labels: { event }, value };
    },
  },
  {
    name: 'holdfast_log_lines_lost_total',
    type: 'counter',
    help: 'Lines of logs that were dropped, because nobody read them or they could not be written.',
    labels: ['output'],
    *read({ meters }) {
      for (const [output, value] of meters.lostLines) yield { labels: { output }, value };
    },
  },
  {
    name: 'holdfast_reloads_total',
    type: 'counter',
    help: 'Reloads of the configuration by result: ok, refused (the configuration before stays in force).',
    labels: ['result'],
    read: ({ meters }) =>
      (['ok', 'refused'] as const).map(result => ({ labels: { result }, value: meters.reloads.get(result) ?? 0 })),
  },
  {
    name: 'holdfast_draining',
    type: 'gauge',
    help: '1 while the server drains. Of several processes: how many do.',
    labels: [],
    read: ({ meters }) => one(meters.isDraining ? 1 : 0),
  },
  {
    name: 'holdfast_start_time_seconds',
    type: 'gauge',
    help: 'When the server was made, in seconds since the epoch; of several processes the one that began last.',
    labels: [],
    aggregator: 'max',
    read: ({ startedAt }) => one(startedAt / 1_000),
  },
  {
    name: 'holdfast_event_loop_utilization',
    type: 'gauge',
    help: 'The share of its time, since the process began, in which the event loop was at work; of several processes the highest.',
    labels: [],
    aggregator: 'max',
    read: () => one(performance.eventLoopUtilization().utilization),
  },
  threads('holdfast_threads', 'Threads for callbacks, by state: busy, idle.', ['state'], pools => {
    const busy = sum(pools, ({ counts }) => counts.busy);
    return [
      { labels: { state: 'busy' }, value: busy },
      { labels: { state: 'idle' }, value: sum(pools, ({ counts }) => counts.threads) - busy },
    ];
  }),
  threads('holdfast_thread_callbacks_waiting', 'Callbacks that wait for a thread.', [], pools =>
    one(sum(pools, ({ counts }) => counts.waiting)),
  ),
];

function threads(
  name: string,
  help: string,
  labels: readonly string[],
  read: (pools: readonly ThreadPool[]) => ReturnType<Metric['read']>,
): Metric {
  return { name, type: 'gauge', help, labels, read: source => read(poolsOf(source)) };
}

function poolsOf({ assembly }: MetricSource): ThreadPool[] {
  return [...new Set([...assembly.endpoints].flatMap(({ dispatcher }) => dispatcher?.threads ?? []))];
}

function sum<T>(all: readonly T[], measure: (one: T) => number): number {
  return all.reduce((total, one) => total + measure(one), 0);
}
