import { HoldfastError, isHoldfastError } from '../../base/errors.ts';

/** The share of a cap, from 0 to 1, that anonymous sessions may fill; the rest is for logins. */
export const DEFAULT_ANONYMOUS_SHARE = 0.8;

/** @throws {TypeError} */
export function checkShare(what: string, share: number): number {
  if (share >= 0 && share <= 1) return share;
  throw new TypeError(`${what}: anonymousShare must be a number from 0 to 1, not ${share}`);
}

/** @throws {TypeError} */
export function checkCap(what: string, maxSessions: number): number {
  if (maxSessions > 0) return maxSessions;
  throw new TypeError(`${what}: maxSessions must be more than 0, not ${maxSessions}`);
}

/** There is no room for what was to be written. */
export function isNoRoom(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'ERR_SESSION_NO_ROOM';
}

/** ERR_SESSION_NO_ROOM at a cap: `isAnonymous` when it is the share of anonymous sessions that is full. */
export function capReached(store: string, maxSessions: number, anonymousShare?: number): HoldfastError {
  const what =
    anonymousShare === undefined
      ? `${maxSessions} sessions are held already`
      : `anonymous sessions fill ${Math.round(anonymousShare * 100)} % of it, all that they may (anonymousShare; maxSessions is ${maxSessions})`;
  const message = `${store} store: ${what}; raise maxSessions, or shorten idleTimeout`;
  return new HoldfastError('ERR_SESSION_NO_ROOM', message, { status: 503, closeCode: 1013 });
}
