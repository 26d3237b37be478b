import { describe, expect, test } from 'vitest';
import { readPasswordFile, textOf } from '../../../src/policy/auth/passwords/password-file.ts';
import { readPasswordHash, unmatchable } from '../../../src/policy/auth/passwords/password-hash.ts';
import { cpuTime } from '../../cpu-time.ts';
import { REFUSED, VERIFIED } from './written-hashes.ts';

const HASH = VERIFIED[0]![1];
const OTHER = VERIFIED[1]![1];

const usersIn = (text: string) =>
  [...readPasswordFile(text, 'users').users].map(([user, { text: hash }]) => [user, hash] as const);
const faultsIn = (text: string) => readPasswordFile(text, 'users').faults;
const warningsIn = (text: string) => readPasswordFile(text, 'users').warnings;

describe('a password file', () => {
  test.each([
    ['blanks around a line', ` \t alice:${HASH} \t\n`],
    ['lines that end as on Windows', `alice:${HASH}\r\n`],
    ['a last line without its end', `alice:${HASH}`],
    ['something after a second colon', `alice:${HASH}:Alice Liddell:x\n`],
    ['comments and empty lines', `# staff\n\n  # indented\nalice:${HASH}\n\n`],
    ['a byte order mark', `\ufeffalice:${HASH}\n`],
    ['a comment that a backslash continues', `# old: \\\nbob:${OTHER}\nalice:${HASH}\n`],
    ['a line that a backslash continues', `alice:${HASH.slice(0, 20)}\\\n${HASH.slice(20)}\n`],
    ['the same on Windows', `alice:${HASH.slice(0, 20)}\\\r\n${HASH.slice(20)}\r\n`],
  ])('with %s has the user that Apache finds', (_, text) => {
    expect(usersIn(text)).toEqual([['alice', HASH]]);
    expect(readPasswordFile(text, 'users')).toMatchObject({ faults: [], warnings: [] });
  });

  test('counts the first of two lines of a user, and warns of the second', () => {
    const text = `alice:${HASH}\nbob:${HASH}\nalice:${OTHER}\n`;
    expect(usersIn(text)).toEqual([
      ['alice', HASH],
      ['bob', HASH],
    ]);
    expect(warningsIn(text)).toEqual([
      {
        kind: 'user-twice',
        line: 3,
        message: 'user "alice" has a line before, line 1, which counts; remove one of the two',
      },
    ]);
  });

  test('of a name with a colon after a backslash at the end of the line before is one damaged line, and a fault', () => {
    const faults = faultsIn(`alice:${HASH}\\\nbob:${OTHER}\n`);
    expect(faults).toEqual([{ line: 1, message: expect.stringContaining('is a bcrypt hash that is damaged') }]);
  });

  test.each([
    ['no colon', HASH, 'there is no colon'],
    ['no user', `:${HASH}`, 'there is no user before the colon'],
    ['a blank before the colon', `alice :${HASH}`, 'user "alice " has a blank beside the colon'],
    ['a blank after the colon', `alice: ${HASH}`, 'user "alice" has a blank beside the colon'],
    ['a control character', `al\u0007ice:${HASH}`, 'user "al\\u0007ice" has a control character'],
    ['a name of 257 characters', `${'é'.repeat(257)}:${HASH}`, 'longer than 256 characters'],
    ['what is not UTF-8', `andr\ufffd:${HASH}`, 'is not UTF-8'],
  ])('with a line of %s has a fault in that line', (_, text, message) => {
    const file = readPasswordFile(`bob:${OTHER}\n${text}\n`, 'users');
    expect(file.faults).toEqual([{ line: 2, message: expect.stringContaining(message) }]);
  });

  test('takes names of 256 characters, and those with blanks and letters of every kind inside', () => {
    const names = ['é'.repeat(256), 'Alice Liddell', '山田', 'a\u00a0', '😀'.repeat(256)];
    expect(usersIn(names.map(name => `${name}:${HASH}\n`).join('')).map(([name]) => name)).toEqual(names);
  });

  test.each(REFUSED)(
    'that %s has written has a fault with line, user, name of the form and remedy',
    (_, hash, name) => {
      const [fault, ...rest] = faultsIn(`# staff\nalice:${hash}\n`);
      expect(rest).toEqual([]);
      expect(fault!.line).toBe(2);
      expect(fault!.message).toContain('user "alice"');
      expect(fault!.message).toContain(name);
      expect(fault!.message).toContain('htpasswd -B users alice');
    },
  );

  test('says nothing of a hash or a password in a fault or warning', () => {
    for (const [, hash] of REFUSED.filter(([, text]) => text.length > 2)) {
      const text = JSON.stringify([faultsIn(`alice:${hash}`), faultsIn(hash), warningsIn(`a:${HASH}\na:${hash}`)]);
      expect(text).not.toContain(hash);
      expect(text).not.toContain(hash.slice(-10));
    }
  });

  test('names a user in the remedy as a shell takes it', () => {
    expect(faultsIn("it's me; rm:*")[0]!.message).toContain(String.raw`htpasswd -B users 'it'\''s me; rm'`);
  });

  test.each([
    ['SHA-1', '{SHA}VU1LX10WeesMRHaoO9lno6SJTJQ=', 'SHA-1 without a salt'],
    ['bcrypt of cost 13', `$2y$13$${'a'.repeat(53)}`, 'a cost of 13'],
    ['100,000 rounds', `$6$rounds=100000$salt$${'a'.repeat(86)}`, '100000 rounds'],
  ])('with a hash of %s is taken with a warning', (_, hash, message) => {
    const file = readPasswordFile(`alice:${hash}`, 'users');
    expect([...file.users.keys()]).toEqual(['alice']);
    expect(file.warnings).toEqual([{ kind: 'weak-password-hash', line: 1, message: expect.stringContaining(message) }]);
  });

  test('without any user is taken with a warning', () => {
    expect(warningsIn('# nobody yet\n')).toEqual([
      { kind: 'no-users', line: 1, message: expect.stringContaining('there is no user') },
    ]);
  });

  test('with many faults names the first five of them', () => {
    const text = textOf(faultsIn('a:*\n'.repeat(1).concat(...Array.from({ length: 7 }, (_, i) => `u${i}:*\n`))));
    expect(text.match(/line \d+: /g)).toHaveLength(5);
    expect(text).toMatch(/; and 3 more$/);
  });

  test('of 20,000 users takes less than a second of a core', () => {
    const text = Array.from({ length: 20_000 }, (_, i) => `user${i}:${HASH}\n`).join('');
    expect(cpuTime(() => readPasswordFile(text, 'users'))).toBeLessThan(1_000);
  });
});

test.each(VERIFIED)(
  '%s has written a hash that is read, and one like it that no password has is read, too',
  (_, hash) => {
    const read = readPasswordHash(hash);
    expect(read).toMatchObject({ text: hash });
    if (typeof read === 'string') return;
    const { text, ...kind } = unmatchable(read);
    expect(text).not.toBe(hash);
    if (read.form === 'sha1') expect(text).toHaveLength(hash.length);
    else expect(readPasswordHash(text)).toEqual({ ...kind, text });
    expect(kind).toEqual({ form: read.form, cost: read.cost });
  },
);
