import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createServer } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { cookieOf, ManagedBackend } from './managed-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'session-api-'));
const OTHER = 'o'.repeat(40);
writeFileSync(join(folder, 'other'), `${OTHER}\n`);
afterAll(() => rmSync(folder, { recursive: true }));

const store = new MemoryStore();
let backend: ManagedBackend;
let token: string;
let cookie: string;
let sid: string;

beforeAll(async () => {
  const upstream = { controlsSession: true, sessionApi: true };
  backend = await ManagedBackend.start(upstream, url => ({
    dataFolder: folder,
    session: { store, attributes: { 'app:report': 'apart' } },
    internal: { port: 0, hosts: ['Gateway.internal'] },
    maxBodySize: '2KiB',
    upstreams: {
      app: { servers: [url], ...upstream },
      other: { servers: [url], sessionApi: { tokenFile: join(folder, 'other') } },
      elsewhere: { servers: [url], sessionApi: { tokenFile: join(folder, 'elsewhere') } },
    },
    routes: [
      { path: '/*', upstream: 'app' },
      { path: '/other/*', upstream: 'other' },
      { mount: '/m', application: { session: {}, routes: [{ path: '/*', upstream: 'elsewhere' }] } },
    ],
  }));
  token = readFileSync(join(folder, 'keys/session-api-app.token'), 'utf8').trim();
  cookie = await backend.signIn('alice');
  await backend.ask({}, { cookie });
  sid = backend.told['x-session-id'] as string;
});
afterAll(() => backend[Symbol.asyncDispose]());

writeFileSync(join(folder, 'elsewhere'), 'e'.repeat(40));

async function api(
  method: string,
  path: string,
  init: RequestInit & { token?: string; headers?: Record<string, string> } = {},
) {
  const answer = await fetch(`${backend.server.internalUrl}/sessions/${path}`, {
    ...init,
    method,
    headers: {
      authorization: `Bearer ${init.token ?? token}`,
      ...(init.body !== undefined && { 'content-type': 'application/json' }),
      ...init.headers,
    },
  });
  const body = await answer.text();
  return {
    status: answer.status,
    etag: answer.headers.get('etag') ?? undefined,
    headers: answer.headers,
    json: body === '' ? undefined : JSON.parse(body),
  };
}

