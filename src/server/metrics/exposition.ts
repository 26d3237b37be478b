import type { Metric as RegisteredMetric, Registry } from 'prom-client';
import { folded } from './folded.ts';
import type { Metric, MetricSource, Sample } from './metric.ts';
import { METRICS } from './metrics.ts';

/** What a scrape gets. */
export interface MetricsText {
  readonly contentType: string;
  readonly body: string;
}

/** A metric of one process as JSON, in the form of prom-client. It can be sent to another process. */
export interface MetricJson {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly aggregator: string;
  readonly values: readonly Sample[];
}

/** prom-client reads a metric by this. */
interface Registered {
  readonly name: string;
  get(): MetricJson;
}

/** Make lists of all that is open with each scrape: with many sockets everybody would wait for that. */
const COSTLY = ['resources', 'handles', 'requests'].flatMap(what => [
  `nodejs_active_${what}`,
  `nodejs_active_${what}_total`,
]);

/** What prom-client keeps of a process is global: one registry for all servers in it, with the process's own metrics. */
let processRegistry: Promise<Registry> | undefined;

/**
 * Metrics of the process: memory, CPU, garbage collection, delay of the event loop. They are measured from now on, which
 * is the first scrape: with an admin port a server keeps metrics that nobody may ever ask for, and who asks begins with
 * that first value anyway.
 */
export function openProcessMetrics(): Promise<Registry> {
  processRegistry ??= import('prom-client').then(({ collectDefaultMetrics, Registry }) => {
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    for (const name of COSTLY) registry.removeSingleMetric(name);
    return registry;
  });
  return processRegistry;
}

/** The metrics of a server and its process, as JSON. */
export async function metricsJson(source: MetricSource): Promise<MetricJson[]> {
  const ofProcess = await openProcessMetrics();
  // The types of prom-client leave out what its metrics have.
  const json = (await ofProcess.getMetricsAsJSON()) as unknown as MetricJson[];
  return [...METRICS.map(metric => read(metric, source)), ...json];
}

/**
 * The text of a scrape: the metrics of one process, or of several together. Sums counters and histograms; of other
 * metrics each says how its numbers become one.
 *
 * @param processes What `metricsJson` gave in each.
 */
export async function aggregateMetrics(processes: readonly (readonly MetricJson[])[]): Promise<MetricsText> {
  const { AggregatorRegistry, Registry } = await import('prom-client');
  if (processes.length === 1) {
    const registry = new Registry();
    for (const metric of processes[0]!) registry.registerMetric(registered(metric) as unknown as RegisteredMetric);
    return textOf(registry);
  }
  return textOf(AggregatorRegistry.aggregate(processes as unknown as object[]));
}

function read({ name, help, type, aggregator = 'sum', read }: Metric, source: MetricSource): MetricJson {
  return { name, help, type, aggregator, values: folded(read(source), aggregator) };
}

function registered(metric: MetricJson): Registered {
  return { name: metric.name, get: () => metric };
}

async function textOf(registry: Registry): Promise<MetricsText> {
  return { contentType: registry.contentType, body: await registry.metrics() };
}
