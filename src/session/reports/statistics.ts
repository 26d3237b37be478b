import type { SessionEndReason } from '../session.ts';

/** How often something happened, and how much it was. */
export interface Distribution {
  readonly count: number;
  readonly sum: number;
  readonly max: number;
}

/** Calls of one kind to the store. */
export interface StoreCalls {
  readonly count: number;
  readonly failures: number;
  readonly totalMs: number;
  readonly maxMs: number;
  /** Bytes of attributes that were read or written. */
  readonly bytes: number;
}

export interface SlowCall {
  readonly operation: string;
  readonly ms: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** Plain numbers since the manager was made, of this process; what is `now` is a level, the rest only grows. */
export interface SessionStatistics {
  /** Put into the store. */
  readonly created: number;
  /** Ended by this process, for any reason. */
  readonly ended: number;
  readonly endedBy: Readonly<Record<SessionEndReason, number>>;
  /** Milliseconds from creation to end, of the sessions that ended. */
  readonly lifetimeMs: Distribution;
  /** Held by a request or a socket now. */
  readonly activeNow: number;
  /** In the memory of this process now. */
  readonly liveNow: number;
  readonly liveBytesNow: number;
  /**
   * New sessions that were refused, because the store holds as many as it may, or has no room for them: each once,
   * however often its request tried.
   */
  readonly noRoom: number;
  /**
   * Changes of sessions that exist, for which the store had no room: each request once, however often it tried; of what
   * sockets change, or is written behind requests, each session once until it finds some.
   */
  readonly noRoomForChanges: number;
  /** Pages that were served without a session, because anonymous ones fill all the room that they may. */
  readonly noRoomForPages: number;
  /** Left the memory to make room. */
  readonly cacheDiscards: number;
  /** Requests that were answered from memory, without or after asking the store whether that is still right. */
  readonly cacheHits: number;
  readonly cacheMisses: number;
  /**
   * Requests for a session that another process has used last: its requests go to more than one process. Of more than
   * 200 in a second the others may count less.
   */
  readonly affinityBreaks: number;
  /** Requests with a genuine ticket for a session that no longer exists. */
  readonly gone: number;
  /** Milliseconds between a request for a session and the one before it. */
  readonly sinceLastAccessMs: Distribution;
  /** Bytes of the sessions when they were read or written. */
  readonly size: Distribution;
  readonly reads: StoreCalls;
  /** Glances at version and last access. */
  readonly glances: StoreCalls;
  readonly writes: StoreCalls;
  /** Commits and updates that met somebody else's change of the same attribute. */
  readonly conflicts: number;
  /** Values whose type this process does not know were asked for. */
  readonly unknownTypes: number;
  /** Requests with a secret that was replaced by a login more than a minute ago. */
  readonly deadSecrets: number;
  /** Requests of somebody else than the owner. */
  readonly unauthorized: number;
  /** The slowest calls to the store, the slowest first, at most ten. */
  readonly slowest: readonly SlowCall[];
}

export const MAX_SLOWEST = 10;

export class DistributionMeter {
  /** The highest within the minute. */
  peak = 0;
  #count = 0;
  #sum = 0;
  #max = 0;

