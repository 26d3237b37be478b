import type { Clock, Timer } from '../base/clock.ts';

interface FakeTimer {
  readonly due: number;
  readonly callback: () => void;
}

/**
 * A clock that stands still until `advance` moves it. Timers run in order of their due time, then of their making.
 *
 * @example
 * import { FakeClock } from 'holdfast/testing';
 *
 * const clock = new FakeClock();
 * clock.setTimeout(() => console.log('an hour is over'), 3_600_000); // an hour is over
 * await clock.advance(3_600_000);
 */
export class FakeClock implements Clock {
  #now: number;
  #elapsed = 0;
  /** In the order of their making. */
  readonly #timers = new Set<FakeTimer>();

  constructor(now = Date.UTC(2026, 0, 1)) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  setTimeout(callback: () => void, ms: number): Timer {
    const timer: FakeTimer = { due: this.#elapsed + Math.max(0, ms), callback };
    this.#timers.add(timer);
    return timer;
  }

  clearTimeout(timer: Timer | undefined): void {
    this.#timers.delete(timer as FakeTimer);
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time forward and runs every timer that becomes due, with the promises that each of them settles. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    for (;;) {
      let next: FakeTimer | undefined;
      for (const timer of this.#timers) if (timer.due <= end && (!next || timer.due < next.due)) next = timer;
      if (!next) break;
      this.#timers.delete(next);
      this.#move(next.due - this.#elapsed);
      next.callback();
      await new Promise(resolve => setImmediate(resolve));
    }
    this.#move(end - this.#elapsed);
    await new Promise(resolve => setImmediate(resolve));
  }

  /** Sets the wall clock to another time, as an operator or NTP would; `monotonic` and timers are not affected. */
  jump(now: number): void {
    this.#now = now;
  }

  #move(ms: number): void {
    this.#now += ms;
    this.#elapsed += ms;
  }
}
