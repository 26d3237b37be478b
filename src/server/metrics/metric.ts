import type { Assembly } from '../assembly/build.ts';
import type { Listener } from '../listen/listener.ts';
import type { GrowingTotals } from './growing-totals.ts';
import type { ServerMeters } from './meters.ts';
import type { SocketCensus } from './socket-census.ts';

/** What metrics are read from, when they are asked for. */
export interface MetricSource {
  readonly assembly: Assembly;
  readonly listeners: readonly Listener[];
  readonly meters: ServerMeters;
  /** Of what parts count that a reload replaces. */
  readonly totals: GrowingTotals;
  readonly census: SocketCensus;
  /** TCP connections that are open, of all ports. */
  readonly connections: number;
  /** In ms since the epoch. */
  readonly startedAt: number;
}

/** One number of a metric, in the form of prom-client. */
export interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** Of histograms: `…_bucket`, `…_sum`, `…_count`. */
  readonly metricName?: string;
}

/** How the numbers of several processes become one. */
export type Aggregator = 'sum' | 'max' | 'min' | 'first';

/** A metric: its name is API, and stands in `docs/reference/metrics.md`. */
export interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** One sentence. */
  readonly help: string;
  /** Names of its labels. */
  readonly labels: readonly string[];
  /** Default `sum`. */
  readonly aggregator?: Aggregator;
  read(source: MetricSource): Iterable<Sample>;
}

/** A number without labels. */
export function one(value: number): Sample[] {
  return [{ labels: {}, value }];
}
