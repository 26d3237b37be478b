import type { Clock, Timer } from '../../base/clock.ts';
import type { Peaks, SessionStatistics } from './statistics.ts';

/** A number that goes up and down. */
export interface Level {
  /** At the end of the minute; of the one that runs, now. */
  readonly last: number;
  /** The highest in it. Of several processes or contexts together, not more than this. */
  readonly peak: number;
}

type LevelName = 'activeNow' | 'liveNow' | 'liveBytesNow';

/** What happened within one minute: the counters of `SessionStatistics` as differences, each `max` of the minute. */
export interface SessionMinute extends Omit<SessionStatistics, LevelName | 'slowest'> {
  /** When it began, in milliseconds since the epoch: a whole minute by the clock of the session store. */
  readonly at: number;
  readonly active: Level;
  readonly live: Level;
  readonly liveBytes: Level;
}

/** What has happened so far, and how it was within the minute. */
export interface Reading {
  readonly totals: SessionStatistics;
  /** The highest values within the minute. */
  readonly peaks: Peaks;
}

export interface HistorySource {
  read(): Reading;
  /** A new minute begins. */
  forgetPeaks(): void;
}

const MINUTE_MS = 60_000;
/** With the one that runs. */
const MINUTES = 60;

/**
 * The last hour minute by minute. What counts does not look at the clock: a timer does once a minute, and takes the
 * difference.
 *
 * A minute in which nothing happened is there, too. Where the clock was set, or the process stood still, what was counted
 * belongs to the minute that was running before, and the minutes left out are empty; a clock that was set back shows
 * minutes again.
 */
export class MinuteHistory {
  readonly #clock: Clock;
  readonly #source: HistorySource;
  readonly #closed: SessionMinute[] = [];
  /** Which minute runs; undefined before `start`. */
  #minute: number | undefined;
  #before: SessionStatistics | undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock, source: HistorySource) {
    this.#clock = clock;
    this.#source = source;
  }

  start(): void {
    if (this.#minute !== undefined) return;
    this.#begin(this.#now());
    this.#schedule();
  }

  stop(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The oldest first, at most 60; the last one is the minute that runs. Empty before `start`. */
  read(): SessionMinute[] {
    if (this.#minute === undefined) return [];
    this.#roll();
    return [...this.#closed, this.#current()];
  }

  #schedule(): void {
    this.#timer = this.#clock.setTimeout(
      () => {
        this.#roll();
        this.#schedule();
      },
      MINUTE_MS - (this.#clock.now() % MINUTE_MS),
    );
  }

  #roll(): void {
    const now = this.#now();
    const minute = this.#minute!;
    if (now === minute) return;
    this.#closed.push(this.#current());
    this.#begin(now);
    const missing = Math.min(now - minute - 1, MINUTES);
    for (let ago = missing; ago > 0; ago--) this.#closed.push({ ...this.#current(), at: (now - ago) * MINUTE_MS });
    this.#closed.splice(0, this.#closed.length - (MINUTES - 1));
  }

  #begin(minute: number): void {
    this.#minute = minute;
    this.#before = this.#source.read().totals;
    this.#source.forgetPeaks();
  }

  #now(): number {
    return Math.floor(this.#clock.now() / MINUTE_MS);
  }

  #current(): SessionMinute {
    const { totals, peaks } = this.#source.read();
    const { activeNow, liveNow, liveBytesNow, slowest: _, ...counters } = totals;
    const minute = difference(counters, this.#before!) as typeof counters;
    return {
      at: this.#minute! * MINUTE_MS,
      ...minute,
      lifetimeMs: { ...minute.lifetimeMs, max: peaks.lifetimeMs },
      sinceLastAccessMs: { ...minute.sinceLastAccessMs, max: peaks.sinceLastAccessMs },
      size: { ...minute.size, max: peaks.size },
      reads: { ...minute.reads, maxMs: peaks.reads },
      glances: { ...minute.glances, maxMs: peaks.glances },
      writes: { ...minute.writes, maxMs: peaks.writes },
      active: { last: activeNow, peak: peaks.active },
      live: { last: liveNow, peak: peaks.live },
      liveBytes: { last: liveBytesNow, peak: peaks.liveBytes },
    };
  }
}

/** Number by number. */
function difference(now: object, before: object): object {
  const entries = Object.entries(now).map(([name, value]) => {
    const other = (before as Record<string, unknown>)[name];
    return [name, typeof value === 'number' ? value - (other as number) : difference(value, other as object)];
  });
  return Object.fromEntries(entries);
}
