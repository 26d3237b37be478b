import type { SessionEndReason } from '../session.ts';
import type { SessionHeader } from '../store.ts';

/** When a session ends by itself, in milliseconds since the epoch; `Infinity`: never. */
export function expiryOf(header: SessionHeader, lastAccessedAt: number): number {
  const { idleTimeoutMs = Number.POSITIVE_INFINITY, absoluteExpiresAt = Number.POSITIVE_INFINITY } = header;
  return Math.min(lastAccessedAt + idleTimeoutMs, absoluteExpiresAt);
}

/** Why a session has ended by `now`, or undefined while it lives. */
export function expiryReason(header: SessionHeader, lastAccessedAt: number, now: number): SessionEndReason | undefined {
  if (now < expiryOf(header, lastAccessedAt)) return undefined;
  return header.absoluteExpiresAt !== undefined && header.absoluteExpiresAt <= now ? 'absolute' : 'expired';
}

export interface EndOptions {
  /** As of `SessionStore.delete`. */
  readonly expiredBy?: number;
  /** When it was created, where that is known. */
  readonly createdAt?: number;
}

/** Ends sessions for all processes. */
export interface SessionEnder {
  /** True when this call has ended it. @throws {HoldfastError} ERR_SESSION_STORE_UNAVAILABLE. */
  end(sid: string, reason: SessionEndReason, options?: EndOptions): Promise<boolean>;
}
