import { describe, expect, test } from 'vitest';
import { isRealm, readBasicCredentials } from '../../src/http/basic-credentials.ts';

const encode = (text: string | Uint8Array) => Buffer.from(text as string).toString('base64');

describe('an Authorization header of the scheme Basic', () => {
  test.each([
    ['as RFC 7617 has it', 'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==', 'Aladdin', 'open sesame'],
    ['in another case', `bAsIc ${encode('alice:x')}`, 'alice', 'x'],
    ['with two blanks', `Basic  ${encode('alice:x')}`, 'alice', 'x'],
    ['without padding', 'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ', 'Aladdin', 'open sesame'],
    ['with colons in the password', `Basic ${encode('alice:a:b:')}`, 'alice', 'a:b:'],
    ['with an empty password', `Basic ${encode('alice:')}`, 'alice', ''],
    ['in UTF-8', `Basic ${encode('josé 山田:пароль')}`, 'josé 山田', 'пароль'],
    ['with a byte order mark, which is of the name', `Basic ${encode('\ufeffalice:x')}`, '\ufeffalice', 'x'],
    [
      'of the longest name and password',
      `Basic ${encode(`${'😀'.repeat(256)}:${'é'.repeat(256)}`)}`,
      '😀'.repeat(256),
      'é'.repeat(256),
    ],
  ])('%s is read', (_, header, user, password) => {
    expect(readBasicCredentials(header)).toEqual({ user, password });
  });

  test.each([
    ['without credentials', 'Basic', 'the credentials are not base64'],
    ['with nothing but blanks', 'Basic  ', 'the credentials are not base64'],
    ['with base64 of URLs', 'Basic YWxpY2U6-_8', 'the credentials are not base64'],
    ['with two words', `Basic ${encode('alice:x')} ${encode('bob:x')}`, 'the credentials are not base64'],
    ['without a colon', `Basic ${encode('alice')}`, 'the credentials have no colon'],
    ['without a name', `Basic ${encode(':x')}`, 'the credentials have no user name'],
    ['in Latin-1', `Basic ${encode(Buffer.from('josé:x', 'latin1'))}`, 'the credentials are not UTF-8'],
    ['with NUL in the password', `Basic ${encode('alice:x\0y')}`, 'the credentials have a control character'],
    ['with a line end in the name', `Basic ${encode('ali\nce:x')}`, 'the credentials have a control character'],
    ['with DEL', `Basic ${encode('alice:\x7f')}`, 'the credentials have a control character'],
    [
      'with a name of 257 characters',
      `Basic ${encode(`${'é'.repeat(257)}:x`)}`,
      'the user name is longer than 256 characters',
    ],
    [
      'with a password of 513 bytes',
      `Basic ${encode(`a:${'x'.repeat(513)}`)}`,
      'the password is longer than 512 bytes',
    ],
    ['longer than any can be', `Basic ${'A'.repeat(4_096)}`, 'the credentials are longer than 4096 characters'],
  ])('%s is refused, with the reason', (_, header, reason) => {
    expect(readBasicCredentials(header)).toBe(reason);
  });

  test.each(['Bearer abc', 'Basics YTpi', 'Digest username="a"', ''])('%j is of another scheme', header => {
    expect(readBasicCredentials(header)).toBeUndefined();
  });
});

test.each([
  ['Staff only (EU)', true],
  ['', false],
  ['Straße', false],
  ['a\nb', false],
  ['x'.repeat(257), false],
])('%j can be a realm: %s', (realm, can) => {
  expect(isRealm(realm)).toBe(can);
});
