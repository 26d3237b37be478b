import type { Clock, Timer } from '../../base/clock.ts';
import { randomId } from '../../base/ids.ts';
import type { Logger } from '../../base/logger.ts';
import type { Ledger } from '../../session/ledger.ts';
import { ConnectionsElsewhere } from './connections-elsewhere.ts';
import type { CountName, Limits, RateName } from './limits.ts';

export interface SharedLimitsOptions {
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What one process tells the others at a time. */
interface Message {
  /** Which process. */
  readonly from: string;
  /** What it has taken since it last told: limit, rate, key and how many. */
  readonly taken?: readonly (readonly [string, RateName, string, number])[];
  /** For one that has just started: how many milliseconds each bucket is from full. */
  readonly lacking?: readonly (readonly [string, RateName, string, number])[];
  /** How many connections it has by now: limit, count, key and how many. */
  readonly open?: readonly (readonly [string, CountName, string, number])[];
  /** The number of a full account, to which `open` belongs; what is not in it is no more when it has ended. */
  readonly account?: number;
  readonly isLast?: boolean;
  /** It has just started, and knows of nobody. */
  readonly isNew?: boolean;
  readonly isLeaving?: boolean;
}

const CHANNEL = 'limits';
/** How long what was taken waits to be told, together with all else of that time. */
const TELL_MS = 200;
const ACCOUNT_MS = 10_000;
/** Three accounts of a process have not come. */
const SILENT_MS = 35_000;
/** Of a message: PostgreSQL carries 8,000 bytes at a time. */
const MOST_ENTRIES = 100;
/** What waits to be told during an outage. */
const MOST_WAITING = 65_536;
/** Buckets that a new process is told of. */
const MOST_TOLD = 10_000;

/**
 * Lets the processes that share a ledger hold clients to limits together.
 *
 * Each tells the others what it has taken, all of 200 ms in one message, and counts what they tell: no request, and no
 * handshake, waits for it. So a rate may be exceeded by what all processes let in within that time; it is a debt, that
 * is, taken off what they let in after it. Of connections each process gives the whole account every 10 s, so that
 * what was lost on the way is made good, and a process that is not heard for 35 s has none. While the ledger cannot be
 * reached each process holds to the limits by itself. One that starts is told by the others what has been taken so far.
 */
export class SharedLimits {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: ReadonlyMap<string, Limits>;
  readonly #self = randomId(9);
  readonly #elsewhere = new ConnectionsElsewhere(SILENT_MS);
  /** By limit, rate and key, as JSON. */
  readonly #taken = new Map<string, number>();
  readonly #changed = new Set<string>();
  #account = 0;
  #timer: Timer | undefined;
  #accountTimer: Timer | undefined;
  #telling: Promise<void> | undefined;
  #unsubscribe: (() => Promise<void>) | undefined;
  #greeting: Promise<void> | undefined;
  #isHolding = false;
  #isClosed = false;

  private constructor(limits: readonly Limits[], { ledger, clock, logger }: SharedLimitsOptions) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#logger = logger;
    this.#limits = new Map(limits.map(one => [one.name, one]));
  }

