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
  setTimeout(callback: () => void, ms: number): Timer;
  clearTimeout(timer: Timer | undefined): void;
}

declare const performance: { now(): number };

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout(callback, ms) {
    const timer = setTimeout(callback, ms) as Timer & { unref?: () => void };
    timer.unref?.();
    return timer;
  },
  clearTimeout(timer) {
    clearTimeout(timer as Parameters<typeof clearTimeout>[0]);
  },
};
