import type { Snapshot } from '../record/snapshot.ts';

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
