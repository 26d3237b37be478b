import type { Clock } from '../../base/clock.ts';

/** Retries that may come at once, after a quiet time. */
const CAPACITY = 10;
/** What each request adds: so many retries for a request in the long run. */
const PER_REQUEST = 0.2;
/** What each second adds, so that little traffic has its retries, too. */
const PER_SECOND = 1;

/**
 * Bounds retries to a fifth of the requests, so that servers which fail under load do not get more of it for that
 * reason.
 */
export class RetryBudget {
  readonly #clock: Clock;
  #tokens = CAPACITY;
  #filledAt: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledAt = clock.monotonic();
  }

  /** A request has come that may need retries. */
  onRequest(): void {
    this.#tokens = Math.min(CAPACITY, this.#tokens + PER_REQUEST);
  }

  /** True when one more retry may be made, which then counts. */
  take(): boolean {
    const now = this.#clock.monotonic();
    this.#tokens = Math.min(CAPACITY, this.#tokens + ((now - this.#filledAt) / 1000) * PER_SECOND);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
