import { hash, randomBytes, timingSafeEqual } from 'node:crypto';

/** Characters of a `sid`: 128 bits as base64url. */
export const SID_LENGTH = 22;
/** Characters of a secret: 256 bits as base64url. */
export const SECRET_LENGTH = 43;

/** A new session id: 128 random bits. It names a session for its whole life and opens nothing. */
export function createSid(): string {
  return randomBytes(16).toString('base64url');
}

/** Whether somebody else's answer or message has a sid where one belongs. */
export function isSid(text: unknown): text is string {
  return typeof text === 'string' && text.length === SID_LENGTH && /^[\w-]+$/.test(text);
}

/** A new secret: 256 random bits. Whoever sends it back is the client of the session. */
export function createSecret(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * What is kept of a secret: SHA-256 of its text, base64url. It is random enough that no salt or stretching is needed.
 */
export function hashSecret(secret: string): string {
  return hash('sha256', secret, 'base64url');
}

/** Compares in a time that does not depend on where two texts of the same length differ. */
export function equalInConstantTime(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}
