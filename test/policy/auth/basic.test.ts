import { mkdtempSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../../src/base/logger.ts';
import { BasicScheme, type BasicSchemeOptions } from '../../../src/policy/auth/basic.ts';
import { PasswordVerifier, type Verified } from '../../../src/policy/auth/passwords/password-verifier.ts';
import { RoleSource } from '../../../src/policy/auth/roles.ts';
import type { Principal } from '../../../src/policy/auth/scheme.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { headWith } from '../head.ts';
import { PASSWORD, VERIFIED } from './written-hashes.ts';

const [BCRYPT, , , APR1, , SHA1] = VERIFIED.map(([, hash]) => hash) as [string, string, string, string, string, string];

/** Says what a thread would say, when the test lets it, and what it was asked. */
class AskedVerifier extends PasswordVerifier {
  readonly asked: string[] = [];
  answer: (password: string) => Verified | Promise<Verified> = password => (password === PASSWORD ? 'right' : 'wrong');

  override async verify(password: string, { form, text }: { form: string; text: string }): Promise<Verified> {
    this.asked.push(`${form} ${text === BCRYPT || text === APR1 || text === SHA1 ? 'of a user' : 'of nobody'}`);
    return this.answer(password);
  }
}

let folder: string;
let file: string;
let clock: FakeClock;
let verifier: AskedVerifier;
let lines: { level: string; event: string; message: string }[];
let scheme: BasicScheme | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'basic-'));
  file = join(folder, 'users');
  clock = new FakeClock();
  lines = [];
  verifier = new AskedVerifier({ clock, logger: silentLogger });
});
afterEach(() => {
  scheme?.close();
  rmSync(folder, { recursive: true });
});

async function open(text: string, options: Partial<BasicSchemeOptions> = {}): Promise<BasicScheme> {
  writeFileSync(file, text);
  const log = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, event: (fields as { event: string }).event, message });
  const logger = { ...silentLogger, info: log('info'), warn: log('warn'), error: log('error') };
  const services = { clock, logger };
  scheme = new BasicScheme({
    ...{ name: 'staff', file, rememberMs: 600_000, passCredentials: false, verifier, ...services },
    roleSource: new RoleSource({ roles: { admin: ['alice'], user: ['bob'] } }, { scheme: 'staff', ...services }),
    ...options,
  });
  await scheme.start();
  return scheme;
}

const headOf = (user: string, password: string, address = '192.0.2.1') => {
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const rawHeaders = ['Authorization', authorization];
  return headWith({ headers: { authorization }, rawHeaders, clientAddress: address });
};
const login = (user: string, password: string, address?: string) =>
  scheme!.authenticate(headOf(user, password, address));

async function principalOf(user: string): Promise<Principal> {
  const verdict = await login(user, PASSWORD);
  if (verdict.kind !== 'authenticated') throw new Error(`${user} was not let in`);
  return verdict.principal;
}

/** As `htpasswd` and editors do it; then it is looked at, twice where it may have been half written. */
async function replace(text: string): Promise<void> {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
  for (let i = 0; i < 3; i++) await scheme!.look();
}

describe('who shows a name and a password', () => {
  beforeEach(() => open(`alice:${BCRYPT}\nbob:${APR1}\n`));

  test('of the file is the user of that name, with its roles', async () => {
    expect(await login('alice', PASSWORD)).toEqual({
      kind: 'authenticated',
      principal: { name: 'alice', roles: ['admin'], scheme: 'staff', credential: expect.any(String) },
    });
  });

  test('that are wrong, unknown or unreadable is rejected, and the log learns which', async () => {
    expect(await login('alice', 'x')).toEqual({ kind: 'rejected', reason: 'the password is wrong', user: 'alice' });
    expect(await login('Alice', PASSWORD)).toEqual({
      kind: 'rejected',
      reason: 'there is no such user',
      user: 'Alice',
    });
    const head = headWith({ headers: { authorization: 'Basic !' } });
    expect(await scheme!.authenticate(head)).toEqual({ kind: 'rejected', reason: 'the credentials are not base64' });
  });

  test('of more bytes than bcrypt compares is rejected, also where those would be right', async () => {
    verifier.answer = () => 'too-long';
    expect(await login('alice', 'x'.repeat(73))).toMatchObject({
      kind: 'rejected',
      reason: expect.stringContaining('72 bytes'),
    });
  });

  test('and nothing of the scheme Basic shows nothing', async () => {
    expect(await scheme!.authenticate(headWith())).toEqual({ kind: 'absent' });
    expect(await scheme!.authenticate(headWith({ headers: { authorization: 'Bearer abc' } }))).toEqual({
      kind: 'absent',
    });
  });

  test('in two headers is refused with 400, as others may read the second', async () => {
    const head = headOf('alice', PASSWORD);
    const two = { ...head, rawHeaders: [...head.rawHeaders, 'authorization', 'Basic Ym9iOng='] };
    expect(await scheme!.authenticate(two)).toMatchObject({ kind: 'refused', refusal: { status: 400 } });
    expect(verifier.asked).toEqual([]);
  });

  test.each(['busy', 'failed'] as const)('gets 503 and when to come again when the answer is "%s"', async answer => {
    verifier.answer = () => answer;
    for (const user of ['alice', 'nobody'])
      expect(await login(user, PASSWORD)).toMatchObject({
        kind: 'refused',
        refusal: { status: 503, code: 'ERR_AUTH_UNAVAILABLE', headers: { 'Retry-After': '5' } },
      });
  });

  test('and has no line in the file has cost what one with a line costs', async () => {
    await replace(`alice:${APR1}\nbob:${BCRYPT}\ncarol:${BCRYPT}\n`);
    await login('nobody', PASSWORD);
    expect(verifier.asked).toEqual(['bcrypt of nobody']);
  });

  test('and would be right by chance is nobody all the same', async () => {
    verifier.answer = () => 'right';
    expect(await login('nobody', PASSWORD)).toMatchObject({ kind: 'rejected' });
  });
});

