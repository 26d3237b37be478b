import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Config, defineEndpoint } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import type { ForwardAuthConfig } from '../../src/config/auth-config.ts';
import { ConfigError } from '../../src/config/config-error.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from './wires.ts';

const NAVIGATION = { 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Mode': 'navigate' };

let service: http.Server;
let asked: IncomingMessage[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let backend: RawBackend;
let server: WiredServer | undefined;
let log: Lines;

const url = () => `http://localhost:${(service.address() as AddressInfo).port}/auth`;

/** As oauth2-proxy: `Cookie: login=alice` is alice. */
function byCookie(request: IncomingMessage, response: ServerResponse): void {
  const user = /(?:^|; )login=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
  if (!user) return void response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="sso"' }).end('no');
  const headers = {
    'X-Auth-Request-User': user,
    'X-Auth-Request-Groups': 'staff, dev',
    'X-Auth-Request-Email': 'a@b.example',
  };
  response.writeHead(202, headers).end();
}

async function start(forward: Partial<ForwardAuthConfig> = {}, config: Config = {}) {
  const policy = { auth: 'sso', origins: 'any' as const };
  server = await WiredServer.start(
    {
      auth: { sso: { type: 'forward', url: url(), ...forward } },
      upstreams: { app: { servers: [backend.url] } },
      routes: [
        { path: '/me', fetch: (_, { user }) => Response.json([user?.name, user?.roles, user?.claims]), policy },
        { path: '/app/*', upstream: 'app', policy },
        { path: '/staff', fetch: () => new Response('staff'), policy: { ...policy, roles: ['staff'] } },
        { path: '/root', fetch: () => new Response('root'), policy: { ...policy, roles: ['root'] } },
        {
          endpoint: defineEndpoint({
            path: '/socket',
            origins: 'accept',
            accept: ({ user }) => user?.name === 'alice',
          }),
          policy: { auth: 'sso' },
        },
      ],
      ...config,
    },
    log,
  );
  return server;
}

beforeEach(async () => {
  log = new Lines();
  asked = [];
  answer = byCookie;
  service = http.createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  service.listen(0, '127.0.0.1');
  await once(service, 'listening');
  backend = await RawBackend.listen();
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  service.closeAllConnections();
  service.close();
  await backend.close();
});

const ALICE = { Cookie: 'theme=dark; login=alice' };

describe.each(wires)('over %s', wire => {
  test('2xx lets a user in with name, roles and what is copied; 401 and 403 are 401 and 403', async () => {
    const served = await start({ copyHeaders: ['X-Auth-Request-Email'] });
    const me = await ask(served, wire, { path: '/me', headers: ALICE });
    expect(JSON.parse(me.body)).toEqual(['alice', ['staff', 'dev'], { 'x-auth-request-email': 'a@b.example' }]);
    expect((await ask(served, wire, { path: '/staff', headers: ALICE })).status).toBe(200);
    expect((await ask(served, wire, { path: '/root', headers: ALICE })).status).toBe(403);
    const nobody = await ask(served, wire, { path: '/me' });
    expect([nobody.status, nobody.headers['www-authenticate']]).toEqual([401, 'Basic realm="sso"']);
    answer = (_, response) => response.writeHead(403).end();
    expect((await ask(served, wire, { path: '/me', headers: ALICE })).status).toBe(403);
  });

  test('no header of a client is taken for one of the service, in whatever spelling', async () => {
    const served = await start({ copyHeaders: ['X-Auth-Request-Email', 'X-Tenant'] });
    const spoofed = {
      ...ALICE,
      'X-Auth-Request-User': 'root',
      'X-Forwarded-User': 'root',
      'X-Auth-Request-Email': 'root@b.example',
      'x-tenant': 'evil',
      X_Tenant: 'evil',
      'X-Original-URI': '/public',
      'X-Forwarded-Method': 'OPTIONS',
      'X-Forwarded-For': '192.0.2.1',
    };
    await ask(served, wire, { path: '/app/x', headers: spoofed });
    const [request = ''] = backend.requests;
    expect(request).toMatch(/^X-Auth-Request-Email: a@b\.example\r$/m);
    expect(request).toMatch(/^X-Forwarded-User: alice\r$/m);
    expect(request).not.toMatch(/root|evil/);
    expect(asked[0]!.headers).toMatchObject({
      'x-original-uri': '/app/x',
      'x-forwarded-method': 'GET',
      'x-forwarded-for': '127.0.0.1',
    });
    expect(JSON.stringify(asked[0]!.headers)).not.toContain('root');
  });

  test('a header of a client is not taken for one of the service where a constraint lets users of another scheme in', async () => {
    const key = { type: 'function', authenticate: () => ({ name: 'bob' }) } as const;
    const sso = { type: 'forward', url: url(), copyHeaders: ['X-Tenant'] } as const;
    const served = await start({}, { auth: { sso, key }, constraints: [{ paths: ['/app/key/*'], auth: 'key' }] });
    for (const path of ['/app/key/x', '/app/x'])
      await ask(served, wire, { path, headers: { ...ALICE, 'X-Tenant': 'evil', X_Tenant: 'evil' } });
    expect(asked.length).toBe(1);
    expect(backend.requests.map(request => /^X-Forwarded-User: (\w+)\r$/m.exec(request)?.[1])).toEqual([
      'bob',
      'alice',
    ]);
    expect(backend.requests.join('')).not.toContain('evil');
  });

  test('the service gets the request without its body, in the names of nginx, Traefik and oauth2-proxy', async () => {
    const served = await start();
    const body = 'x'.repeat(1_000);
    const headers = { ...ALICE, 'Content-Type': 'text/plain', 'If-None-Match': '"a"', Range: 'bytes=0-1' };
    await ask(served, wire, { method: 'PUT', path: '/app/a/../b?c=1&d', headers, body });
    const { method, url: path, headers: sent } = asked[0]!;
    expect([method, path]).toEqual(['GET', '/auth']);
    expect(sent).toMatchObject({
      host: new URL(url()).host,
      cookie: ALICE.Cookie,
      'content-type': 'text/plain',
      'x-original-method': 'PUT',
      'x-forwarded-method': 'PUT',
      'x-original-uri': '/app/b?c=1&d',
      'x-forwarded-uri': '/app/b?c=1&d',
      'x-forwarded-host': 'public.example',
      'x-forwarded-proto': wire === 'http/1' ? 'http' : 'https',
      'x-original-url': `${wire === 'http/1' ? 'http' : 'https'}://public.example/app/b?c=1&d`,
    });
    for (const name of ['content-length', 'if-none-match', 'range', 'upgrade', 'expect'])
      expect(sent).not.toHaveProperty(name);
    expect(backend.requests[0]).toContain(body);
  });

  test('WebSockets of endpoints and relays are asked about as well, and get no redirect', async () => {
    answer = (request, response) =>
      request.headers.cookie ? byCookie(request, response) : response.writeHead(302, { Location: '/login' }).end();
    const served = await start({ redirects: 'pass' });
    backend.answer = () => 'HTTP/1.1 418 I am a teapot\r\nContent-Length: 0\r\n\r\n';
    expect((await knock(served, wire, { path: '/socket', headers: ALICE })).status).toBe(101);
    expect((await knock(served, wire, { path: '/socket', headers: { Cookie: 'login=bob' } })).status).toBe(403);
    expect((await knock(served, wire, { path: '/socket', headers: NAVIGATION })).status).toBe(401);
    expect((await knock(served, wire, { path: '/app/ws', headers: NAVIGATION })).status).toBe(401);
    expect(asked.map(({ headers }) => headers['sec-websocket-key'])).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

describe('what is no clear answer lets nobody in', () => {
  test.each<[string, typeof answer, RegExp]>([
    ['500', (_, response) => response.writeHead(500).end(), /answered 500 instead of/],
    ['404', (_, response) => response.writeHead(404).end(), /answered 404 instead of/],
    ['a redirect', (_, response) => response.writeHead(302, { Location: '/x' }).end(), /set "redirects: pass"/],
    ['200 that names nobody', (_, response) => response.writeHead(200).end(), /named no user; set "userHeader"/],
    [
      'a user of 257 characters',
      (_, response) => response.writeHead(200, { 'Remote-User': 'a'.repeat(257) }).end(),
      /more than 256/,
    ],
    ['a connection that breaks off', request => request.socket.destroy(), /.+/],
    [
      'more than 64 KiB',
      (_, response) => response.writeHead(200, { 'Remote-User': 'a' }).end('x'.repeat(70_000)),
      /more than 64 KiB/,
    ],
    ['silence', () => {}, /no whole answer within 100 ms/],
    [
      'an answer without an end',
      (_, response) => void response.writeHead(200, { 'Remote-User': 'a' }).write('x'),
      /within 100 ms/,
    ],
  ])('%s is 503, and said once', async (_, said, reason) => {
    answer = said;
    const served = await start({ timeout: '100ms' });
    for (let i = 0; i < 2; i++)
      expect((await ask(served, 'http/1', { path: '/app/x', headers: ALICE })).status).toBe(503);
    expect((await knock(served, 'http/1', { path: '/socket', headers: ALICE })).status).toBe(503);
    expect(backend.requests).toEqual([]);
    const lines = log.all.filter(({ fields }) => fields.event === 'forward-auth-unavailable');
    expect(lines).toMatchObject([{ level: 'error', message: expect.stringMatching(reason) }]);
    answer = byCookie;
    expect((await ask(served, 'http/1', { path: '/me', headers: ALICE })).status).toBe(200);
    expect(log.all.filter(({ fields }) => fields.event === 'forward-auth-available')).toHaveLength(1);
  });

  test('nor does a service that leads back to ourselves', async () => {
    const served = await start({}, { listen: [{ port: 0, host: '127.0.0.1' }] });
    let hops = 0;
    answer = (request, response) => {
      hops++;
      const through = http.get({ port: served.port('http/1'), path: '/me', headers: request.headers }, again => {
        response.writeHead(again.statusCode!).end();
        again.resume();
      });
      through.end();
    };
    expect((await ask(served, 'http/1', { path: '/me', headers: ALICE })).status).toBe(503);
    expect(hops).toBe(1);
  });
});

test('people are led to where the service leads them, with its cookies, and nobody else is', async () => {
  answer = (_, response) =>
    response
      .writeHead(302, { Location: 'https://id.example/start?rd=x', 'Set-Cookie': ['csrf=1; Secure', 'b=2'] })
      .end();
  const served = await start({ redirects: 'pass', setCookies: true });
  const led = await ask(served, 'http/1', { path: '/me', headers: NAVIGATION });
  expect([led.status, led.headers.location, led.headers['set-cookie']]).toEqual([
    302,
    'https://id.example/start?rd=x',
    'csrf=1; Secure, b=2',
  ]);
  const fetched = await ask(served, 'http/1', { path: '/me', headers: { 'Sec-Fetch-Mode': 'cors' } });
  expect([fetched.status, fetched.headers.location]).toEqual([401, undefined]);
  for (const location of ['javascript:alert(1)', '//evil.example', '/\\evil.example', '']) {
    answer = (_, response) => response.writeHead(302, { Location: location }).end();
    expect((await ask(served, 'http/1', { path: '/me', headers: NAVIGATION })).status).toBe(503);
  }
});

test('loginPage leads people to a page that knows where they wanted to go', async () => {
  const served = await start({ loginPage: '/oauth2/start?rd={url}' });
  const { status, headers } = await ask(served, 'http/1', { path: '/me?a=b&c', headers: NAVIGATION });
  expect([status, headers.location]).toEqual([302, '/oauth2/start?rd=http%3A%2F%2Fpublic.example%2Fme%3Fa%3Db%26c']);
});

test('cookies that the service sets reach the client where that is asked for, beside those of the backend', async () => {
  answer = (request, response) => {
    response.setHeader('Set-Cookie', ['login=fresh; HttpOnly', 'other=1']);
    byCookie(request, response);
  };
  backend.answer = () => 'HTTP/1.1 200 OK\r\nSet-Cookie: own=1\r\nContent-Length: 0\r\n\r\n';
  for (const setCookies of [false, true]) {
    const served = await start({ setCookies });
    const { headers } = await ask(served, 'http/1', { path: '/app/x', headers: ALICE });
    expect(headers['set-cookie']).toBe(setCookies ? 'login=fresh; HttpOnly, other=1, own=1' : 'own=1');
    const handler = await ask(served, 'http/1', { path: '/me', headers: ALICE });
    expect(handler.headers['set-cookie']).toBe(setCookies ? 'login=fresh; HttpOnly, other=1' : undefined);
    await served.close();
  }
});

test('the service never sees the cookie of our sessions', async () => {
  const served = await start(
    {},
    {
      session: { cookie: { name: 'sid' } },
      routes: [
        { path: '/begin', session: 'create', fetch: () => new Response('begun') },
        { path: '/me', fetch: (_, { user }) => new Response(user?.name), policy: { auth: 'sso' } },
      ],
    },
  );
  const begun = await ask(served, 'http/1', { path: '/begin' });
  const cookie = begun.headers['set-cookie']!.split(';')[0]!;
  expect(cookie).toMatch(/^sid=/);
  expect((await ask(served, 'http/1', { path: '/me', headers: { Cookie: `${cookie}; ${ALICE.Cookie}` } })).body).toBe(
    'alice',
  );
  expect(asked[0]!.headers.cookie).toBe(ALICE.Cookie);
});

test('an answer is remembered for one URL and one set of credentials, where that is asked for', async () => {
  const served = await start({ cacheFor: '1m' });
  const ofAlice = (path: string, cookie = ALICE.Cookie) => ask(served, 'http/1', { path, headers: { Cookie: cookie } });
  await ofAlice('/me');
  expect((await ofAlice('/me')).status).toBe(200);
  expect(asked).toHaveLength(1);
  await ofAlice('/staff');
  await ofAlice('/me', 'login=bob');
  expect(asked).toHaveLength(3);
  for (let i = 0; i < 2; i++) expect((await ofAlice('/me', 'x=y')).status).toBe(401);
  expect(asked).toHaveLength(5);
});

test('credentials end when the service says so', async () => {
  answer = (request, response) => {
    response.setHeader('X-Expires', request.headers['x-end']!);
    byCookie(request, response);
  };
  const served = await start({ expiresHeader: 'X-Expires' });
  const of = (end: string) => ask(served, 'http/1', { path: '/me', headers: { ...ALICE, 'X-End': end } });
  const later = Date.now() + 3_600_000;
  expect((await of(String(Math.round(later / 1_000)))).status).toBe(200);
  expect((await of(new Date(later).toUTCString())).status).toBe(200);
  expect((await of('1')).status).toBe(401);
  expect((await of('soon')).status).toBe(401);
});

test.each(['/socket', '/app/ws'])('a WebSocket of %s closes when the service lets its user in no more', async path => {
  const relayed = await WiredServer.start({
    routes: [{ endpoint: defineEndpoint({ path: '/app/ws', origins: 'accept', accept: () => true }) }],
  });
  const served = await start({ recheck: '50ms' }, { upstreams: { app: { servers: [relayed.url('http/1')] } } });
  const socket = new WebSocket(`${served.url('http/1').replace('http', 'ws')}${path}`, { headers: ALICE });
  const closed = once(socket, 'close');
  await once(socket, 'open');
  // A service that fails ends nobody's connection: it is asked again.
  answer = (_, response) => response.writeHead(500).end();
  const before = asked.length;
  await vi.waitFor(() => expect(asked.length).toBeGreaterThan(before), { timeout: 5_000, interval: 10 });
  expect(socket.readyState).toBe(WebSocket.OPEN);
  answer = (_, response) => response.writeHead(401).end();
  expect((await closed)[0]).toBe(1008);
  await relayed.close();
});

test.each<[Partial<ForwardAuthConfig>, RegExp]>([
  [{ url: 'http://sso.internal/auth' }, /is not encrypted: take https, or set "allowHttp: true"/],
  [{ copyHeaders: ['Content-Length'] }, /not a header that backends can get from a service/],
  [{ copyHeaders: ['X-Forwarded-User'] }, /not a header that backends can get from a service/],
  [{ cacheFor: '10m' }, /is more than 5m/],
  [{ cacheBy: ['Cookie'] }, /has no effect/],
  [{ timeout: -1 }, /could wait for ever/],
])('a configuration with %j is refused', (options, message) => {
  const parse = () =>
    parseConfig({ auth: { sso: { type: 'forward', url: 'https://sso.example/auth', ...options } }, routes: [] });
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(message);
});

test('clients of one network have 64 of the 256 places to wait for the service, more are 503, and others go on', async () => {
  await start({}, { trustedProxies: ['127.0.0.1'] });
  const held: ServerResponse[] = [];
  answer = (request, response) => {
    if (request.headers.cookie === 'login=slow') held.push(response);
    else byCookie(request, response);
  };
  const get = (address: string, login: string) =>
    ask(server!, 'http/1', { path: '/me', headers: { 'X-Forwarded-For': address, Cookie: `login=${login}` } });
  const waiting = Array.from({ length: 64 }, (_, i) => get(`2001:db8::${i + 1}`, 'slow'));
  await expect.poll(() => held.length).toBe(32);
  await expect.poll(async () => (await get('2001:db8::ffff', 'alice')).status).toBe(503);
  expect((await get('2001:db8::ffff', 'alice')).headers['retry-after']).toBeDefined();
  const other = get('192.0.2.1', 'alice');
  answer = byCookie;
  for (const response of held) response.writeHead(401).end();
  expect((await other).status).toBe(200);
  expect(new Set((await Promise.all(waiting)).map(({ status }) => status))).toEqual(new Set([401, 200]));
  expect((await get('2001:db8::ffff', 'alice')).status).toBe(200);
});

test('a token that the service has let in and refuses now has ended; one that it never did is a failed login', async () => {
  await start();
  let good = true;
  answer = (request, response) =>
    good && request.headers.authorization === 'Bearer good'
      ? response.writeHead(200, { 'Remote-User': 'alice' }).end()
      : response.writeHead(401).end();
  const statusOf = async (token: string) =>
    (await ask(server!, 'http/1', { path: '/me', headers: { Authorization: `Bearer ${token}` } })).status;
  const events = () =>
    log.all.flatMap(({ fields }) => (/login|expired/.test(String(fields.event)) ? fields.event : []));
  expect(await statusOf('good')).toBe(200);
  good = false;
  expect(await statusOf('good')).toBe(401);
  expect(await statusOf('guessed')).toBe(401);
  expect(events()).toEqual(['credentials-expired', 'login-failed']);
});
