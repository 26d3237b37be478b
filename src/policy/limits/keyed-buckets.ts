import { randomBytes } from 'node:crypto';
import type { Rate } from '../../base/rate.ts';
import { chargeTokens, type FullAt, takeTokens, timeUntil } from './token-bucket.ts';

/** Keys of one limit that have a bucket of their own: some 8 MiB. */
export const MAX_KEYS = 65_536;
/** What others share, when there are more. */
const SHARED_BUCKETS = 4_096;

const FULL: FullAt = Number.NEGATIVE_INFINITY;

/**
 * A token bucket for each key (the address of a client), one number each.
 *
 * A bucket that is full is forgotten, at a cost that does not depend on how many there are: two generations take turns,
 * and what nobody has asked for in two windows is full. One that is not full is never given up for another: whoever has
 * used theirs cannot get a new one by coming with thousands of other addresses. When there are `MAX_KEYS`, the others
 * share 4,096 buckets by a keyed hash, until there is room again: they may get less than the rate, and never more.
 */
export class KeyedBuckets {
  readonly rate: Rate;
  readonly #maxKeys: number;
  readonly #onFull: () => void;
  #young = new Map<string, FullAt>();
  #old = new Map<string, FullAt>();
  #turnedAt = Number.NEGATIVE_INFINITY;
  /** Undefined until they are needed. */
  #shared: Float64Array | undefined;
  #seed = 0;

  /** @param onFull Called when a key gets no bucket of its own. */
  constructor(rate: Rate, { maxKeys = MAX_KEYS, onFull = () => {} }: { maxKeys?: number; onFull?: () => void } = {}) {
    this.rate = rate;
    this.#maxKeys = maxKeys;
    this.#onFull = onFull;
  }

  /** Keys that have a bucket of their own. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  take(key: string, now: number): boolean {
    const taken = takeTokens(this.rate, this.#read(key, now), now);
    if (taken === undefined) return false;
    this.#write(key, taken);
    return true;
  }

  /** Taken elsewhere. */
  charge(key: string, count: number, now: number): void {
    this.#write(key, chargeTokens(this.rate, this.#read(key, now), now, count));
  }

  /** Milliseconds until each bucket is full, of those that are not. */
  *lacking(now: number): Generator<readonly [key: string, ms: number]> {
    for (const buckets of [this.#young, this.#old])
      for (const [key, fullAt] of buckets) if (fullAt > now) yield [key, fullAt - now];
  }

  /** The bucket lacks at least as much. */
  lower(key: string, ms: number, now: number): void {
    const fullAt = now + Math.min(ms, 2 * this.rate.windowMs);
    if (fullAt > this.#read(key, now)) this.#write(key, fullAt);
  }

  timeUntilNext(key: string, now: number): number {
    return timeUntil(this.rate, this.#read(key, now), now);
  }

  #read(key: string, now: number): FullAt {
    this.#turn(now);
    const own = this.#young.get(key) ?? this.#old.get(key);
    if (own !== undefined || this.size < this.#maxKeys) return own ?? FULL;
    return this.#shared?.[this.#slotOf(key)] ?? FULL;
  }

  #write(key: string, fullAt: FullAt): void {
    if (this.#young.has(key) || this.#old.delete(key) || this.size < this.#maxKeys) {
      this.#young.set(key, fullAt);
      return;
    }
    if (this.#shared === undefined) {
      this.#shared = new Float64Array(SHARED_BUCKETS).fill(FULL);
      this.#seed = randomBytes(4).readInt32LE();
    }
    this.#shared[this.#slotOf(key)] = fullAt;
    this.#onFull();
  }

  /** A debt is of two windows at most: what nobody has touched for as long is full. */
  #turn(now: number): void {
    const period = 2 * this.rate.windowMs;
    const age = now - this.#turnedAt;
    if (age < period) return;
    this.#old = age < 2 * period ? this.#young : new Map();
    this.#young = new Map();
    this.#turnedAt = now;
  }

  /** FNV-1a, begun with what nobody outside knows. */
  #slotOf(key: string): number {
    let hash = this.#seed;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
    return (hash >>> 0) % SHARED_BUCKETS;
  }
}
