import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import type { Snapshot } from '../record/snapshot.ts';
import type { SessionGlance } from '../store.ts';

/** What an entry costs beside its attributes. */
const ENTRY_BYTES = 512;
/** What each attribute costs beside its name and its bytes. */
const ATTRIBUTE_BYTES = 320;
const NEVER = Number.NEGATIVE_INFINITY;

/** Of a session that this process has read. Changed in place by the cache: take out of it what is needed. */
export interface CachedSession {
  readonly snapshot: Snapshot;
  /** The last access that the store knew then. */
  readonly lastAccessedAt: number;
  /** When the store was asked last, on the monotonic clock; `-Infinity`: it has to be asked again. */
  readonly validatedAt: number;
}

/** Linked from the least to the most recently used, so that using one costs no memory. */
interface Entry {
  readonly sid: string;
  snapshot: Snapshot;
  lastAccessedAt: number;
  validatedAt: number;
  /** How often it was said that it may have changed. */
  doubts: number;
  previous: Entry | undefined;
  next: Entry | undefined;
}

export interface NearCacheOptions {
  /** 0 keeps none. */
  readonly maxSessions: number;
  readonly maxBytes: number;
  readonly clock: Clock;
  /** Read from the store, and kept from now on. */
  readonly onLoaded: (sid: string) => void;
  /** Left out to make room, or because what is here no longer counts. */
  readonly onDiscarded: (sid: string) => void;
}

type Loaded = Omit<CachedSession, 'validatedAt'>;

/** A read on its way, and what has been heard meanwhile. */
interface Reading {
  readers: number;
  isCurrent: boolean;
  hasEnded: boolean;
}

/**
 * Sessions that this process has read, with what was decoded of them: the least recently used one makes room.
 *
 * It is never the only place of anything. An entry says how the store was at one moment; who uses it decides whether
 * that is good enough.
 */
export class NearCache {
  readonly #options: NearCacheOptions;
  readonly #entries = new Map<string, Entry>();
  #oldest: Entry | undefined;
  #newest: Entry | undefined;
  readonly #reading = new Map<string, Reading>();
  #bytes = 0;
  /** The most of them since `forgetPeaks`. */
  peakSessions = 0;
  peakBytes = 0;

