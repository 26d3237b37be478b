import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { aggregateMetrics, type MetricJson } from '../../src/server/metrics/exposition.ts';
import { samplesOf } from '../server/metrics/samples.ts';

const processes: ChildProcess[] = [];
const urls: string[] = [];

beforeAll(async () => {
  for (let n = 0; n < 2; n++) {
    const child = fork(new URL('metrics-server.ts', import.meta.url), { execArgv: [] });
    processes.push(child);
    const [url] = await once(child, 'message');
    urls.push(url);
  }
});
afterAll(() => {
  for (const child of processes) child.kill();
});

async function metricsOf(child: ChildProcess): Promise<MetricJson[]> {
  const answer = once(child, 'message');
  child.send('metrics');
  const [metrics] = await answer;
  return metrics;
}

test('the metrics of two processes are summed, and those that must not be summed are not', async () => {
  for (const [index, url] of urls.entries())
    for (let i = 0; i <= 2 * index; i++) await (await fetch(url, { headers: { connection: 'close' } })).text();
  const answered = 'holdfast_requests_total{route="all",status="200"}';
  const read = async () => Promise.all(processes.map(metricsOf));
  await expect.poll(async () => samplesOf((await aggregateMetrics(await read())).body).get(answered)).toBe(1 + 3);
  const each = await read();
  const { contentType, body } = await aggregateMetrics(each);
  const [one, other] = await Promise.all(each.map(async json => samplesOf((await aggregateMetrics([json])).body)));
  const both = samplesOf(body);
  expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect([one!.get(answered), other!.get(answered)]).toEqual([1, 3]);
  for (const summed of [
    'holdfast_request_duration_seconds_count{route="all"}',
    'holdfast_request_duration_seconds_bucket{le="+Inf",route="all"}',
    'holdfast_connections_accepted_total',
    'process_resident_memory_bytes',
  ])
    expect(both.get(summed), summed).toBe(one!.get(summed)! + other!.get(summed)!);
  for (const highest of ['holdfast_start_time_seconds', 'holdfast_event_loop_utilization', 'holdfast_bans_active'])
    expect(both.get(highest), highest).toBe(Math.max(one!.get(highest)!, other!.get(highest)!));
  expect(both.has('process_start_time_seconds')).toBe(false);
  expect([...both].filter(([name]) => name.startsWith('nodejs_version_info'))).toHaveLength(1);
});
