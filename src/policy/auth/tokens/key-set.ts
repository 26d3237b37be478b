import { createPublicKey, createSecretKey, type KeyObject, X509Certificate } from 'node:crypto';
import { type CryptoKey, createLocalJWKSet, errors, type JSONWebKeySet, type JWK } from 'jose';
import { leastSecretBytes } from '../../../http/token-algorithms.ts';

export type VerificationKey = CryptoKey | KeyObject;

/** What of a token's header says which key has signed it. */
export interface KeyHint {
  readonly alg: string;
  readonly kid?: string | undefined;
}

/** Keys by which tokens are verified. */
export interface KeySet {
  /** Those that could have signed such a token: at most eight. */
  keysFor(hint: KeyHint): Promise<readonly VerificationKey[]>;
  /** Equal for sets of the same keys. */
  readonly id: string;
}

const MOST_KEYS = 100;
/** A token without `kid` is tried with each: more would let a client choose how much is computed. */
const MOST_CANDIDATES = 8;
/** Members of a JWK that only the owner of a private key has (RFC 7518 §6.2.2, §6.3.2). */
const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];

/**
 * The keys of a JSON Web Key Set (RFC 7517 §5). Symmetric keys and those of kinds that are not known are left out.
 *
 * @param algorithms Those of tokens. Left out: a set that changes by itself, which may have others tomorrow.
 * @throws {TypeError} when it is not one, has more than 100 keys, or none that could be used, or a private one.
 */
export function keySetOf(text: string, algorithms?: readonly string[]): KeySet {
  const keys = publicKeysIn(text);
  if (algorithms) mustVerify(keys.flatMap(algorithmsOfJwk), algorithms);
  const find = createLocalJWKSet({ keys } as JSONWebKeySet);
  return {
    id: JSON.stringify(keys),
    async keysFor({ alg, kid }) {
      try {
        return [await find({ alg, ...(kid !== undefined && { kid }) })];
      } catch (error) {
        if (error instanceof errors.JWKSMultipleMatchingKeys) return candidates(error);
        // None fits, or one that fits is malformed: its tokens cannot be verified.
        return [];
      }
    },
  };
}

async function candidates(keys: AsyncIterable<CryptoKey>): Promise<VerificationKey[]> {
  const found: VerificationKey[] = [];
  for await (const key of keys) if (found.push(key) === MOST_CANDIDATES) break;
  return found;
}

function publicKeysIn(text: string): JWK[] {
  const set = parseJson(text) as Partial<JSONWebKeySet> | undefined;
  if (typeof set !== 'object' || set === null || !Array.isArray(set.keys))
    throw new TypeError('it is not a JSON Web Key Set: an object with a list "keys"');
  if (set.keys.length > MOST_KEYS) throw new TypeError(`it has ${set.keys.length} keys, and ${MOST_KEYS} is the most`);
  const known = set.keys.filter(key => ['RSA', 'EC', 'OKP'].includes(key?.kty as string));
  if (known.length === 0) throw new TypeError('it has no key of the kinds RSA, EC and OKP');
  if (known.some(key => PRIVATE.some(member => member in key)))
    throw new TypeError('it has a private key, which belongs to nobody but the issuer; publish the public ones only');
  return known.map(key => {
    // Of Ed25519 there are two names, and a key of one has signed tokens of the other (RFC 9864 §2.2).
    if (key.kty !== 'OKP' || key.crv !== 'Ed25519') return key;
    const { alg: _, ...rest } = key;
    return rest;
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * One public key, in PEM, or that of a certificate.
 *
 * @param algorithms Those of tokens.
 * @throws {TypeError} when it is none, a private one, weaker than RSA of 2048 bits, or of another kind than these need.
 */
export function publicKeyOf(pem: string, algorithms: readonly string[]): KeySet {
  if (/PRIVATE KEY-----/.test(pem))
    throw new TypeError(
      'it holds a private key, which belongs to nobody but the issuer; write the public one (openssl pkey -pubout)',
    );
  let key: KeyObject;
  try {
    key = /BEGIN CERTIFICATE-----/.test(pem) ? new X509Certificate(pem).publicKey : createPublicKey(pem);
  } catch {
    throw new TypeError('it is not a public key or certificate in PEM (-----BEGIN PUBLIC KEY-----)');
  }
  const possible = algorithmsOf(key);
  mustVerify(possible, algorithms);
  return {
    id: key.export({ type: 'spki', format: 'pem' }) as string,
    keysFor: async ({ alg }) => (possible.includes(alg) ? [key] : []),
  };
}

/** Otherwise every token would be refused, and nothing would say why. */
function mustVerify(possible: readonly string[], algorithms: readonly string[]): void {
  if (possible.some(one => algorithms.includes(one))) return;
  const instead = possible.length > 0 ? `; possible are ${[...new Set(possible)].join(', ')}` : '';
  throw new TypeError(`no token that is signed by ${algorithms.join(', ')} can be verified with it${instead}`);
}

const WITH_RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const WITH_ED25519 = ['EdDSA', 'Ed25519'];
const BY_JWK_CURVE: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' };

function algorithmsOfJwk({ kty, crv = '', alg }: JWK): readonly string[] {
  if (alg !== undefined) return [alg];
  if (kty === 'RSA') return WITH_RSA;
  return kty === 'EC' ? [BY_JWK_CURVE[crv] ?? []].flat() : WITH_ED25519;
}

const BY_CURVE: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

function algorithmsOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): readonly string[] {
  const byCurve = BY_CURVE[details?.namedCurve ?? ''];
  if (type === 'ec' && byCurve !== undefined) return [byCurve];
  if (type === 'ed25519') return WITH_ED25519;
  if (type !== 'rsa')
    throw new TypeError(`it is a key of the kind ${type}; RSA, EC (P-256, P-384, P-521) and Ed25519 are known`);
  if ((details?.modulusLength ?? 0) < 2048)
    throw new TypeError(`its RSA key has ${details?.modulusLength} bits; 2048 is the least (RFC 7518 §3.3)`);
  return WITH_RSA;
}

/**
 * A secret that the issuer knows as well: the bytes of the file, without the line break at its end.
 *
 * @throws {TypeError} when it is shorter than the hash of an algorithm (RFC 7518 §3.2).
 */
export function secretOf(text: string, algorithms: readonly string[]): KeySet {
  const bytes = Buffer.from(text.replace(/\r?\n$/, ''), 'utf8');
  const least = leastSecretBytes(algorithms);
  if (bytes.length < least)
    throw new TypeError(
      `the secret has ${bytes.length} bytes, and ${algorithms.join(', ')} needs at least ${least}; ` +
        'make one with: openssl rand -base64 48',
    );
  const key = createSecretKey(bytes);
  return { id: bytes.toString('base64'), keysFor: async () => [key] };
}

/** How the files are read that options name. @throws {TypeError} that says what is wrong with one. */
export const KEY_FILES: Readonly<
  Record<'jwksFile' | 'publicKeyFile' | 'secretFile', (text: string, algorithms: readonly string[]) => KeySet>
> = {
  jwksFile: keySetOf,
  publicKeyFile: publicKeyOf,
  secretFile: secretOf,
};
