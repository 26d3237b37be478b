import { randomId } from '../../base/ids.ts';
import type { Logger } from '../../base/logger.ts';
import type { Ledger } from '../../session/ledger.ts';
import type { Ban } from './ban-list.ts';

const CHANNEL = 'bans';
/** How many bans outlive their process, of jails and of those that were made by hand: the latest. */
const PLACES = 4_096;
/** Reads at a time when a process starts. */
const AT_ONCE = 64;
/** The counter of bans; the longest that a ledger keeps anything. */
const COUNTER_MS = 400 * 86_400_000;
/** Of one that was lifted, for processes that have not heard of it: no ban is longer. */
const LIFT_MS = 30 * 86_400_000;

/** What a process hears of the bans of others. */
export interface BanListener {
  onBan(ban: Ban): void;
  onLift(client: string): void;
}

type Message = { readonly from: string } & ({ readonly ban: Ban; readonly place: number } | Lift);

/** A client was let in again; its place is what tells this time from others. */
interface Lift {
  readonly lift: string;
  readonly place: number;
}

/**
 * Bans of all processes that share a ledger. Each is told to the others, and kept in one of 4,096 places, in turn, for as
 * long as it or its memory lasts: a process that starts reads them. A process that has missed an event reads what is new
 * when it looks again. Bans that were made by hand have 4,096 places of their own, which no jail takes from them, and so
 * have clients that were let in again.
 */
export class SharedBans {
  readonly #ledger: Ledger;
  readonly #logger: Logger;
  readonly #listener: BanListener;
  readonly #id = randomId(9);
  readonly #byJails: Places;
  readonly #byHand: Places;
  readonly #lifts: Places<LiftedClient>;
  /** Places of those that this process has heard of, or has let in itself, and that it has yet to read. */
  readonly #knownLifts = new Set<number>();
  /** Bans that are being told and kept. */
  readonly #adding = new Set<{ readonly client: string; isLifted: boolean }>();
  /** One at a time, so that nothing is found again that was lifted meanwhile. */
  #reading: Promise<void> | undefined;
  #unsubscribe: (() => Promise<void>) | undefined;

  constructor(ledger: Ledger, listener: BanListener, logger: Logger) {
    this.#ledger = ledger;
    this.#listener = listener;
    this.#logger = logger;
    this.#byJails = new Places(ledger, 'bans', 'ban');
    this.#byHand = new Places(ledger, 'bans by hand', 'ban by hand');
    this.#lifts = new Places(ledger, 'bans lifted', 'ban lifted');
  }

  /** @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the ledger cannot be asked. */
  async start(): Promise<void> {
    this.#unsubscribe = await this.#ledger.subscribe(CHANNEL, message => this.#hear(message));
    // Of bans that were lifted before nothing is there to be read.
    await this.#lifts.skip();
    await this.#read();
  }

