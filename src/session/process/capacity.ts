import type { SessionEnder } from '../record/expiry.ts';
import { isNoRoom } from '../room/cap.ts';
import type { NoDiskRoomError } from '../room/disk.ts';
import type { SessionRecord } from '../store.ts';
import { KeyedQueue } from './keyed-queue.ts';
import type { SessionServices } from './services.ts';

/** So often room is made for one new session, when others take it at the same moment. */
const MAX_TRIES = 10;
/** Of the sessions next to expire, so many are looked at for one that is anonymous. */
const EVICTABLE = 100;

/** Room for new sessions: who is let in, and what is evicted for them where that is configured. */
export class SessionCapacity {
  readonly #services: SessionServices;
  readonly #sessions: SessionEnder;
  readonly #evictions = new KeyedQueue();

  constructor(services: SessionServices, sessions: SessionEnder) {
    this.#services = services;
    this.#sessions = sessions;
  }

  /** As `SessionStore.create`. @throws {HoldfastError} ERR_SESSION_NO_ROOM. */
  async create(sid: string, record: SessionRecord): Promise<boolean> {
    const { store, room, settings } = this.#services;
    const isAnonymous = record.header.owner === undefined;
    for (let tries = 1; ; tries++) {
      try {
        await room?.admit(isAnonymous);
        return await store.create(sid, record);
      } catch (error) {
        if (!isNoRoom(error)) throw error;
        // What has expired goes before anything else.
        if (tries === 1 && (await store.makeRoom?.())) continue;
        const canEvict = settings.overflow === 'evict' && (error as Partial<NoDiskRoomError>).canEvict !== false;
        if (canEvict && tries < MAX_TRIES && (await this.#evictOne(isAnonymous))) continue;
        throw error;
      }
    }
  }

  /** False when a session that nobody has asked for would take the last room, which is for logins. */
  async mayBeginUnasked(): Promise<boolean> {
    const { settings, meters } = this.#services;
    if (settings.overflow === 'evict' || (await this.#hasRoom(true)) || !(await this.#hasRoom(false))) return true;
    meters.noRoomForPages++;
    return false;
  }

  async #hasRoom(isAnonymous: boolean): Promise<boolean> {
    const { store, room } = this.#services;
    return (store.hasRoom?.(isAnonymous) ?? true) && (await room?.hasRoom(isAnonymous)) !== false;
  }

  /** Ends the session next to expire, another one for each call. False when there is none. */
  #evictOne(isForAnonymous: boolean): Promise<boolean> {
    const { store, room, settings } = this.#services;
    return this.#evictions.run('evict', async () => {
      let owned: string | undefined;
      for (const sid of await store.expired(Number.MAX_SAFE_INTEGER, EVICTABLE)) {
        const record = await store.read(sid, settings.apart);
        if (!record) continue;
        if (record.header.owner) {
          owned ??= sid;
          continue;
        }
        if (await this.#sessions.end(sid, 'evicted')) room?.release(true);
        return true;
      }
      if (isForAnonymous || owned === undefined) return false;
      if (await this.#sessions.end(owned, 'evicted')) room?.release(false);
      return true;
    });
  }
}
