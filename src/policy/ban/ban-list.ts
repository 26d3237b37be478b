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

/**
 * Bans and former bans that are kept, those of jails and those that were made by hand: of more, those that were made
 * longest ago are forgotten.
 */
export const MAX_BANS = 50_000;

interface Kept {
  readonly ban: Ban;
  /** On the monotonic clock. */
  readonly end: number;
  /** The how manyth of all. */
  readonly number: number;
}

/**
 * Who is banned, until when, and who was. Bans are over by themselves.
 *
 * What was banned by hand lies apart: somebody who has a thousand networks to misbehave from pushes none of it out.
 */
export class BanList {
  readonly #clock: Clock;
  settings: Pick<BanSettings, 'factor' | 'maxMs' | 'forgetMs'>;
  readonly #byJails = new RecentMap<string, Kept>(MAX_BANS);
  readonly #byHand = new RecentMap<string, Kept>(MAX_BANS);
  #made = 0;

  constructor(settings: Pick<BanSettings, 'factor' | 'maxMs' | 'forgetMs'>, clock: Clock) {
    this.settings = settings;
    this.#clock = clock;
  }

  /** Bans and former bans. */
  get size(): number {
    return this.#byJails.size + this.#byHand.size;
  }

  has(client: string): boolean {
    const known = this.#get(client);
    return known !== undefined && known.end > this.#clock.monotonic();
  }

  /** The ban of this client, or the former one that is not forgotten. */
  latest(client: string): Ban | undefined {
    return this.#get(client)?.ban;
  }

  /** Is there no room for one of this client that is made by hand, but in the place of another client's? */
  isFullByHand(client: string): boolean {
    if (this.#byHand.size < MAX_BANS || this.#byHand.has(client)) return false;
    const now = this.#clock.monotonic();
    for (const [one, { end }] of this.#byHand) if (end <= now) this.#byHand.delete(one);
    return this.#byHand.size >= MAX_BANS;
  }

  /** The ban that a jail makes now: longer with each one before it that is not forgotten. */
  next(client: string, banMs: number, about: Pick<Ban, 'jail' | 'reason'>): Ban {
    const { factor, maxMs } = this.settings;
    const offence = this.#offences(client) + 1;
    const ms = Math.min(maxMs, banMs * factor ** (offence - 1));
    return { client, until: this.#clock.now() + ms, ...about, offence };
  }

  /** A ban of this client takes the place of the one before, also when it is over sooner. */
  set(ban: Ban): void {
    const leftMs = ban.until - this.#clock.now();
    const [into, from] = ban.jail === undefined ? [this.#byHand, this.#byJails] : [this.#byJails, this.#byHand];
    from.delete(ban.client);
    into.set(ban.client, { ban, end: this.#clock.monotonic() + leftMs, number: this.#made++ });
  }

  /** Forgets the client, and what it has done. @returns the ban that it had. */
  remove(client: string): Ban | undefined {
    const known = this.#get(client);
    for (const bans of [this.#byHand, this.#byJails]) bans.delete(client);
    return known && known.end > this.#clock.monotonic() ? known.ban : undefined;
  }

  /** Those that are not over, in the order in which they were made. */
  list(): Ban[] {
    const now = this.#clock.monotonic();
    const kept = [...this.#byHand.values(), ...this.#byJails.values()].filter(({ end }) => end > now);
    return kept.sort((one, other) => one.number - other.number).map(({ ban }) => ban);
  }

  /** Drops what means nothing any more. */
  sweep(): void {
    for (const bans of [this.#byHand, this.#byJails])
      for (const client of bans.keys()) if (!this.has(client) && this.#offences(client) === 0) bans.delete(client);
  }

  #get(client: string): Kept | undefined {
    return this.#byHand.get(client) ?? this.#byJails.get(client);
  }

  #offences(client: string): number {
    const known = this.#get(client);
    if (!known) return 0;
    const quietMs = Math.max(0, this.#clock.monotonic() - known.end);
    return Math.max(0, known.ban.offence - Math.floor(quietMs / this.settings.forgetMs));
  }
}
