import type { Metric } from './metric.ts';
import { SERVER_METRICS } from './server-metrics.ts';
import { SESSION_METRICS } from './session-metrics.ts';
import { TRAFFIC_METRICS } from './traffic-metrics.ts';
import { UPSTREAM_METRICS } from './upstream-metrics.ts';

/** Every metric of ours, in the order of `docs/reference/metrics.md`. */
export const METRICS: readonly Metric[] = [
  ...TRAFFIC_METRICS,
  ...SESSION_METRICS,
  ...UPSTREAM_METRICS,
  ...SERVER_METRICS,
];
