import { readFileSync } from 'node:fs';
import { parser } from '@prometheus-io/lezer-promql';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { openProcessMetrics } from '../../../src/server/metrics/exposition.ts';
import { METRICS } from '../../../src/server/metrics/metrics.ts';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const page = read('docs/reference/metrics.md');

interface ProcessMetric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly aggregator: string;
}

async function processMetrics(): Promise<ProcessMetric[]> {
  return (await (await openProcessMetrics()).getMetricsAsJSON()) as unknown as ProcessMetric[];
}

/** Labels that Prometheus itself adds. */
const OF_PROMETHEUS = ['instance', 'job'];

/** Every name that a query may ask for, with the labels that it has. */
async function known(): Promise<Map<string, readonly string[]>> {
  const ours = METRICS.flatMap(({ name, type, labels }) => {
    if (type !== 'histogram') return [[name, labels] as const];
    const others = labels.filter(label => label !== 'le');
    return [[`${name}_bucket`, labels] as const, [`${name}_sum`, others] as const, [`${name}_count`, others] as const];
  });
  const ofProcess = (await processMetrics()).map(({ name }) => [name, []] as const);
  return new Map<string, readonly string[]>([...ours, ...ofProcess]);
}

/** What is wrong with a query. */
function faultsOf(query: string, metrics: ReadonlyMap<string, readonly string[]>): string[] {
  // Grafana puts its variables in before Prometheus sees them.
  const text = query.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*');
  const faults: string[] = [];
  let labels: readonly string[] = [];
  const asked: string[] = [];
  const available = new Set(OF_PROMETHEUS);
  parser.parse(text).iterate({
    enter({ name, type, node, from, to }) {
      if (type.isError) faults.push(`cannot be parsed at ${from}: ${text}`);
      if (name === 'VectorSelector') {
        const metric = node.getChild('Identifier');
        const metricName = metric ? text.slice(metric.from, metric.to) : '';
        labels = metrics.get(metricName) ?? [];
        for (const label of labels) available.add(label);
        if (!metrics.has(metricName)) faults.push(`no such metric: ${metricName}`);
      }
      if (name === 'LabelName') {
        const label = text.slice(from, to);
        if (node.parent?.name === 'GroupingLabels') asked.push(label);
        else if (![...labels, ...OF_PROMETHEUS].includes(label)) faults.push(`no such label: ${label} in ${text}`);
      }
    },
  });
  return [...faults, ...asked.filter(label => !available.has(label)).map(label => `nothing has ${label} in ${text}`)];
}

describe('docs/reference/metrics.md', () => {
  test('has every metric of ours with type, labels, aggregation and meaning, in this order, and no other', () => {
    const rows = [...page.matchAll(/^\| `(holdfast_\w+)` \| (\w+) \| (.*) \| (\w+) \| (.*) \|$/gm)];
    expect(rows.map(row => row.slice(1))).toEqual(
      METRICS.map(({ name, type, labels, aggregator = 'sum', help }) => {
        return [name, type, labels.map(label => `\`${label}\``).join(' '), aggregator, help];
      }),
    );
  });

  test('has every metric of the process, and no other', async () => {
    const rows = [...page.matchAll(/^\| `((?:process|nodejs)_\w+)` \| (\w+) \| (\w+) \| (.*) \|$/gm)];
    const table = (await processMetrics()).map(({ name, type, aggregator, help }) => [name, type, aggregator, help]);
    expect(rows.map(row => row.slice(1))).toEqual(table);
  });
});

test('names of metrics follow the rules of Prometheus: base units, and _total for counters alone', () => {
  for (const { name, type, labels } of METRICS) {
    expect(name).toMatch(/^holdfast_[a-z_]+$/);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    expect(name).not.toMatch(/_(?:ms|milliseconds|minutes|kb|mb|kib|mib|percent)(?:_|$)/);
    for (const label of labels) expect(['address', 'session', 'sid', 'user', 'path', 'host']).not.toContain(label);
  }
});

describe('docs/monitoring', () => {
  test('each query of the Grafana dashboard can be parsed and asks for metrics and labels that exist', async () => {
    const metrics = await known();
    const { panels } = JSON.parse(read('docs/monitoring/grafana.json')) as {
      panels: { id: number; type: string; title: string; targets?: { expr: string }[] }[];
    };
    const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    expect(queries.length).toBeGreaterThan(40);
    expect(queries.flatMap(query => faultsOf(query, metrics))).toEqual([]);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  });

  test('each alert can be parsed and asks for metrics and labels that exist', async () => {
    const metrics = await known();
    const { groups } = parse(read('docs/monitoring/alerts.yaml')) as {
      groups: { rules: { alert: string; expr: string; labels: object; annotations: { summary: string } }[] }[];
    };
    const rules = groups.flatMap(group => group.rules);
    expect(rules.length).toBeGreaterThan(10);
    expect(rules.flatMap(({ expr }) => faultsOf(expr, metrics))).toEqual([]);
    for (const { alert, annotations } of rules) {
      expect(alert).toMatch(/^Holdfast[A-Z]\w+$/);
      expect(annotations.summary).toMatch(/\.$/);
    }
  });

  test('what a query gets wrong is found', async () => {
    const metrics = await known();
    expect(faultsOf('rate(holdfast_requests_total[5m]', metrics)).not.toEqual([]);
    expect(faultsOf('holdfast_nothing_total', metrics)).toEqual(['no such metric: holdfast_nothing_total']);
    expect(faultsOf('holdfast_requests_total{path="/"}', metrics)).toHaveLength(1);
    expect(faultsOf('sum by (upstream) (holdfast_requests_total)', metrics)).toHaveLength(1);
    expect(faultsOf('holdfast_request_duration_seconds', metrics)).toHaveLength(1);
  });
});