describe('a password that was right', () => {
  beforeEach(() => open(`alice:${BCRYPT}\nbob:${APR1}\n`));

  test('is compared once in ten minutes', async () => {
    for (let i = 0; i < 5; i++) await principalOf('alice');
    await principalOf('bob');
    expect(verifier.asked).toEqual(['bcrypt of a user', 'apr1 of a user']);
    await clock.advance(10 * 60_000 - 1);
    await principalOf('alice');
    expect(verifier.asked).toHaveLength(2);
    await clock.advance(1);
    await principalOf('alice');
    expect(verifier.asked).toHaveLength(3);
  });

  test('is compared once, in whatever spelling its header comes, and each of them is forgotten with it', async () => {
    const encoded = Buffer.from(`alice:${PASSWORD}`).toString('base64').replace(/=+$/, '');
    const show = async (authorization: string) => {
      const rawHeaders = ['Authorization', authorization];
      const verdict = await scheme!.authenticate(headWith({ headers: { authorization }, rawHeaders }));
      expect(verdict).toMatchObject({ kind: 'authenticated', principal: { name: 'alice' } });
    };
    const spellings = [`Basic ${encoded}`, `basic ${encoded}`, `BASIC   ${encoded}`];
    for (const one of [...spellings, ...spellings]) await show(one);
    expect(verifier.asked).toHaveLength(1);
    await clock.advance(10 * 60_000);
    for (const one of spellings) await show(one);
    expect(verifier.asked).toHaveLength(2);
    await replace(`alice:${APR1}\n`);
    for (const one of spellings) await show(one);
    expect(verifier.asked).toEqual(['bcrypt of a user', 'bcrypt of a user', 'apr1 of a user']);
  });

  test('is compared once for 64 clients that show it at the same time', async () => {
    const verdicts = await Promise.all(Array.from({ length: 64 }, () => login('alice', PASSWORD)));
    expect(verdicts.every(({ kind }) => kind === 'authenticated')).toBe(true);
    expect(verifier.asked).toHaveLength(1);
  });

  test('is forgotten when a wrong one is shown for its user from the same network, and for no other', async () => {
    await principalOf('alice');
    await principalOf('bob');
    await login('alice', 'wrong');
    await principalOf('bob');
    await principalOf('alice');
    expect(verifier.asked).toEqual(['bcrypt of a user', 'apr1 of a user', 'bcrypt of a user', 'bcrypt of a user']);
  });

  test('is not forgotten when somebody elsewhere guesses, or no request of its user would be without a comparison', async () => {
    await principalOf('alice');
    for (let i = 0; i < 3; i++) {
      await login('alice', `guess ${i}`, `198.51.100.${i}`);
      await principalOf('alice');
    }
    expect(verifier.asked).toHaveLength(4);
    // Of its user, who may have mistyped: from the network that it was compared for.
    await login('alice', 'wrong');
    await principalOf('alice');
    expect(verifier.asked).toHaveLength(6);
  });

  test('is compared anew when its line in the file changes, and not when another does', async () => {
    await principalOf('alice');
    await replace(`alice:${BCRYPT}\nbob:${SHA1}\n`);
    await principalOf('alice');
    expect(verifier.asked).toHaveLength(1);
    await replace(`alice:${APR1}\nbob:${SHA1}\n`);
    await principalOf('alice');
    expect(verifier.asked).toEqual(['bcrypt of a user', 'apr1 of a user']);
  });

  test('is nobody’s when its user is removed', async () => {
    await principalOf('alice');
    await replace(`bob:${APR1}\n`);
    expect(await login('alice', PASSWORD)).toMatchObject({ kind: 'rejected', reason: 'there is no such user' });
  });

  test('and compared with a line that has changed meanwhile is compared with the new one', async () => {
    const first = Promise.withResolvers<Verified>();
    verifier.answer = () => (verifier.asked.length === 1 ? first.promise : 'wrong');
    const verdict = login('alice', PASSWORD);
    await replace(`alice:${SHA1}\n`);
    first.resolve('right');
    expect(await verdict).toMatchObject({ kind: 'rejected' });
    expect(verifier.asked).toEqual(['bcrypt of a user', 'sha1 of a user']);
  });

  test('is compared each time with `rememberFor: 0`', async () => {
    scheme!.close();
    await open(`alice:${BCRYPT}\n`, { rememberMs: 0 });
    for (let i = 0; i < 3; i++) await principalOf('alice');
    expect(verifier.asked).toHaveLength(3);
  });
});