  /** Reads what others have added since the last time. Never rejects: the next look sees it. */
  async look(): Promise<void> {
    await this.#read().catch(error =>
      this.#logger.warn({ err: error }, 'bans of other processes could not be read; trying again'),
    );
  }

  /** @param keptMs For how long it matters, its memory included. */
  async add(ban: Ban, keptMs: number): Promise<void> {
    const places = this.#placesOf(ban);
    const adding = { client: ban.client, isLifted: false };
    this.#adding.add(adding);
    try {
      const place = await places.take(ban.client);
      // The others need not wait until it is kept.
      if (!adding.isLifted)
        await Promise.all([this.#tell({ from: this.#id, ban, place }), places.put(place, ban, keptMs)]);
      if (!adding.isLifted) return;
      await places.emptyOne(place, ban.client);
      // The others may have heard of its end before they heard of it.
      await this.#tellOfLift(ban.client);
    } finally {
      this.#adding.delete(adding);
    }
  }

  async lift(client: string): Promise<void> {
    // What it has not heard of would be found by the next that reads.
    await this.#reading?.catch(() => {});
    await this.#read();
    this.#listener.onLift(client);
    await this.#empty(client);
    await this.#tellOfLift(client);
  }

  /** Also those that cannot be reached for now. */
  async #tellOfLift(client: string): Promise<void> {
    const place = await this.#lifts.take(client);
    this.#knownLifts.add(place);
    const kept = this.#lifts.put(place, { client }, LIFT_MS);
    await Promise.all([kept, this.#tell({ from: this.#id, lift: client, place })]);
  }

  /** Also of what is on its way. */
  async #empty(client: string): Promise<void> {
    for (const adding of this.#adding) if (adding.client === client) adding.isLifted = true;
    await Promise.all([this.#byJails, this.#byHand].map(places => places.empty(client)));
  }

  async close(): Promise<void> {
    await this.#unsubscribe?.();
  }

  #placesOf({ jail }: Ban): Places {
    return jail === undefined ? this.#byHand : this.#byJails;
  }

  #tell(message: Message): Promise<void> {
    return this.#ledger.publish(CHANNEL, JSON.stringify(message));
  }

  #hear(text: string): void {
    const message = JSON.parse(text) as Message;
    if (message.from === this.#id) return;
    if ('ban' in message) {
      this.#placesOf(message.ban).note(message.place, message.ban.client);
      this.#listener.onBan(message.ban);
    } else {
      this.#knownLifts.add(message.place);
      this.#listener.onLift(message.lift);
      // What this process has kept while the other looked, it did not find.
      this.#empty(message.lift).catch(error =>
        this.#logger.warn({ err: error }, 'a ban that was lifted could not be taken out of the ledger'),
      );
    }
  }

  #read(): Promise<void> {
    this.#reading ??= this.#readNew().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readNew(): Promise<void> {
    // Before the bans: of a client that was let in and banned again, the ban is still there.
    await this.#lifts.readNew(({ client }, place) => {
      if (!this.#knownLifts.delete(place)) this.#listener.onLift(client);
    });
    for (const places of [this.#byJails, this.#byHand]) await places.readNew(ban => this.#listener.onBan(ban));
  }
}

/** Who was let in again. */
type LiftedClient = Pick<Ban, 'client'>;

/** Places of a ledger, which are taken in turn: a ledger cannot be listed. */
class Places<Kept extends LiftedClient = Ban> {
  readonly #ledger: Ledger;
  readonly #counter: string;
  readonly #prefix: string;
  /** Whose ban was put into a place: a client can have several, of one time and another, and of processes at once. */
  readonly #clients = new Map<number, string>();
  #seen = 0;

  constructor(ledger: Ledger, counter: string, prefix: string) {
    this.#ledger = ledger;
    this.#counter = counter;
    this.#prefix = prefix;
  }

  async take(client: string): Promise<number> {
    const place = (await this.#ledger.increment(this.#counter, 1, COUNTER_MS)) % PLACES;
    this.note(place, client);
    return place;
  }

  note(place: number, client: string): void {
    this.#clients.set(place, client);
  }

  put(place: number, kept: Kept, keptMs: number): Promise<void> {
    const ttlMs = Math.min(COUNTER_MS, Math.max(1, Math.ceil(keptMs)));
    return this.#ledger.put(this.#keyOf(place), JSON.stringify(kept), ttlMs);
  }

  /** All of one client. */
  async empty(client: string): Promise<void> {
    const places = [...this.#clients].filter(([, one]) => one === client).map(([place]) => place);
    await Promise.all(places.map(place => this.emptyOne(place, client)));
  }

  /** The place may have been given to another since. */
  async emptyOne(place: number, client: string): Promise<void> {
    const kept = await this.#ledger.get(this.#keyOf(place));
    if (kept !== undefined && (JSON.parse(kept) as Kept).client === client) await this.#ledger.take(this.#keyOf(place));
    if (this.#clients.get(place) === client) this.#clients.delete(place);
  }

  /** What is there by now is not read. */
  async skip(): Promise<void> {
    this.#seen = await this.#ledger.increment(this.#counter, 0, COUNTER_MS);
  }

  async readNew(onKept: (kept: Kept, place: number) => void): Promise<void> {
    const last = await this.#ledger.increment(this.#counter, 0, COUNTER_MS);
    const first = Math.max(last < this.#seen ? 0 : this.#seen, last - PLACES) + 1;
    for (let n = first; n <= last; n += AT_ONCE) {
      const places = Array.from({ length: Math.min(AT_ONCE, last - n + 1) }, (_, i) => (n + i) % PLACES);
      const kept = await Promise.all(places.map(place => this.#ledger.get(this.#keyOf(place))));
      for (const [i, text] of kept.entries()) {
        if (text === undefined) continue;
        const one = JSON.parse(text) as Kept;
        this.note(places[i]!, one.client);
        onKept(one, places[i]!);
      }
    }
    this.#seen = last;
  }

  #keyOf(place: number): string {
    return `${this.#prefix} ${place}`;
  }
}
