import { type Clock, systemClock } from '../../base/clock.ts';
import { checkOptions, type OptionNames } from '../../base/options.ts';
import type { Ledger } from '../ledger.ts';
import { checkIncrement, checkTimeToLive } from './arguments.ts';
import { Listeners } from './listeners.ts';

export interface MemoryLedgerOptions {
  readonly clock?: Clock;
}

const OPTIONS: OptionNames<MemoryLedgerOptions> = { clock: 'clock' };

interface Fact {
  value: string;
  readonly expiresAt: number;
}

/** Facts looked at with each one that is added. More than one, or those that are over would pile up. */
const LOOK_AT = 4;

/**
 * Keeps facts and events in this process, for as long as it lives. Times to live follow `clock.monotonic`: setting the
 * machine's clock ends nothing.
 *
 * @example
 * import { MemoryLedger } from 'holdfast/session';
 *
 * const ledger = new MemoryLedger();
 * await ledger.close();
 */
export class MemoryLedger implements Ledger {
  readonly name = 'memory';
  readonly #clock: Clock;
  readonly #facts = new Map<string, Fact>();
  readonly #listeners = new Listeners();
  #cursor: Iterator<[string, Fact]> = this.#facts.entries();

  constructor(options: MemoryLedgerOptions = {}) {
    checkOptions('MemoryLedger', options, OPTIONS);
    this.#clock = options.clock ?? systemClock;
  }

  async putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    checkTimeToLive(ttlMs);
    if (this.#find(key)) return false;
    this.#put(key, value, ttlMs);
    return true;
  }

  async put(key: string, value: string, ttlMs: number): Promise<void> {
    checkTimeToLive(ttlMs);
    this.#put(key, value, ttlMs);
  }

  async get(key: string): Promise<string | undefined> {
    return this.#find(key)?.value;
  }

  async take(key: string): Promise<string | undefined> {
    const fact = this.#find(key);
    this.#facts.delete(key);
    return fact?.value;
  }

  async increment(key: string, by: number, ttlMs: number): Promise<number> {
    checkTimeToLive(ttlMs);
    checkIncrement(by);
    const fact = this.#find(key);
    const sum = Number(fact?.value ?? 0) + by;
    if (fact) fact.value = String(sum);
    else this.#put(key, String(sum), ttlMs);
    return sum;
  }

  async publish(channel: string, message: string): Promise<void> {
    // Later, as it is between processes: no listener runs inside the call that made it happen.
    setImmediate(this.#listeners.prepare(channel, message));
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>> {
    const remove = this.#listeners.add(channel, listener);
    return async () => remove();
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    this.#facts.clear();
  }

  #find(key: string): Fact | undefined {
    const fact = this.#facts.get(key);
    return fact && fact.expiresAt > this.#clock.monotonic() ? fact : undefined;
  }

  #put(key: string, value: string, ttlMs: number): void {
    const now = this.#clock.monotonic();
    this.#forgetSome(now);
    this.#facts.set(key, { value, expiresAt: now + ttlMs });
  }

  /**
   * Goes round all facts, some steps with each put: no timer, no pause, and what is over never outnumbers what lives
   * for long.
   */
  #forgetSome(now: number): void {
    for (let step = 0; step < LOOK_AT; step++) {
      const { done, value } = this.#cursor.next();
      if (done) {
        this.#cursor = this.#facts.entries();
        return;
      }
      const [key, { expiresAt }] = value;
      if (expiresAt <= now) this.#facts.delete(key);
    }
  }
}
