import { expect, test } from 'vitest';
import { BoundedNames } from '../../../src/server/metrics/bounded-names.ts';
import { folded } from '../../../src/server/metrics/folded.ts';
import { GrowingTotals } from '../../../src/server/metrics/growing-totals.ts';
import { DURATION_BUCKETS_S, DurationHistogram } from '../../../src/server/metrics/histogram.ts';
import { ServerMeters } from '../../../src/server/metrics/meters.ts';

test('a configuration that changes a thousand times makes a bounded number of label values', () => {
  const names = new BoundedNames(10);
  const labels = new Set(Array.from({ length: 1_000 }, (_, i) => names.of(`route-${i}`)));
  expect(labels.size).toBe(11);
  expect(labels.has('other')).toBe(true);
  expect(names.of('route-3')).toBe('route-3');
});

test('the routes of a server are bounded, whatever its configuration becomes', () => {
  const meters = new ServerMeters();
  for (let i = 0; i < 5_000; i++) meters.answered(`route-${i}`, 200, 1);
  expect(meters.routes.size).toBe(1_001);
  expect(meters.routes.get('other')!.answers.get('200')).toBe(4_000);
});

test('the outputs whose lost lines are counted are bounded, whatever the configuration becomes', () => {
  const meters = new ServerMeters();
  for (let i = 0; i < 1_000; i++) meters.lostLines.add(`/var/log/${i}.log`, 2);
  expect(meters.lostLines.size).toBe(101);
  expect(meters.lostLines.get('other')).toBe(1_800);
});

test.each([
  ['sum', 7],
  ['min', 3],
  ['max', 4],
  ['first', 4],
] as const)('series with the same labels are one in a scrape: of %s', (aggregator, value) => {
  const of = (server: string, count: number, metricName?: string) => ({
    labels: { upstream: 'app', server },
    value: count,
    ...(metricName !== undefined && { metricName }),
  });
  const samples = [of('other', 4), of('a', 1), of('other', 3), of('other', 9, 'another')];
  expect(folded(samples, aggregator)).toEqual([of('other', value), of('a', 1), of('other', 9, 'another')]);
});

test('statuses without a name are counted by their class, so that no backend can make hundreds', () => {
  const meters = new ServerMeters();
  for (let status = 100; status < 1_000; status++) meters.answered('a', status, 1);
  const labels = [...meters.of('a').answers.keys()];
  expect(labels).toEqual(expect.arrayContaining(['200', '404', '499', '2xx', '5xx', 'other']));
  expect(labels.length).toBeLessThan(80);
});

test('a counter does not go back when its part is replaced by a new one', () => {
  const totals = new GrowingTotals();
  const part = (count: { value: number }) => ({ of: count, read: () => [['requests', count.value] as const] });
  const [first, second] = [{ value: 5 }, { value: 0 }];
  totals.absorb([part(first)]);
  expect(totals.of('requests')).toBe(5);
  // Counted between the last look and its end.
  first.value = 7;
  second.value = 1;
  totals.absorb([part(second)]);
  expect(totals.of('requests')).toBe(8);
  second.value = 4;
  totals.absorb([part(second)]);
  expect(totals.of('requests')).toBe(11);
});

test('a part that nobody looked at before it was replaced counts if it is absorbed first', () => {
  const totals = new GrowingTotals();
  const short = { value: 3 };
  totals.absorb([{ of: short, read: () => [['requests', short.value]] }]);
  totals.absorb([]);
  totals.absorb([]);
  expect(totals.of('requests')).toBe(3);
});

test('a duration is in the first bucket that it fits in, and in all that are longer', () => {
  const histogram = new DurationHistogram();
  for (const ms of [1, 1.1, 30_001]) histogram.add(ms);
  const buckets = new Map(histogram.cumulative());
  expect(buckets.get(0.001)).toBe(1);
  expect(buckets.get(0.0025)).toBe(2);
  expect(buckets.get(30)).toBe(2);
  expect(buckets.get('+Inf')).toBe(3);
  expect(buckets.size).toBe(DURATION_BUCKETS_S.length + 1);
  expect(histogram.sumSeconds).toBeCloseTo(30.0031);
});
