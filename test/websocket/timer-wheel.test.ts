import { describe, expect, test } from 'vitest';
import type { Clock, Timer } from '../../src/base/clock.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { TimerWheel, WheelEntry } from '../../src/websocket/timer-wheel.ts';

class Entry extends WheelEntry {
  readonly firedAt: number[] = [];
  readonly #clock: Clock;
  readonly #then: (() => void) | undefined;

  constructor(clock: Clock, then?: () => void) {
    super();
    this.#clock = clock;
    this.#then = then;
  }

  onTimer(): void {
    this.firedAt.push(this.#clock.monotonic());
    this.#then?.();
  }
}

/** A clock whose timers always come late, as on a busy machine. */
class LateClock extends FakeClock {
  readonly #lateMs: number;

  constructor(lateMs: number) {
    super();
    this.#lateMs = lateMs;
  }

  override setTimeout(callback: () => void, ms: number): Timer {
    return super.setTimeout(callback, ms + this.#lateMs);
  }
}

describe('TimerWheel', () => {
  test.each([0, 1, 99, 100, 150, 1_000, 51_000, 51_200, 60_000, 600_000])(
    'fires after %i ms, never early and at most two ticks late',
    async ms => {
      const clock = new FakeClock();
      const wheel = new TimerWheel(clock);
      const entry = new Entry(clock);
      wheel.schedule(entry, ms);
      await clock.advance(ms + 200);
      expect(entry.firedAt).toHaveLength(1);
      expect(entry.firedAt[0]).toBeGreaterThanOrEqual(ms);
      expect(entry.firedAt[0]).toBeLessThanOrEqual(ms + 200);
    },
  );

  test('is as exact for what is scheduled while it turns, at any moment of a tick', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    wheel.schedule(new Entry(clock), 1_000_000);
    for (const offset of [1, 50, 99, 100, 173]) {
      await clock.advance(offset);
      const start = clock.monotonic();
      const entry = new Entry(clock);
      wheel.schedule(entry, 730);
      await clock.advance(1_000);
      expect(entry.firedAt[0]! - start).toBeGreaterThanOrEqual(730);
      expect(entry.firedAt[0]! - start).toBeLessThanOrEqual(930);
    }
  });

  test('does not fall behind when its own timer always comes late', async () => {
    const clock = new LateClock(60);
    const wheel = new TimerWheel(clock);
    const entry = new Entry(clock);
    wheel.schedule(entry, 30_000);
    await clock.advance(31_000);
    expect(entry.firedAt[0]).toBeGreaterThanOrEqual(30_000);
    // Two ticks and one lateness.
    expect(entry.firedAt[0]).toBeLessThanOrEqual(30_260);
  });

  test('counts at most two ticks of a standstill, so that what was waiting to be read can be read first', async () => {
    const clock = new LateClock(20_000);
    const wheel = new TimerWheel(clock);
    const entry = new Entry(clock);
    wheel.schedule(entry, 300);
    await clock.advance(20_100);
    expect(wheel.now).toBe(200);
    expect(entry.firedAt).toEqual([]);
    await clock.advance(20_100);
    expect(entry.firedAt).toEqual([40_200]);
  });

  test('moves an entry that is scheduled again, and fires it once', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    const entry = new Entry(clock);
    wheel.schedule(entry, 500);
    wheel.schedule(entry, 5_000);
    expect(wheel.size).toBe(1);
    await clock.advance(4_999);
    expect(entry.firedAt).toEqual([]);
    await clock.advance(1_000);
    expect(entry.firedAt).toHaveLength(1);
  });

  test('forgets what is cancelled, or scheduled for never, and stands still then', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    const cancelled = new Entry(clock);
    const never = new Entry(clock);
    wheel.schedule(cancelled, 500);
    wheel.schedule(never, 500);
    expect(clock.pending).toBe(1);
    wheel.cancel(cancelled);
    wheel.cancel(cancelled);
    wheel.schedule(never, Number.POSITIVE_INFINITY);
    expect(wheel.size).toBe(0);
    expect(clock.pending).toBe(0);
    await clock.advance(2_000);
    expect([cancelled.firedAt, never.firedAt]).toEqual([[], []]);
    expect(wheel.now).toBe(2_000);
  });

  test('begins again after it stood still', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    const entry = new Entry(clock);
    wheel.schedule(entry, 100);
    await clock.advance(10_000);
    wheel.schedule(entry, 100);
    await clock.advance(300);
    expect(entry.firedAt).toHaveLength(2);
    expect(entry.firedAt[1]).toBeGreaterThanOrEqual(10_100);
    expect(clock.pending).toBe(0);
  });

  test('lets an entry cancel or schedule others of the same tick while it fires', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    const entries: Entry[] = [];
    for (let i = 0; i < 10; i++)
      entries.push(
        new Entry(clock, () => {
          // Each takes its neighbours out, and the even ones come again.
          for (const neighbour of [entries[i - 1], entries[i + 1]]) if (neighbour) wheel.cancel(neighbour);
          if (i % 2 === 0 && entries[i]!.firedAt.length < 3) wheel.schedule(entries[i]!, 100);
        }),
      );
    for (const entry of entries) wheel.schedule(entry, 100);
    await clock.advance(2_000);
    const fired = entries.map(({ firedAt }) => firedAt.length);
    // No two neighbours fired, and nobody was forgotten.
    for (let i = 1; i < fired.length; i++) expect(fired[i - 1] === 0 || fired[i] === 0).toBe(true);
    expect(fired.filter(count => count > 0)).toHaveLength(5);
    expect(wheel.size).toBe(0);
  });

  test('keeps ten thousand entries apart', async () => {
    const clock = new FakeClock();
    const wheel = new TimerWheel(clock);
    const entries = Array.from({ length: 10_000 }, () => new Entry(clock));
    entries.forEach((entry, i) => void wheel.schedule(entry, i * 10));
    for (let i = 0; i < entries.length; i += 3) wheel.cancel(entries[i]!);
    await clock.advance(100_200);
    entries.forEach((entry, i) => {
      if (i % 3 === 0) expect(entry.firedAt).toEqual([]);
      else expect(entry.firedAt[0]! - i * 10 >= 0 && entry.firedAt[0]! - i * 10 <= 200).toBe(true);
    });
  });
});
