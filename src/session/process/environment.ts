import type { Awaitable } from '../../base/awaitable.ts';
import type { Logger } from '../../base/logger.ts';
import type { Tracking } from '../identity/tracking.ts';
import type { UserSessions } from '../life/user-sessions.ts';
import type { Snapshot } from '../record/snapshot.ts';
import type { SessionState, SessionStateFacts } from '../record/state.ts';
import type { WriteFrequency } from '../record/write-policy.ts';
import type { SessionMeters } from '../reports/statistics.ts';
import type { SessionRoom } from '../room/session-room.ts';
import type { SessionEndReason } from '../session.ts';
import type { SessionStore } from '../store.ts';
import type { AccessTimes } from './access-times.ts';
import type { Admission, SharedHold, SocketSession } from './socket-session.ts';
import type { StoreClock } from './store-clock.ts';

/** A session that lives, as far as the store and this process know. */
export interface LoadedSession {
  readonly snapshot: Snapshot;
  /** The last access that the store knows. */
  readonly lastAccessedAt: number;
  /** From memory, without asking the store: another process may have changed it. */
  readonly isRemembered?: true;
  /** Where sockets of this process hold it: their `SessionState.commits` before the store was asked. */
  readonly seen?: number;
}

export interface EndOptions {
  /** As of `SessionStore.delete`. */
  readonly expiredBy?: number;
  /** When it was created, where that is known. */
  readonly createdAt?: number;
}

/** What the parts of the session manager share. */
export interface SessionEnvironment {
  readonly store: SessionStore;
  /** Times of sessions are the store's. */
  readonly clock: StoreClock;
  readonly logger: Logger;
  readonly meters: SessionMeters;
  readonly tracking: Tracking;
  readonly accessTimes: AccessTimes;
  readonly users: UserSessions;
  /** Where the store keeps no cap of its own. */
  readonly room: SessionRoom | undefined;
  readonly frequency: WriteFrequency;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  readonly renewalTimeoutMs: number;
  /**
   * The session, with what sockets of this process are about to write; undefined when there is none or its time is
   * over, which ends it.
   */
  load(sid: string): Promise<LoadedSession | undefined>;
  /** What the store has, whatever the coherence is and also past its expiry. */
  validate(sid: string): Awaitable<LoadedSession | undefined>;
  /**
   * What all requests of this process have in common of a session, where changes are written behind them; otherwise
   * undefined.
   */
  share(sid: string, loaded: LoadedSession): SharedHold | undefined;
  attach(sid: string, admission: Admission): Promise<SocketSession | undefined>;
  /** True when it is known that the session is over. False proves nothing. */
  hasEnded(sid: string): boolean;
  createState(facts: SessionStateFacts): SessionState;
  /** False when a session that nobody has asked for would take the last room, which is for logins. */
  mayBeginUnasked(): Awaitable<boolean>;
  /** Of a session that a nonce makes. True once for each sid, in all processes: the first time that it is created. */
  beginLife(sid: string): Promise<boolean>;
  /** True when a nonce has made it before, whether or not it still lives. */
  hasLived(sid: string): Promise<boolean>;
  end(sid: string, reason: SessionEndReason, options?: EndOptions): Promise<boolean>;
  /** This process has given the session a new secret. */
  onRenewed(sid: string, kind: 'rotated' | 'renewed'): void;
}
