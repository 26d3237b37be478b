import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import type { AuthenticateFunction } from '../../src/policy/auth/function.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

/** `X-Key: alice` is alice, `X-Key: bad` is wrong, `X-Key: broken` cannot be judged. */
const byKey: AuthenticateFunction = async ({ headers }) => {
  const key = headers['x-key'];
  if (key === undefined) return undefined;
  if (key === 'bad') return false;
  if (key === 'broken') throw new Error('the directory is down');
  const [name = '', ...roles] = String(key).split(',');
  return { name, roles, claims: { tenant: 'acme' } };
};

const NAVIGATION = { 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Mode': 'navigate' };
const WHO = (user: { name: string; roles: readonly string[] } | undefined) =>
  user ? `${user.name}:${user.roles.join(',')}` : 'nobody';

let server: WiredServer;
let backend: RawBackend;
let log: Lines;
let folder: string;

async function start(config: Config, clock?: Parameters<typeof WiredServer.start>[2]) {
  log = new Lines();
  server = await WiredServer.start(
    { session: {}, upstreams: { app: { servers: [backend.url] } }, ...config },
    log,
    clock,
  );
}

const signIn: RouteConfig = {
  path: '/in/:name',
  methods: ['POST'],
  fetch: async (request, { params }) => {
    await server.server.sessions.signIn(request, { name: params.name!, roles: ['user'] });
    return new Response('in');
  },
};
const whoAmI: RouteConfig = { path: '/me', fetch: (_request, { user }) => new Response(WHO(user)) };

async function cookieOf(name: string): Promise<string> {
  const { headers } = await ask(server, 'http/1', { method: 'POST', path: `/in/${name}` });
  return headers['set-cookie']!.split(';')[0]!;
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-auth-'));
  backend = await RawBackend.listen();
  backend.answer = request => {
    const user = /^x-forwarded-user: (.*)$/im.exec(request)?.[1] ?? 'nobody';
    const groups = /^x-forwarded-groups: (.*)$/im.exec(request)?.[1] ?? '';
    const text = `${user}:${groups}`;
    return `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  };
});
afterEach(async () => {
  await server?.close();
  await backend.close();
  rmSync(folder, { recursive: true });
});

describe.each(wires)('over %s', wire => {
  beforeEach(() =>
    start({
      auth: { key: { type: 'function', authenticate: byKey }, login: { type: 'session', loginPage: '/login' } },
      routes: [
        signIn,
        { ...whoAmI, policy: { auth: 'key' } },
        { path: '/admin', fetch: () => new Response('admin'), policy: { auth: 'key', roles: ['admin', 'root'] } },
        { path: '/nobody', fetch: () => new Response('?'), policy: { auth: 'key', roles: [] } },
        { path: '/valid', fetch: () => new Response('valid'), policy: { auth: 'key', roles: ['valid-user'] } },
        { path: '/app/*', upstream: 'app', policy: { auth: ['key', 'login'] } },
        { path: '/page', fetch: (_request, { user }) => new Response(WHO(user)), policy: { auth: 'login' } },
        {
          endpoint: defineEndpoint({
            path: '/socket',
            origins: 'accept',
            accept: ({ user }) => user?.name === 'alice',
          }),
          policy: { auth: ['key', 'login'] },
        },
      ],
    }),
  );

  test('a request without credentials gets 401 with a challenge, and reaches nobody', async () => {
    const { status, headers } = await ask(server, wire, { path: '/me' });
    expect([status, headers['www-authenticate'], headers['cache-control']]).toEqual([
      401,
      'Custom realm="key"',
      'no-store',
    ]);
    expect((await ask(server, wire, { path: '/app/x' })).status).toBe(401);
    expect(backend.requests).toEqual([]);
  });

  test('a request with credentials has its user and claims, and the backend has the name and the roles', async () => {
    expect(await ask(server, wire, { path: '/me', headers: { 'X-Key': 'alice,user' } })).toMatchObject({
      status: 200,
      body: 'alice:user',
    });
    const spoofed = { 'X-Key': 'alice,user,dev', 'X-Forwarded-User': 'root', 'X-Forwarded-Groups': 'admin' };
    expect((await ask(server, wire, { path: '/app/x', headers: spoofed })).body).toBe('alice:user,dev');
  });

  test('credentials that are wrong are 401 and a failed login in the log, ones that nobody can judge 503', async () => {
    expect((await ask(server, wire, { path: '/me', headers: { 'X-Key': 'bad' } })).status).toBe(401);
    expect(log.all.filter(({ fields }) => fields.event === 'login-failed')).toMatchObject([
      { fields: { scheme: 'key', address: '127.0.0.1', route: '/me' } },
    ]);
    const { status, headers } = await ask(server, wire, { path: '/me', headers: { 'X-Key': 'broken' } });
    expect([status, headers['retry-after']]).toEqual([503, '5']);
  });

  test('a role that is missing is 403, one of those that are needed is enough, an empty list is nobody', async () => {
    const asAlice = (path: string, key: string) => ask(server, wire, { path, headers: { 'X-Key': key } });
    const statuses = [
      (await asAlice('/admin', 'alice,user')).status,
      (await asAlice('/admin', 'alice,root')).status,
      (await asAlice('/nobody', 'alice,admin')).status,
      (await asAlice('/valid', 'alice')).status,
    ];
    expect(statuses).toEqual([403, 200, 403, 200]);
    expect(log.all.filter(({ fields }) => fields.event === 'role-missing')).toHaveLength(2);
  });

  test('a login of the application counts where the route takes it, and is led to its page only by a person', async () => {
    const cookie = await cookieOf('bob');
    expect((await ask(server, wire, { path: '/page', headers: { Cookie: cookie } })).body).toBe('bob:user');
    expect((await ask(server, wire, { path: '/app/x', headers: { Cookie: cookie } })).body).toBe('bob:user');
    expect((await ask(server, wire, { path: '/me', headers: { Cookie: cookie } })).status).toBe(401);
    const led = await ask(server, wire, { path: '/page', headers: NAVIGATION });
    expect([led.status, led.headers.location]).toEqual([302, '/login']);
    expect(led.headers['set-cookie']).toBeUndefined();
    const posted = await ask(server, wire, { path: '/page', method: 'POST', headers: NAVIGATION });
    expect([posted.status, posted.headers.location]).toEqual([303, '/login']);
    const fetched = await ask(server, wire, {
      path: '/page',
      headers: { 'Sec-Fetch-Dest': 'empty', 'Sec-Fetch-Mode': 'cors' },
    });
    expect([fetched.status, fetched.headers['www-authenticate']]).toEqual([401, 'Session realm="login"']);
  });

  test('a WebSocket gets 401 and never a redirect, and with credentials its user', async () => {
    expect(await knock(server, wire, { path: '/socket', headers: NAVIGATION })).toMatchObject({ status: 401 });
    expect((await knock(server, wire, { path: '/socket', headers: { 'X-Key': 'alice' } })).status).toBe(101);
    expect((await knock(server, wire, { path: '/socket', headers: { 'X-Key': 'bob' } })).status).toBe(403);
  });

  test('the session of another user is refused to who shows credentials, and stays', async () => {
    const cookie = await cookieOf('bob');
    const headers = { Cookie: cookie, 'X-Key': 'alice' };
    expect((await ask(server, wire, { path: '/app/x', headers })).status).toBe(403);
    expect((await ask(server, wire, { path: '/page', headers: { Cookie: cookie } })).body).toBe('bob:user');
  });
});

describe('users of open sockets', () => {
  const open = async (path: string, headers: Record<string, string>) => {
    const socket = new WebSocket(`${server.url('http/1').replace('http', 'ws')}${path}`, { headers });
    const closed = new Promise<[number, string]>(resolve =>
      socket.on('close', (code, reason) => resolve([code, reason.toString()])),
    );
    const messages: string[] = [];
    socket.on('message', data => messages.push(String(data)));
    await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
    return { socket, closed, messages };
  };
  const accepting: RouteConfig['policy'] = { origins: 'any' };

  test.each(['endpoint', 'relay'] as const)('of an %s close when their credentials end', async kind => {
    const relayed = await WiredServer.start({
      routes: [{ endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }) }],
    });
    await start({
      upstreams: { app: { servers: [relayed.url('http/1')] } },
      auth: {
        key: {
          type: 'function',
          authenticate: ({ headers }) => ({ name: 'alice', expiresAt: Date.now() + Number(headers['x-for']) }),
        },
      },
      routes: [
        kind === 'relay'
          ? { path: '/socket', upstream: 'app', policy: { ...accepting, auth: 'key' } }
          : {
              endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
              policy: { auth: 'key' },
            },
      ],
    });
    const startedAt = performance.now();
    const [short, long] = [await open('/socket', { 'X-For': '700' }), await open('/socket', { 'X-For': '60000' })];
    expect(await short.closed).toEqual([1008, 'authentication has expired']);
    expect(performance.now() - startedAt).toBeGreaterThan(650);
    expect(performance.now() - startedAt).toBeLessThan(1_900);
    expect(long.socket.readyState).toBe(WebSocket.OPEN);
    expect(log.all.filter(({ fields }) => fields.event === 'user-gone')).toMatchObject([{ fields: { user: 'alice' } }]);
    long.socket.terminate();
    await relayed.close();
  });

  test('have their endpoint told before, once for each end, so that a page can show fresh credentials', async () => {
    const told: number[] = [];
    await start({
      auth: {
        key: {
          type: 'function',
          authenticate: ({ headers }) => ({ name: 'alice', expiresAt: Date.now() + Number(headers['x-for']) }),
        },
      },
      routes: [
        { ...whoAmI, session: 'create', policy: { auth: 'key' } },
        {
          endpoint: defineEndpoint({
            path: '/socket',
            origins: 'accept',
            accept: () => true,
            onAuthExpiring(connection, until) {
              told.push(until - Date.now());
              connection.send('sign in again');
            },
          }),
          policy: { auth: 'key' },
        },
      ],
    });
    const first = await ask(server, 'http/1', { path: '/me', headers: { 'X-For': '600000' } });
    const cookie = first.headers['set-cookie']!.split(';')[0]!;
    const [soon, late] = [
      await open('/socket', { 'X-For': '30000', Cookie: cookie }),
      await open('/socket', { 'X-For': '600000' }),
    ];
    await expect.poll(() => soon.messages).toEqual(['sign in again']);
    await ask(server, 'http/1', { path: '/me', headers: { 'X-For': '50000', Cookie: cookie } });
    await expect.poll(() => soon.messages).toHaveLength(2);
    expect(told).toHaveLength(2);
    expect(told[1]! - told[0]!).toBeGreaterThan(10_000);
    expect(late.messages).toEqual([]);
    expect(late.socket.readyState).toBe(WebSocket.OPEN);
    soon.socket.terminate();
    late.socket.terminate();
  });

  test('stay open when the user shows fresh credentials with a request of the same session', async () => {
    await start({
      auth: {
        key: {
          type: 'function',
          authenticate: ({ headers }) => ({ name: 'alice', expiresAt: Date.now() + Number(headers['x-for']) }),
        },
      },
      routes: [
        { ...whoAmI, session: 'create', policy: { auth: 'key' } },
        {
          endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
          policy: { auth: 'key' },
        },
      ],
    });
    const first = await ask(server, 'http/1', { path: '/me', headers: { 'X-For': '60000' } });
    const cookie = first.headers['set-cookie']!.split(';')[0]!;
    const [kept, left] = [
      await open('/socket', { 'X-For': '900', Cookie: cookie }),
      await open('/socket', { 'X-For': '900' }),
    ];
    await ask(server, 'http/1', { path: '/me', headers: { 'X-For': '60000', Cookie: cookie } });
    expect((await left.closed)[0]).toBe(1008);
    expect(kept.socket.readyState).toBe(WebSocket.OPEN);
    kept.socket.terminate();
  });

  test.each(['login', 'key'] as const)('of the scheme %s close when a group file takes their role', async scheme => {
    const file = join(folder, 'groups');
    writeFileSync(file, 'staff: alice\n');
    const ofFile = { groups: file, roles: { user: ['group:staff', 'group:own'] } };
    await start({
      auth: {
        key: { type: 'function', authenticate: byKey, ...ofFile },
        login: { type: 'session', ...ofFile },
      },
      routes: [
        {
          path: '/in/:name/:group',
          fetch: async (request, { params }) => {
            await server.server.sessions.signIn(request, { name: params.name!, roles: [params.group!] });
            return new Response('in');
          },
        },
        {
          endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
          policy: { auth: ['login', 'key'], roles: ['user'] },
        },
      ],
    });
    const openFor = async (name: string, group: string) => {
      if (scheme === 'key') return open('/socket', { 'X-Key': `${name},${group}` });
      const { headers } = await ask(server, 'http/1', { path: `/in/${name}/${group}` });
      return open('/socket', { Cookie: headers['set-cookie']!.split(';')[0]! });
    };
    const [lost, kept] = [await openFor('alice', 'other'), await openFor('bob', 'own')];
    writeFileSync(`${file}.new`, 'staff: carol\n');
    renameSync(`${file}.new`, file);
    expect(await lost.closed).toEqual([1008, 'role is missing']);
    expect(kept.socket.readyState).toBe(WebSocket.OPEN);
    kept.socket.terminate();
  });
});

test('a role that comes from a group file is there with the file, and gone with it', async () => {
  const file = join(folder, 'groups');
  writeFileSync(file, 'Staff: alice\n');
  await start({
    auth: { key: { type: 'function', authenticate: byKey, groups: file, roles: { user: ['group:staff', 'car*'] } } },
    routes: [{ ...whoAmI, policy: { auth: 'key', roles: ['user'] } }],
  });
  const statusOf = async (name: string) =>
    (await ask(server, 'http/1', { path: '/me', headers: { 'X-Key': name } })).status;
  expect([await statusOf('alice'), await statusOf('bob'), await statusOf('carol')]).toEqual([200, 403, 200]);
  writeFileSync(`${file}.new`, 'staff: bob\n');
  renameSync(`${file}.new`, file);
  await expect.poll(() => statusOf('bob'), { timeout: 1_000 }).toBe(200);
  expect(await statusOf('alice')).toBe(403);
});

test('a page to sign in on that asks for a login itself does not lead to itself', async () => {
  await start({
    auth: { login: { type: 'session', loginPage: '/login?from=here' } },
    policy: { auth: 'login' },
    routes: [{ path: '/*', fetch: () => new Response('in') }],
  });
  expect((await ask(server, 'http/1', { path: '/page', headers: NAVIGATION })).status).toBe(302);
  expect((await ask(server, 'http/1', { path: '/login?from=here', headers: NAVIGATION })).status).toBe(401);
});

test.each(wires)('over %s answers that a user was asked for are for no shared cache', async wire => {
  writeFileSync(join(folder, 'page.txt'), 'for users');
  backend.answer = request => {
    const asked = /^x-answer: (.*)$/im.exec(request)?.[1] ?? '';
    return `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n${asked ? `${asked}\r\n` : ''}CDN-Cache-Control: max-age=60\r\n\r\nok`;
  };
  await start({
    auth: { key: { type: 'function', authenticate: byKey } },
    routes: [
      { path: '/files/*', files: folder, policy: { auth: 'key' } },
      { path: '/open/*', files: folder },
      {
        path: '/own',
        fetch: () => new Response('own', { headers: { 'Cache-Control': 'public, max-age=60, s-maxage=600' } }),
        policy: { auth: 'key' },
      },
      { path: '/app', upstream: 'app', policy: { auth: 'key' } },
    ],
  });
  const caching = async (path: string, answer?: string) => {
    const headers = { 'X-Key': 'alice', ...(answer && { 'X-Answer': answer }) };
    const { status, headers: got } = await ask(server, wire, { path, headers });
    return [status, got['cache-control'], got['cdn-cache-control']];
  };
  expect(await caching('/files/page.txt')).toEqual([200, 'private, no-cache', undefined]);
  expect(await caching('/open/page.txt')).toEqual([200, 'public, max-age=0', undefined]);
  expect(await caching('/own')).toEqual([200, 'private, max-age=60', undefined]);
  expect(await caching('/app')).toEqual([200, 'private, no-cache', undefined]);
  expect(await caching('/app', 'Cache-Control: no-store')).toEqual([200, 'no-store', undefined]);
  expect(await caching('/app', 'Cache-Control: Public, private="a, b", max-age=5')).toEqual([
    200,
    'private, max-age=5',
    undefined,
  ]);
});

test('a function that finds a user whose credentials have ended lets nobody in', async () => {
  await start({
    auth: {
      key: { type: 'function', authenticate: ({ headers }) => ({ name: 'a', expiresAt: Number(headers['x-until']) }) },
    },
    routes: [{ ...whoAmI, policy: { auth: 'key' } }],
  });
  const statusOf = async (until: number) =>
    (await ask(server, 'http/1', { path: '/me', headers: { 'X-Until': String(until) } })).status;
  expect(await statusOf(Date.now() + 60_000)).toBe(200);
  expect(await statusOf(Date.now() - 1)).toBe(401);
  // In seconds, as tokens have it.
  expect(await statusOf(Date.now() / 1_000 + 60)).toBe(401);
});

test('a function that does not answer in time lets nobody in', async () => {
  await start({
    auth: { key: { type: 'function', authenticate: () => new Promise(() => {}), timeout: '50ms' } },
    routes: [{ ...whoAmI, policy: { auth: 'key' } }],
  });
  expect((await ask(server, 'http/1', { path: '/me' })).status).toBe(503);
});

test.each([
  ['true', true],
  ['a user without a name', { roles: [] }],
  ['an empty name', { name: '' }],
  ['a name of 257 characters', { name: 'a'.repeat(257) }],
  ['roles in one text', { name: 'alice', roles: 'admin' }],
  ['a date as the end', { name: 'alice', expiresAt: '2030' }],
])('a function that returns %s lets nobody in', async (_, user) => {
  await start({
    auth: { key: { type: 'function', authenticate: (() => user) as never } },
    routes: [{ ...whoAmI, policy: { auth: 'key' } }],
  });
  expect((await ask(server, 'http/1', { path: '/me' })).status).toBe(503);
});

test('authentication of the server holds for every route that says nothing, and "auth: false" lifts it', async () => {
  await start({
    auth: { key: { type: 'function', authenticate: byKey } },
    policy: { auth: 'key' },
    routes: [
      whoAmI,
      { path: '/open', fetch: () => new Response('open'), policy: { auth: false } },
      {
        mount: '/shop',
        application: { routes: [{ path: '/x', fetch: () => new Response('x') }] },
        policy: { auth: false },
      },
    ],
  });
  const statusOf = async (path: string) => (await ask(server, 'http/1', { path })).status;
  expect([await statusOf('/me'), await statusOf('/open'), await statusOf('/shop/x')]).toEqual([401, 200, 200]);
});

test('a socket stays open by fresh credentials that its user has shown to another process', async () => {
  const config = (): Config => ({
    session: { store: `lmdb:${folder}/sessions` },
    auth: {
      key: {
        type: 'function',
        authenticate: ({ headers }) => ({ name: 'alice', expiresAt: Date.now() + Number(headers['x-for']) }),
      },
    },
    routes: [
      { ...whoAmI, session: 'create', policy: { auth: 'key' } },
      { endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }), policy: { auth: 'key' } },
    ],
    dataFolder: `${folder}/data`,
  });
  await start(config());
  const other = await WiredServer.start(config(), new Lines());
  try {
    const first = await ask(server, 'http/1', { path: '/me', headers: { 'X-For': '1500' } });
    const cookie = first.headers['set-cookie']!.split(';')[0]!;
    const socket = new WebSocket(`${server.url('http/1').replace('http', 'ws')}/socket`, {
      headers: { 'X-For': '1500', Cookie: cookie },
    });
    await once(socket, 'open');
    expect((await ask(other, 'http/1', { path: '/me', headers: { 'X-For': '60000', Cookie: cookie } })).status).toBe(
      200,
    );
    await new Promise(resolve => setTimeout(resolve, 2_300));
    expect(socket.readyState).toBe(WebSocket.OPEN);
    socket.terminate();
  } finally {
    await other.close();
  }
});
