import { defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { createTransportPolicy } from '../../src/policy/transport.ts';
import { ask, knock, RawBackend, WiredServer, wires } from '../server/wires.ts';
import { headWith } from './head.ts';

const confidential = createTransportPolicy({ confidential: 'refuse' }, () => 443);

test('confidential takes a client that speaks TLS', () => {
  expect(confidential(headWith({ isSecure: true, isSchemeKnown: true }))).toBeUndefined();
});

test('confidential refuses a plain connection with 403', () => {
  expect(confidential(headWith())).toMatchObject({ allow: false, status: 403, code: 'ERR_POLICY_TRANSPORT' });
});

test('a route that is confidential serves requests and handshakes over TLS and HTTP/2, and refuses plain ones with 403', async () => {
  const policy = { transport: 'confidential' } as const;
  const server = await WiredServer.start({
    routes: [
      { path: '/page', policy, fetch: () => new Response('nobody else reads this') },
      { endpoint: defineEndpoint({ path: '/socket', origins: 'any' }), policy },
    ],
  });
  const seen = await Promise.all(
    wires.map(async wire => [
      wire,
      (await ask(server, wire, { path: '/page', headers: { 'X-Forwarded-Proto': 'https' } })).status,
      (await knock(server, wire, { path: '/socket', headers: { 'X-Forwarded-Proto': 'https' } })).status,
    ]),
  );
  await server.close();
  expect(seen).toEqual([
    ['http/1', 403, 403],
    ['tls', 200, 101],
    ['http/2', 200, 101],
  ]);
});

describe('confidential: redirect', () => {
  const redirect = createTransportPolicy({ confidential: 'redirect' }, () => 8443);
  const place = (changes: Parameters<typeof headWith>[0] = {}) =>
    redirect(headWith({ isUpgrade: false, host: 'example.com:8080', path: '/a%20b', query: 'c=d', ...changes }));

  test.each(['GET', 'HEAD'])('sends %s to the same place by https', method => {
    expect(place({ method })).toMatchObject({
      status: 308,
      code: 'ERR_POLICY_TRANSPORT',
      headers: { Location: 'https://example.com:8443/a%20b?c=d' },
    });
  });

  test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY'])(
    'refuses %s, whose body was sent by then',
    method => {
      expect(place({ method })).toMatchObject({ status: 403, code: 'ERR_POLICY_TRANSPORT' });
    },
  );

  test('refuses a WebSocket, whose client would not follow', () => {
    expect(place({ isUpgrade: true })).toMatchObject({ status: 403 });
  });

  test('takes what comes by https', () => {
    expect(place({ isSecure: true })).toBeUndefined();
    expect(place({ isSecure: true, isUpgrade: true, method: 'GET' })).toBeUndefined();
  });

  test('refuses a request that names no host', () => {
    expect(place({ host: '' })).toMatchObject({ status: 403 });
  });

  test('leaves out the port of https where it is the default one', () => {
    const toDefault = createTransportPolicy({ confidential: 'redirect' }, () => 443);
    expect(toDefault(headWith({ isUpgrade: false, host: '[::1]:8080' }))).toMatchObject({
      headers: { Location: 'https://[::1]/' },
    });
  });

  test.each([{ 'x-forwarded-proto': 'https' }, { forwarded: 'for=203.0.113.7;proto=https' }])(
    'does not send a proxy that is not trusted and says %j round and round',
    headers => {
      expect(place({ headers })).toMatchObject({ status: 403, reason: expect.stringContaining('trustedProxies') });
      expect(place({ headers, isPeerTrusted: true })).toMatchObject({ status: 308 });
    },
  );
});

describe('upgradeInsecureRequests', () => {
  const upgrading = createTransportPolicy({ upgradeInsecureRequests: true }, () => 443);
  const asking = { accept: 'text/html', 'upgrade-insecure-requests': '1' };

  test('sends a navigation that asks for it to https, for this time', () => {
    const decision = upgrading(headWith({ isUpgrade: false, headers: asking }));
    expect(decision).toMatchObject({ status: 307, headers: { Location: 'https://example.com/' } });
  });

  test.each([
    ['does not ask', { headers: { accept: 'text/html' } }],
    ['asks for 0', { headers: { ...asking, 'upgrade-insecure-requests': '0' } }],
    ['is a POST', { method: 'POST', headers: asking }],
    ['is no page', { headers: { ...asking, 'sec-fetch-dest': 'empty' } }],
    ['is a WebSocket', { isUpgrade: true, headers: asking }],
    ['comes by https', { isSecure: true, headers: asking }],
    ['comes by https from a proxy that is not trusted', { headers: { ...asking, 'x-forwarded-proto': 'https' } }],
  ])('serves what %s', (_, changes) => {
    expect(upgrading(headWith({ isUpgrade: false, ...changes }))).toBeUndefined();
  });

  test('goes with confidential: refuse, which refuses the rest', () => {
    const both = createTransportPolicy({ confidential: 'refuse', upgradeInsecureRequests: true }, () => 443);
    expect(both(headWith({ isUpgrade: false, headers: asking }))).toMatchObject({ status: 308 });
    expect(both(headWith({ isUpgrade: false }))).toMatchObject({ status: 403 });
  });
});

