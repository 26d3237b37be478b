import { setImmediate } from 'node:timers/promises';
import type { Timer } from '../base/clock.ts';
import { expiryReason } from './expiry.ts';
import type { SessionEnvironment } from './session-environment.ts';

const BATCH = 500;

/** Ends the sessions whose time is over, whether or not anybody asks for them again. */
export class Sweeper {
  readonly #environment: SessionEnvironment;
  readonly #intervalMs: number;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #isStopped = true;

  constructor(environment: SessionEnvironment, intervalMs: number) {
    this.#environment = environment;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#isStopped = false;
    this.#schedule();
  }

  /** Resolves when a sweep that is on its way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#environment.clock.clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(): void {
    this.#timer = this.#environment.clock.setTimeout(() => {
      this.#running = this.#sweep().finally(() => {
        if (!this.#isStopped) this.#schedule();
      });
    }, this.#intervalMs);
  }

  async #sweep(): Promise<void> {
    const { store, accessTimes, clock, logger } = this.#environment;
    try {
      await accessTimes.flush(); // or sessions in use, whose last access is not written yet, would look idle
      const now = clock.now();
      for (;;) {
        const sids = await store.expired(now, BATCH);
        let ended = 0;
        for (const sid of sids) if (await this.#endIfExpired(sid, now)) ended++;
        // A batch of which nothing could be ended would only come back.
        if (sids.length < BATCH || ended === 0 || this.#isStopped) return;
        await setImmediate();
      }
    } catch (error) {
      logger.warn({ err: error }, 'expired sessions not swept; trying again');
    }
  }

  async #endIfExpired(sid: string, now: number): Promise<boolean> {
    const { store, accessTimes } = this.#environment;
    const record = await store.read(sid);
    const reason = record && expiryReason(record.header, accessTimes.latest(sid, record.lastAccessedAt), now);
    return reason !== undefined && this.#environment.end(sid, reason);
  }
}
