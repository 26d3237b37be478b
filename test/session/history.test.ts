import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import type { SessionMinute } from '../../src/session/reports/history.ts';
import { sumHistories } from '../../src/session/reports/sums.ts';
import { Cluster, type Process, settle, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const MINUTE = 60_000;

let cluster: Cluster;
let one: Process;
beforeEach(async () => {
  cluster = new Cluster(new FaultyStore());
  one = cluster.process({ idleTimeoutMs: 24 * 3_600_000, absoluteTimeoutMs: 48 * 3_600_000, sweep: { atHours: [23] } });
});
afterEach(() => one.manager.close());

const history = () => one.manager.history();
const of = <K extends keyof SessionMinute>(name: K) => history().map(minute => minute[name]);
const minuteOf = (at: number) => Math.floor(at / MINUTE) * MINUTE;

test('there is no history before the start, and from then on the minute that runs', async () => {
  expect(history()).toEqual([]);
  await one.manager.start();
  expect(history()).toMatchObject([{ at: minuteOf(cluster.clock.now()), created: 0, active: { last: 0, peak: 0 } }]);
});

test('counters are what happened within each minute, and idle minutes are there', async () => {
  await one.manager.start();
  for (const visits of [2, 0, 1]) {
    for (let n = 0; n < visits; n++) await visit(one, undefined, session => session.set('a', 'x'.repeat(100 * visits)));
    await cluster.clock.advance(MINUTE);
  }
  expect(of('created')).toEqual([2, 0, 1, 0]);
  expect(of('size').map(({ count, max }) => [count, max > 200, max > 100])).toEqual([
    [2, true, true],
    [0, false, false],
    [1, false, true],
    [0, false, false],
  ]);
  expect(of('writes').map(({ count }) => count)).toEqual([2, 0, 1, 0]);
  expect(of('at').map((at, index) => at - of('at')[0]! === index * MINUTE)).toEqual([true, true, true, true]);
  expect(one.manager.statistics().created).toBe(3); // the totals stay
});

test('the highest of a minute is of that minute, not of all time', async () => {
  await one.manager.start();
  const { cookie } = await visit(one, undefined, () => {});
  await cluster.clock.advance(40_000);
  await visit(one, cookie, () => {});
  await cluster.clock.advance(50_000);
  await visit(one, cookie, () => {});
  await cluster.clock.advance(5_000);
  await visit(one, cookie, () => {});
  expect(of('sinceLastAccessMs')).toEqual([
    { count: 1, sum: 40_000, max: 40_000 },
    { count: 2, sum: 55_000, max: 50_000 },
  ]);
});

test('levels have their highest and their last value', async () => {
  await one.manager.start();
  const { cookie } = await visit(one, undefined, () => {});
  const bindings = [one.request(cookie), one.request(cookie), one.request(cookie)];
  for (const binding of bindings) await binding.get();
  bindings[0]!.release();
  await cluster.clock.advance(MINUTE);
  bindings[1]!.release();
  await cluster.clock.advance(MINUTE);
  bindings[2]!.release();
  expect(of('active')).toEqual([
    { last: 2, peak: 3 },
    { last: 1, peak: 2 },
    { last: 0, peak: 1 },
  ]);
  expect(of('live').map(({ peak }) => peak)).toEqual([1, 1, 1]);
  expect(of('liveBytes')[0]!.peak).toBeGreaterThan(0);
});

test('an hour is kept and nothing more', async () => {
  await one.manager.start();
  for (let minute = 0; minute < 130; minute++) {
    if (minute >= 70 && minute % 2 === 0) await visit(one, undefined, () => {});
    await cluster.clock.advance(MINUTE);
  }
  expect(history()).toHaveLength(60);
  expect(of('at').at(-1)).toBe(minuteOf(cluster.clock.now()));
  expect(of('at')[0]).toBe(of('at').at(-1)! - 59 * MINUTE);
  expect(of('created').reduce((sum, count) => sum + count)).toBe(29);
});

test('what a process counts that stood still belongs to the minute before, and the minutes left out are empty', async () => {
  await one.manager.start();
  await visit(one, undefined, () => {});
  cluster.clock.jump(cluster.clock.now() + 5 * MINUTE);
  expect(of('created')).toEqual([1, 0, 0, 0, 0, 0]);
  await visit(one, undefined, () => {});
  cluster.clock.jump(cluster.clock.now() + 365 * 24 * 60 * MINUTE);
  expect(history()).toHaveLength(60);
  expect(of('created')).toEqual(Array(60).fill(0));
});

test('a clock that was set back loses no count', async () => {
  await one.manager.start();
  await visit(one, undefined, () => {});
  cluster.clock.jump(cluster.clock.now() - 3 * MINUTE);
  await visit(one, undefined, () => {});
  await cluster.clock.advance(2 * MINUTE);
  expect(of('created').reduce((sum, count) => sum + count)).toBe(2);
  expect(history().length).toBeLessThanOrEqual(60);
});

test('histories are added minute by minute', async () => {
  await one.manager.start();
  await visit(one, undefined, () => {});
  await cluster.clock.advance(MINUTE);
  const longer = history();
  const shorter = longer.slice(1);
  const sum = sumHistories([longer, shorter]);
  expect(sum.map(({ created, at }) => [created, at])).toEqual([
    [1, longer[0]!.at],
    [0, longer[1]!.at],
  ]);
});

test('the first minute is one of the clock of the store', async () => {
  const begin = cluster.clock.now() - 31 * MINUTE;
  const time = Promise.withResolvers<void>();
  Object.assign(cluster.store, {
    time: async () => {
      await time.promise;
      return begin + cluster.clock.monotonic();
    },
  });
  const two = cluster.process({ ledger: new MemoryLedger({ clock: cluster.clock }) });
  const starting = two.manager.start();
  await settle();
  expect(two.manager.history()).toEqual([]);
  time.resolve();
  await starting;
  expect(two.manager.history().map(({ at }) => at)).toEqual([minuteOf(begin)]);
});

test('there is a history where the ledger cannot be reached', async () => {
  const ledger = new MemoryLedger({ clock: cluster.clock });
  ledger.subscribe = async () => {
    throw new Error('connection refused');
  };
  const two = cluster.process({ ledger });
  await expect(two.manager.start()).rejects.toThrow();
  expect(two.manager.history()).toHaveLength(1);
  await two.manager.close();
});

test('a manager that is closed while it starts begins no history', async () => {
  const time = Promise.withResolvers<number>();
  Object.assign(cluster.store, { time: () => time.promise });
  const two = cluster.process({ ledger: new MemoryLedger({ clock: cluster.clock }) });
  const starting = two.manager.start().catch(() => {});
  await settle();
  const closing = two.manager.close();
  time.resolve(cluster.clock.now());
  await Promise.all([starting, closing]);
  expect([two.manager.history(), cluster.clock.pending]).toEqual([[], 0]);
});

test('the timer ends with the manager', async () => {
  await one.manager.start();
  await one.manager.close();
  expect(cluster.clock.pending).toBe(0);
});