describe('a backend with its token', () => {
  test('learns of a session whose it is, and never its secret', async () => {
    const { status, json, headers } = await api('GET', sid);
    expect([status, headers.get('content-type'), headers.get('cache-control')]).toEqual([
      200,
      'application/json',
      'no-store',
    ]);
    expect(json).toEqual({
      sid,
      owner: { name: 'alice', roles: ['user', 'admin'] },
      createdAt: expect.any(Number),
      lastAccessedAt: expect.any(Number),
      idleTimeoutMs: 1_800_000,
      absoluteExpiresAt: expect.any(Number),
      attributes: [],
    });
  });

  test('keeps JSON in it, which handlers find in the scope of its name', async () => {
    const value = JSON.stringify({ items: [1, 2.5, 'drei', null, true], nested: { __proto__x: '\ud800é' }, 7: [] });
    const put = await api('PUT', `${sid}/attributes/cart`, { body: value });
    expect(put.status).toBe(201);
    const got = await api('GET', `${sid}/attributes/cart`);
    expect([got.status, got.json, got.etag]).toEqual([200, JSON.parse(value), put.etag]);
    expect(await backend.server.sessions.access(sid, session => session.get('app:cart'))).toEqual(JSON.parse(value));
    expect((await api('PUT', `${sid}/attributes/cart`, { body: '"small"' })).status).toBe(204);
    // Any text is a name: slashes and dots are escaped in the path.
    expect((await api('PUT', `${sid}/attributes/${encodeURIComponent('../a/ü ?')}`, { body: '0' })).status).toBe(201);
    expect((await api('GET', sid)).json.attributes.sort()).toEqual(['../a/ü ?', 'cart']);
    expect((await api('DELETE', `${sid}/attributes/cart`)).status).toBe(204);
    for (const method of ['GET', 'DELETE'])
      expect((await api(method, `${sid}/attributes/cart`)).json).toMatchObject({ code: 'ERR_API_NOT_FOUND' });
  });

  test('reads and changes one that lies apart by its name, and others without it', async () => {
    const name = `${sid}/attributes/report`;
    expect((await api('GET', name)).status).toBe(404);
    const put = await api('PUT', name, { body: '["large"]' });
    expect(put.status).toBe(201);
    const got = await api('GET', name);
    expect([got.status, got.json, got.etag]).toEqual([200, ['large'], put.etag]);
    expect((await api('GET', sid)).json.attributes).toContain('report');
    expect((await api('PUT', name, { body: '["larger"]', headers: { 'if-match': put.etag! } })).status).toBe(204);
    await backend.server.sessions.access(sid, async session => {
      expect(() => session.get('app:report' as never)).toThrow('not loaded');
      expect(await session.load('app:report' as never)).toEqual(['larger']);
    });
    expect((await api('DELETE', name)).status).toBe(204);
    expect((await api('GET', name)).status).toBe(404);
  });

  test('changes only what is as it has seen it', async () => {
    const name = `${sid}/attributes/counter`;
    const first = await api('PUT', name, { body: '1', headers: { 'if-none-match': '*' } });
    expect(first.status).toBe(201);
    expect((await api('PUT', name, { body: '1', headers: { 'if-none-match': '*' } })).status).toBe(412);
    expect((await api('GET', name, { headers: { 'if-none-match': first.etag! } })).status).toBe(304);
    // Of those who have seen the same value, one is first.
    const tries = await Promise.all(
      ['2', '3', '4', '5'].map(body => api('PUT', name, { body, headers: { 'if-match': `"other", ${first.etag}` } })),
    );
    expect(tries.map(({ status }) => status).sort()).toEqual([204, 412, 412, 412]);
    expect(tries.find(({ status }) => status === 412)!.json.code).toBe('ERR_API_PRECONDITION_FAILED');
    const now = await api('GET', name);
    expect(now.etag).toBe(tries.find(({ status }) => status === 204)!.etag);
    expect((await api('DELETE', name, { headers: { 'if-match': first.etag! } })).status).toBe(412);
    expect((await api('DELETE', name, { headers: { 'if-match': now.etag! } })).status).toBe(204);
    expect((await api('PUT', name, { body: '1', headers: { 'if-match': '*' } })).status).toBe(412);
  });

  test('changes no value that JSON has no form for, unless it takes any', async () => {
    const name = `${sid}/attributes/big`;
    await backend.server.sessions.access(sid, session =>
      session.scope('app' as never).set('big' as never, 1n as never),
    );
    const put = (headers: Record<string, string>) => api('PUT', name, { body: '1', headers });
    expect((await put({ 'if-match': '"seen"' })).status).toBe(412);
    expect((await put({ 'if-none-match': '*' })).status).toBe(412);
    expect((await put({ 'if-match': '*' })).status).toBe(204);
  });

  test('sees no attribute of another upstream or of handlers, and no session that none of its routes has', async () => {
    await api('PUT', `${sid}/attributes/private`, { body: '1' });
    await backend.server.sessions.access(sid, session => session.set('theirs', 1));
    expect((await api('GET', `${sid}/attributes/private`, { token: OTHER })).status).toBe(404);
    expect((await api('GET', sid, { token: OTHER })).json.attributes).toEqual([]);
    for (const name of ['theirs', 'app:private', '%3Atheirs', 'other:x'])
      expect((await api('GET', `${sid}/attributes/${name}`)).status).toBe(404);
    expect((await api('GET', sid, { token: 'e'.repeat(40) })).status).toBe(404);
  });

  test('does not keep a session alive by asking for it', async () => {
    const clock = new FakeClock();
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        dataFolder: folder,
        internal: { port: 0 },
        upstreams: { app: { servers: ['http://127.0.0.1:1'], sessionApi: true } },
        routes: [
          { path: '/*', upstream: 'app' },
          { path: '/open', fetch: async request => new Response((await server.sessions.open(request)).id) },
        ],
        log: { level: 'silent' },
      },
      { clock },
    );
    await server.start();
    const one = await (await fetch(`${server.urls[0]}/open`)).text();
    const ask = async (path: string, method = 'GET', body: string | null = null) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      return (await fetch(`${server.internalUrl}/sessions/${one}${path}`, { method, headers, body })).status;
    };
    await clock.advance(20 * 60_000);
    expect([await ask(''), await ask('/attributes/a', 'PUT', '1'), await ask('/attributes/a')]).toEqual([
      200, 201, 200,
    ]);
    await clock.advance(11 * 60_000);
    expect([await ask(''), await ask('/attributes/a')]).toEqual([404, 404]);
    await server.stop({ drain: 0 });
  });

  test('ends a session, with its sockets, if it controls sessions', async () => {
    const own = await backend.signIn('bob');
    const client = new WebSocket(backend.url.replace('http', 'ws'), { headers: { cookie: own, origin: backend.url } });
    const closed = new Promise(resolve => client.on('close', resolve));
    await new Promise(resolve => client.on('open', resolve));
    const bobs = backend.told['x-session-id'] as string;
    expect((await api('DELETE', bobs, { token: OTHER })).json.code).toBe('ERR_API_FORBIDDEN');
    expect((await api('DELETE', bobs)).status).toBe(204);
    expect(await closed).toBe(1008);
    expect((await api('DELETE', bobs)).status).toBe(404);
    expect((await api('PUT', `${bobs}/attributes/a`, { body: '1' })).status).toBe(404);
  });

  test('can ask for a session that the very request has made, before it has answered', async () => {
    const answer = await backend.ask({}, { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
    const fresh = backend.told['x-session-id'] as string;
    expect(cookieOf(answer)).toBeDefined();
    // The store has been given it, whatever became of the answer.
    expect((await api('GET', fresh)).json.owner).toBeUndefined();
    const seen: number[] = [];
    const inner = await ManagedBackend.start({ sessionApi: true }, { dataFolder: folder, internal: { port: 0 } });
    await using _ = inner;
    inner.whenAsked = async ({ headers }) => {
      const url = `${inner.server.internalUrl}/sessions/${headers['x-session-id']}`;
      seen.push((await fetch(url, { headers: { authorization: `Bearer ${token}` } })).status);
    };
    await inner.ask({}, { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
    expect(seen).toEqual([200]);
  });

  test('is told what is wrong', async () => {
    const name = `${sid}/attributes/a`;
    const body = '1';
    const cases: [string, string, Parameters<typeof api>[2], number, string][] = [
      ['GET', 'short', {}, 404, 'ERR_API_NOT_FOUND'],
      ['GET', `${'x'.repeat(22)}`, {}, 404, 'ERR_API_NOT_FOUND'],
      ['GET', `${sid}/attributes`, {}, 404, 'ERR_API_NOT_FOUND'],
      ['GET', `${sid}/attributes/a/b`, {}, 404, 'ERR_API_NOT_FOUND'],
      ['GET', `${sid}/%ff`, {}, 400, 'ERR_API_BAD_REQUEST'],
      ['POST', name, { body }, 405, 'ERR_API_BAD_REQUEST'],
      ['PUT', sid, { body }, 405, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body, headers: { 'content-type': 'text/plain' } }, 415, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body: '{' }, 400, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body: '1e999' }, 400, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body: '['.repeat(900) + ']'.repeat(900) }, 400, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body: Buffer.from([0x22, 0xff, 0x22]) }, 400, 'ERR_API_BAD_REQUEST'],
      ['PUT', name, { body: JSON.stringify('x'.repeat(2_048)) }, 413, 'ERR_HTTP_BODY_TOO_LARGE'],
      ['PUT', `${sid}/attributes/${'n'.repeat(201)}`, { body }, 400, 'ERR_API_BAD_REQUEST'],
    ];
    for (const [method, path, init, status, code] of cases) {
      const answer = await api(method, path, init);
      expect([path, answer.status, answer.json]).toEqual([path, status, { code, message: expect.any(String) }]);
    }
    await backend.server.sessions.access(sid, session => session.set('app:map', new Map([[1, 2]])));
    expect((await api('GET', `${sid}/attributes/map`)).status).toBe(406);
  });

  test('gets 503, and not "no session", while the store is away', async () => {
    const { glance, read } = store;
    const away = () => Promise.reject(new Error('away'));
    Object.assign(store, { glance: away, read: away });
    for (const path of [sid, `${sid}/attributes/a`]) {
      const answer = await api('GET', path);
      expect([answer.status, answer.json.code]).toEqual([503, 'ERR_SESSION_STORE_UNAVAILABLE']);
      expect(answer.headers.get('retry-after')).toBe('5');
    }
    Object.assign(store, { glance, read });
  });
});

