import type { SessionOwner } from './session.ts';

/** A session as administrators see it: never its secret, never a value. */
export interface SessionInfo {
  readonly sid: string;
  readonly owner: SessionOwner | undefined;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  /** Milliseconds of silence after which it ends; absent: never. */
  readonly idleTimeoutMs: number | undefined;
  readonly absoluteExpiresAt: number | undefined;
  /** The browser keeps its cookie when it is closed ("remember me"). */
  readonly isPersistent: boolean;
  /** Another one after each commit. */
  readonly version: number;
  readonly attributes: readonly { readonly name: string; readonly bytes: number }[];
  /** In the memory of this process. */
  readonly isLive: boolean;
}
