import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { MAX_SWEEP_MS } from '../../base/session-times.ts';
import { createSecret } from '../identity/ids.ts';
import type { Ledger } from '../ledger.ts';
import { expiryReason, type SessionEnder } from '../record/expiry.ts';
import { isNoRoom } from '../room/cap.ts';
import type { SessionRoom } from '../room/session-room.ts';
import type { SessionStore } from '../store.ts';

/** `{ everyMs }`, or once in each of these hours of the local day (0 to 23), for stores that are busy by day. */
export type SweepSchedule = { readonly everyMs: number } | { readonly atHours: readonly number[] };

interface SweepServices {
  readonly settings: { readonly sweep: SweepSchedule; readonly apart: ReadonlySet<string> | undefined };
  readonly ledger: Ledger;
  readonly store: Pick<SessionStore, 'expired' | 'read'>;
  /** `check`: false when the time of the store cannot be known now. */
  readonly clock: Clock & { check(): Promise<boolean> };
  readonly logger: Logger;
  readonly accessTimes: {
    /** The last access as far as this process and the store know. */
    latest(sid: string, storedAt: number): number;
    /** Writes what is due by `now`. @throws ERR_SESSION_STORE_UNAVAILABLE. */
    flush(now: number): Promise<void>;
  };
  readonly room: Pick<SessionRoom, 'count'> | undefined;
}

const BATCH = 500;
/** So many are ended together, so that a store that waits for a disk waits once for all of them. */
const TOGETHER = 50;
const LEASE = 'sweep';
const HOUR_MS = 3_600_000;
/** Between two sweeps for want of room: whoever is refused would order one. */
const MAKE_ROOM_EVERY_MS = 1_000;
const LOOK_MS = 60_000;

/**
 * Ends the sessions whose time is over, whether or not anybody asks for them again. Of several processes one sweeps at
 * a time.
 */
export class Sweeper {
  readonly #services: SweepServices;
  readonly #sessions: SessionEnder;
  readonly #name = createSecret();
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #makingRoom: Promise<boolean> | undefined;
  #madeRoomAt = Number.NEGATIVE_INFINITY;
  #isStopped = true;
  #lastHour: string | undefined;

  /** @throws {TypeError} when the schedule is none. */
  constructor(services: SweepServices, sessions: SessionEnder) {
    checkSchedule(services.settings.sweep);
    this.#services = services;
    this.#sessions = sessions;
  }

  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#wait();
  }

  /** Resolves when a sweep that is on its way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#services.clock.clearTimeout(this.#timer);
    await this.#running;
    await this.#makingRoom;
  }

  /**
   * A write has found no room: what has expired goes now, and not at the next time, which may be hours away.
   *
   * @returns whether anything went. Never rejects.
   */
  makeRoom(): Promise<boolean> {
    const { clock } = this.#services;
    if (this.#makingRoom) return this.#makingRoom;
    if (this.#isStopped || clock.monotonic() - this.#madeRoomAt < MAKE_ROOM_EVERY_MS) return Promise.resolve(false);
    this.#makingRoom = this.#makeRoom().finally(() => {
      this.#makingRoom = undefined;
      this.#madeRoomAt = clock.monotonic();
    });
    return this.#makingRoom;
  }

  async #makeRoom(): Promise<boolean> {
    const { accessTimes, clock, logger, room } = this.#services;
    try {
      if (!(await clock.check())) return false;
      await accessTimes.flush(clock.now());
      const { ended } = await this.#sweepBatch(clock.now());
      if (ended > 0) await room?.count();
      return ended > 0;
    } catch (error) {
      logger.warn({ err: error }, 'expired sessions not swept to make room; trying again');
      return false;
    }
  }

  #wait(): void {
    const { sweep } = this.#services.settings;
    const ms = 'everyMs' in sweep ? sweep.everyMs : LOOK_MS;
    this.#timer = this.#services.clock.setTimeout(() => {
      this.#running = this.#look(ms).finally(() => {
        if (!this.#isStopped) this.#wait();
      });
    }, ms);
  }

  #isDue(): boolean {
    const { settings, clock } = this.#services;
    if ('everyMs' in settings.sweep) return true;
    const now = new Date(clock.now());
    const hour = `${now.toDateString()} ${now.getHours()}`;
    if (!settings.sweep.atHours.includes(now.getHours()) || hour === this.#lastHour) return false;
    this.#lastHour = hour;
    return true;
  }

  async #look(intervalMs: number): Promise<void> {
    const { room, logger } = this.#services;
    if (this.#isDue()) await this.#sweepAlone(intervalMs);
    await room?.count().catch(error => logger.warn({ err: error }, 'sessions not counted; trying again'));
  }

  /** Ends are claimed, so two sweeps at once would do no harm; only the work would be done twice. */
  async #sweepAlone(intervalMs: number): Promise<void> {
    const { accessTimes, logger, clock } = this.#services;
    try {
      if (!(await clock.check())) throw new Error('the clock of the store is not known');
      // While last accesses cannot be written, sessions in use would look idle.
      await accessTimes.flush(clock.now());
      if (await this.#isMine(intervalMs)) await this.#sweep();
    } catch (error) {
      this.#lastHour = undefined;
      logger.warn({ err: error }, 'expired sessions not swept; trying again');
    }
  }

  /** Where there is no room for a lease, sweeping makes some. */
  async #isMine(intervalMs: number): Promise<boolean> {
    try {
      return await this.#services.ledger.putIfAbsent(LEASE, this.#name, Math.min(intervalMs * 0.9, HOUR_MS));
    } catch (error) {
      if (isNoRoom(error)) return true;
      throw error;
    }
  }

  async #sweep(): Promise<void> {
    const now = this.#services.clock.now();
    for (;;) {
      const { found, ended } = await this.#sweepBatch(now);
      // A batch of which nothing could be ended would only come back.
      if (found < BATCH || ended === 0 || this.#isStopped) return;
    }
  }

  async #sweepBatch(now: number): Promise<{ found: number; ended: number }> {
    const sids = await this.#services.store.expired(now, BATCH);
    let ended = 0;
    for (let start = 0; start < sids.length; start += TOGETHER) {
      const ends = sids.slice(start, start + TOGETHER).map(sid => this.#endIfExpired(sid, now));
      ended += (await Promise.all(ends)).filter(Boolean).length;
      await setImmediate();
    }
    return { found: sids.length, ended };
  }

  async #endIfExpired(sid: string, now: number): Promise<boolean> {
    const { store, accessTimes, settings } = this.#services;
    const record = await store.read(sid, settings.apart);
    const reason = record && expiryReason(record.header, accessTimes.latest(sid, record.lastAccessedAt), now);
    return (
      reason !== undefined && this.#sessions.end(sid, reason, { expiredBy: now, createdAt: record!.header.createdAt })
    );
  }
}

function checkSchedule(schedule: SweepSchedule): void {
  if ('everyMs' in schedule) {
    if (schedule.everyMs >= 1 && schedule.everyMs <= MAX_SWEEP_MS) return;
    throw new TypeError(`sessions: sweep.everyMs must be 1 to ${MAX_SWEEP_MS} milliseconds, not ${schedule.everyMs}`);
  }
  const { atHours } = schedule;
  if (atHours.length > 0 && atHours.every(hour => Number.isInteger(hour) && hour >= 0 && hour < 24)) return;
  throw new TypeError(
    `sessions: sweep.atHours must be at least one hour of the day, 0 to 23, not [${atHours.map(String).join(', ')}]`,
  );
}