describe('the internal listener', () => {
  test('lets nobody in without a good token, and says so in the log now and then, without it', async () => {
    for (const wrong of ['', 'x'.repeat(43), token.slice(0, -1), `${token}x`]) {
      const answer = await api('GET', sid, { token: wrong });
      expect([answer.status, answer.json.code]).toEqual([401, 'ERR_API_UNAUTHORIZED']);
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
    const noted = backend.log.filter(({ fields }) => fields.event === 'wrong-api-token');
    expect(noted).toHaveLength(1);
    expect(JSON.stringify(backend.log)).not.toContain(token.slice(0, 20));
  });

  test('keeps its token in a file of its own that only its user can read', async () => {
    expect(token).toMatch(/^[\w-]{43}$/);
    expect(statSync(join(folder, 'keys/session-api-app.token')).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(folder, 'keys')).filter(name => /token\./.test(name))).toEqual([]);
  });

  test('is not for browsers: neither a page of another host nor a name that leads here gets in', async () => {
    const status = (headers: Record<string, string>) =>
      new Promise<number>((resolve, reject) => {
        const { port } = new URL(backend.server.internalUrl!);
        const options = { port, host: '127.0.0.1', path: `/sessions/${sid}` };
        http
          .get({ ...options, headers: { authorization: `Bearer ${token}`, ...headers } }, answer => {
            text(answer).then(() => resolve(answer.statusCode!), reject);
          })
          .on('error', reject);
      });
    for (const host of ['127.0.0.1', 'localhost:1', '[::1]:80', 'gateway.internal:9902', '10.0.0.1'])
      expect([host, await status({ host })]).toEqual([host, 200]);
    for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example'])
      expect([host, await status({ host })]).toEqual([host, 403]);
    expect(await status({ origin: 'http://localhost' })).toBe(403);
    expect(await status({ 'sec-fetch-site': 'none' })).toBe(403);
    const preflight = await fetch(`${backend.server.internalUrl}/sessions/${sid}`, { method: 'OPTIONS' });
    expect(preflight.headers.get('access-control-allow-origin')).toBeNull();
  });

  test('is not part of the public ones, and serves nothing else', async () => {
    await api('GET', sid);
    const asked = backend.seen.length;
    expect((await backend.ask({}, {}, `/sessions/${sid}`)).status).toBe(200);
    expect(backend.seen).toHaveLength(asked + 1);
    for (const path of ['/', '/.well-known/jwks.json', '//sessions/x'])
      expect((await fetch(backend.server.internalUrl + path)).status).toBe(404);
  });

  test('speaks TLS and HTTP/2 when it is told to', async () => {
    const tls = writeSelfSignedCertificate(folder);
    const config = { dataFolder: folder, internal: { port: 0, tls } };
    await using secure = await ManagedBackend.start({ sessionApi: true, assertion: true }, config);
    expect(secure.server.internalUrl).toMatch(/^https:/);
    using client = new Http2Client(secure.server.internalUrl!);
    expect((await client.get('/.well-known/jwks.json')).status).toBe(200);
    const put = {
      ':method': 'PUT',
      ':path': `/sessions/${'x'.repeat(22)}/attributes/a`,
      'content-type': 'application/json',
    };
    expect((await client.request({ ...put, authorization: `Bearer ${token}` }, '1')).status).toBe(404);
  });

  test('opens with a server that is attached to another one, too, and closes with it', async () => {
    const outer = http.createServer((_, response) => response.end('outer'));
    outer.listen(0, '127.0.0.1');
    const server = createServer({
      dataFolder: folder,
      internal: { port: 0 },
      upstreams: { app: { servers: ['http://127.0.0.1:1'], sessionApi: true } },
      routes: [{ path: '/*', upstream: 'app' }],
      log: { level: 'silent' },
    });
    expect(server.internalUrl).toBeUndefined();
    await server.attach(outer);
    const url = server.internalUrl!;
    expect((await fetch(`${url}/sessions/${sid}`, { headers: { authorization: `Bearer ${token}` } })).status).toBe(404);
    await server.stop({ drain: 0 });
    await expect(fetch(url)).rejects.toThrow();
    outer.close();
  });

  test.each([
    ['too short', 'a b'],
    ['that of another upstream', OTHER],
    ['not there', undefined],
  ])('a token that is %s stops the start', async (_, content) => {
    const file = join(folder, 'bad');
    rmSync(file, { force: true });
    if (content !== undefined) writeFileSync(file, content);
    const server = createServer({
      listen: [{ port: 0 }],
      internal: { port: 0 },
      upstreams: {
        a: { servers: ['http://localhost:1'], sessionApi: { tokenFile: file } },
        b: { servers: ['http://localhost:1'], sessionApi: { tokenFile: join(folder, 'other') } },
      },
      dataFolder: folder,
      log: { level: 'silent' },
    });
    const failure = await server.start().catch(error => error);
    expect(failure).toMatchObject({ code: 'ERR_CONFIG_INVALID' });
    expect(failure.message).not.toContain(OTHER.slice(0, 8));
  });
});
