import type { PasswordHash } from './password-hash.ts';
import type { Match } from './verify-password.ts';

/** A password to be compared; the next one comes when it is answered. */
export interface ToThread {
  readonly password: string;
  readonly hash: Pick<PasswordHash, 'form' | 'text'>;
}

export type FromThread = Match;
