import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject, sign } from 'node:crypto';
import type { Clock } from '../../base/clock.ts';
import { randomId } from '../../base/ids.ts';
import { RecentMap } from '../../base/recent-map.ts';
import type { SessionOwner } from '../../session/session.ts';

/** A public key as it is published (RFC 7517, RFC 7518 §6.2.1). */
export interface PublicJwk {
  readonly kty: 'EC';
  readonly crv: 'P-256';
  readonly x: string;
  readonly y: string;
  /** Its thumbprint (RFC 7638), so that the same key has the same name in every process. */
  readonly kid: string;
  readonly alg: 'ES256';
  readonly use: 'sig';
}

interface Key {
  readonly privateKey: KeyObject;
  readonly jwk: PublicJwk;
  /** The first part of every JWT that it signs. */
  readonly header: string;
}

/**
 * The keys that sign assertions: the first one signs, all of them are published.
 *
 * ES256, because every JWT library has it; EdDSA is still missing in some, and here it is slower.
 */
export class AssertionKeys {
  /** What a backend fetches to verify with. */
  readonly jwks: { readonly keys: readonly PublicJwk[] };
  readonly #signing: Key;

  /**
   * @param pems Private keys of the curve P-256, in PEM (PKCS #8 or SEC 1).
   * @throws {TypeError} when there is none, or one is no such key.
   */
  constructor(pems: readonly string[]) {
    const keys = pems.map(readKey);
    if (!keys[0]) throw new TypeError('assertion keys: at least one is needed');
    this.#signing = keys[0];
    this.jwks = { keys: keys.map(({ jwk }) => jwk) };
  }

  /** A new key, in PEM. */
  static generate(): string {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  }

  /** A signed JWT (RFC 7519) in its compact form. */
  sign(claims: object): string {
    const { header, privateKey } = this.#signing;
    const text = `${header}.${base64url(claims)}`;
    // RFC 7518 §3.4: the two numbers side by side, not in the form that X.509 knows.
    const signature = sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return `${text}.${signature.toString('base64url')}`;
  }
}

function readKey(pem: string): Key {
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(pem);
  } catch (cause) {
    throw new TypeError('assertion keys: one is no private key in PEM', { cause });
  }
  if (privateKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new TypeError('assertion keys: one is not of the curve P-256');
  const { x, y } = createPublicKey(privateKey).export({ format: 'jwk' }) as { x: string; y: string };
  // RFC 7638 §3: the members that make the key, by name.
  const kid = hash('sha256', JSON.stringify({ crv: 'P-256', kty: 'EC', x, y }), 'base64url');
  return {
    privateKey,
    jwk: { kty: 'EC', crv: 'P-256', x, y, kid, alg: 'ES256', use: 'sig' },
    header: base64url({ alg: 'ES256', typ: 'JWT', kid }),
  };
}

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

export interface AssertionOptions {
  readonly issuer: string;
  readonly audience: string;
  readonly lifetimeMs: number;
}

interface Made {
  readonly text: string;
  readonly owner: string;
  /** In the clock's time: until then it is used again. */
  readonly freshUntil: number;
}

/** Sessions whose assertion is remembered. */
const MAX_MADE = 10_000;

/**
 * Makes the assertions of one upstream: who the session of a request belongs to, signed, for as long as the request
 * needs.
 *
 * To sign one takes about as long as to forward a request, so each is used again for half of its lifetime; it has at
 * least the other half left when a backend gets it. Somebody else's name, or other roles, are a new one at once.
 */
export class AssertionIssuer {
  readonly #keys: AssertionKeys;
  readonly #options: AssertionOptions;
  readonly #clock: Clock;
  /** By sid, the longest unused first. */
  readonly #made = new RecentMap<string, Made>(MAX_MADE);

  constructor(keys: AssertionKeys, options: AssertionOptions, clock: Clock) {
    this.#keys = keys;
    this.#options = options;
    this.#clock = clock;
  }

  /**
   * @param sid Left out: there is no session, and only the user is named.
   * @param owner The session's; without one it says only which session it is.
   */
  issue(sid: string | undefined, owner: SessionOwner | undefined): string {
    const now = this.#clock.now();
    const ownerText = owner ? JSON.stringify([owner.name, owner.roles]) : '';
    const key = sid ?? ownerText;
    const known = this.#made.get(key);
    const isGood = known !== undefined && known.owner === ownerText && now < known.freshUntil;
    const made = isGood ? known : this.#make(sid, owner, ownerText, now);
    this.#made.set(key, made);
    return made.text;
  }

  #make(sid: string | undefined, owner: SessionOwner | undefined, ownerText: string, now: number): Made {
    const { issuer, audience, lifetimeMs } = this.#options;
    const issuedAt = Math.floor(now / 1000);
    const text = this.#keys.sign({
      iss: issuer,
      aud: audience,
      ...(owner && { sub: owner.name, roles: owner.roles }),
      ...(sid !== undefined && { sid }),
      iat: issuedAt,
      exp: issuedAt + Math.ceil(lifetimeMs / 1000),
      jti: randomId(16),
    });
    return { text, owner: ownerText, freshUntil: now + lifetimeMs / 2 };
  }
}
