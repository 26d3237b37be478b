import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import type { BasicAuthConfig } from '../../src/config/auth-config.ts';
import { checkPasswordFiles } from '../../src/server/assembly/check-password-files.ts';
import { PASSWORD, VERIFIED } from '../policy/auth/written-hashes.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

const [BCRYPT, , , APR1] = VERIFIED.map(([, hash]) => hash) as [string, string, string, string];
/** What is let in. */
const basic = (user: string, password = PASSWORD) => ({
  Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
});

let folder: string;
let file: string;
let server: WiredServer | undefined;
let backend: RawBackend;
let log: Lines;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-basic-'));
  file = join(folder, 'users');
  writeFileSync(file, `alice:${BCRYPT}\nbob:${APR1}\n`);
  backend = await RawBackend.listen();
  log = new Lines();
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await backend.close();
  rmSync(folder, { recursive: true });
});

async function start(options: Partial<BasicAuthConfig> = {}): Promise<WiredServer> {
  const socket = defineEndpoint({ path: '/socket', origins: 'accept', accept: ({ user }) => user !== undefined });
  server = await WiredServer.start(
    {
      session: {},
      auth: { staff: { type: 'basic', file, roles: { admin: ['alice'] }, ...options } },
      upstreams: { app: { servers: [backend.url] } },
      routes: [
        { path: '/me', fetch: (_request, { user }) => new Response(user?.name), policy: { auth: 'staff' } },
        { path: '/admin', fetch: () => new Response('admin'), policy: { auth: 'staff', roles: ['admin'] } },
        { path: '/app/*', upstream: 'app', policy: { auth: 'staff', origins: 'any' } },
        { endpoint: socket, policy: { auth: 'staff' } },
      ],
    },
    log,
  );
  return server;
}

