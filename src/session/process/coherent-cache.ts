import { type Awaitable, whenThere } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import { type Committed, Snapshot } from '../record/snapshot.ts';
import { isLater } from '../record/version.ts';
import type { SessionListeners } from '../reports/events.ts';
import type { SessionMeters } from '../reports/statistics.ts';
import type { SessionFeed, SessionGlance, SessionStore } from '../store.ts';
import { isMarked } from './access-mark.ts';
import type { LoadedSession } from './loaded-session.ts';
import { NearCache } from './near-cache.ts';

export interface CoherentCacheOptions {
  readonly store: SessionStore;
  readonly clock: Clock;
  readonly meters: SessionMeters;
  readonly listeners: SessionListeners;
  readonly settings: {
    readonly coherence: 'strict' | 'relaxed';
    readonly cacheSessions: number;
    readonly cacheBytes: number;
    readonly apart: ReadonlySet<string> | undefined;
  };
}

/** In `relaxed` coherence without a feed of changes, what was asked so long ago is asked again. */
const RELAXED_MS = 1_000;

/**
 * Reads sessions, from memory where that is as good as the store: in `strict` coherence when the store says so, in
 * `relaxed` while it has not said otherwise.
 */
export class CoherentCache extends NearCache {
  readonly #options: CoherentCacheOptions;
  #feed: SessionFeed | undefined;
  #feedGaps = 0;
  #interruptions: number;

  constructor(options: CoherentCacheOptions) {
    const { store, clock, meters, listeners, settings } = options;
    super({
      maxSessions: settings.cacheSessions,
      maxBytes: settings.cacheBytes,
      clock,
      onLoaded: sid => listeners.tell('activated', { sid }),
      onDiscarded: sid => {
        meters.cacheDiscards++;
        listeners.tell('passivated', { sid });
      },
    });
    this.#options = options;
    this.#interruptions = store.interruptions ?? 0;
  }

  /** What is known of it without asking. */
  peek(sid: string): Snapshot | undefined {
    return this.get(sid)?.snapshot;
  }

  /**
   * Hears what other processes change, in `relaxed` coherence where the store can tell. @throws
   * ERR_SESSION_STORE_UNAVAILABLE.
   */
  async watch(onChange: (sid: string) => void): Promise<void> {
    if (this.#options.settings.coherence === 'strict' || this.#feed) return;
    this.#feed = await this.#options.store.watch?.(sid => {
      this.distrust(sid);
      onChange(sid);
    });
    if (!this.#feed) return;
    this.#feedGaps = this.#feed.gaps;
    this.distrustAll(); // what has changed until now was not told
  }

  async close(): Promise<void> {
    await this.#feed?.close();
  }

  /** What is in memory and recent enough for `relaxed` coherence. */
  remembered(sid: string): LoadedSession | undefined {
    const { settings, clock, meters } = this.#options;
    this.#forgetAfterInterruption();
    const cached = settings.coherence === 'relaxed' ? this.get(sid) : undefined;
    if (!cached) return undefined;
    if (this.#feed && this.#feed.gaps !== this.#feedGaps) {
      this.#feedGaps = this.#feed.gaps;
      this.distrustAll();
      return undefined;
    }
    const age = clock.monotonic() - cached.validatedAt;
    const isRecent = this.#feed?.isCurrent ? age < Number.POSITIVE_INFINITY : age < RELAXED_MS;
    if (!isRecent) return undefined;
    meters.cacheHits++;
    return { snapshot: cached.snapshot, lastAccessedAt: cached.lastAccessedAt };
  }

  /** What is in memory if the store says that it is still right, otherwise what the store has. */
  validated(sid: string): Awaitable<LoadedSession | undefined> {
    this.#forgetAfterInterruption();
    const known = this.get(sid)?.snapshot.version;
    if (known === undefined) return this.#read(sid);
    const glance = this.validate(sid, () => this.#options.store.glance(sid));
    return whenThere(glance, seen => seen && this.#compare(sid, known, seen));
  }

  /** The connection was lost: others may have written to another server meanwhile, and this one never hears of it. */
  #forgetAfterInterruption(): void {
    const { interruptions = 0 } = this.#options.store;
    if (interruptions === this.#interruptions) return;
    this.#interruptions = interruptions;
    this.clear();
  }

  #compare(sid: string, known: number, glance: SessionGlance): Awaitable<LoadedSession | undefined> {
    const { meters } = this.#options;
    const cached = this.get(sid);
    if (cached) {
      const { snapshot } = cached;
      // A later one is what this process has committed meanwhile.
      const isMeanwhile = snapshot.version !== known && isLater(snapshot.version, glance.version);
      if (snapshot.version === glance.version || isMeanwhile) {
        meters.cacheHits++;
        return { snapshot, lastAccessedAt: glance.lastAccessedAt };
      }
      // Where it does not say who has used it last.
      if (!isMarked(glance.lastAccessedAt)) meters.affinityBreaks++;
      // Perhaps the store was set back, by a failover without its latest writes: what it has is what there is.
      if (snapshot.version > glance.version) this.delete(sid);
    }
    return this.#read(sid);
  }

  async #read(sid: string): Promise<LoadedSession | undefined> {
    const { store, meters, settings } = this.#options;
    meters.cacheMisses++;
    const loaded = await this.load(sid, async () => {
      const record = await store.read(sid, settings.apart);
      return record && { snapshot: new Snapshot(record, settings.apart), lastAccessedAt: record.lastAccessedAt };
    });
    if (loaded) meters.size.add(loaded.snapshot.bytes);
    return loaded;
  }

  /**
   * This process has committed to it.
   *
   * @param before What the commit was made to.
   * @param after What its holder has now.
   */
  onCommitted(sid: string, committed: Committed, before: Snapshot, after: Snapshot): void {
    const known = this.get(sid)?.snapshot;
    if (!known || known.version === committed.version || isLater(known.version, committed.version)) return;
    // With a commit of somebody else in between there is no telling what the record is now.
    if (committed.previous !== known.version) this.distrust(sid);
    else if (known === before && after.version === committed.version) this.update(sid, after);
    else this.update(sid, known.after(committed));
  }
}
