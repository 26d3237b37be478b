import { createHmac, hash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { checkOptions, kindOf } from '../../base/options.ts';
import { DISK_OPTIONS, type DiskOptions } from '../room/disk.ts';
import { equalInConstantTime } from './ids.ts';
import { formsOf, keyInFile, MIN_KEY_BYTES } from './key-file.ts';
import { loadOrCreateSecretBytes } from './secret-file.ts';

/** Characters of a key id, as in the cookie. */
export const KEY_ID_LENGTH = 8;
/** Characters of a MAC: 256 bits as base64url. */
export const MAC_LENGTH = 43;

const KEY_FILE = 'session.key';

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

/**
 * The keys that sign session cookies: the first one signs, every one verifies.
 *
 * To rotate, put a new key in front and drop the old one when its cookies have ended. A key's id is computed from the
 * key, so the order of the others does not matter. A key given as bytes and one given as the text that it is written
 * with, in base64, base64url or hexadecimal digits, verify each other.
 */
export class KeyRing {
  readonly #keys: ReadonlyMap<string, Key>;
  readonly #signing: Key;

  /** @throws {TypeError} when there is no key, or one has fewer than 32 bytes. */
  constructor(keys: readonly (string | Uint8Array)[]) {
    const list = keys.flatMap(key => formsOf(checkKey(key)).map(toKey));
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

  has(keyId: string): boolean {
    return this.#keys.has(keyId);
  }

  verify(keyId: string, text: string, given: string): boolean {
    const key = this.#keys.get(keyId);
    return key !== undefined && equalInConstantTime(mac(key, text), given);
  }
}

function checkKey(given: string | Uint8Array): Uint8Array {
  if (typeof given !== 'string' && !ArrayBuffer.isView(given))
    throw new TypeError(`session keys: a key is bytes or a string, not ${kindOf(given)}`);
  const key = typeof given === 'string' ? Buffer.from(given) : given;
  if (key.length >= MIN_KEY_BYTES) return key;
  throw new TypeError(`session keys: one has ${key.length} bytes; at least ${MIN_KEY_BYTES} random bytes are needed`);
}

function toKey(key: Uint8Array): Key {
  const bytes = Buffer.from(key);
  return {
    id: hash('sha256', Buffer.concat([Buffer.from('holdfast key id\0'), bytes]), 'base64url').slice(0, KEY_ID_LENGTH),
    bytes,
  };
}

function mac(key: Key, text: string): string {
  return createHmac('sha256', key.bytes).update(text).digest('base64url');
}

/**
 * The key kept in the file `session.key` of a folder, made there (mode 0600) when it does not exist.
 *
 * Processes that start at the same moment get the same key. A file that is there has to be readable, no more: it may be
 * another user's, mounted read-only, or a link, and may hold at least 32 bytes as they are, in base64, base64url or
 * hexadecimal digits. `keyFiles` of a configuration may name the same file.
 *
 * @param disk How full the disk may be. @throws {HoldfastError} ERR_SESSION_NO_ROOM when the key would have to be made
 * and it is fuller; ERR_CONFIG_INVALID when this user may not read or make it.
 *
 * @example
 * import { loadOrCreateKey } from 'holdfast/session';
 *
 * console.log((await loadOrCreateKey(folder)).length); // 32
 */
export async function loadOrCreateKey(folder: string, disk: DiskOptions = {}): Promise<Uint8Array> {
  checkOptions('loadOrCreateKey', disk, DISK_OPTIONS);
  if (typeof folder !== 'string') throw new TypeError(`loadOrCreateKey: a folder is a string, not ${kindOf(folder)}`);
  const path = join(folder, KEY_FILE);
  const create = () => randomBytes(MIN_KEY_BYTES).toString('base64url');
  const key = keyInFile(await loadOrCreateSecretBytes(path, create, disk));
  if (key) return key;
  throw new TypeError(
    `${path}: does not hold a session key; restore it, or delete it and every session cookie becomes invalid`,
  );
}
