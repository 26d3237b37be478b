import { setImmediate } from 'node:timers/promises';
import type { Database } from 'lmdb';
import { type Clock, systemClock, type Timer } from '../../base/clock.ts';
import { checkNeeded, checkOptions, type OptionNames } from '../../base/options.ts';
import { Rounds, type Waiting } from '../../base/rounds.ts';
import type { Ledger } from '../ledger.ts';
import { LmdbEnvironment } from '../stores/lmdb/environment.ts';
import {
  afterTime,
  decodeText,
  encodeText,
  keyOf,
  NOTHING,
  numberKey,
  numberOf,
  splitTimeKey,
  timeKey,
} from '../stores/lmdb/keys.ts';
import { ROOM_OPTIONS, type RoomOptions } from '../stores/lmdb/room.ts';
import { checkIncrement, checkTimeToLive } from './arguments.ts';
import { Doorbell } from './doorbell.ts';
import { Listeners } from './listeners.ts';

export interface LmdbLedgerOptions extends Omit<RoomOptions, 'anonymousShare'> {
  /** A folder, as of `LmdbStore`; it may be the same. */
  readonly path: string;
  /** Times to live follow `now()`, which all processes of a machine share. */
  readonly clock?: Clock;
}

const { anonymousShare: _, ...LIMITS } = ROOM_OPTIONS;
const OPTIONS: OptionNames<LmdbLedgerOptions> = { path: 'text', clock: 'clock', ...LIMITS };

interface Fact {
  /** Of the LMDB entry: random, so that no version returns when a key is put again. */
  readonly version: number;
  readonly expiresAt: number;
  readonly value: string;
}

interface Increment {
  readonly by: number;
  readonly ttlMs: number;
  resolve(sum: number): void;
  reject(error: unknown): void;
}

interface Publication {
  readonly channel: string;
  readonly message: string;
}

/** How long an event can be heard at least by a process that is busy with something else. */
const KEEP_EVENTS_MS = 60_000;
const MAX_EVENTS = 50_000;
const PAGE = 256;
const FORGET_EVERY_MS = 1_000;
/** How often to look for events: a missed ring is made up for by then. One look is a read of some microseconds. */
const LOOK_EVERY_MS = 1_000;
const LOOK_EVERY_MS_WITHOUT_BELL = 50;
/** As many looks in a row that found what no ring had told mean that rings are not heard. */
const DEAF_AFTER = 3;
const SEQUENCE = keyOf('event-sequence');

/**
 * Facts and events in a folder, in LMDB, for the processes of one machine: the same environment as `LmdbStore` has
 * where the folder is the same.
 *
 * Facts are on disk when a call resolves. What is over is removed in batches, a while after other facts were put.
 * Increments of one key that wait at the same time are written together, and so are events.
 *
 * An event is an entry with a sequence number, and a ring of a doorbell: every process that listens reads what came
 * after the last that it has read. An event is kept for a minute, and not longer than 50,000 more have come.
 *
 * Where there is no room, new facts are refused with ERR_SESSION_NO_ROOM; facts are still replaced by others of their
 * size and removed, and events told.
 *
 * @example
 * import { LmdbLedger } from 'holdfast/session/lmdb';
 *
 * const ledger = new LmdbLedger({ path: folder });
 * await ledger.close();
 */
export class LmdbLedger implements Ledger {
  readonly name = 'lmdb';
  readonly #environment: LmdbEnvironment;
  readonly #clock: Clock;
  readonly #facts: Database<Buffer, Buffer>;
  /** When it is over, and the key of the fact: exactly one entry for each fact. */
  readonly #expiries: Database<Buffer, Buffer>;
  readonly #events: Database<Buffer, Buffer>;
  /** The sequence number of the last event is the version of an entry without a value. */
  readonly #meta: Database<Buffer, Buffer>;
  readonly #doorbell: Doorbell;
  readonly #listeners = new Listeners();
  readonly #increments = new Map<string, Increment[]>();
  readonly #publications = new Rounds<Publication, void>(round => this.#publishAll(round), PAGE);
  /** Events up to this one were told. */
  #told = 0;
  #unheard = 0;
  #look: Timer | undefined;
  #forgotAt: number;
  #isForgetting = false;
  #closing: Promise<void> | undefined;

