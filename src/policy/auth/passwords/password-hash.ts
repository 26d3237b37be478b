import { randomInt } from 'node:crypto';

/** The forms of hashed passwords that are verified. */
export type PasswordForm = 'bcrypt' | 'sha512-crypt' | 'sha256-crypt' | 'apr1' | 'sha1';

/** A hashed password as a password file has it. */
export interface PasswordHash {
  readonly form: PasswordForm;
  /** How much work it is, in the unit of its form: the cost of bcrypt, the rounds of SHA-crypt; 1 for the others. */
  readonly cost: number;
  /** As it stands in the file. */
  readonly text: string;
}

/** The costs that `htpasswd` writes. 17 is some nine seconds of a core for each login. */
const BCRYPT_COST = { least: 4, most: 17, slow: 13 };
/** What crypt() takes at least, and a bound of ours: some three seconds. crypt() takes 999,999,999, which is an hour. */
const ROUNDS = { least: 1_000, most: 1_000_000, slow: 100_000 };
/** Of SHA-crypt where the hash does not say (Drepper, "Unix crypt using SHA-256 and SHA-512"). */
const DEFAULT_ROUNDS = 5_000;

const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
const SHA_CRYPT = /^\$([56])\$(?:rounds=([1-9]\d{0,8})\$)?[./0-9A-Za-z]{1,16}\$([./0-9A-Za-z]+)$/;
const SHA_CRYPT_DIGITS: Readonly<Record<string, number>> = { 5: 43, 6: 86 };
const APR1 = /^\$apr1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}$/;
/** 20 bytes of base64: the last digit has four bits of them. */
const SHA1 = /^\{SHA\}[+/0-9A-Za-z]{26}[AEIMQUYcgkosw048]=$/;

/** Which all forms have in common. */
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/**
 * Reads a hashed password.
 *
 * @returns what is wrong with it, to go on after "the password of user … ", when it is of a form that is not verified,
 * damaged, or more work than a login may be. It never has anything of the hash.
 */
export function readPasswordHash(text: string): PasswordHash | string {
  const bcrypt = BCRYPT.exec(text);
  if (bcrypt) {
    const cost = Number(bcrypt[1]);
    if (cost >= BCRYPT_COST.least && cost <= BCRYPT_COST.most) return { form: 'bcrypt', cost, text };
    return `is hashed by bcrypt with a cost of ${cost}; ${BCRYPT_COST.least} to ${BCRYPT_COST.most} are verified`;
  }
  const shaCrypt = SHA_CRYPT.exec(text);
  if (shaCrypt && shaCrypt[3]!.length === SHA_CRYPT_DIGITS[shaCrypt[1]!]) {
    const form = shaCrypt[1] === '5' ? 'sha256-crypt' : 'sha512-crypt';
    const cost = Number(shaCrypt[2] ?? DEFAULT_ROUNDS);
    if (cost >= ROUNDS.least && cost <= ROUNDS.most) return { form, cost, text };
    return `is hashed with ${cost} rounds; ${ROUNDS.least} to ${ROUNDS.most} are verified`;
  }
  if (APR1.test(text)) return { form: 'apr1', cost: 1, text };
  if (SHA1.test(text)) return { form: 'sha1', cost: 1, text };
  return nameOf(text);
}

/** What there is to say of a hash that is verified all the same; undefined for nothing. */
export function doubtOf({ form, cost }: PasswordHash): string | undefined {
  if (form === 'sha1')
    return 'is hashed by SHA-1 without a salt, and whoever reads the file finds most passwords in a moment';
  const slow = form === 'bcrypt' ? BCRYPT_COST.slow : ROUNDS.slow;
  if (cost < slow) return undefined;
  const unit = form === 'bcrypt' ? `a cost of ${cost}` : `${cost} rounds`;
  return `is hashed with ${unit}: each login keeps a core busy for long, and others wait for it`;
}

/**
 * A hash of the same form and cost that no password is known for: to verify one against it takes as long. Its digest is
 * random, as one that can be told in advance might be searched for.
 */
export function unmatchable({ form, cost, text }: PasswordHash): PasswordHash {
  const prefix = form === 'sha1' ? '{SHA}' : /^\$\w+\$(?:rounds=\d+\$|\d\d\$)?/.exec(text)![0];
  const digits = text.slice(prefix.length).replaceAll(/[+./0-9A-Za-z]/g, () => DIGITS[randomInt(DIGITS.length)]!);
  return { form, cost, text: prefix + digits };
}

const LOCKED = /^[*!]/;

/** In the place of a hash: no password is right. */
export function isLocked(text: string): boolean {
  return LOCKED.test(text);
}

/** Beginnings of hashes that others verify, each with what it is called. */
const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^$/, 'is empty'],
  [LOCKED, 'is locked (it begins with "*" or "!")'],
  [/^\$2[aby]\$/, 'is a bcrypt hash that is damaged'],
  [/^\$[56]\$/, 'is a SHA-crypt hash ($5$, $6$) that is damaged, or has a salt of other characters than ./0-9A-Za-z'],
  [/^\$apr1\$/, 'is an APR1 hash ($apr1$) that is damaged'],
  [/^\{SHA\}/, 'is a SHA-1 hash ({SHA}) that is damaged'],
  [/^\$y\$/, 'is hashed by yescrypt ($y$)'],
  [/^\$gy\$/, 'is hashed by gost-yescrypt ($gy$)'],
  [/^\$7\$/, 'is hashed by scrypt ($7$)'],
  [/^\$2x\$/, 'is hashed by a faulty bcrypt ($2x$)'],
  [/^\$1\$/, 'is hashed by MD5-crypt ($1$)'],
  [/^\$md5[$,]/, 'is hashed by SunMD5 ($md5)'],
  [/^\$3\$/, 'is an NT hash ($3$)'],
  [/^\$sha1\$/, 'is hashed by SHA1-crypt ($sha1$)'],
  [/^\$argon2/, 'is hashed by Argon2 ($argon2)'],
  [/^\$/, 'is hashed in a form that is not known'],
  [/^\{SSHA\}/i, 'is hashed by salted SHA-1 ({SSHA})'],
  [/^\{sha\}/i, 'is a SHA-1 hash whose {SHA} is not in capitals'],
  [/^\{/, 'is hashed in a form of LDAP'],
  [/^_[./0-9A-Za-z]{19}$/, 'is hashed by BSDi DES-crypt (_)'],
  [/^[./0-9A-Za-z]{13}$/, 'is hashed by DES-crypt, or in clear text'],
];

function nameOf(text: string): string {
  return (
    NAMES.find(([pattern]) => pattern.test(text))?.[1] ?? 'is in clear text, or hashed in a form that is not known'
  );
}
