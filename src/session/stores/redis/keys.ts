import { hash } from 'node:crypto';

const BUCKETS = 256;

/** All buckets of sids: `00` to `ff`. */
export const BUCKET_NAMES: readonly string[] = Array.from({ length: BUCKETS }, (_, bucket) =>
  bucket.toString(16).padStart(2, '0'),
);

/**
 * Anybody's text as a part of a key or as a member of a set, with a letter before it: small for what UTF-8 can say,
 * capital for the rest (unpaired surrogates, of which UTF-8 makes one).
 */
export function encodeText(letter: string, text: string): string {
  if (text.isWellFormed()) return `${letter}:${text}`;
  return `${letter.toUpperCase()}:${Buffer.from(text, 'utf16le').toString('base64url')}`;
}

export function decodeText(encoded: string): string {
  const rest = encoded.slice(2);
  const letter = encoded[0]!;
  return letter === letter.toLowerCase() ? rest : Buffer.from(rest, 'base64url').toString('utf16le');
}

/**
 * Where what is. A record, and the index with its bucket's sids by expiry, have the same hash tag: they are in one slot
 * of a cluster, and one script changes both.
 */
export class RedisKeys {
  readonly #prefix: string;

  /** @throws {TypeError} when the prefix would change which slot a key is in. */
  constructor(prefix: string) {
    if (!/^[\w.:/-]+$/.test(prefix)) {
      throw new TypeError(`redis: prefix ${JSON.stringify(prefix)} must consist of letters, digits and . : / _ -`);
    }
    this.#prefix = prefix;
  }

  /** The channel on which changes are told. */
  get changes(): string {
    return `${this.#prefix}:changes`;
  }

  /** Whose server has the clock that counts. Nothing is kept there. */
  get clock(): string {
    return `${this.#prefix}:clock`;
  }

  /** A sid as a member of an index; its record's key is this behind the `base` of its bucket. */
  memberOf(sid: string): string {
    return encodeText('s', sid);
  }

  sidOf(member: string): string {
    return decodeText(member);
  }

  bucketOf(member: string): string {
    return hash('sha1', member).slice(0, 2);
  }

  /** What the keys of all records of a bucket begin with. */
  base(bucket: string): string {
    return `{${this.#prefix}:${bucket}}:`;
  }

  /** The sids of a bucket by expiry; those that never expire at infinity. */
  index(bucket: string): string {
    return `{${this.#prefix}:${bucket}}:index`;
  }

  /** The sids of a user. In a slot of its own. */
  owner(name: string): string {
    return `${this.#prefix}:owner:${hash('sha256', Buffer.from(name, 'utf16le'), 'base64url')}`;
  }

  /** A fact of the ledger. */
  fact(key: string): string {
    return `${this.#prefix}:fact:${encodeText('k', key)}`;
  }

  /** A channel of the ledger. */
  channel(name: string): string {
    return `${this.#prefix}:ledger:${encodeText('c', name)}`;
  }
}