  /**
   * @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE when the folder cannot be opened, or a newer version has
   * written it; ERR_SESSION_NO_ROOM when its disk is too full.
   */
  constructor(options: LmdbLedgerOptions) {
    checkOptions('LmdbLedger', options, OPTIONS);
    checkNeeded('LmdbLedger', options, ['path'], "{ path: './data/sessions' }");
    const { path, clock = systemClock, ...limits } = options;
    this.#environment = LmdbEnvironment.acquire(path, limits);
    this.#clock = clock;
    this.#facts = this.#environment.database('facts', true);
    this.#expiries = this.#environment.database('fact-expiries', false);
    this.#events = this.#environment.database('events', false);
    this.#meta = this.#environment.database('meta', true);
    this.#doorbell = new Doorbell(this.#environment.path);
    this.#forgotAt = clock.monotonic();
  }

  async putIfAbsent(key: string, value: string, ttlMs: number): Promise<boolean> {
    checkTimeToLive(ttlMs);
    this.#forgetNowAndThen();
    const factKey = keyOf(key);
    for (;;) {
      const found = this.#find(factKey);
      const now = this.#clock.now();
      if (found && found.expiresAt > now) return false;
      if (await this.#replace(factKey, found, value, now + ttlMs)) return true;
    }
  }

  async put(key: string, value: string, ttlMs: number): Promise<void> {
    checkTimeToLive(ttlMs);
    this.#forgetNowAndThen();
    const factKey = keyOf(key);
    while (!(await this.#replace(factKey, this.#find(factKey), value, this.#clock.now() + ttlMs)));
  }

  async get(key: string): Promise<string | undefined> {
    return this.#findLive(keyOf(key))?.value;
  }

  async take(key: string): Promise<string | undefined> {
    const factKey = keyOf(key);
    for (;;) {
      const found = this.#findLive(factKey);
      if (!found) return undefined;
      if (await this.#replace(factKey, found)) return found.value;
    }
  }

  async increment(key: string, by: number, ttlMs: number): Promise<number> {
    checkTimeToLive(ttlMs);
    checkIncrement(by);
    return new Promise((resolve, reject) => {
      const waiting = this.#increments.get(key) ?? [];
      waiting.push({ by, ttlMs, resolve, reject });
      if (waiting.length > 1) return;
      this.#increments.set(key, waiting);
      queueMicrotask(() => void this.#addUp(key)); // so that what one turn adds is written together
    });
  }

  publish(channel: string, message: string): Promise<void> {
    return this.#publications.add({ channel, message });
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<() => Promise<void>> {
    const since = this.#environment.read(() => this.#sequence());
    if (this.#listeners.size === 0) {
      this.#told = since;
      this.#doorbell.listen(() => {
        this.#unheard = 0;
        this.#tell();
      });
      this.#lookAgain();
    }
    // Others may not have been told yet what came before.
    const remove = this.#listeners.add(channel, message => {
      if (this.#told > since) listener(message);
    });
    return async () => {
      remove();
      if (this.#listeners.size === 0) this.#stopListening();
    };
  }

  /**
   * Resolves when what was written before is on disk. What is called later rejects with ERR_SESSION_STORE_UNAVAILABLE.
   */
  close(): Promise<void> {
    if (!this.#closing) {
      this.#listeners.clear();
      this.#stopListening();
      this.#doorbell.close();
      this.#closing = this.#environment.release();
    }
    return this.#closing;
  }

  #find(key: Buffer): Fact | undefined {
    return this.#environment.read(() => {
      const entry = this.#facts.getEntry(key);
      return entry && { version: entry.version!, ...decodeFact(entry.value) };
    });
  }

  #findLive(key: Buffer): Fact | undefined {
    const found = this.#find(key);
    return found && found.expiresAt > this.#clock.now() ? found : undefined;
  }

