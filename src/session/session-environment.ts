import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { AccessTimes } from './access-times.ts';
import type { SessionCookie } from './cookie.ts';
import type { SessionEndReason } from './session.ts';
import type { SessionState } from './session-state.ts';
import type { SessionRecord, SessionStore } from './store.ts';

/** What the parts of the session manager share. */
export interface SessionEnvironment {
  readonly store: SessionStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly cookie: SessionCookie;
  readonly accessTimes: AccessTimes;
  readonly idleTimeoutMs: number;
  readonly absoluteTimeoutMs: number;
  /** The record, with what sockets of this process are about to write; undefined when there is none or its time is over, which ends it. */
  readLive(sid: string): Promise<SessionRecord | undefined>;
  createState(sid: string, record: SessionRecord, isStored: boolean): SessionState;
  end(sid: string, reason: SessionEndReason): Promise<boolean>;
}
