import { describe, expect, test } from 'vitest';
import { type PasswordHash, readPasswordHash } from '../../../src/policy/auth/passwords/password-hash.ts';
import { shaCrypt } from '../../../src/policy/auth/passwords/sha-crypt.ts';
import { verifyPassword } from '../../../src/policy/auth/passwords/verify-password.ts';
import { PASSWORD, VERIFIED } from './written-hashes.ts';

const hashOf = (text: string) => readPasswordHash(text) as PasswordHash;

test.each(VERIFIED)('the password that was given to %s is right, and others are wrong', (_, hash) => {
  expect(verifyPassword(PASSWORD, hashOf(hash))).toBe('right');
  expect(verifyPassword(`${PASSWORD} `, hashOf(hash))).toBe('wrong');
});

/** As `openssl passwd` has written them. */
const X = 'x'.repeat(200);
const SHA_CRYPT: readonly (readonly [number, string])[] = [
  [32, '$5$rounds=1000$salt$dgkzc63hWhljN7s.06ZMEIOIBL7v6GHeOA5FTc6gP01'],
  [32, '$6$rounds=1000$salt$vbWQd2M7/bO/PXUnr4lPh6ROSFCxWMCSAQ9qgEGglMA9.VQ1BN9YoYKdqv4CSIzVJTxMzdwoF.Z7xi1FquWb5/'],
  [64, '$5$rounds=1000$salt$sIUJv0CG0UFRpQDNKc8UVQHFZT.mCF7E/QeJqKD0Jz9'],
  [64, '$6$rounds=1000$salt$JvC/rO7Uo40vL/yzPKuK8AsZQnaeIe4wZAVQy8p0dqJ6VyzzPu0iJECxvhx5J2k4sPIs4ycnZWSeL7VUAATnj.'],
];

describe('SHA-crypt', () => {
  test.each(SHA_CRYPT)('of %i characters is as OpenSSL writes it: %s', (length, hash) => {
    expect(verifyPassword(X.slice(0, length), hashOf(hash))).toBe('right');
    expect(verifyPassword(X.slice(0, length - 1), hashOf(hash))).toBe('wrong');
  });

  // Passwords and salts of its description (Drepper), as OpenSSL hashes them.
  test.each([
    ['Hello world!', '$5$saltstring$', '5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5'],
    [
      'Hello world!',
      '$6$saltstring$',
      'svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1',
    ],
    [
      'a very much longer text to encrypt.  This one even stretches over morethan one line.',
      '$5$saltstring$',
      'GyTEZtFuSijnDwgZAdeQeFYSkAzF3f3QpZGhkJUrWWD',
    ],
    ['This is just a test', '$5$rounds=77777$short$', 'fKtmhApxyg/3BPCMd5VF4fkvw0hG/x9wiTRtL1S9CD3'],
  ])('of %j with %s is %s', (password, setting, digest) => {
    expect(shaCrypt(Buffer.from(password), setting)).toBe(digest);
  });
});

describe('bcrypt', () => {
  /** Of 72 letters x, `htpasswd -B -C 4`. */
  const OF_72 = '$2y$04$Dy71QJuzG.3cK2UiqFWr8umIwUtoVqD.2RxSGkFwzOqBxl4Fbm6SS';

  test('takes a password of 72 bytes, and refuses a longer one that begins so', () => {
    expect(verifyPassword(X.slice(0, 72), hashOf(OF_72))).toBe('right');
    expect(verifyPassword(X.slice(0, 73), hashOf(OF_72))).toBe('too-long');
    expect(verifyPassword(X.slice(0, 71), hashOf(OF_72))).toBe('wrong');
    expect(verifyPassword('é'.repeat(37), hashOf(OF_72))).toBe('too-long');
  });
});