describe('on the wires', () => {
  test('a redirecting route sends http to the port of the listener with TLS, and begins no session before', async () => {
    const server = await WiredServer.start({
      session: {},
      policy: { transport: { confidential: 'redirect' } },
      routes: [
        { path: '/page', session: 'create', fetch: () => new Response('hello') },
        { endpoint: defineEndpoint({ path: '/socket', origins: 'any' }) },
      ],
    });
    const seen = await Promise.all(
      wires.map(wire => ask(server, wire, { path: '/page?a=b', host: 'shop.example:80' })),
    );
    const posted = await ask(server, 'http/1', { path: '/page', method: 'POST', body: 'password=1' });
    const knocked = await knock(server, 'http/1', { path: '/socket' });
    const port = server.port('tls');
    await server.close();
    expect(seen.map(({ status }) => status)).toEqual([308, 200, 200]);
    expect(seen[0]!.headers).toMatchObject({
      location: `https://shop.example:${port}/page?a=b`,
      'content-length': '0',
    });
    expect(seen[0]!.headers).not.toHaveProperty('set-cookie');
    for (const { headers } of seen.slice(1)) expect(headers['set-cookie']).toMatch(/; Secure/);
    expect([posted.status, knocked.status]).toEqual([403, 403]);
  });

  test('a session that begins by https behind a trusted proxy has a cookie with Secure, and one by http is sent on before', async () => {
    const server = await WiredServer.start({
      session: {},
      listen: [{ port: 0, host: '127.0.0.1' }],
      trustedProxies: ['127.0.0.1'],
      routes: [
        {
          path: '/page',
          session: 'create',
          policy: { transport: { confidential: 'redirect' } },
          fetch: () => new Response('hello'),
        },
      ],
    });
    const [https, http] = await Promise.all(
      ['https', 'http'].map(proto =>
        ask(server, 'http/1', { path: '/page', host: 'shop.example', headers: { 'X-Forwarded-Proto': proto } }),
      ),
    );
    await server.close();
    expect(https!.status).toBe(200);
    expect(https!.headers['set-cookie']).toMatch(/; Secure/);
    expect(http!.status).toBe(308);
    expect(http!.headers.location).toBe('https://shop.example/page');
    expect(http!.headers).not.toHaveProperty('set-cookie');
  });

  const page = { 'Content-Type': 'text/html; charset=utf-8' };
  const upgrade = { transport: { upgradeInsecureRequests: true } };

  test('pages of handlers and backends by https get the directive beside a policy of their own, and by http vary', async () => {
    const backend = await RawBackend.listen();
    backend.answer = request => {
      const own = request.startsWith('GET /own') ? "Content-Security-Policy: default-src 'self'\r\n" : '';
      const same = request.startsWith('GET /same')
        ? 'Content-Security-Policy: Upgrade-Insecure-Requests ; img-src *\r\n'
        : '';
      const type = request.startsWith('GET /image') ? 'image/png' : 'text/html';
      return `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nVary: Accept\r\n${own}${same}Content-Length: 2\r\n\r\nok`;
    };
    const server = await WiredServer.upstream(backend, {
      routes: [
        { path: '/*', upstream: 'app', policy: upgrade },
        { path: '/handler', policy: upgrade, fetch: () => new Response('ok', { headers: page }) },
        {
          path: '/handler/own',
          policy: upgrade,
          fetch: () => new Response('ok', { headers: { ...page, 'Content-Security-Policy': "img-src 'self'" } }),
        },
        { path: '/handler/json', policy: upgrade, fetch: () => Response.json({}) },
      ],
    });
    const paths = ['/plain', '/own', '/same', '/image', '/handler', '/handler/own', '/handler/json'];
    const policies = (wire: 'tls' | 'http/2') =>
      Promise.all(paths.map(async path => (await ask(server, wire, { path })).headers['content-security-policy']));
    const [overTls, overHttp2] = [await policies('tls'), await policies('http/2')];
    const plain = await Promise.all(paths.map(path => ask(server, 'http/1', { path })));
    await Promise.all([server.close(), backend.close()]);
    expect(overTls).toEqual([
      'upgrade-insecure-requests',
      "default-src 'self', upgrade-insecure-requests",
      'Upgrade-Insecure-Requests ; img-src *',
      undefined,
      'upgrade-insecure-requests',
      "img-src 'self', upgrade-insecure-requests",
      undefined,
    ]);
    expect(overHttp2).toEqual(overTls);
    expect(plain.map(({ headers }) => headers['content-security-policy'])).toEqual([
      undefined,
      "default-src 'self'",
      'Upgrade-Insecure-Requests ; img-src *',
      undefined,
      undefined,
      "img-src 'self'",
      undefined,
    ]);
    expect(plain[0]!.headers.vary).toBe('Accept, Upgrade-Insecure-Requests');
    expect(plain[4]!.headers.vary).toBe('Upgrade-Insecure-Requests');
  });

  test('a page of another origin and a browser that asks for https are told apart by caches', async () => {
    const server = await WiredServer.start({
      routes: [
        {
          path: '/',
          policy: { ...upgrade, origins: ['https://app.example'], cors: true },
          fetch: () => new Response('ok'),
        },
      ],
    });
    const headers = { Accept: 'text/html', 'Upgrade-Insecure-Requests': '1' };
    const [asked, plain] = [await ask(server, 'http/1', { headers }), await ask(server, 'http/1')];
    await server.close();
    expect(asked.status).toBe(307);
    expect([asked.headers.vary, plain.headers.vary]).toEqual([
      'Origin, Upgrade-Insecure-Requests',
      'Origin, Upgrade-Insecure-Requests',
    ]);
  });
});