  add(value: number): void {
    this.#count++;
    this.#sum += value;
    if (value <= this.peak) return;
    this.peak = value;
    if (value > this.#max) this.#max = value;
  }

  read(): Distribution {
    return { count: this.#count, sum: this.#sum, max: this.#max };
  }
}

export class StoreCallMeter {
  readonly ms: DistributionMeter = new DistributionMeter();
  #failures = 0;
  #bytes = 0;

  add(ms: number, bytes: number, isFailure: boolean): void {
    this.ms.add(ms);
    this.#bytes += bytes;
    if (isFailure) this.#failures++;
  }

  read(): StoreCalls {
    const { count, sum, max } = this.ms.read();
    return { count, failures: this.#failures, totalMs: sum, maxMs: max, bytes: this.#bytes };
  }
}

/** The highest values within a minute. */
export interface Peaks {
  readonly active: number;
  readonly live: number;
  readonly liveBytes: number;
  readonly lifetimeMs: number;
  readonly sinceLastAccessMs: number;
  readonly size: number;
  readonly reads: number;
  readonly glances: number;
  readonly writes: number;
}

/** What is in memory, as far as it is counted by the minute. */
interface MemoryPeaks {
  readonly peakSessions: number;
  readonly peakBytes: number;
  forgetPeaks(): void;
}

/** Counts for `SessionStatistics`. */
export class SessionMeters {
  created = 0;
  noRoom = 0;
  noRoomForChanges = 0;
  noRoomForPages = 0;
  cacheDiscards = 0;
  cacheHits = 0;
  cacheMisses = 0;
  affinityBreaks = 0;
  gone = 0;
  conflicts = 0;
  unknownTypes = 0;
  deadSecrets = 0;
  unauthorized = 0;
  readonly lifetimeMs = new DistributionMeter();
  readonly sinceLastAccessMs = new DistributionMeter();
  readonly size = new DistributionMeter();
  readonly calls = { read: new StoreCallMeter(), glance: new StoreCallMeter(), write: new StoreCallMeter() };
  readonly #endedBy: Record<SessionEndReason, number> = {
    expired: 0,
    absolute: 0,
    logout: 0,
    evicted: 0,
    admin: 0,
    security: 0,
  };
  readonly #slowest: SlowCall[] = [];
  #active = 0;
  #activePeak = 0;

  /** A request or a socket holds a session, until `letGo`. */
  hold(): void {
    if (++this.#active > this.#activePeak) this.#activePeak = this.#active;
  }

  letGo(): void {
    this.#active--;
  }

  countEnd(reason: SessionEndReason): void {
    this.#endedBy[reason]++;
  }

  /** Among the slowest so far. */
  isSlow(ms: number): boolean {
    return this.#slowest.length < MAX_SLOWEST || ms > this.#slowest.at(-1)!.ms;
  }

  noteSlow(call: SlowCall): void {
    const slowest = this.#slowest;
    slowest.push(call);
    slowest.sort((a, b) => b.ms - a.ms);
    if (slowest.length > MAX_SLOWEST) slowest.pop();
  }

  read(memory: { readonly size: number; readonly bytes: number }): SessionStatistics {
    return {
      created: this.created,
      ended: Object.values(this.#endedBy).reduce((sum, count) => sum + count, 0),
      endedBy: { ...this.#endedBy },
      lifetimeMs: this.lifetimeMs.read(),
      activeNow: this.#active,
      liveNow: memory.size,
      liveBytesNow: memory.bytes,
      noRoom: this.noRoom,
      noRoomForChanges: this.noRoomForChanges,
      noRoomForPages: this.noRoomForPages,
      cacheDiscards: this.cacheDiscards,
      cacheHits: this.cacheHits,
      cacheMisses: this.cacheMisses,
      affinityBreaks: this.affinityBreaks,
      gone: this.gone,
      sinceLastAccessMs: this.sinceLastAccessMs.read(),
      size: this.size.read(),
      reads: this.calls.read.read(),
      glances: this.calls.glance.read(),
      writes: this.calls.write.read(),
      conflicts: this.conflicts,
      unknownTypes: this.unknownTypes,
      deadSecrets: this.deadSecrets,
      unauthorized: this.unauthorized,
      slowest: [...this.#slowest],
    };
  }

  /** The highest values within the minute. */
  peaks(memory: MemoryPeaks): Peaks {
    const { read, glance, write } = this.calls;
    return {
      active: this.#activePeak,
      live: memory.peakSessions,
      liveBytes: memory.peakBytes,
      lifetimeMs: this.lifetimeMs.peak,
      sinceLastAccessMs: this.sinceLastAccessMs.peak,
      size: this.size.peak,
      reads: read.ms.peak,
      glances: glance.ms.peak,
      writes: write.ms.peak,
    };
  }

  /** A new minute begins. */
  forgetPeaks(memory: MemoryPeaks): void {
    const { read, glance, write } = this.calls;
    this.#activePeak = this.#active;
    memory.forgetPeaks();
    for (const meter of [this.lifetimeMs, this.sinceLastAccessMs, this.size, read.ms, glance.ms, write.ms])
      meter.peak = 0;
  }
}
