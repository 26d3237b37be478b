import type { Awaitable } from '../../base/awaitable.ts';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { SessionStore } from '../store.ts';
import { capReached, checkCap } from './cap.ts';

export interface SessionRoomOptions {
  readonly store: Pick<SessionStore, 'count' | 'countAnonymous' | 'fullness'>;
  readonly clock: Clock;
  /** `Infinity`: as many as the store takes. */
  readonly maxSessions: number;
  readonly anonymousShare: number;
}

/**
 * Between two counts, if there is a reason to count before the next sweep; and so many times as long as a count takes,
 * so that it is a small part of the work.
 */
const RECOUNT_MS = 5_000;
const RECOUNT_FACTOR = 20;
const NEVER = Number.NEGATIVE_INFINITY;

/**
 * Room for another session in a store that keeps no cap of its own: by a count at each sweep, and what this process has
 * created since. So several processes may overshoot by what they create between two sweeps.
 */
export class SessionRoom {
  readonly #options: SessionRoomOptions;
  /** As counted. */
  #sessions = 0;
  /** As counted; where that was not worth while, all are taken for anonymous. */
  #anonymous = 0;
  #isExact = false;
  #fullness = 0;
  /** Created here since they were counted. */
  #created = 0;
  #createdAnonymous = 0;
  #countedAt = NEVER;
  #countTookMs = 0;
  #counting: Promise<void> | undefined;

  /** @throws {TypeError} when an option cannot work. */
  constructor(options: SessionRoomOptions) {
    checkCap('sessions', options.maxSessions);
    this.#options = options;
  }

  /** At the start and at each sweep. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  count(): Promise<void> {
    this.#counting ??= this.#count().finally(() => {
      this.#counting = undefined;
    });
    return this.#counting;
  }

  /** True when `admit` would pass. Without a promise where that is known. */
  hasRoom(isAnonymous: boolean): Awaitable<boolean> {
    if (!this.#whyNot(isAnonymous)) return true;
    return this.#isWorthACount && this.count().then(() => this.#whyNot(isAnonymous) === undefined);
  }

  /**
   * Called before a session is created.
   *
   * @throws {HoldfastError} ERR_SESSION_NO_ROOM when there is no room for it; ERR_SESSION_STORE_UNAVAILABLE when that
   * has to be counted and cannot be.
   */
  async admit(isAnonymous: boolean): Promise<void> {
    if (this.#countedAt === NEVER || (this.#whyNot(isAnonymous) && this.#isWorthACount)) await this.count();
    const refusal = this.#whyNot(isAnonymous);
    if (refusal) throw refusal;
    // Memory fills between two sweeps, too.
    if (this.#options.store.fullness && isAnonymous && this.#isTimeToCount) this.count().catch(() => {});
    this.#created++;
    if (isAnonymous) this.#createdAnonymous++;
  }

  /** A session was ended to make room. */
  release(isAnonymous: boolean): void {
    this.#created--;
    if (isAnonymous) this.#createdAnonymous--;
  }

  #whyNot(isAnonymous: boolean): HoldfastError | undefined {
    const { maxSessions, anonymousShare } = this.#options;
    if (this.#sessions + this.#created >= maxSessions) return capReached('session', maxSessions);
    if (!isAnonymous) return undefined;
    if (this.#anonymous + this.#createdAnonymous >= maxSessions * anonymousShare)
      return capReached('session', maxSessions, anonymousShare);
    if (this.#fullness < anonymousShare) return undefined;
    const message = `session store: ${Math.round(this.#fullness * 100)} % of its memory is in use, and anonymous sessions are made up to ${Math.round(anonymousShare * 100)} % only (anonymousShare); raise maxmemory`;
    return new HoldfastError('ERR_SESSION_NO_ROOM', message, { status: 503, closeCode: 1013 });
  }

  /** Before a refusal: what was taken for anonymous may be anything. */
  get #isWorthACount(): boolean {
    return this.#isTimeToCount || (!this.#isExact && this.#options.store.countAnonymous !== undefined);
  }

  get #isTimeToCount(): boolean {
    const waitMs = Math.max(RECOUNT_MS, this.#countTookMs * RECOUNT_FACTOR);
    return this.#options.clock.monotonic() - this.#countedAt >= waitMs;
  }

  async #count(): Promise<void> {
    const { store, clock, maxSessions, anonymousShare } = this.#options;
    const begun = clock.monotonic();
    const [created, createdAnonymous] = [this.#created, this.#createdAnonymous];
    const isCapped = maxSessions < Number.POSITIVE_INFINITY;
    const fullness = await store.fullness?.();
    const sessions = isCapped ? await store.count() : 0;
    const isNear = isCapped && sessions >= maxSessions * anonymousShare;
    const anonymous = isNear ? await store.countAnonymous?.() : undefined;
    this.#fullness = fullness ?? 0;
    this.#sessions = sessions;
    this.#anonymous = anonymous ?? sessions;
    this.#isExact = anonymous !== undefined;
    // What was created while it counted may be in the count or not.
    this.#created -= created;
    this.#createdAnonymous -= createdAnonymous;
    this.#countedAt = clock.monotonic();
    this.#countTookMs = this.#countedAt - begun;
  }
}
