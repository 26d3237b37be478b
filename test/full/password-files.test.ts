import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readPasswordFile } from '../../src/policy/auth/passwords/password-file.ts';
import { verifyPassword } from '../../src/policy/auth/passwords/verify-password.ts';

const isMissing = !['/usr/bin/htpasswd', '/usr/bin/openssl', '/usr/bin/mkpasswd'].every(existsSync);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error('no htpasswd, openssl or mkpasswd');

const PASSWORD = 'Grüße, "Ωmega" 9';
const folder = mkdtempSync(join(tmpdir(), 'holdfast-password-files-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What the program prints, without its line end. */
function printed(command: string, args: readonly string[], password: string): string {
  const { stdout, status, stderr } = spawnSync(command, args, { input: `${password}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/** Of a file with this one line, what is right, or the fault. */
function judge(line: string, password: string): string {
  const { users, faults } = readPasswordFile(`${line}\n`, 'users');
  const [hash] = users.values();
  return hash ? verifyPassword(password, hash) : faults[0]!.message;
}

describe.skipIf(isMissing)('passwords as the programs of Debian hash them', () => {
  test.each(['-m', '-B', '-B -C 4', '-B -C 11', '-2', '-2 -r 1000', '-5', '-5 -r 5000', '-5 -r 20000', '-s'])(
    'htpasswd %s writes what is verified',
    options => {
      const line = printed('htpasswd', ['-n', '-i', ...options.split(' '), 'alice'], PASSWORD);
      expect(judge(line, PASSWORD)).toBe('right');
      expect(judge(line, PASSWORD.toUpperCase())).toBe('wrong');
    },
  );

  test.each([
    ['-d', 'DES-crypt'],
    ['-p', 'clear text'],
  ])('htpasswd %s writes what is refused', (option, name) => {
    expect(judge(printed('htpasswd', ['-n', '-i', option, 'alice'], PASSWORD), PASSWORD)).toContain(name);
  });

  test('htpasswd -5 -r 999 writes what nobody verifies', () => {
    expect(judge(printed('htpasswd', ['-n', '-i', '-5', '-r', '999', 'alice'], PASSWORD), PASSWORD)).toContain(
      'locked',
    );
  });

  test.each([
    '-apr1',
    '-5',
    '-6',
    '-5 -salt rounds=1000$abc',
    '-6 -salt rounds=1234$abcdefgh',
    '-6 -salt s',
    '-apr1 -salt s',
  ])('openssl passwd %s writes what is verified', options => {
    const hash = printed('openssl', ['passwd', ...options.split(' '), '-stdin'], PASSWORD);
    expect(judge(`alice:${hash}`, PASSWORD)).toBe('right');
    expect(judge(`alice:${hash}`, `${PASSWORD}x`)).toBe('wrong');
  });

  test('openssl passwd of every length writes what is verified', () => {
    const wrong: string[] = [];
    for (const form of ['-apr1', '-5', '-6'])
      for (const length of [1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 72, 127, 128, 129, 254]) {
        const password = `é${'x'.repeat(length)}`.slice(length > 1 ? 0 : 1);
        const salt = form === '-apr1' ? 'salt' : 'rounds=1000$salt';
        const hash = printed('openssl', ['passwd', form, '-salt', salt, '-stdin'], password);
        if (judge(`alice:${hash}`, password) !== 'right') wrong.push(`${form} ${length}`);
      }
    expect(wrong).toEqual([]);
  });

  test.each([['-1'], ['-aixmd5']])('openssl passwd %s writes what is refused', option => {
    const hash = printed('openssl', ['passwd', option, '-stdin'], PASSWORD);
    expect(judge(`alice:${hash}`, PASSWORD)).toContain('htpasswd -B users alice');
  });

  test('every method of mkpasswd is verified, or refused by its name', () => {
    const methods = execFileSync('mkpasswd', ['-m', 'help'], { encoding: 'utf8' })
      .split('\n')
      .slice(1)
      .flatMap(line => /^[\w-]+/.exec(line)?.[0] ?? []);
    const judged = methods.map(method => [
      method,
      judge(`alice:${printed('mkpasswd', ['-s', '-m', method], PASSWORD)}`, PASSWORD),
    ]);
    expect(Object.fromEntries(judged)).toEqual({
      yescrypt: expect.stringContaining('hashed by yescrypt ($y$)'),
      'gost-yescrypt': expect.stringContaining('hashed by gost-yescrypt ($gy$)'),
      scrypt: expect.stringContaining('hashed by scrypt ($7$)'),
      bcrypt: 'right',
      'bcrypt-a': 'right',
      sha512crypt: 'right',
      sha256crypt: 'right',
      sunmd5: expect.stringContaining('hashed by SunMD5 ($md5)'),
      md5crypt: expect.stringContaining('hashed by MD5-crypt ($1$)'),
      bsdicrypt: expect.stringContaining('hashed by BSDi DES-crypt (_)'),
      descrypt: expect.stringContaining('hashed by DES-crypt'),
      nt: expect.stringContaining('is an NT hash ($3$)'),
    });
  });

  test('the remedy of a fault is a command that mends it', () => {
    const file = join(folder, 'users');
    writeFileSync(file, "alice:$y$j9T$x$y\nit's me:*\n");
    for (const { message } of readPasswordFile(readFileSync(file, 'utf8'), file).faults) {
      const command = message.split('hash it anew: ')[1]!;
      execFileSync('sh', ['-c', command.replace('htpasswd -B', 'htpasswd -iB')], { input: PASSWORD });
    }
    const { users, faults } = readPasswordFile(readFileSync(file, 'utf8'), file);
    expect(faults).toEqual([]);
    expect([...users]).toEqual([
      ['alice', expect.objectContaining({ form: 'bcrypt' })],
      ["it's me", expect.objectContaining({ form: 'bcrypt' })],
    ]);
  });
});
