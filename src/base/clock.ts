/** A cancellable timer. Opaque: give it back to `clearTimeout` of the clock that made it. */
export type Timer = object | number;

/**
 * Where time comes from. Everything that waits or compares times takes one, so that tests turn time by hand.
 *
 * Timers of the system clock never keep the process alive.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. May jump when the operator sets the machine's clock. */
  now(): number;
  /** Milliseconds from an arbitrary start. Never jumps and never goes back: for measuring how long something took. */
  monotonic(): number;
  /** More than `LONGEST_TIMER_MS` is that. */
  setTimeout(callback: () => void, ms: number): Timer;
  clearTimeout(timer: Timer | undefined): void;
}

/** What a timer can count: 24.8 days. Node takes more for a millisecond. */
export const LONGEST_TIMER_MS: number = 2 ** 31 - 1;

declare const performance: { now(): number };

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout(callback, ms) {
    const timer = setTimeout(callback, Math.min(ms, LONGEST_TIMER_MS)) as Timer & { unref?: () => void };
    timer.unref?.();
    return timer;
  },
  clearTimeout(timer) {
    clearTimeout(timer as Parameters<typeof clearTimeout>[0]);
  },
};
