import type { SessionHeader } from '../store.ts';

/**
 * A time as applications see it: in whole milliseconds, as a `Date` has it. The clock of a store may have fractions of
 * one, and in that of a last access is the mark of its process.
 */
export function wholeMs(time: number): number {
  return Math.ceil(time);
}

/** The times of a session as applications see them; an absent one stays absent. */
export function wholeTimes({ createdAt, idleTimeoutMs, absoluteExpiresAt }: SessionHeader, lastAccessedAt: number) {
  return {
    createdAt: wholeMs(createdAt),
    lastAccessedAt: wholeMs(lastAccessedAt),
    idleTimeoutMs,
    absoluteExpiresAt: absoluteExpiresAt === undefined ? undefined : wholeMs(absoluteExpiresAt),
  };
}
