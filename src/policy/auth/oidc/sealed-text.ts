import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const ALGORITHM = 'aes-256-gcm';
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Text that only the processes with our keys can read, and nobody can change (AES-256-GCM). */
export class SealedText {
  readonly #signing: () => readonly Uint8Array[];
  readonly #purpose: string;
  /** What these are made from, by when they were used last. */
  #madeFrom: readonly Uint8Array[] = [];
  #keys: readonly Buffer[] = [];

  /**
   * @param signing Those that sign the tickets of sessions by now: the first seals, each opens, so that they can be
   * replaced one after the other.
   * @param purpose What is sealed for one purpose opens for no other.
   */
  constructor(signing: () => readonly Uint8Array[], purpose: string) {
    this.#signing = signing;
    this.#purpose = purpose;
  }

  /** @param place Where it belongs: elsewhere it does not open. */
  seal(text: string, place: string): string {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#keysNow[0]!, iv).setAAD(Buffer.from(place));
    return Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url');
  }

  /** Undefined for what was not sealed here. Never throws. */
  open(sealed: string, place: string): string | undefined {
    const bytes = Buffer.from(sealed, 'base64url');
    if (bytes.length <= IV_BYTES + TAG_BYTES) return undefined;
    const iv = bytes.subarray(0, IV_BYTES);
    const content = bytes.subarray(IV_BYTES, -TAG_BYTES);
    for (const key of this.#keysNow) {
      try {
        const decipher = createDecipheriv(ALGORITHM, key, iv, { authTagLength: TAG_BYTES })
          .setAAD(Buffer.from(place))
          .setAuthTag(bytes.subarray(-TAG_BYTES));
        return Buffer.concat([decipher.update(content), decipher.final()]).toString('utf8');
      } catch {
        // Another key's, or nobody's.
      }
    }
    return undefined;
  }

  get #keysNow(): readonly Buffer[] {
    const signing = this.#signing();
    if (signing !== this.#madeFrom) {
      this.#madeFrom = signing;
      this.#keys = signing.map(key => Buffer.from(hkdfSync('sha256', key, '', this.#purpose, KEY_BYTES)));
    }
    return this.#keys;
  }
}
