import type { Clock } from '../../base/clock.ts';
import { RecentMap } from '../../base/recent-map.ts';
import type { BanSettings } from './options.ts';

/** A client that may not come in for now. */
export interface Ban {
  /** An IPv4 address, or the /64 of an IPv6 address. */
  readonly client: string;
  /** When it is over, in ms since the epoch. */
  readonly until: number;
  /** Which jail has made it; undefined: it was added by hand. */
  readonly jail?: string | undefined;
  readonly reason: string;
  /** The how manyth of this client it is, as far as the former ones still count. */
  readonly offence: number;
}

/** Bans and former bans that are kept; of more, those that were made longest ago are forgotten. */
const MAX_BANS = 50_000;

/** Who is banned, until when, and who was. Bans are over by themselves. */
export class BanList {
  readonly #clock: Clock;
  readonly #settings: Pick<BanSettings, 'factor' | 'maxMs' | 'forgetMs'>;
  readonly #bans = new RecentMap<string, { readonly ban: Ban /** On the monotonic clock. */; readonly end: number }>(
    MAX_BANS,
  );

  constructor(settings: Pick<BanSettings, 'factor' | 'maxMs' | 'forgetMs'>, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
  }

  /** Bans and former bans. */
  get size(): number {
    return this.#bans.size;
  }

  has(client: string): boolean {
    const known = this.#bans.get(client);
    return known !== undefined && known.end > this.#clock.monotonic();
  }

  /** The ban that a jail makes now: longer with each one before it that is not forgotten. */
  next(client: string, banMs: number, about: Pick<Ban, 'jail' | 'reason'>): Ban {
    const { factor, maxMs } = this.#settings;
    const offence = this.#offences(client) + 1;
    const ms = Math.min(maxMs, banMs * factor ** (offence - 1));
    return { client, until: this.#clock.now() + ms, ...about, offence };
  }

  /** A ban of this client takes the place of the one before, also when it is over sooner. */
  set(ban: Ban): void {
    const leftMs = ban.until - this.#clock.now();
    this.#bans.set(ban.client, { ban, end: this.#clock.monotonic() + leftMs });
  }

  /** Forgets the client, and what it has done. @returns the ban that it had. */
  remove(client: string): Ban | undefined {
    const known = this.#bans.get(client);
    this.#bans.delete(client);
    return known && known.end > this.#clock.monotonic() ? known.ban : undefined;
  }

  /** Those that are not over. */
  list(): Ban[] {
    const now = this.#clock.monotonic();
    return [...this.#bans.values()].filter(({ end }) => end > now).map(({ ban }) => ban);
  }

  /** Drops what means nothing any more. */
  sweep(): void {
    for (const client of this.#bans.keys())
      if (!this.has(client) && this.#offences(client) === 0) this.#bans.delete(client);
  }

  #offences(client: string): number {
    const known = this.#bans.get(client);
    if (!known) return 0;
    const quietMs = Math.max(0, this.#clock.monotonic() - known.end);
    return Math.max(0, known.ban.offence - Math.floor(quietMs / this.#settings.forgetMs));
  }
}