describe('when the file changes', () => {
  test('whoever has come in is somebody as long as their line is the same', async () => {
    const opened = await open(`alice:${BCRYPT}\nbob:${APR1}\n`);
    let changes = 0;
    const end = opened.onChange(() => changes++);
    const [alice, bob] = [await principalOf('alice'), await principalOf('bob')];
    expect(opened.review(alice)).toEqual(alice);

    await replace(`bob:${SHA1}\nalice:${BCRYPT}\n`);
    expect(changes).toBe(1);
    expect(opened.review(alice)).toEqual(alice);
    expect(opened.review(bob)).toBeUndefined();

    await replace(`bob:${SHA1}\n`);
    expect(opened.review(alice)).toBeUndefined();
    end();
    await replace(`alice:${BCRYPT}\n`);
    expect(changes).toBe(2);
    expect(opened.review(alice)).toEqual(alice);
  });

  test.each([
    [
      'has a hash that is not verified',
      'alice:$y$j9T$x$y\n',
      'line 1: the password of user "alice" is hashed by yescrypt',
    ],
    ['is gone', undefined, 'ENOENT'],
  ])('and %s, the users are those of before, and the log says so once', async (_, text, message) => {
    const opened = await open(`alice:${BCRYPT}\n`);
    const alice = await principalOf('alice');
    if (text === undefined) {
      unlinkSync(file);
      for (let i = 0; i < 3; i++) await opened.look();
    } else await replace(text);
    expect(opened.review(alice)).toEqual(alice);
    expect(await login('alice', PASSWORD)).toMatchObject({ kind: 'authenticated' });
    expect(lines.filter(({ level }) => level === 'error')).toEqual([
      { level: 'error', event: 'file-refused', message: expect.stringContaining(message) },
    ]);
  });
});

describe('a server does not start', () => {
  test('with a hash that is not verified: the error has file, line, user and remedy, and nothing of the hash', async () => {
    const text = `bob:${BCRYPT}\nalice:$y$j9T$WepoQXGNiDjr/h/6EKAdp/$qCpb\n`;
    const error = (await open(text).catch(thrown => thrown)) as Error & { code: string };
    expect(error.code).toBe('ERR_CONFIG_INVALID');
    expect(error.message).toBe(
      `auth.staff: the password file ${file} cannot be used: line 2: the password of user "alice" is hashed by yescrypt ($y$), which is not verified here; hash it anew: htpasswd -B ${file} alice`,
    );
  });

  test('without the file', async () => {
    const missing = open('', { file: join(folder, 'missing') });
    await expect(missing).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining('ENOENT'),
    });
  });
});

test('what is doubtful in the file is logged when it is read', async () => {
  await open(`alice:${SHA1}\n`);
  expect(lines).toEqual([
    {
      level: 'warn',
      event: 'password-file-doubtful',
      message: expect.stringContaining('line 1: the password of user'),
    },
  ]);
});

test.each([
  ['its realm', { realm: 'Staff "only"' }, String.raw`Basic realm="Staff \"only\"", charset="UTF-8"`],
  ['its name', {}, 'Basic realm="staff", charset="UTF-8"'],
  ['another one, where its name is not ASCII', { name: 'スタッフ' }, 'Basic realm="users", charset="UTF-8"'],
])('the challenge has %s, and asks for UTF-8', async (_, options, header) => {
  expect((await open('', options)).challenge()).toEqual({ header });
});
