import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Config, PolicyConfig, RouteConfig } from '../../src/config/config.ts';
import { type Answered, ask, RawBackend, type Wire, WiredServer, wires } from './wires.ts';

const PAGE = 'https://app.example';
const STRANGER = 'https://evil.example';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-cors-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(() => writeFileSync(join(folder, 'a.txt'), 'a file'));

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(config: Config): Promise<WiredServer> {
  const server = await WiredServer.start(config);
  closing.push(() => server.close());
  return server;
}

/** What an answer says to the browser of a page. */
function toPage({ headers }: Answered): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name.startsWith('access-control-') || name === 'vary'),
  );
}

const GRANTED = {
  'access-control-allow-origin': PAGE,
  'access-control-allow-credentials': 'true',
  vary: 'Origin',
};
const NOT_GRANTED = { vary: 'Origin' };

function preflight(method: string, headers?: string, origin = PAGE) {
  return {
    method: 'OPTIONS',
    headers: {
      Origin: origin,
      'Access-Control-Request-Method': method,
      ...(headers !== undefined && { 'Access-Control-Request-Headers': headers }),
    },
  };
}

describe.each(wires)('over %s', wire => {
  const policy: PolicyConfig = { origins: [PAGE, 'https://*.apps.example'], cors: true };
  const asked = (server: WiredServer, path: string, origin: string | undefined, wired: Wire = wire) =>
    ask(server, wired, { path, ...(origin !== undefined && { headers: { Origin: origin } }) });

  describe.each<[target: string, route: RouteConfig, status: number]>([
    ['a handler', { path: '/t', fetch: () => new Response('in') }, 200],
    [
      'a handler that says something else itself',
      {
        path: '/t',
        fetch: () =>
          new Response('in', {
            headers: {
              'Access-Control-Allow-Origin': '*',
              'access-control-allow-credentials': 'true',
              'Access-Control-Expose-Headers': 'X-Secret',
            },
          }),
      },
      200,
    ],
    [
      'a handler that fails',
      {
        path: '/t',
        fetch: () => {
          throw new Error('broken');
        },
      },
      500,
    ],
    ['a redirect', { path: '/t', redirect: '/u' }, 308],
    ['a refusal', { path: '/t', fetch: () => new Response('in'), policy: { addresses: { deny: ['127.0.0.1'] } } }, 403],
    ['a backend that cannot be reached', { path: '/t', upstream: 'down' }, 503],
  ])('%s', (_, route, status) => {
    const config = () =>
      start({
        upstreams: { down: { servers: ['http://127.0.0.1:1'] } },
        routes: [{ ...route, policy: { ...policy, ...route.policy } }],
      });

    test('is read by pages of the listed origins, and by no others', async () => {
      const server = await config();
      const granted = await asked(server, '/t', PAGE);
      expect(granted.status).toBe(status);
      expect(toPage(granted)).toEqual(GRANTED);
      expect(toPage(await asked(server, '/t', 'https://a.b.apps.example'))).toEqual({
        ...GRANTED,
        'access-control-allow-origin': 'https://a.b.apps.example',
      });
      for (const origin of [
        STRANGER,
        'null',
        'https://apps.example',
        'https://app.example.evil.example',
        'http://app.example',
        undefined,
      ])
        expect([origin, toPage(await asked(server, '/t', origin))]).toEqual([origin, NOT_GRANTED]);
    });
  });

  test('a file is read, by folder and by name, and so is its 404', async () => {
    const server = await start({ routes: [{ path: '/*', files: folder, policy }] });
    for (const [path, status] of [
      ['/a.txt', 200],
      ['/b.txt', 404],
    ] as const) {
      const answer = await asked(server, path, PAGE);
      expect(answer.status).toBe(status);
      expect(toPage(answer)).toEqual(GRANTED);
    }
  });

  test.each([
    ['nothing', '', 'Origin'],
    ['something', 'Vary: Accept-Encoding\r\nVary: Accept\r\n', 'Accept-Encoding, Accept, Origin'],
    ['the origin', 'Vary: accept, origin\r\n', 'accept, origin'],
    ['everything', 'Vary: *\r\n', '*'],
  ])(
    'a backend that says what pages may read is not heard, and its answer that varies by %s varies by the origin',
    async (_, lines, vary) => {
      const backend = await RawBackend.listen();
      closing.push(() => backend.close());
      backend.answer = () =>
        `HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: ${STRANGER}\r\nAccess-Control-Allow-Origin: *\r\nACCESS-CONTROL-ALLOW-CREDENTIALS: true\r\nAccess-Control-Allow-Private-Network: true\r\n${lines}Content-Length: 2\r\n\r\nok`;
      const server = await start({
        upstreams: { app: { servers: [backend.url] } },
        routes: [{ path: '/*', upstream: 'app', policy }],
      });
      expect(toPage(await asked(server, '/', PAGE))).toEqual({ ...GRANTED, vary });
      expect(toPage(await asked(server, '/', STRANGER))).toEqual({ vary });
    },
  );

  test('without "cors" what a backend says passes as it is, and its preflights reach it', async () => {
    const backend = await RawBackend.listen();
    closing.push(() => backend.close());
    backend.answer = () => 'HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok';
    const server = await start({
      upstreams: { app: { servers: [backend.url] } },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: [PAGE] } }],
    });
    expect(toPage(await asked(server, '/', STRANGER))).toEqual({ 'access-control-allow-origin': '*' });
    await ask(server, wire, preflight('PUT'));
    expect(backend.requests.map(request => request.split(' ')[0])).toEqual(['GET', 'OPTIONS']);
  });

  test('a preflight is answered for the route of the request that it asks for, without target or session', async () => {
    let asked = 0;
    const fetch = () => new Response(String(++asked));
    const server = await start({
      session: { store: 'memory:' },
      routes: [
        { path: '/t', methods: ['PUT', 'DELETE'], fetch, session: 'create', policy },
        { path: '/t', methods: ['POST'], fetch },
      ],
    });
    const answer = await ask(server, wire, { path: '/t', ...preflight('PUT', 'content-type,x-csrf') });
    expect([answer.status, answer.body]).toEqual([204, '']);
    expect(toPage(answer)).toEqual({
      'access-control-allow-origin': PAGE,
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'PUT',
      'access-control-allow-headers': 'content-type, x-csrf',
      'access-control-max-age': '600',
      vary: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
    });
    expect(answer.headers['set-cookie']).toBeUndefined();
    // The other route says nothing to other origins.
    expect((await ask(server, wire, { path: '/t', ...preflight('POST') })).status).toBe(405);
    expect((await ask(server, wire, { path: '/t', ...preflight('PATCH') })).status).toBe(405);
    const refused = await ask(server, wire, { path: '/t', ...preflight('PUT', undefined, STRANGER) });
    expect(refused.status).toBe(403);
    expect(toPage(refused)).toEqual(NOT_GRANTED);
    expect(asked).toBe(0);
    expect(await server.server.sessions.count()).toBe(0);
  });
});

