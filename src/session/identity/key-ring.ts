import { createHmac, hash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { DiskOptions } from '../room/disk.ts';
import { equalInConstantTime } from './ids.ts';
import { loadOrCreateSecret } from './secret-file.ts';

/** Characters of a key id, as in the cookie. */
export const KEY_ID_LENGTH = 8;
/** Characters of a MAC: 256 bits as base64url. */
export const MAC_LENGTH = 43;

const MIN_KEY_BYTES = 32;
const KEY_FILE = 'session.key';

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

/**
 * The keys that sign session cookies: the first one signs, every one verifies.
 *
 * To rotate, put a new key in front and drop the old one when its cookies have ended. A key's id is computed from the
 * key, so the order of the others does not matter.
 */
export class KeyRing {
  readonly #keys: ReadonlyMap<string, Key>;
  readonly #signing: Key;

  /** @throws {TypeError} when there is no key, or one has fewer than 32 bytes. */
  constructor(keys: readonly (string | Uint8Array)[]) {
    const list = keys.map(toKey);
    if (!list[0]) throw new TypeError('session keys: at least one is needed');
    this.#signing = list[0];
    this.#keys = new Map(list.map(key => [key.id, key]));
  }

  get signingKeyId(): string {
    return this.#signing.id;
  }

  /** HMAC-SHA-256 with the signing key, base64url. */
  sign(text: string): string {
    return mac(this.#signing, text);
  }

  /** The same with the key of this id, or undefined when there is none. */
  signWith(keyId: string, text: string): string | undefined {
    const key = this.#keys.get(keyId);
    return key && mac(key, text);
  }

  verify(keyId: string, text: string, given: string): boolean {
    const key = this.#keys.get(keyId);
    return key !== undefined && equalInConstantTime(mac(key, text), given);
  }
}

function toKey(key: string | Uint8Array): Key {
  const bytes = Buffer.from(key as Uint8Array);
  if (bytes.length < MIN_KEY_BYTES) {
    throw new TypeError(
      `session keys: one has ${bytes.length} bytes; at least ${MIN_KEY_BYTES} random bytes are needed`,
    );
  }
  return {
    id: hash('sha256', Buffer.concat([Buffer.from('holdfast key id\0'), bytes]), 'base64url').slice(0, KEY_ID_LENGTH),
    bytes,
  };
}

function mac(key: Key, text: string): string {
  return createHmac('sha256', key.bytes).update(text).digest('base64url');
}

/**
 * The key kept in the file `session.key` of a folder (mode 0600), made there when it does not exist.
 *
 * Processes that start at the same moment get the same key.
 *
 * @param disk How full the disk may be. @throws {HoldfastError} ERR_SESSION_NO_ROOM when the key would have to be made
 * and it is fuller.
 *
 * @example
 * import { loadOrCreateKey } from 'holdfast/session';
 *
 * console.log((await loadOrCreateKey(folder)).length); // 32
 */
export async function loadOrCreateKey(folder: string, disk: DiskOptions = {}): Promise<Uint8Array> {
  const path = join(folder, KEY_FILE);
  const text = await loadOrCreateSecret(path, () => randomBytes(MIN_KEY_BYTES).toString('base64url'), disk);
  const key = Buffer.from(text, 'base64url');
  if (key.length !== MIN_KEY_BYTES) {
    throw new TypeError(
      `${path}: does not hold a session key; restore it, or delete it and every session cookie becomes invalid`,
    );
  }
  return key;
}