/** As `htpasswd` and editors do it. */
function replace(text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

describe.each(wires)('Basic over %s', wire => {
  test('lets in who is in the file, challenges everybody else, and is 403 where a role is missing', async () => {
    const server = await start({ realm: 'Staff "only"' });
    const asked = (path: string, headers?: Record<string, string>) =>
      ask(server, wire, { path, headers: headers ?? {} });
    expect(await asked('/me', basic('alice'))).toMatchObject({ status: 200, body: 'alice' });
    for (const headers of [undefined, basic('alice', 'wrong'), basic('carol'), { Authorization: 'Basic !' }])
      expect(await asked('/me', headers)).toMatchObject({
        status: 401,
        headers: { 'www-authenticate': String.raw`Basic realm="Staff \"only\"", charset="UTF-8"` },
      });
    expect((await asked('/admin', basic('bob'))).status).toBe(403);
    expect((await asked('/admin', basic('alice'))).status).toBe(200);
    const failed = log.all.filter(({ fields }) => fields.event === 'login-failed');
    expect(failed.map(({ fields, message }) => [fields.user, message])).toEqual([
      ['alice', 'the password is wrong'],
      ['carol', 'there is no such user'],
      [undefined, 'the credentials are not base64'],
    ]);
    expect(JSON.stringify(log.all)).not.toContain(PASSWORD);
  });

  test('a WebSocket is opened and relayed with credentials, and 401 without', async () => {
    const server = await start();
    backend.answer = request => {
      const key = /^sec-websocket-key: (.*)$/im.exec(request)?.[1];
      return key === undefined
        ? 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
        : 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n';
    };
    expect((await knock(server, wire, { path: '/socket' })).status).toBe(401);
    expect((await knock(server, wire, { path: '/socket', headers: basic('alice') })).status).toBe(101);
    expect((await knock(server, wire, { path: '/app/socket' })).status).toBe(401);
    expect(backend.requests).toEqual([]);
    expect((await knock(server, wire, { path: '/app/socket', headers: basic('alice') })).status).toBe(404);
    expect(backend.requests).toHaveLength(1);
    expect(backend.requests[0]).not.toMatch(/^authorization:/im);
    expect(backend.requests[0]).toMatch(/^x-forwarded-user: alice\r$/im);
  });
});

test('the backend gets no password, but for "passCredentials"', async () => {
  for (const passCredentials of [false, true]) {
    const server = await start({ passCredentials });
    await ask(server, 'http/1', { path: '/app/x', headers: basic('alice') });
    expect(/^authorization:/im.test(backend.requests.at(-1)!)).toBe(passCredentials);
    await server.close();
  }
});

describe('when the file changes', () => {
  /** A server whose relayed sockets end at another one of ours. */
  async function sockets() {
    const behind = await WiredServer.start({
      routes: [{ endpoint: defineEndpoint({ path: '/app/socket', origins: 'accept', accept: () => true }) }],
    });
    server = await WiredServer.start(
      {
        auth: { staff: { type: 'basic', file } },
        upstreams: { app: { servers: [behind.url('http/1')] } },
        routes: [
          { path: '/app/*', upstream: 'app', policy: { auth: 'staff', origins: 'any' } },
          {
            endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
            policy: { auth: 'staff' },
          },
        ],
      },
      log,
    );
    const open = async (path: string, user: string) => {
      const socket = new WebSocket(`${server!.url('http/1').replace('http', 'ws')}${path}`, { headers: basic(user) });
      const closed = new Promise<{ code: number; at: number }>(resolve =>
        socket.on('close', code => resolve({ code, at: performance.now() })),
      );
      await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
      return { socket, closed };
    };
    return { behind, open };
  }

  test('the sockets of who is removed close within a second, on an endpoint and a relay, and the others stay', async () => {
    const { behind, open } = await sockets();
    const gone = [await open('/socket', 'alice'), await open('/app/socket', 'alice')];
    const stay = [await open('/socket', 'bob'), await open('/app/socket', 'bob')];
    const at = performance.now();
    replace(`bob:${APR1}\n`);
    for (const { closed } of gone) {
      const end = await closed;
      expect(end.code).toBe(1008);
      expect(end.at - at).toBeLessThan(1_000);
    }
    for (const { socket } of stay) {
      expect(socket.readyState).toBe(WebSocket.OPEN);
      socket.terminate();
    }
    await behind.close();
  });

  test.each([
    ['!', `alice:!${BCRYPT}`],
    ['*', 'alice:*'],
  ])(
    'the sockets of a user whose line is locked by %s close as those of one who is removed, and the log says what to do',
    async (_, line) => {
      const { behind, open } = await sockets();
      const gone = [await open('/socket', 'alice'), await open('/app/socket', 'alice')];
      const stay = await open('/socket', 'bob');
      const at = performance.now();
      replace(`bob:${APR1}\n${line}\n`);
      for (const { closed } of gone) {
        const end = await closed;
        expect(end.code).toBe(1008);
        expect(end.at - at).toBeLessThan(1_000);
      }
      expect(stay.socket.readyState).toBe(WebSocket.OPEN);
      stay.socket.terminate();
      for (const user of ['alice', 'bob'])
        expect((await knock(server!, 'http/1', { path: '/socket', headers: basic(user) })).status).toBe(
          user === 'bob' ? 101 : 401,
        );
      const said = log.all.filter(({ fields }) => fields.event === 'password-file-doubtful');
      expect(said.map(({ message }) => message)).toEqual([
        `auth.staff: ${file} line 2: the password of user "alice" is locked (it begins with "*" or "!"): nobody signs in as this user; remove the line, since no start takes it`,
      ]);
      await behind.close();
    },
  );

  test('to one that cannot be used, nobody is signed out, and the log says so', async () => {
    const { behind, open } = await sockets();
    const alice = await open('/socket', 'alice');
    replace('alice:$y$j9T$x$y\n');
    await expect.poll(() => log.all.filter(({ fields }) => fields.event === 'file-refused')).toHaveLength(1);
    expect(alice.socket.readyState).toBe(WebSocket.OPEN);
    expect((await knock(server!, 'http/1', { path: '/socket', headers: basic('alice') })).status).toBe(101);
    alice.socket.terminate();
    await behind.close();
  });
});

test('a server does not start with a file that has a hash which nobody verifies, and check says the same', async () => {
  writeFileSync(file, `bob:${APR1}\nalice:$y$j9T$x$y\n`);
  const said = `line 2: the password of user "alice" is hashed by yescrypt ($y$), which is not verified here; hash it anew: htpasswd -B ${file} alice`;
  await expect(start()).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID', message: expect.stringContaining(said) });
  const checked = await checkPasswordFiles({ auth: { staff: { type: 'basic', file } } });
  expect(checked).toEqual({ faults: [{ path: ['auth', 'staff', 'file'], message: `${file} ${said}` }], warnings: [] });
});

test('check warns of what a start logs, and says nothing of a file that is missing, which is found elsewhere', async () => {
  writeFileSync(file, '# nobody\n');
  expect((await checkPasswordFiles({ auth: { staff: { type: 'basic', file } } })).warnings).toHaveLength(1);
  const missing = await checkPasswordFiles({ auth: { staff: { type: 'basic', file: join(folder, 'missing') } } });
  expect(missing).toEqual({ faults: [], warnings: [] });
});
