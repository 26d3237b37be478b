import { RecentMap } from '../../base/recent-map.ts';
import type { JailSettings } from './options.ts';

/** Clients that are counted at a time; those that failed longest ago are forgotten first. */
const MAX_CLIENTS = 20_000;

interface Count {
  /** Of the window that runs. */
  since: number;
  failures: number;
  /** Of the window before it. */
  before: number;
}

/**
 * Counts failures of each client in a window that slides: those of the window before count for the part of it that is
 * not over yet. One count takes the same memory whatever the threshold.
 */
export class Jail {
  readonly settings: JailSettings;
  readonly #counts = new RecentMap<string, Count>(MAX_CLIENTS);

  constructor(settings: JailSettings) {
    this.settings = settings;
  }

  /** How many clients are counted. */
  get size(): number {
    return this.#counts.size;
  }

  /** Counts a failure. @param now In ms, of a clock that never jumps. @returns true at the threshold, where it begins anew. */
  note(client: string, now: number): boolean {
    const { failures, withinMs } = this.settings;
    const count = this.#counts.get(client) ?? { since: now, failures: 0, before: 0 };
    const windows = Math.floor((now - count.since) / withinMs);
    if (windows > 0) {
      count.before = windows === 1 ? count.failures : 0;
      count.failures = 0;
      count.since += windows * withinMs;
    }
    count.failures++;
    const rest = 1 - (now - count.since) / withinMs;
    if (count.failures + Math.floor(count.before * rest) >= failures) {
      this.#counts.delete(client);
      return true;
    }
    this.#counts.set(client, count);
    return false;
  }
}
