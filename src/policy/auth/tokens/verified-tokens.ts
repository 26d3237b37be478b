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
 * nothing. They are found by a digest of these bytes, so that nothing of a known token need be decoded.
 */
export class VerifiedTokens {
  #keys = -1;
  /** By the digest. */
  readonly #tokens = new RecentMap<string, VerifiedToken>(MOST);
  /** The one digest of each that counts, by its `jti`. */
  readonly #digests = new RecentMap<string, string>(MOST);

  /** @param keys The version of the keys in use: what was verified by earlier ones counts no more. */
  get(text: string, keys: number): VerifiedToken | undefined {
    if (keys !== this.#keys) return undefined;
    const digest = digestOf(text);
    const found = this.#tokens.get(digest);
    return found && this.#digests.get(found.credential) === digest ? found : undefined;
  }

  add(text: string, token: VerifiedToken, keys: number): void {
    const { credential } = token;
    if (keys !== this.#keys) {
      this.#tokens.clear();
      this.#digests.clear();
    }
    this.#keys = keys;
    const digest = digestOf(text);
    const former = this.#digests.get(credential);
    if (former !== undefined) this.#tokens.delete(former);
    this.#tokens.set(digest, token);
    this.#digests.set(credential, digest);
  }
}

function digestOf(text: string): string {
  return hash('sha256', text, 'base64');
}
