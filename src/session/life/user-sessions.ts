import { setTimeout as sleep } from 'node:timers/promises';
import { HoldfastError } from '../../base/errors.ts';
import { createSecret, hashSecret } from '../identity/ids.ts';
import type { Ledger } from '../ledger.ts';
import type { SessionEnder } from '../record/expiry.ts';
import type { SessionEndReason } from '../session.ts';
import type { SessionRecord, SessionStore } from '../store.ts';

/** How many sessions one user may have, and what happens at one more: `refuse` the new one, or `end-oldest`. */
export interface UserLimit {
  /** At least 1. */
  readonly max: number;
  /** `refuse`: ERR_SESSION_USER_LIMIT, 403. `end-oldest`: the one that was used the longest ago ends, as `evicted`. */
  readonly whenReached: 'refuse' | 'end-oldest';
}

interface UserSessionsServices {
  readonly store: Pick<SessionStore, 'sidsOf'>;
  readonly ledger: Ledger;
  readonly settings: { readonly maxSessionsPerUser: UserLimit | undefined };
}

/** Ends sessions, and knows which live. */
interface LivingSessions extends SessionEnder {
  /** The record of a session whose time is not over. */
  living(sid: string): Promise<SessionRecord | undefined>;
}

const LOCK_MS = 5_000;
const LOCK_RETRY_MS = 50;

/** The sessions of each user, in all processes that share the store. */
export class UserSessions {
  readonly #services: UserSessionsServices;
  readonly #sessions: LivingSessions;

  /** @throws {TypeError} when the limit is none. */
  constructor(services: UserSessionsServices, sessions: LivingSessions) {
    this.#services = services;
    this.#sessions = sessions;
    const limit = this.#limit;
    if (limit && !(Number.isInteger(limit.max) && limit.max >= 1))
      throw new TypeError(`sessions: maxSessionsPerUser.max must be a whole number of at least 1, not ${limit.max}`);
  }

  get isLimited(): boolean {
    return this.#limit !== undefined;
  }

  get #limit(): UserLimit | undefined {
    return this.#services.settings.maxSessionsPerUser;
  }

  /** The sids of the sessions that the user owns. */
  sids(name: string): Promise<string[]> {
    return this.#services.store.sidsOf(name);
  }

  /** @returns how many this call has ended. */
  async endAll(name: string, reason: SessionEndReason, except?: string): Promise<number> {
    const sids = (await this.sids(name)).filter(sid => sid !== except);
    const ends = await Promise.all(sids.map(sid => this.#sessions.end(sid, reason)));
    return ends.filter(Boolean).length;
  }

  /**
   * Runs `give`, which gives the user this session, in the store, within the limit: one login of a user at a time, in
   * all processes.
   *
   * @throws {HoldfastError} ERR_SESSION_USER_LIMIT.
   */
  async admit(name: string, sid: string, give: () => Promise<void>): Promise<void> {
    const limit = this.#limit;
    if (!limit) return give();
    await this.#oneAtATime(name, async () => {
      const others = await this.#others(name, sid, limit.max);
      const excess = others.length + 1 - limit.max;
      if (excess > 0 && limit.whenReached === 'refuse') {
        const message = `the user ${JSON.stringify(name)} has ${others.length} sessions already, as many as allowed (maxSessionsPerUser); end one of them first`;
        throw new HoldfastError('ERR_SESSION_USER_LIMIT', message, { status: 403 });
      }
      await give();
      for (const other of others.slice(0, Math.max(0, excess))) await this.#sessions.end(other, 'evicted');
    });
  }

  /**
   * The other sessions of the user, the one that was used the longest ago first. They are looked at only when there may
   * be too many.
   */
  async #others(name: string, sid: string, max: number): Promise<string[]> {
    const sids = (await this.sids(name)).filter(other => other !== sid);
    if (sids.length < max) return sids;
    const records = await Promise.all(sids.map(async sid => ({ sid, record: await this.#sessions.living(sid) })));
    return records
      .filter(({ record }) => record !== undefined)
      .sort((a, b) => a.record!.lastAccessedAt - b.record!.lastAccessedAt)
      .map(({ sid }) => sid);
  }

  async #oneAtATime(name: string, task: () => Promise<void>): Promise<void> {
    const { ledger } = this.#services;
    const key = `login ${hashSecret(name)}`;
    const mine = createSecret();
    // A lock of a process that was killed ends by itself.
    while (!(await ledger.putIfAbsent(key, mine, LOCK_MS))) await sleep(LOCK_RETRY_MS);
    try {
      await task();
    } finally {
      if ((await ledger.get(key)) === mine) await ledger.take(key);
    }
  }
}
