import type { SessionHeader } from '../store.ts';
import { equalInConstantTime } from './ids.ts';

/**
 * After a login the old secret is dead; for so long it is an accident that somebody still sends it, later it is not.
 */
export const SUPERSEDED_MS = 60_000;
/** After a rotation by time the old secret works for so long, counted from when the new one was used first. */
export const ROTATED_MS = 30_000;

/**
 * What a shown secret is to a session.
 *
 * `current`: its secret. `rotated`: the one before, replaced by time, which still works. `superseded`: the one before,
 * replaced by a login a moment ago: a request that was on its way. `dead`: the same, long ago: whoever sends it has
 * kept it, or stolen it. `wrong`: none of its own.
 */
export type SecretStanding = 'current' | 'rotated' | 'superseded' | 'dead' | 'wrong';

const BEST_FIRST: readonly SecretStanding[] = ['current', 'rotated', 'superseded', 'dead', 'wrong'];

/** Of two secrets that are shown for one session, the better one counts. */
export function isBetter(one: SecretStanding, other: SecretStanding): boolean {
  return BEST_FIRST.indexOf(one) < BEST_FIRST.indexOf(other);
}

/** What of a header says which secrets open its session. */
export type Secrets = Pick<SessionHeader, 'secretHash' | 'former'>;

/**
 * True when a session that had the one secret has another by a login, or because its store was set back: who came with
 * the one must not see what it has become.
 *
 * That the last replacement was by time proves nothing: a login may have come before it. It has to be one of a secret
 * that worked beside the one: this itself, or, when the response that carried it was lost, the one before.
 */
export function isReplaced(before: Secrets, { secretHash, former }: Secrets): boolean {
  if (secretHash === before.secretHash) return false;
  if (former?.kind !== 'rotated') return true;
  const isOfBefore = before.former?.kind === 'rotated' && former.secretHash === before.former.secretHash;
  return former.secretHash !== before.secretHash && !isOfBefore;
}

export function judgeSecret({ secretHash, former }: SessionHeader, shownHash: string, now: number): SecretStanding {
  if (equalInConstantTime(shownHash, secretHash)) return 'current';
  if (!former || !equalInConstantTime(shownHash, former.secretHash)) return 'wrong';
  const isInTime = former.until === undefined || now < former.until;
  if (former.kind === 'rotated') return isInTime ? 'rotated' : 'dead';
  return isInTime ? 'superseded' : 'dead';
}
