import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionStore } from '../store.ts';

const MEASURE_EVERY_MS = 3_600_000;
/** By so much the own clock has been set, or the machine was suspended. */
const JUMP_MS = 1_000;
const WARN_OFFSET_MS = 1_000;
const TRY_AGAIN_MS = 5_000;
/** Of so many measurements the one with the shortest round trip counts. */
const SAMPLES = 3;

/**
 * The clock by which sessions live and end: the store's, so that machines whose own clocks differ judge alike. A store
 * without one has this machine's.
 *
 * It is the monotonic clock and an offset, which is measured at first, each hour, after a lost connection, and after a
 * jump of the own clock: setting that changes nothing here. As long as it could not be measured the own clock counts,
 * and nothing is ended by it in the store.
 */
export class StoreClock implements Clock {
  readonly #own: Clock;
  readonly #store: Pick<SessionStore, 'time' | 'interruptions'>;
  readonly #logger: Logger;
  /** The store's time at the zero of the monotonic clock. */
  #base: number | undefined;
  /** Of the own clock against the monotonic one, when it was measured. */
  #zero = 0;
  #measureAt = Number.NEGATIVE_INFINITY;
  #interruptions = 0;
  #measuring: Promise<boolean> | undefined;
  #isSettled = false;

  constructor(own: Clock, store: Pick<SessionStore, 'time' | 'interruptions'>, logger: Logger) {
    this.#own = own;
    this.#store = store;
    this.#logger = logger;
  }

  /** Milliseconds since the epoch, in the store's time. */
  now(): number {
    const own = this.#own.now();
    if (!this.#store.time) return own;
    const monotonic = this.#own.monotonic();
    if (this.#isDue(own, monotonic)) void this.measure();
    return this.#base === undefined ? own : this.#base + monotonic;
  }

  /** A time of this machine's clock in the store's time. */
  fromOwn(at: number): number {
    return this.#base === undefined ? at : at - (this.#own.now() - this.#own.monotonic()) + this.#base;
  }

  monotonic(): number {
    return this.#own.monotonic();
  }

  setTimeout(callback: () => void, ms: number): Timer {
    return this.#own.setTimeout(callback, ms);
  }

  clearTimeout(timer: Timer | undefined): void {
    this.#own.clearTimeout(timer);
  }

  /** What `now()` says is the store's time, and may end sessions. */
  get isKnown(): boolean {
    return !this.#store.time || this.#base !== undefined;
  }

  /** Resolves when the first measurement was made or has failed; undefined once it was. Never rejects. */
  settle(): Promise<unknown> | undefined {
    return this.#isSettled || !this.#store.time ? undefined : this.measure();
  }

  /** Resolves with true when the time is known. Never rejects; a failure is logged, and tried again later. */
  measure(): Promise<boolean> {
    this.#measuring ??= this.#measure().finally(() => {
      this.#measuring = undefined;
      this.#isSettled = true;
    });
    return this.#measuring;
  }

  /** `measure` where that is due, or has failed. */
  async check(): Promise<boolean> {
    if (!this.#store.time) return true;
    return this.#base === undefined || this.#isDue(this.#own.now(), this.#own.monotonic()) ? this.measure() : true;
  }

  #isDue(own: number, monotonic: number): boolean {
    if (monotonic < this.#measureAt && this.#base === undefined) return false; // it has just failed
    return (
      monotonic >= this.#measureAt ||
      Math.abs(own - monotonic - this.#zero) > JUMP_MS ||
      (this.#store.interruptions ?? 0) !== this.#interruptions
    );
  }

  async #measure(): Promise<boolean> {
    if (!this.#store.time) return true;
    this.#interruptions = this.#store.interruptions ?? 0;
    let shortest = Number.POSITIVE_INFINITY;
    let base = 0;
    try {
      for (let sample = 0; sample < SAMPLES; sample++) {
        const sentAt = this.#own.monotonic();
        const there = await this.#store.time();
        const roundTripMs = this.#own.monotonic() - sentAt;
        if (roundTripMs >= shortest) continue;
        shortest = roundTripMs;
        base = there - (sentAt + roundTripMs / 2);
      }
    } catch (err) {
      this.#measureAt = this.#own.monotonic() + TRY_AGAIN_MS;
      const what =
        this.#base === undefined ? "this machine's clock counts, and nothing is swept" : 'the last one counts';
      this.#logger.warn({ event: 'store-clock-unknown', err }, `the clock of the session store is not known: ${what}`);
      return false;
    }
    const monotonic = this.#own.monotonic();
    this.#base = base;
    this.#zero = this.#own.now() - monotonic;
    this.#measureAt = monotonic + MEASURE_EVERY_MS;
    const offsetMs = Math.round(this.#zero - base);
    if (Math.abs(offsetMs) > WARN_OFFSET_MS) {
      const message = `this machine's clock is ${Math.abs(offsetMs)} ms ${offsetMs > 0 ? 'ahead of' : 'behind'} the session store's, by which sessions end; synchronise it`;
      this.#logger.warn({ event: 'store-clock-offset', offsetMs }, message);
    }
    return true;
  }
}
