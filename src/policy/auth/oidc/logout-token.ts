import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from 'jose';
import type { KeySource } from '../tokens/key-source.ts';

/** Whom a provider has signed out. At least one of the two is there. */
export interface ProviderLogout {
  /** Of the token: used once. */
  readonly id: string;
  readonly subject: string | undefined;
  /** Their session at the provider; undefined: all that they have. */
  readonly session: string | undefined;
}

export interface LogoutTokenOptions {
  readonly issuer: string;
  readonly clientId: string;
  readonly algorithms: readonly string[];
  readonly keys: Pick<KeySource, 'keysFor'>;
  /** In ms since the epoch. */
  readonly now: number;
}

/** How old one may be. */
export const LOGOUT_TOKEN_MS = 300_000;
const TOLERANCE_S = 30;
const EVENT = 'http://schemas.openid.net/event/backchannel-logout';
/** Most providers say `logout+jwt`, as they should; what has another type is for something else (RFC 8725 §3.11). */
const TYPES: readonly unknown[] = [undefined, 'jwt', 'logout+jwt', 'application/logout+jwt'];
const MAX_TOKEN_LENGTH = 16_384;

/**
 * Judges a logout token (OpenID Connect Back-Channel Logout 1.0 §2.6): signed by the provider, for us, recent, of this
 * kind and no ID token.
 *
 * @returns what is wrong with it, for the log.
 * @throws {KeysUnavailable} when its signature cannot be judged.
 */
export async function readLogoutToken(
  token: string,
  { issuer, clientId, algorithms, keys, now }: LogoutTokenOptions,
): Promise<ProviderLogout | { readonly problem: string }> {
  const read = token.length > MAX_TOKEN_LENGTH ? undefined : readToken(token);
  if (!read) return { problem: 'it is not a JSON Web Token' };
  const { alg, kid, typ } = read;
  // Before a key is looked for: what is not of the provider must not send us there.
  if (read.issuer !== issuer) return { problem: 'it is of another issuer' };
  if (!algorithms.includes(alg)) return { problem: 'its algorithm is none of the provider' };
  if (!TYPES.includes(typ?.toLowerCase())) return { problem: 'its "typ" is not that of a logout token' };
  let problem = 'its key is none of the provider';
  for (const key of await keys.keysFor({ alg, kid })) {
    try {
      const { payload } = await jwtVerify(token, key, {
        issuer,
        audience: clientId,
        algorithms: [...algorithms],
        requiredClaims: ['iat', 'jti', 'events'],
        maxTokenAge: LOGOUT_TOKEN_MS / 1000,
        clockTolerance: TOLERANCE_S,
        currentDate: new Date(now),
      });
      return logoutIn(payload);
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) return { problem: (error as Error).message };
      problem = 'its signature is wrong';
    }
  }
  return { problem };
}

function logoutIn({ events, nonce, sub, sid, jti }: JWTPayload): ProviderLogout | { readonly problem: string } {
  if (nonce !== undefined) return { problem: 'it has a "nonce", as ID tokens have' };
  const event = (events as Readonly<Record<string, unknown>> | null)?.[EVENT];
  if (typeof event !== 'object' || event === null) return { problem: 'its "events" do not name a logout' };
  if (!isText(jti)) return { problem: 'it has no "jti"' };
  if (!(isText(sub) || sub === undefined) || !(isText(sid) || sid === undefined) || (sub ?? sid) === undefined)
    return { problem: 'it names neither a user ("sub") nor a session ("sid")' };
  return { id: jti, subject: sub, session: sid as string | undefined };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function readToken(token: string) {
  try {
    const { alg, kid, typ } = decodeProtectedHeader(token);
    if (typeof alg !== 'string') return undefined;
    const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
    return { alg, kid: text(kid), typ: text(typ), issuer: decodeJwt(token).iss };
  } catch {
    return undefined;
  }
}
