import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionHeader, SessionStore } from '../store.ts';

/** Last access is written when it moved by this much of the idle time ... */
const SHARE_OF_IDLE = 0.1;
/** ... or by this much, whichever is less. */
const MAX_STEP_MS = 60_000;
const FLUSH_INTERVAL_MS = 1_000;
/** So many are written in one call, which has a time limit. */
const BATCH = 1_000;

interface Access {
  at: number;
  /** From when on it is to be written. */
  dueAt: number;
  /** Half-way to the time at which other processes, which do not know of it, end the session: by then it is written. */
  hasToBeAt: number;
  readonly stepMs: number;
  readonly idleMs: number;
  readonly onWritten: ((at: number) => void) | undefined;
}

/** Keeps the last accesses that the store knows. */
interface WrittenAccesses {
  noteAccess(sid: string, at: number): void;
}

/**
 * Last accesses that are not in the store yet, written in batches: at most one write per session and step, however
 * often it is used.
 *
 * Every access reaches the store within one step of the one written before it, and at most a second more; and sooner
 * where the session would otherwise look idle to another process before that, which ends it if it holds sockets of it.
 */
export class AccessTimes {
  readonly #store: SessionStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #written: WrittenAccesses;
  readonly #accesses = new Map<string, Access>();
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #isClosed = false;

  constructor(store: SessionStore, clock: Clock, logger: Logger, written: WrittenAccesses) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
    this.#written = written;
  }

  /**
   * The session is being used now.
   *
   * @param storedAt The last access that the store knows.
   * @param onWritten Told when the store knows a later one.
   */
  note(sid: string, header: SessionHeader, storedAt: number, onWritten?: (at: number) => void): void {
    const now = this.#clock.now();
    const known = this.#accesses.get(sid);
    if (known) {
      known.at = Math.max(known.at, now); // somebody may have set the clock back
      return;
    }
    const { idleTimeoutMs: idleMs = Number.POSITIVE_INFINITY } = header;
    const stepMs = Math.min(idleMs * SHARE_OF_IDLE, MAX_STEP_MS);
    const dueAt = Math.max(now, storedAt + stepMs);
    const hasToBeAt = Math.max(dueAt, now + (storedAt + idleMs - now) / 2);
    this.#accesses.set(sid, { at: now, dueAt, hasToBeAt, stepMs, idleMs, onWritten });
    this.#schedule(Math.min(FLUSH_INTERVAL_MS, hasToBeAt - now));
  }

  /** The last access as far as this process and the store know. */
  latest(sid: string, storedAt: number): number {
    return Math.max(storedAt, this.#accesses.get(sid)?.at ?? 0);
  }

  forget(sid: string): void {
    this.#accesses.delete(sid);
  }

  /**
   * Writes what is due by `now`, by default everything. @throws ERR_SESSION_STORE_UNAVAILABLE; the accesses are kept
   * for the next time.
   */
  async flush(now = Number.POSITIVE_INFINITY): Promise<void> {
    const due: [sid: string, at: number][] = [];
    for (const [sid, { at, dueAt }] of this.#accesses) if (dueAt <= now) due.push([sid, at]);
    for (let start = 0; start < due.length; start += BATCH) await this.#write(due.slice(start, start + BATCH));
  }

  async #write(batch: readonly (readonly [sid: string, at: number])[]): Promise<void> {
    await this.#store.touch(new Map(batch));
    for (const [sid, at] of batch) {
      this.#written.noteAccess(sid, at);
      const access = this.#accesses.get(sid);
      if (!access) continue;
      access.onWritten?.(at);
      if (access.at === at) this.#accesses.delete(sid);
      else {
        // Used again meanwhile.
        access.dueAt = at + access.stepMs;
        access.hasToBeAt = at + access.idleMs / 2;
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.flush();
  }

  #schedule(ms: number): void {
    const now = this.#clock.now();
    if (this.#isClosed || (this.#timer && this.#timerAt <= now + ms)) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timerAt = now + ms;
    this.#timer = this.#clock.setTimeout(() => void this.#tick(), ms);
  }

  async #tick(): Promise<void> {
    let pauseMs = FLUSH_INTERVAL_MS;
    try {
      await this.flush(this.#clock.now());
      const now = this.#clock.now();
      for (const { hasToBeAt } of this.#accesses.values()) pauseMs = Math.min(pauseMs, Math.max(0, hasToBeAt - now));
    } catch (error) {
      this.#logger.warn({ err: error }, 'last access of sessions not written; trying again');
    }
    this.#timer = undefined;
    if (this.#accesses.size > 0) this.#schedule(pauseMs);
  }
}
