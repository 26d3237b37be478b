import { hash } from 'node:crypto';
import { RecentMap } from '../../../base/recent-map.ts';
import type { Claims } from './token-user.ts';

/** A token that was found good. */
export interface VerifiedToken {
  readonly claims: Claims;
  readonly name: string;
  /** When it ends, in ms since the epoch, by our clock and with the skew that is allowed. */
  readonly expiresAt: number;
  readonly credential: string;
}

const MOST = 10_000;

/**
 * Tokens whose signature need not be computed again: each stands under its `jti`, and counts for exactly the bytes that
 * were verified. So a token has one place however it is written, and a forged one with the `jti` of another finds
 * nothing.
 */
export class VerifiedTokens {
  #keys = -1;
  readonly #tokens = new RecentMap<string, { readonly digest: string; readonly token: VerifiedToken }>(MOST);

  /** @param keys The version of the keys in use: what was verified by earlier ones counts no more. */
  get(credential: string, text: string, keys: number): VerifiedToken | undefined {
    if (keys !== this.#keys) return undefined;
    const found = this.#tokens.get(credential);
    return found && found.digest === digestOf(text) ? found.token : undefined;
  }

  add(text: string, token: VerifiedToken, keys: number): void {
    if (keys !== this.#keys) this.#tokens.clear();
    this.#keys = keys;
    this.#tokens.set(token.credential, { digest: digestOf(text), token });
  }
}

function digestOf(text: string): string {
  return hash('sha256', text, 'base64');
}