  /**
   * Puts the value, or removes the fact without one, unless somebody else was there since it was `found`: then false.
   */
  #replace(key: Buffer, found: Fact | undefined, value?: string, expiresAt = 0): Promise<boolean> {
    const isGrowing = (value?.length ?? 0) > (found?.value.length ?? -1);
    this.#environment.room.take(value?.length ?? 0, value !== undefined && isGrowing ? 'owned' : 'upkeep');
    const write = () => {
      if (found) void this.#expiries.remove(timeKey(found.expiresAt, key));
      if (value === undefined) {
        void this.#facts.remove(key);
        return;
      }
      void this.#facts.put(key, encodeFact(value, expiresAt), randomVersion());
      void this.#expiries.put(timeKey(expiresAt, key), NOTHING);
    };
    return this.#environment.writeIf(this.#facts, key, found?.version, write);
  }

  /** Adds what waits for this key, and what comes to wait meanwhile. */
  async #addUp(key: string): Promise<void> {
    this.#forgetNowAndThen();
    const factKey = keyOf(key);
    const waiting = this.#increments.get(key)!;
    while (waiting.length > 0) {
      const increments = waiting.slice();
      try {
        const before = await this.#add(factKey, increments);
        let sum = before;
        for (const { by, resolve } of increments) {
          sum += by;
          resolve(sum);
        }
      } catch (error) {
        for (const { reject } of increments) reject(error);
      }
      waiting.splice(0, increments.length);
    }
    this.#increments.delete(key);
  }

  /** Returns the sum before. */
  async #add(key: Buffer, increments: readonly Increment[]): Promise<number> {
    const total = increments.reduce((sum, { by }) => sum + by, 0);
    for (;;) {
      const found = this.#find(key);
      const now = this.#clock.now();
      const live = found && found.expiresAt > now ? found : undefined;
      const before = Number(live?.value ?? 0);
      const expiresAt = live?.expiresAt ?? now + increments[0]!.ttlMs;
      if (await this.#replace(key, found, String(before + total), expiresAt)) return before;
    }
  }

  async #publishAll(round: readonly Waiting<Publication, void>[]): Promise<void> {
    const publications = round.map(({ item }) => item);
    try {
      while (!(await this.#append(publications)));
      for (const { resolve } of round) resolve();
    } finally {
      this.#doorbell.ring();
    }
  }

  /** False when another process has appended events since. */
  #append(publications: readonly Publication[]): Promise<boolean> {
    this.#environment.room.take(
      publications.reduce((sum, { message }) => sum + message.length, 0),
      'upkeep',
    );
    const now = this.#clock.now();
    const last = this.#environment.read(() => this.#sequence());
    const next = last + publications.length;
    // More than were added, so that they become fewer.
    const old = this.#environment.read(() => this.#oldEvents(next, now, 2 * publications.length + 16));
    const write = () => {
      void this.#meta.put(SEQUENCE, NOTHING, next);
      for (const [index, publication] of publications.entries())
        void this.#events.put(numberKey(last + 1 + index), encodeEvent(publication, now));
      for (const key of old) void this.#events.remove(key);
    };
    return this.#environment.writeIf(this.#meta, SEQUENCE, last || undefined, write);
  }

  #oldEvents(last: number, now: number, limit: number): Buffer[] {
    const old: Buffer[] = [];
    for (const { key, value } of this.#events.getRange({ limit })) {
      if (numberOf(key) > last - MAX_EVENTS && value.readDoubleBE(0) > now - KEEP_EVENTS_MS) break;
      old.push(Buffer.from(key));
    }
    return old;
  }

  #sequence(): number {
    return this.#meta.getEntry(SEQUENCE)?.version ?? 0;
  }

  /** Tells what is new, a page in each turn of the event loop. True when there was something. */
  #tell(): boolean {
    if (this.#closing || this.#listeners.size === 0) return false;
    let page: { sequence: number; channel: string; message: string }[];
    try {
      page = this.#environment.read(() => {
        if (this.#sequence() <= this.#told) return [];
        const range = this.#events.getRange({ start: numberKey(this.#told + 1), limit: PAGE });
        return Array.from(range, ({ key, value }) => ({ sequence: numberOf(key), ...decodeEvent(value) }));
      });
    } catch {
      return false; // the store cannot be reached, as every call says: what is published is lost
    }
    if (page.length === PAGE) void setImmediate().then(() => this.#tell());
    for (const { sequence, channel, message } of page) {
      this.#told = sequence;
      this.#listeners.tell(channel, message);
    }
    return page.length > 0;
  }

  #lookAgain(): void {
    const isDeaf = !this.#doorbell.isListening || this.#unheard >= DEAF_AFTER;
    const ms = isDeaf ? LOOK_EVERY_MS_WITHOUT_BELL : LOOK_EVERY_MS;
    this.#look = this.#clock.setTimeout(() => {
      if (this.#tell()) this.#unheard++;
      this.#lookAgain();
    }, ms);
  }

  #stopListening(): void {
    this.#doorbell.stopListening();
    this.#clock.clearTimeout(this.#look);
    this.#look = undefined;
  }

  #forgetNowAndThen(): void {
    const now = this.#clock.monotonic();
    if (this.#isForgetting || now - this.#forgotAt < FORGET_EVERY_MS) return;
    this.#isForgetting = true;
    this.#forgotAt = now;
    void this.#forget()
      .catch(() => {}) // the next one tries again, and calls that matter say what is wrong
      .finally(() => {
        this.#isForgetting = false;
      });
  }

  /** Removes the facts whose time is over. */
  async #forget(): Promise<void> {
    for (;;) {
      const now = this.#clock.now();
      const page = this.#environment.read(() => {
        const range = this.#expiries.getRange({ end: afterTime(now), limit: PAGE });
        return Array.from(range, ({ key: entry }) => {
          const copy = Buffer.from(entry);
          const { key } = splitTimeKey(copy);
          return { entry: copy, key, version: this.#facts.getEntry(key)?.version };
        });
      });
      this.#environment.room.take(0, 'upkeep');
      const writes = page.map(({ entry, key, version }) => {
        const remove = () => {
          void this.#facts.remove(key);
          void this.#expiries.remove(entry);
        };
        // A fact that is put again meanwhile has another version, and has taken its old entry away itself.
        return this.#environment.writeIf(this.#facts, key, version, remove);
      });
      await Promise.all(writes);
      if (page.length < PAGE) return;
    }
  }
}

function randomVersion(): number {
  return 1 + Math.floor(Math.random() * (Number.MAX_SAFE_INTEGER - 1));
}

function encodeFact(value: string, expiresAt: number): Buffer {
  return Buffer.concat([encodeTime(expiresAt), encodeText(value)]);
}

function decodeFact(bytes: Buffer): { expiresAt: number; value: string } {
  return { expiresAt: bytes.readDoubleBE(0), value: decodeText(bytes.subarray(8)) };
}

function encodeEvent({ channel, message }: Publication, at: number): Buffer {
  const name = encodeText(channel);
  const size = Buffer.allocUnsafe(4);
  size.writeUInt32BE(name.length, 0);
  return Buffer.concat([encodeTime(at), size, name, encodeText(message)]);
}

function decodeEvent(bytes: Buffer): { channel: string; message: string } {
  const end = 12 + bytes.readUInt32BE(8);
  return { channel: decodeText(bytes.subarray(12, end)), message: decodeText(bytes.subarray(end)) };
}

function encodeTime(at: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleBE(at, 0);
  return bytes;
}
