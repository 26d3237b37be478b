/**
 * Upper ends of the buckets, in seconds: from what is answered from memory to what waits for a slow backend. They are
 * part of the metrics' contract.
 */
export const DURATION_BUCKETS_S: readonly number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

/** Counts durations by bucket. */
export class DurationHistogram {
  /** Of each bucket alone; the last is for what is longer than all of them. */
  readonly #counts = new Array<number>(DURATION_BUCKETS_S.length + 1).fill(0);
  #sumMs = 0;

  add(ms: number): void {
    const seconds = ms / 1_000;
    let bucket = 0;
    while (bucket < DURATION_BUCKETS_S.length && seconds > DURATION_BUCKETS_S[bucket]!) bucket++;
    this.#counts[bucket]!++;
    this.#sumMs += ms;
  }

  get sumSeconds(): number {
    return this.#sumMs / 1_000;
  }

  /** How many were no longer than each end, and than infinity. */
  *cumulative(): Generator<readonly [le: number | '+Inf', count: number]> {
    let count = 0;
    for (const [index, le] of DURATION_BUCKETS_S.entries()) yield [le, (count += this.#counts[index]!)];
    yield ['+Inf', count + this.#counts.at(-1)!];
  }
}