  constructor(options: NearCacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  forgetPeaks(): void {
    this.peakSessions = this.#entries.size;
    this.peakBytes = this.#bytes;
  }

  has(sid: string): boolean {
    return this.#entries.has(sid);
  }

  get(sid: string): CachedSession | undefined {
    const entry = this.#entries.get(sid);
    if (entry && entry !== this.#newest) {
      this.#unlink(entry);
      this.#link(entry);
    }
    return entry;
  }

  /** Reads from the store and keeps what it gave. What changes while it is being read is kept as not validated. */
  async load(sid: string, read: () => Promise<Loaded | undefined>): Promise<Loaded | undefined> {
    const reading = this.#reading.get(sid) ?? { readers: 0, isCurrent: true, hasEnded: false };
    this.#reading.set(sid, reading);
    reading.readers++;
    const askedAt = this.#options.clock.monotonic();
    try {
      const loaded = await read();
      if (!loaded) this.delete(sid);
      else if (!reading.hasEnded) {
        const isNew = !this.#entries.has(sid);
        this.#put(sid, loaded, reading.isCurrent ? askedAt : NEVER);
        if (isNew && this.#entries.has(sid)) this.#options.onLoaded(sid);
      }
      return loaded;
    } finally {
      if (--reading.readers === 0) this.#reading.delete(sid);
    }
  }

  /**
   * Asks the store for the version. When it is the one that is here, the entry is right, unless it changed meanwhile.
   */
  validate(sid: string, glance: () => Awaitable<SessionGlance | undefined>): Awaitable<SessionGlance | undefined> {
    const entry = this.#entries.get(sid);
    const doubts = entry?.doubts;
    const askedAt = this.#options.clock.monotonic();
    return whenThere(glance(), seen => {
      if (seen && entry?.snapshot.version === seen.version && this.#entries.get(sid) === entry) {
        entry.lastAccessedAt = seen.lastAccessedAt;
        entry.validatedAt = entry.doubts === doubts ? askedAt : NEVER;
      }
      return seen;
    });
  }

  /** This process has committed, or has learned the present state by other means. */
  update(sid: string, snapshot: Snapshot): void {
    const entry = this.#entries.get(sid);
    if (entry) this.#put(sid, { snapshot, lastAccessedAt: entry.lastAccessedAt }, entry.validatedAt);
    // Whether it saw this is not known.
    const reading = this.#reading.get(sid);
    if (reading) reading.isCurrent = false;
  }

  /**
   * A session that this process has just created. Others may know it already, by its nonce: the store is asked before
   * it is used.
   */
  add(sid: string, snapshot: Snapshot, lastAccessedAt: number): void {
    this.#put(sid, { snapshot, lastAccessedAt }, NEVER);
  }

  /** The store knows this last access. */
  noteAccess(sid: string, lastAccessedAt: number): void {
    const entry = this.#entries.get(sid);
    if (entry) entry.lastAccessedAt = lastAccessedAt;
  }

  /** Somebody may have changed it: the store has to be asked before it is used. */
  distrust(sid: string): void {
    const entry = this.#entries.get(sid);
    if (entry) {
      entry.validatedAt = NEVER;
      entry.doubts++;
    }
    const reading = this.#reading.get(sid);
    if (reading) reading.isCurrent = false;
  }

  distrustAll(): void {
    for (const sid of this.#entries.keys()) this.distrust(sid);
    for (const reading of this.#reading.values()) reading.isCurrent = false;
  }

  delete(sid: string): void {
    const reading = this.#reading.get(sid);
    if (reading) reading.hasEnded = true;
    const entry = this.#entries.get(sid);
    if (entry) this.#remove(entry);
  }

  /** Nothing that was read before counts any more, nor what is being read. */
  clear(): void {
    for (const reading of this.#reading.values()) reading.hasEnded = true;
    for (const entry of [...this.#entries.values()]) {
      this.#remove(entry);
      this.#options.onDiscarded(entry.sid);
    }
  }

  #put(sid: string, { snapshot, lastAccessedAt }: Loaded, validatedAt: number): void {
    const before = this.#entries.get(sid);
    if (before && before.snapshot.version > snapshot.version) return;
    const { maxSessions, maxBytes, onDiscarded } = this.#options;
    if (maxSessions === 0 || weightOf(snapshot) > maxBytes) {
      if (!before) return;
      this.#remove(before);
      onDiscarded(sid); // it has grown; all others would not make room enough
      return;
    }
    const entry = before ?? this.#begin(sid, snapshot);
    this.#bytes += weightOf(snapshot) - (before ? weightOf(before.snapshot) : 0);
    entry.snapshot = snapshot;
    entry.lastAccessedAt = lastAccessedAt;
    entry.validatedAt = validatedAt;
    this.#unlink(entry);
    this.#link(entry);
    while (this.#entries.size > maxSessions || this.#bytes > maxBytes) {
      const oldest = this.#oldest!;
      this.#remove(oldest);
      onDiscarded(oldest.sid);
    }
    if (this.#entries.size > this.peakSessions) this.peakSessions = this.#entries.size;
    if (this.#bytes > this.peakBytes) this.peakBytes = this.#bytes;
  }

  #begin(sid: string, snapshot: Snapshot): Entry {
    const entry: Entry = {
      sid,
      snapshot,
      lastAccessedAt: 0,
      validatedAt: NEVER,
      doubts: 0,
      previous: undefined,
      next: undefined,
    };
    this.#entries.set(sid, entry);
    this.#link(entry);
    return entry;
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.sid);
    this.#unlink(entry);
    this.#bytes -= weightOf(entry.snapshot);
  }

  #link(entry: Entry): void {
    entry.previous = this.#newest;
    entry.next = undefined;
    if (this.#newest) this.#newest.next = entry;
    else this.#oldest = entry;
    this.#newest = entry;
  }

  #unlink({ previous, next }: Entry): void {
    if (previous) previous.next = next;
    else this.#oldest = next;
    if (next) next.previous = previous;
    else this.#newest = previous;
  }
}

function weightOf(snapshot: Snapshot): number {
  // The bytes, and what is decoded of them.
  return ENTRY_BYTES + snapshot.size * ATTRIBUTE_BYTES + snapshot.heldBytes * 2;
}
