import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served, type Wire, wires } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';

const lmdb = new URL('../../src/session/stores/lmdb.ts', import.meta.url).href;
const MIB = 1024 * 1024;

/**
 * A server whose sessions are on a disk with as much free space as a client says: a full one is no place for a test.
 */
const PRETENDING = `
const { LmdbStore, LmdbLedger } = await import('${lmdb}');
let free = 1_000 * ${MIB};
const path = 'sessions';
const store = new LmdbStore({ path, freeBytes: () => free, maxSessions: 1_000 });
const server = { sessions: undefined };
export default defineConfig({
  listen,
  session: { store, ledger: new LmdbLedger({ path }), idleTimeout: '3s', sweep: { every: '1s' }, write: 'end-of-request' },
  routes: [
    { path: '/free/:bytes', session: 'none', fetch: (_, { params }) => {
      free = Number(params.bytes);
      void new LmdbLedger({ path }).close(); // whoever opens it has it measured again
      return Response.json({ free });
    } },
    { path: '/count', session: 'none', fetch: async () => Response.json({ sessions: await store.count() }) },
    { path: '/open', session: 'create', fetch: () => new Response('opened') },
    { path: '/page', session: 'auto', fetch: (_, { session }) => Response.json({ session: session !== undefined }) },
    { path: '/read', session: 'existing', fetch: (_, { session }) => Response.json({ cart: session?.get('cart') ?? null, session: session !== undefined }) },
    { path: '/write', session: 'existing', fetch: (_, { session }) => { session.set('cart', Math.random()); return new Response('written'); } },
    { path: '/end', session: 'existing', fetch: async (_, { session }) => { await session.invalidate('logout'); return new Response('ended'); } },
  ],
});
`;

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly cookie: string | undefined;
  readonly retryAfter: string | undefined;
}

async function request(
  server: Served,
  wire: Wire,
  path: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  if (wire === 'http/2') {
    using client = new Http2Client(server.url(wire));
    const { status, headers: sent, body } = await client.get(path, headers);
    return { status, body, cookie: sent['set-cookie']?.[0]?.split(';')[0], retryAfter: sent['retry-after'] };
  }
  const socket = await server.dial(wire);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines.join('')}\r\n`);
  let text = '';
  for await (const chunk of socket) text += chunk;
  socket.destroy();
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]),
    body: text.slice(text.indexOf('\r\n\r\n') + 4),
    cookie: /^set-cookie: ([^;]+)/im.exec(text)?.[1],
    retryAfter: /^retry-after: (.*?)\r$/im.exec(text)?.[1],
  };
}

describe('on a disk with less free space than the reserve', () => {
  let server: Served;
  beforeAll(async () => {
    server = await Served.module(PRETENDING);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  const free = (bytes: number) => request(server, 'http/1', `/free/${bytes}`);

  test.each(wires)('sessions are read and ended over %s, and what would write one is 503', async wire => {
    const get = (path: string, cookie?: string) => request(server, wire, path, cookie ? { cookie } : {});
    await free(1_000 * MIB);
    const { cookie } = await get('/open');
    expect((await get('/write', cookie)).status).toBe(200);
    const before = JSON.parse((await get('/read', cookie)).body);
    await free(63 * MIB);
    for (const [path, shown] of [
      ['/open', undefined],
      ['/write', cookie],
    ] as const) {
      const refused = await get(path, shown);
      expect([refused.status, refused.cookie, refused.retryAfter]).toEqual([503, undefined, '5']);
    }
    expect(JSON.parse((await get('/read', cookie)).body)).toEqual(before);
    expect((await get('/end', cookie)).status).toBe(200);
    expect(JSON.parse((await get('/read', cookie)).body)).toEqual({ cart: null, session: false });
    await free(1_000 * MIB);
    expect((await get('/open')).status).toBe(200);
    expect(server.logged().find(({ err }) => (err as { code?: string })?.code === 'ERR_SESSION_NO_ROOM')).toBeDefined();
  });

  test('what is idle is swept, and what is in use is not', async () => {
    const used = (await request(server, 'http/1', '/open')).cookie!;
    await request(server, 'http/1', '/open');
    await free(63 * MIB);
    const sessions = async () => {
      expect(JSON.parse((await request(server, 'http/1', '/read', { cookie: used })).body).session).toBe(true);
      return JSON.parse((await request(server, 'http/1', '/count')).body).sessions;
    };
    await expect.poll(sessions, { timeout: 15_000, interval: 500 }).toBe(1);
  });
});

test('page loads without cookies, over two processes, leave exactly the room that is for logins', async () => {
  const config = (key: string) => `
    const { LmdbStore, LmdbLedger } = await import('${lmdb}');
    const store = new LmdbStore({ path: '${key}', maxSessions: 50 });
    let server;
    export default defineConfig({
      listen,
      session: { store, ledger: new LmdbLedger({ path: '${key}' }) },
      routes: [
        { path: '/count', session: 'none', fetch: async () => Response.json([await store.count(), await store.countAnonymous()]) },
        { path: '/login/:name', session: 'none', fetch: async (_, { params }) => {
          // As a login of a visitor does that has no session yet.
          const header = { secretHash: 'x', createdAt: Date.now(), owner: { name: params.name, roles: [] } };
          const record = { header, version: 1, lastAccessedAt: Date.now(), attributes: new Map() };
          return Response.json(await store.create(params.name, record).then(String, error => error.code));
        } },
        { path: '/*', session: 'auto', fetch: (_, { session }) => Response.json(session !== undefined) },
      ],
    });`;
  await using first = await Served.module(config('sessions'));
  await using second = await Served.module(config('sessions'), { folder: first.folder });
  const page = (server: Served) => fetch(`${server.url('http/1')}/`, { headers: { accept: 'text/html' } });
  const pages = await Promise.all(Array.from({ length: 200 }, (_, i) => page(i % 2 ? first : second)));
  expect(new Set(pages.map(({ status }) => status)).size).toBeLessThanOrEqual(2); // 503 for one that lost a race
  expect(pages.filter(({ headers }) => headers.has('set-cookie'))).toHaveLength(40);
  const counts = async () => (await fetch(`${first.url('http/1')}/count`)).json();
  expect(await counts()).toEqual([40, 40]);
  // Whoever comes then gets the page, which may lead to a login, and no session.
  const late = await page(second);
  expect([late.status, await late.json(), late.headers.has('set-cookie')]).toEqual([200, false, false]);
  const logins = await Promise.all(
    Array.from({ length: 30 }, async (_, i) =>
      (await fetch(`${(i % 2 ? first : second).url('http/1')}/login/user${i}`)).json(),
    ),
  );
  expect(logins.filter(result => result === 'true')).toHaveLength(10);
  expect(logins.filter(result => result === 'ERR_SESSION_NO_ROOM')).toHaveLength(20);
  expect(await counts()).toEqual([50, 40]);
});

test('a server whose disk is too full for a key of its own says so and does not start', async () => {
  const started = Served.yaml('diskReserve: 1000000GiB\nroutes: [{ path: /a, redirect: /b }]\n');
  await expect(started).rejects.toThrow(/its disk has .* left, less than the reserve .*diskReserve/);
});