  /** From now on it tells what is taken of the limits, and they count what it hears. Nothing happens the second time. */
  hold(): void {
    if (this.#isHolding) return;
    this.#isHolding = true;
    for (const one of this.#limits.values()) {
      one.share((rate, key) => this.#onTaken(one.name, rate, key));
      for (const [name, count] of one.counts)
        count.share({ of: key => this.#elsewhere.of(entryKey(one.name, name, key), this.#clock.monotonic()) }, key =>
          this.#onChanged(entryKey(one.name, name, key)),
        );
    }
    this.#greeting = this.#publish([{ from: this.#self, isNew: true }]);
    this.#keepAccount();
  }

  /** Nothing holds before `hold`. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  static async open(limits: readonly Limits[], options: SharedLimitsOptions): Promise<SharedLimits> {
    const shared = new SharedLimits(limits, options);
    shared.#unsubscribe = await options.ledger.subscribe(CHANNEL, message => shared.#hear(message));
    return shared;
  }

  /** Opens it, and lets it hold. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  static async start(limits: readonly Limits[], options: SharedLimitsOptions): Promise<SharedLimits> {
    const shared = await SharedLimits.open(limits, options);
    shared.hold();
    await shared.#greeting;
    return shared;
  }

  /** Tells the others that it has no connections any more. The ledger may be closed when it has resolved. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#accountTimer);
    await this.#greeting;
    await this.#telling;
    await this.#publish([{ from: this.#self, isLeaving: true }]);
    await this.#unsubscribe?.().catch(() => {}); // with the ledger it is gone anyway
  }

  #onTaken(limit: string, rate: RateName, key: string): void {
    const entry = entryKey(limit, rate, key);
    const count = this.#taken.get(entry);
    if (count === undefined && this.#taken.size >= MOST_WAITING) return;
    this.#taken.set(entry, (count ?? 0) + 1);
    this.#tellLater();
  }

  #onChanged(entry: string): void {
    this.#changed.add(entry);
    this.#tellLater();
  }

  #tellLater(): void {
    if (this.#isClosed) return;
    this.#timer ??= this.#clock.setTimeout(() => {
      // One after the other, so that the order stays.
      this.#telling ??= this.#tell().finally(() => {
        this.#telling = undefined;
        this.#timer = undefined;
        if (this.#taken.size > 0 || this.#changed.size > 0) this.#tellLater();
      });
    }, TELL_MS);
  }

  async #tell(): Promise<void> {
    const taken = [...this.#taken].map(([entry, count]) => [...readEntry<RateName>(entry), count] as const);
    const open = [...this.#changed].map(entry => [...readEntry<CountName>(entry), this.#countOf(entry)] as const);
    this.#taken.clear();
    this.#changed.clear();
    const from = this.#self;
    await this.#publish([
      ...inParts(taken).map(part => ({ from, taken: part })),
      ...inParts(open).map(part => ({ from, open: part, account: this.#account })),
    ]);
  }

  #countOf(entry: string): number {
    const [limit, name, key] = readEntry<CountName>(entry);
    return this.#limits.get(limit)?.counts.get(name)?.counts.get(key) ?? 0;
  }

  #keepAccount(): void {
    if (this.#isClosed) return;
    this.#accountTimer = this.#clock.setTimeout(() => {
      void this.#giveAccount().finally(() => this.#keepAccount());
    }, ACCOUNT_MS);
  }

  async #giveAccount(): Promise<void> {
    const open = [...this.#limits.values()].flatMap(({ name: limit, counts }) =>
      [...counts].flatMap(([name, { counts: own }]) => [...own].map(([key, n]) => [limit, name, key, n] as const)),
    );
    this.#account++;
    const messages = inParts(open).map(part => ({ from: this.#self, open: part, account: this.#account }));
    await this.#publish([...messages, { from: this.#self, account: this.#account, isLast: true }]);
  }

  /** What one that has just started cannot know. */
  async #greet(): Promise<void> {
    const lacking: (readonly [string, RateName, string, number])[] = [];
    for (const [limit, one] of this.#limits)
      for (const [rate, key, ms] of one.lacking())
        if (lacking.push([limit, rate, key, Math.ceil(ms)]) >= MOST_TOLD) break;
    await this.#publish(inParts(lacking).map(part => ({ from: this.#self, lacking: part })));
    await this.#giveAccount();
  }

  async #publish(messages: readonly Message[]): Promise<void> {
    try {
      for (const message of messages) await this.#ledger.publish(CHANNEL, JSON.stringify(message));
    } catch (error) {
      this.#logger.warn(
        { event: 'limits-not-shared', err: error },
        'other processes cannot be told what clients have used; each holds to the limits by itself',
      );
    }
  }

  #hear(text: string): void {
    const {
      from,
      taken = [],
      lacking = [],
      open = [],
      account = 0,
      isLast,
      isNew,
      isLeaving,
    } = JSON.parse(text) as Message;
    if (from === this.#self || !this.#isHolding || this.#isClosed) return;
    const now = this.#clock.monotonic();
    for (const [limit, rate, key, count] of taken) this.#limits.get(limit)?.charge(rate, key, count);
    for (const [limit, rate, key, ms] of lacking) this.#limits.get(limit)?.lower(rate, key, ms);
    for (const [limit, name, key, count] of open)
      this.#elsewhere.set(from, entryKey(limit, name, key), { count, account }, now);
    if (isLast) this.#elsewhere.endAccount(from, account, now);
    if (isLeaving) this.#elsewhere.forget(from);
    if (isNew) void this.#greet();
  }
}

function entryKey(limit: string, name: RateName | CountName, key: string): string {
  return JSON.stringify([limit, name, key]);
}

function readEntry<Name>(entry: string): [limit: string, name: Name, key: string] {
  return JSON.parse(entry);
}

function inParts<T>(entries: readonly T[]): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < entries.length; at += MOST_ENTRIES) parts.push(entries.slice(at, at + MOST_ENTRIES));
  return parts;
}
