import { hash, timingSafeEqual } from 'node:crypto';
import apacheMd5 from 'apache-md5';
import { compareSync } from 'bcryptjs';
import type { PasswordHash } from './password-hash.ts';
import { shaCrypt } from './sha-crypt.ts';

/** What bcrypt takes of a password, in bytes of UTF-8; it ignores what follows. */
const BCRYPT_BYTES = 72;

export type Match = 'right' | 'wrong' | 'too-long';

/**
 * Compares a password with a hash. It takes as long as its form and cost say, whatever the password is: tens of
 * milliseconds and more.
 *
 * @returns `too-long` for a password of which bcrypt would compare only the beginning.
 */
export function verifyPassword(password: string, { form, text }: Pick<PasswordHash, 'form' | 'text'>): Match {
  const bytes = Buffer.from(password);
  switch (form) {
    case 'bcrypt': {
      const matches = compareSync(password, text);
      if (bytes.length > BCRYPT_BYTES) return 'too-long';
      return matches ? 'right' : 'wrong';
    }
    case 'sha256-crypt':
    case 'sha512-crypt': {
      const start = text.lastIndexOf('$') + 1;
      return same(shaCrypt(bytes, text), text.slice(start));
    }
    case 'apr1':
      // It takes characters for bytes.
      return same(apr1(bytes.toString('latin1'), text), text);
    case 'sha1':
      return same(`{SHA}${hash('sha1', bytes, 'base64')}`, text);
  }
}

/** The package is CommonJS and its types say that it has a default export. */
const apr1 = apacheMd5 as unknown as (password: string, salt: string) => string;

function same(one: string, other: string): Match {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b) ? 'right' : 'wrong';
}
