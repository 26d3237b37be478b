import type { Rate } from '../../base/rate.ts';

/**
 * A token bucket as one number: the time at which it is full again (GCRA, ITU-T I.371: the theoretical arrival time). A
 * time that has passed is a full bucket, so of what is full nothing need be kept.
 *
 * Times are monotonic milliseconds.
 */
export type FullAt = number;

/** Takes `cost` tokens. More than there are at all take a full bucket. @returns undefined when there are too few. */
export function takeTokens({ count, windowMs }: Rate, fullAt: FullAt, now: number, cost = 1): FullAt | undefined {
  const from = Math.max(fullAt, now);
  const each = windowMs / count;
  // As fractions do not add up to whole ones.
  if (from + Math.min(cost, count) * each - now > windowMs + each / 1_000_000) return undefined;
  return from + cost * each;
}

/** Takes them whether they are there or not: what is missing is a debt, of at most what a bucket holds. */
export function chargeTokens({ count, windowMs }: Rate, fullAt: FullAt, now: number, cost: number): FullAt {
  return Math.min(Math.max(fullAt, now) + (cost * windowMs) / count, now + 2 * windowMs);
}

/** Milliseconds until `cost` tokens are there. */
export function timeUntil({ count, windowMs }: Rate, fullAt: FullAt, now: number, cost = 1): number {
  return Math.max(0, Math.max(fullAt, now) + (Math.min(cost, count) * windowMs) / count - windowMs - now);
}

/** One bucket, for what all clients have together. */
export class TokenBucket {
  readonly rate: Rate;
  #fullAt: FullAt = Number.NEGATIVE_INFINITY;

  constructor(rate: Rate) {
    this.rate = rate;
  }

  take(now: number): boolean {
    const taken = takeTokens(this.rate, this.#fullAt, now);
    if (taken === undefined) return false;
    this.#fullAt = taken;
    return true;
  }

  /** Taken elsewhere. */
  charge(count: number, now: number): void {
    this.#fullAt = chargeTokens(this.rate, this.#fullAt, now, count);
  }

  /** Milliseconds until it is full. */
  lacks(now: number): number {
    return Math.max(0, this.#fullAt - now);
  }

  /** It lacks at least as much. */
  lower(ms: number, now: number): void {
    this.#fullAt = Math.max(this.#fullAt, Math.min(now + ms, now + 2 * this.rate.windowMs));
  }

  timeUntilNext(now: number): number {
    return timeUntil(this.rate, this.#fullAt, now);
  }
}
