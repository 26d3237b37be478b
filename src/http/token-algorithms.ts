/** By which a public key verifies (RFC 7518 §3.1, RFC 8037, RFC 9864). */
const WITH_PUBLIC_KEYS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const;

/** With a secret that both sides know, and how many bytes it has at least (RFC 7518 §3.2). */
const WITH_SECRETS: Readonly<Record<string, number>> = { HS256: 32, HS384: 48, HS512: 64 };

/**
 * The algorithms that tokens may be signed with: those that are named, or all that public keys have, or HS256 for a
 * secret. A list never holds both kinds, and never `none`: what a token says of itself decides nothing (RFC 8725 §3.1).
 *
 * @throws {TypeError} for one that does not go with the kind of key.
 */
export function pinnedAlgorithms(
  named: readonly string[] | undefined,
  keys: 'public' | 'secret',
): readonly [string, ...string[]] {
  const possible: readonly string[] = keys === 'public' ? WITH_PUBLIC_KEYS : Object.keys(WITH_SECRETS);
  if (named === undefined) return keys === 'public' ? WITH_PUBLIC_KEYS : ['HS256'];
  const [first, ...others] = named;
  if (first === undefined) throw new TypeError('"algorithms" is empty; leave it out for the default');
  for (const algorithm of named)
    if (!possible.includes(algorithm))
      throw new TypeError(
        `the algorithm ${JSON.stringify(algorithm)} does not go with ${keys === 'public' ? 'public keys' : 'a secret'}; ` +
          `possible are ${possible.join(', ')}`,
      );
  // They are two names of one algorithm (RFC 9864 §2.2).
  const both = named.some(one => one === 'EdDSA' || one === 'Ed25519') ? ['EdDSA', 'Ed25519'] : [];
  return [first, ...new Set([...others, ...both].filter(one => one !== first))];
}

/** Bytes that a secret needs for all of these. */
export function leastSecretBytes(algorithms: readonly string[]): number {
  return Math.max(...algorithms.map(algorithm => WITH_SECRETS[algorithm] ?? 32));
}
