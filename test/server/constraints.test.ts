import { defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import type { AuthenticateFunction } from '../../src/policy/auth/function.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

let server: WiredServer;
let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.listen();
  server = await WiredServer.start(
    {
      session: {},
      upstreams: { app: { servers: [backend.url] } },
      auth: {
        key: {
          type: 'function',
          authenticate: ({ headers }) => {
            const [name, ...roles] = String(headers['x-key'] ?? '').split(',');
            return name ? { name, roles } : undefined;
          },
        },
      },
      policy: { auth: false },
      constraints: [
        { paths: ['/demo/*'], methods: ['GET'], auth: 'key', roles: ['user'] },
        { paths: ['/demo/open/*'], methods: ['POST'], otherMethods: 'allow', auth: 'key', roles: ['user'] },
        { paths: ['/demo/deep/admin'], auth: 'key', roles: ['admin'] },
        { paths: ['/secure/*'], transport: 'confidential' },
        { paths: ['/shop/*'], auth: 'key' },
        { paths: ['/closed/*'], auth: 'key', roles: [] },
        { paths: ['/chat/*'], auth: 'key', roles: ['user'] },
      ],
      routes: [
        { path: '/*', upstream: 'app' },
        { endpoint: defineEndpoint({ path: '/chat/:room', origins: 'accept', accept: ({ user }) => !!user }) },
        {
          mount: '/shop',
          application: {
            constraints: [{ paths: ['/till/*'], auth: 'key', roles: ['cashier'] }],
            routes: [{ path: '/*', fetch: (_request, { user }) => new Response(user?.name ?? 'nobody') }],
          },
        },
      ],
    },
    new Lines(),
  );
});
afterEach(async () => {
  await server.close();
  await backend.close();
});

describe.each(wires)('over %s', wire => {
  const statusOf = async (method: string, path: string, key?: string) =>
    (await ask(server, wire, { method, path, ...(key !== undefined && { headers: { 'X-Key': key } }) })).status;

  test('a constraint asks for its role on its paths and nowhere else', async () => {
    expect(await statusOf('GET', '/demo/x')).toBe(401);
    expect(await statusOf('GET', '/demo')).toBe(401);
    expect(await statusOf('GET', '/demo/x', 'alice')).toBe(403);
    expect(await statusOf('GET', '/demo/x', 'alice,user')).toBe(200);
    expect(await statusOf('GET', '/demography')).toBe(200);
    expect(await statusOf('GET', '/')).toBe(200);
  });

  test('GET covers HEAD, and methods that a constraint does not name are refused', async () => {
    expect(await statusOf('HEAD', '/demo/x')).toBe(401);
    expect(await statusOf('HEAD', '/demo/x', 'alice,user')).toBe(200);
    for (const method of ['POST', 'PUT', 'OPTIONS', 'DELETE'])
      expect([method, await statusOf(method, '/demo/x', 'alice,user')]).toEqual([method, 403]);
    expect(backend.requests.filter(request => !/^(GET|HEAD)/.test(request))).toEqual([]);
  });

  test('"otherMethods: allow" leaves them alone, and the most specific pattern counts by itself', async () => {
    expect(await statusOf('POST', '/demo/open/x')).toBe(401);
    expect(await statusOf('PUT', '/demo/open/x')).toBe(200);
    expect(await statusOf('GET', '/demo/open/x')).toBe(200);
    expect(await statusOf('GET', '/demo/deep/admin', 'alice,user')).toBe(403);
    expect(await statusOf('POST', '/demo/deep/admin', 'alice,admin')).toBe(200);
  });

  test('an empty list of roles is nobody', async () => {
    expect(await statusOf('GET', '/closed/x', 'alice,admin')).toBe(403);
  });

  test('constraints around each other all hold', async () => {
    expect(await statusOf('GET', '/shop/x')).toBe(401);
    expect(await statusOf('GET', '/shop/x', 'alice')).toBe(200);
    expect(await statusOf('GET', '/shop/till/x', 'alice')).toBe(403);
    expect(await statusOf('GET', '/shop/till/x', 'alice,cashier')).toBe(200);
  });

  test('a handshake meets them, too', async () => {
    expect((await knock(server, wire, { path: '/chat/a' })).status).toBe(401);
    expect((await knock(server, wire, { path: '/chat/a', headers: { 'X-Key': 'alice,user' } })).status).toBe(101);
    expect((await knock(server, wire, { path: '/demo/socket' })).status).toBe(401);
  });

  test('"transport: confidential" takes https alone', async () => {
    expect(await statusOf('GET', '/secure/x')).toBe(wire === 'http/1' ? 403 : 200);
  });

  test.each([
    '/a/..%2fdemo/x',
    '/demo%2fx',
    '/a/%2e%2e/demo/x',
    '//demo/x',
    '/demo;v=1/x',
    '/x/..;/demo/x',
    '/DEMO/x',
    '/d%65mo/x',
    '/demo%00/x',
    '/x%5c..%5cdemo/x',
  ])('%s leads round no constraint', async path => {
    expect(await statusOf('GET', path)).not.toBe(200);
    expect(backend.requests).toEqual([]);
  });
});