test('what may be sent, read and remembered is said as it was configured', async () => {
  const cors = { credentials: false, headers: ['X-A', 'X-B'], expose: ['ETag', 'X-Total'], maxAge: '2h' };
  const fetch = () => new Response('in');
  const server = await start({ routes: [{ path: '/t', fetch, policy: { origins: [PAGE], cors } }] });
  expect(toPage(await ask(server, 'http/1', { path: '/t', headers: { Origin: PAGE } }))).toEqual({
    'access-control-allow-origin': PAGE,
    'access-control-expose-headers': 'ETag, X-Total',
    vary: 'Origin',
  });
  expect(toPage(await ask(server, 'http/1', { path: '/t', ...preflight('PUT', 'x-z') }))).toMatchObject({
    'access-control-allow-headers': 'X-A, X-B',
    'access-control-max-age': '7200',
  });
});

test('a route does not answer the preflight of another one of its path that has no "cors"', async () => {
  const fetch = () => new Response('in');
  const server = await start({
    policy: { origins: [PAGE] },
    routes: [
      { path: '/t', methods: ['GET', 'OPTIONS'], fetch, policy: { cors: true } },
      { path: '/t', methods: ['DELETE'], fetch, policy: { cors: false } },
    ],
  });
  const statusOf = async (method: string) => (await ask(server, 'http/1', { path: '/t', ...preflight(method) })).status;
  expect(await statusOf('GET')).toBe(204);
  expect(await statusOf('DELETE')).toBe(403);
});

test('who may not come in at all learns nothing of routes by what pages may read', async () => {
  const server = await start({
    policy: { addresses: { deny: ['127.0.0.1'] }, origins: [PAGE] },
    routes: [{ path: '/t', fetch: () => new Response('in'), policy: { cors: true } }],
  });
  for (const path of ['/t', '/none']) {
    const answer = await ask(server, 'http/1', { path, headers: { Origin: PAGE } });
    expect([path, answer.status, toPage(answer)]).toEqual([path, 403, {}]);
  }
});

test.each([true, { credentials: true }])('where every origin may read, none comes with credentials: %j', async cors => {
  const fetch = () => new Response('in');
  const server = await start({ routes: [{ path: '/t', fetch, policy: { origins: 'any', cors } }] });
  for (const origin of [PAGE, STRANGER, 'null', undefined])
    expect(toPage(await ask(server, 'http/1', { path: '/t', ...(origin && { headers: { Origin: origin } }) }))).toEqual(
      {
        'access-control-allow-origin': '*',
      },
    );
});

test('empty places among the headers that a preflight asks for are nothing', async () => {
  const server = await start({
    routes: [{ path: '/t', fetch: () => new Response('in'), policy: { origins: [PAGE], cors: true } }],
  });
  const allowed = async (headers: string) =>
    toPage(await ask(server, 'http/1', { path: '/t', ...preflight('PUT', headers) }))['access-control-allow-headers'];
  expect(await allowed('a,, b,')).toBe('a, b');
  expect(await allowed('')).toBeUndefined();
});

test('a preflight that asks for what is no method or header is refused', async () => {
  const server = await start({
    routes: [{ path: '/t', fetch: () => new Response('in'), policy: { origins: [PAGE], cors: true } }],
  });
  for (const question of [preflight('P UT'), preflight('PUT', 'a b'), preflight('PUT', 'a,\xa0b')])
    expect((await ask(server, 'http/1', { path: '/t', ...question })).status).toBe(400);
});

test('the policy of the server holds for routes that say nothing else', async () => {
  const fetch = () => new Response('in');
  const server = await start({
    policy: { origins: [PAGE], cors: true },
    routes: [
      { path: '/a', fetch },
      { path: '/b', fetch, policy: { cors: false } },
      { path: '/c', fetch, policy: { origins: [STRANGER] } },
    ],
  });
  const read = async (path: string, origin: string) =>
    toPage(await ask(server, 'http/1', { path, headers: { Origin: origin } }))['access-control-allow-origin'];
  expect(await read('/a', PAGE)).toBe(PAGE);
  expect(await read('/b', PAGE)).toBeUndefined();
  expect(await read('/c', PAGE)).toBeUndefined();
  expect(await read('/c', STRANGER)).toBe(STRANGER);
});
