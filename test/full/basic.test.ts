import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { missing, type RunningProxy, startProxy } from '../services/proxies.ts';

const programs = ['/usr/bin/htpasswd', '/usr/bin/openssl', '/usr/bin/mkpasswd', '/usr/bin/curl'];
const isMissing = missing('apache') !== undefined || !programs.every(existsSync);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`one of ${programs.join(', ')} is missing`);

const MODULES = ['mpm_event', 'authz_core', 'authz_user', 'authn_core', 'authn_file', 'auth_basic'];
const PASSWORD = 'Grüße, "Ωmega" 9';

const printed = (command: string, args: readonly string[]) =>
  spawnSync(command, args, { input: `${PASSWORD}\n`, encoding: 'utf8' }).stdout.trim();
const hashOf = (...options: readonly string[]) => printed('htpasswd', ['-n', '-i', ...options, 'x']).slice(2);
const basic = (text: string | Uint8Array, scheme = 'Basic') =>
  `${scheme} ${Buffer.from(text as string).toString('base64')}`;

/** What both servers are asked with, and whether the answers must be the same. */
interface Asked {
  readonly what: string;
  readonly authorization: string;
}

describe.skipIf(isMissing)('Basic beside a real Apache with the same file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-basic-'));
  const file = join(folder, 'users');
  const guests = join(folder, 'guests');
  let apache: RunningProxy;
  let server: Server;
  let url: string;

  beforeAll(async () => {
    const forms = {
      bcrypt: hashOf('-B', '-C', '4'),
      bcrypta: printed('mkpasswd', ['-s', '-m', 'bcrypt-a', '-R', '4']),
      bcryptb: printed('mkpasswd', ['-s', '-m', 'bcrypt', '-R', '4']),
      apr1: hashOf('-m'),
      sha1: hashOf('-s'),
      sha256: hashOf('-2'),
      sha256rounds: hashOf('-2', '-r', '1000'),
      sha512: hashOf('-5'),
      openssl6: printed('openssl', ['passwd', '-6', '-salt', 'rounds=1234$abcdefgh', '-stdin']),
    };
    const [one, other] = [forms.apr1, hashOf('-m')];
    writeFileSync(
      file,
      [
        '# staff',
        ...Object.entries(forms).map(([name, hash]) => `${name}:${hash}`),
        `  indented:${one}  \t`,
        `windows:${one}\r`,
        `fields:${one}:Some Body:/home`,
        `twice:${one}`,
        `twice:${hashOf('-m').replace(/.{3}$/, 'aaa')}`,
        `continued:${one.slice(0, 15)}\\`,
        one.slice(15),
        '# a comment that goes on \\',
        `hidden:${one}`,
        `josé:${one}`,
        `two words:${one}`,
        `last:${other}`,
      ].join('\n'),
    );
    execFileSync('htpasswd', ['-c', '-b', '-B', guests, 'other', 'other'], { stdio: 'ignore' });
    writeFileSync(join(folder, 'index.html'), 'ok');
    execFileSync('chmod', ['-R', 'a+rX', folder]);
    apache = await startProxy(
      'apache',
      () => `
DocumentRoot ${folder}
<Directory ${folder}>
  AuthType Basic
  AuthName "The \\"realm\\""
  AuthBasicProvider file
  AuthUserFile ${file}
  Require valid-user
</Directory>`,
      MODULES,
    );
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      auth: { staff: { type: 'basic', file, realm: 'The "realm"' }, guests: { type: 'basic', file: guests } },
      routes: [
        { path: '/index.html', fetch: () => new Response('ok'), policy: { auth: 'staff' } },
        {
          endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
          policy: { auth: 'guests' },
        },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    url = server.urls[0]!;
  });
  afterAll(async () => {
    await server?.stop({ drain: 0 });
    await apache?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function statusOf(port: number, authorization: string): Promise<number> {
    const headers = { Authorization: authorization };
    const request = http.get({ host: '127.0.0.1', port, path: '/index.html', agent: false, headers });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    await once(response, 'end');
    return response.statusCode!;
  }
  const both = async (authorization: string) => {
    const [ours, theirs] = await Promise.all([
      statusOf(Number(new URL(url).port), authorization),
      statusOf(apache.port, authorization),
    ]);
    return { ours, theirs };
  };

  const users = [
    ...['bcrypt', 'bcrypta', 'bcryptb', 'apr1', 'sha1', 'sha256', 'sha256rounds', 'sha512', 'openssl6'],
    ...['indented', 'windows', 'fields', 'twice', 'continued', 'josé', 'two words', 'last'],
  ];
  test.each(users)('the user %s is let in with the right password, and not with another', async user => {
    expect(await both(basic(`${user}:${PASSWORD}`))).toEqual({ ours: 200, theirs: 200 });
    expect(await both(basic(`${user}:${PASSWORD}x`))).toEqual({ ours: 401, theirs: 401 });
    expect(await both(basic(`${user}:`))).toEqual({ ours: 401, theirs: 401 });
  });

  test.each<Asked>([
    { what: 'nobody of the file', authorization: basic(`nobody:${PASSWORD}`) },
    { what: 'a user in another case', authorization: basic(`APR1:${PASSWORD}`) },
    { what: 'a user that a comment has swallowed', authorization: basic(`hidden:${PASSWORD}`) },
    { what: 'a name in Latin-1', authorization: basic(Buffer.from(`josé:${PASSWORD}`, 'latin1')) },
    { what: 'no colon', authorization: basic('apr1') },
    { what: 'no name', authorization: basic(`:${PASSWORD}`) },
    { what: 'another scheme', authorization: basic(`apr1:${PASSWORD}`, 'Bearer') },
  ])('$what is 401 there and here', async ({ authorization }) => {
    expect(await both(authorization)).toEqual({ ours: 401, theirs: 401 });
  });

  test.each<Asked>([
    { what: 'a scheme in small letters', authorization: basic(`apr1:${PASSWORD}`, 'basic') },
    { what: 'two blanks', authorization: basic(`apr1:${PASSWORD}`, 'Basic ') },
    { what: 'base64 without padding', authorization: basic(`apr1:${PASSWORD}`).replace(/=+$/, '') },
  ])('$what is understood there and here', async ({ authorization }) => {
    expect(await both(authorization)).toEqual({ ours: 200, theirs: 200 });
  });

  test('Apache cuts a password at NUL, and we refuse it', async () => {
    expect(await both(basic(`apr1:${PASSWORD}\0and more`))).toEqual({ ours: 401, theirs: 200 });
  });

  test('Apache cuts a password after 72 bytes with bcrypt, and we refuse it', async () => {
    const long = 'x'.repeat(72);
    const line = spawnSync('htpasswd', ['-n', '-i', '-B', '-C', '4', 'long'], { input: long, encoding: 'utf8' }).stdout;
    appendFileSync(file, `\n${line.trim()}\n`);
    await expect.poll(async () => (await both(basic(`long:${long}`))).ours).toBe(200);
    expect(await both(basic(`long:${long}x`))).toEqual({ ours: 401, theirs: 200 });
  });

  test('Apache lets in users whose hashes we refuse to load', async () => {
    const yescrypt = printed('mkpasswd', ['-s', '-m', 'yescrypt']);
    const before = readFileSync(file, 'utf8');
    appendFileSync(file, `yescrypt:${yescrypt}\n`);
    expect(await statusOf(apache.port, basic(`yescrypt:${PASSWORD}`))).toBe(200);
    const strict = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      auth: { staff: { type: 'basic', file } },
      routes: [{ path: '/', fetch: () => new Response(), policy: { auth: 'staff' } }],
      session: false,
      log: { level: 'silent' },
    });
    await expect(strict.start()).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/line \d+: the password of user "yescrypt" is hashed by yescrypt/),
    });
    writeFileSync(file, before);
  });

  test('curl gets in with --user, and says what it gets without', async () => {
    // Not `spawnSync`: the server answers in this process.
    const curl = async (...args: readonly string[]) => {
      const options = ['-s', '-m', '20', '-o', '/dev/null', '-w', '%{http_code} %header{www-authenticate}'];
      return (await promisify(execFile)('curl', [...options, ...args])).stdout;
    };
    const page = `${url}/index.html`;
    expect(await curl('--user', `josé:${PASSWORD}`, page)).toBe('200 ');
    expect(await curl('--anyauth', '--user', `josé:${PASSWORD}`, page)).toMatch(/^200/);
    expect(await curl('--user', 'josé:wrong', page)).toBe(String.raw`401 Basic realm="The \"realm\"", charset="UTF-8"`);
    expect(await curl(page)).toMatch(/^401 /);
  });

  test('a WebSocket of ws is opened with credentials in its URL, and closes when htpasswd removes its user', async () => {
    execFileSync('htpasswd', ['-b', '-B', guests, 'guest', 'guest'], { stdio: 'ignore' });
    const at = new URL('/socket', url.replace('http', 'ws'));
    [at.username, at.password] = ['guest', 'guest'];
    // The file is read again within a second.
    const open = () =>
      new Promise<WebSocket | undefined>(resolve => {
        const socket = new WebSocket(at);
        socket.on('open', () => resolve(socket)).on('error', () => resolve(undefined));
      });
    let socket: WebSocket | undefined;
    await expect.poll(async () => (socket = await open())).toBeDefined();
    const closed = once(socket!, 'close');
    const start = performance.now();
    execFileSync('htpasswd', ['-D', guests, 'guest'], { stdio: 'ignore' });
    expect((await closed)[0]).toBe(1008);
    expect(performance.now() - start).toBeLessThan(1_500);
  });
});
