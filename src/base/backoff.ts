import type { Clock } from './clock.ts';

/** Pauses grow from what a try takes, but at least from this. */
const LEAST_STEP_MS = 2;
/** In tries: as many who have met have room beside each other, and one who has met a loop still tries often. */
const LONGEST_STEPS = 32;
/** No pause is longer than this part of the time that is left: who has waited for long tries more often than others. */
const LONGEST_SHARE = 1 / 16;

/**
 * Pauses between tries that fail because others were faster: random, so that those who have met do not meet again;
 * growing, so that many of them leave each other room; in proportion to what a try takes, so that they are neither
 * short for a store that is far away nor long for one that is near. Over after a time.
 */
export class Backoff {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #startedAt: number;
  #triedAt: number;
  #tries = 1;

  /** The first try begins now. @param timeoutMs From when on there is no other; `Infinity`: never. */
  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#startedAt = this.#triedAt = clock.monotonic();
  }

  /** Tries so far, with the one that has begun. */
  get tries(): number {
    return this.#tries;
  }

  /** After a try that has failed: resolves with true when it is time for another, with false when the time is over. */
  async next(): Promise<boolean> {
    const now = this.#clock.monotonic();
    const left = this.#timeoutMs - (now - this.#startedAt);
    if (left <= 0) return false;
    const step = Math.max(now - this.#triedAt, LEAST_STEP_MS);
    const longest = Math.max(LEAST_STEP_MS, Math.min(step * LONGEST_STEPS, left * LONGEST_SHARE));
    const ms = Math.random() * Math.min(step * 2 ** this.#tries, longest);
    await this.#pause(Math.min(ms, left));
    this.#tries++;
    this.#triedAt = this.#clock.monotonic();
    return true;
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = this.#clock.setTimeout(resolve, ms) as { ref?: () => unknown };
      // Somebody waits for what comes after the pause: the process must not end in it.
      timer.ref?.();
    });
  }
}
