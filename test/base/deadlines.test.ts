import { expect, test } from 'vitest';
import { systemClock, type Timer } from '../../src/base/clock.ts';
import { RunningTime, setDeadline } from '../../src/base/deadlines.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

/** A clock that stood still and then runs on, with every timer that was due meanwhile coming late. */
class StalledClock extends FakeClock {
  stallMs = 0;

  override setTimeout(callback: () => void, ms: number): Timer {
    const late = this.stallMs;
    this.stallMs = 0;
    return super.setTimeout(callback, ms + late);
  }
}

test.each([1, 10, 800, 5_000, 3_600_000])('a deadline of %i ms is missed then, and not before', async ms => {
  const clock = new FakeClock();
  let missedAt = 0;
  setDeadline(clock, ms, () => (missedAt = clock.monotonic()));
  await clock.advance(ms - 1);
  expect(missedAt).toBe(0);
  await clock.advance(2);
  expect(missedAt).toBeGreaterThanOrEqual(ms);
  expect(clock.pending).toBe(0);
});

test('deadlines of one length are missed one by one, each in its time', async () => {
  const clock = new FakeClock();
  const missed: [name: string, at: number][] = [];
  const add = (name: string) => setDeadline(clock, 1_000, () => missed.push([name, clock.monotonic()]))!;
  add('a');
  await clock.advance(300);
  const b = add('b');
  await clock.advance(33);
  add('c');
  b.clear();
  b.clear();
  await clock.advance(2_000);
  expect(missed.map(([name]) => name)).toEqual(['a', 'c']);
  expect(missed[0]![1]).toBe(1_000);
  expect(missed[1]![1]).toBe(1_333);
});

test('one that is cleared while another is missed is not missed', async () => {
  const clock = new FakeClock();
  const missed: string[] = [];
  setDeadline(clock, 100, () => {
    missed.push('first');
    second!.clear();
    setDeadline(clock, 100, () => missed.push('third'));
  });
  const second = setDeadline(clock, 100, () => missed.push('second'));
  await clock.advance(100);
  expect(missed).toEqual(['first']);
  await clock.advance(100);
  expect(missed).toEqual(['first', 'third']);
});

test('Infinity is never missed', () => {
  expect(setDeadline(new FakeClock(), Number.POSITIVE_INFINITY, () => {})).toBeUndefined();
});

test('of a standstill a quarter of the deadline counts at most', async () => {
  const clock = new StalledClock();
  let missedAt = 0;
  clock.stallMs = 60_000;
  setDeadline(clock, 2_000, () => (missedAt = clock.monotonic()));
  await clock.advance(61_000);
  expect(missedAt).toBe(0);
  await clock.advance(1_000);
  expect(missedAt).toBeGreaterThanOrEqual(60_250 + 1_500);
  expect(missedAt).toBeLessThanOrEqual(62_000);
});

test('what has arrived is read before a deadline is judged', async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  setTimeout(() => setDeadline(systemClock, 10, () => resolve('missed')));
  // It is settled in the same turn of the event loop in which the deadline is over.
  const port = new MessageChannel();
  port.port1.onmessage = () => resolve('arrived');
  setTimeout(() => {
    port.port2.postMessage('');
    for (const end = performance.now() + 30; performance.now() < end; );
  });
  expect(await promise).toBe('arrived');
  port.port1.close();
});

test('the running time is that of the clock, but for standstills', async () => {
  const clock = new FakeClock();
  const time = new RunningTime(clock, 400);
  await clock.advance(300);
  expect(time.read()).toBe(300);
  await clock.advance(90_000);
  expect(time.read()).toBe(700);
  await clock.advance(1);
  expect(time.read()).toBe(701);
});
