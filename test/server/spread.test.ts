import { expect, test } from 'vitest';
import { Spread } from '../../src/server/assembly/spread.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

/** When each of so many was told to go, in ms. */
async function told(
  count: number,
  overMs: number,
  after: (spread: Spread, clock: FakeClock) => unknown,
): Promise<number[]> {
  const clock = new FakeClock();
  const at: number[] = [];
  const leaving = Array.from({ length: count }, () => ({ close: () => void at.push(clock.monotonic()) }));
  const spread = new Spread(clock, leaving, overMs);
  await after(spread, clock);
  return at;
}

test('a thousand are told evenly over the time, the last one at its end', async () => {
  const at = await told(1_000, 5_000, (_, clock) => clock.advance(5_000));
  expect(at).toHaveLength(1_000);
  for (let second = 0; second < 5; second++)
    expect(at.filter(ms => ms >= second * 1_000 && ms < (second + 1) * 1_000).length).toBeGreaterThan(180);
});

test('few take 100 ms each, however long the time is', async () => {
  expect(await told(1, 60_000, (_, clock) => clock.advance(100))).toHaveLength(1);
  expect(await told(10, 60_000, (_, clock) => clock.advance(1_000))).toHaveLength(10);
});

test('all are told at once where there is no time, and the rest when it hurries', async () => {
  expect(await told(10, 0, () => {})).toHaveLength(10);
  expect(await told(10, 60_000, spread => spread.hurry())).toHaveLength(10);
  expect(await told(0, 60_000, spread => spread.done)).toEqual([]);
});

test('who was first goes at a random moment', async () => {
  const orders = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const clock = new FakeClock();
      const order: number[] = [];
      new Spread(
        clock,
        Array.from({ length: 50 }, (_, i) => ({ close: () => void order.push(i) })),
        1_000,
      );
      await clock.advance(1_000);
      return order.indexOf(0);
    }),
  );
  expect(new Set(orders).size).toBeGreaterThan(5);
});