describe('schemes of constraints and routes', () => {
  const byHeader =
    (name: string): AuthenticateFunction =>
    ({ headers }) => {
      const [user, ...roles] = String(headers[name] ?? '').split(',');
      return user ? { name: user, roles } : undefined;
    };
  const auth: Config['auth'] = {
    weak: { type: 'function', authenticate: byHeader('x-weak') },
    strong: { type: 'function', authenticate: byHeader('x-strong') },
  };
  const fetch = () => new Response('in');

  async function restart(config: Config) {
    await server.close();
    server = await WiredServer.start({ session: {}, auth, ...config }, new Lines());
  }
  const statusFor = async (path: string, headers: Record<string, string>) =>
    (await ask(server, 'http/1', { path, headers })).status;

  test('a constraint with roles alone asks them of the users of the route, and of no weaker scheme', async () => {
    await restart({
      policy: { auth: 'weak' },
      constraints: [
        { paths: ['/app/admin/*'], roles: ['admin'] },
        { paths: ['/open/*'], roles: ['admin'] },
      ],
      routes: [
        { path: '/app/*', fetch, policy: { auth: 'strong', roles: ['user'] } },
        { path: '/open/*', fetch, policy: { auth: false } },
      ],
    });
    expect(await statusFor('/app/admin/x', { 'X-Weak': 'eve,admin,user' })).toBe(401);
    expect(await statusFor('/app/admin/x', { 'X-Strong': 'alice,admin' })).toBe(403);
    expect(await statusFor('/app/admin/x', { 'X-Strong': 'alice,admin,user' })).toBe(200);
    expect(await statusFor('/open/x', {})).toBe(401);
    expect(await statusFor('/open/x', { 'X-Weak': 'alice,admin' })).toBe(200);
  });

  test('constraints around each other and the route ask for a role of each, whichever names schemes', async () => {
    await restart({
      policy: { auth: 'weak' },
      constraints: [{ paths: ['/shop/*'], auth: 'strong', roles: ['a'] }],
      routes: [
        {
          mount: '/shop',
          application: {
            constraints: [{ paths: ['/*'], roles: ['b'] }],
            routes: [{ path: '/*', fetch, policy: { roles: ['c'] } }],
          },
        },
      ],
    });
    const statuses = await Promise.all(
      ['a,b,c', 'a,b', 'a,c', 'b,c'].map(roles => statusFor('/shop/x', { 'X-Strong': `alice,${roles}` })),
    );
    expect(statuses).toEqual([200, 403, 403, 403]);
    expect(await statusFor('/shop/x', { 'X-Weak': 'eve,a,b,c' })).toBe(401);
  });

  test('a ticket from beside a constraint does not open a handshake that asks for another scheme', async () => {
    await restart({
      constraints: [{ paths: ['/socket'], auth: 'strong' }],
      routes: [
        {
          endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
          policy: { auth: ['weak', 'strong'], tickets: true },
        },
      ],
    });
    const openedBy = async (headers: Record<string, string>) => {
      const { body } = await ask(server, 'http/1', { method: 'POST', path: '/socket/ticket', headers });
      return (await knock(server, 'http/1', { path: `/socket?ticket=${JSON.parse(body).ticket}` })).status;
    };
    expect(await openedBy({ 'X-Weak': 'eve' })).toBe(401);
    expect(await openedBy({ 'X-Strong': 'alice' })).toBe(101);
  });
});
