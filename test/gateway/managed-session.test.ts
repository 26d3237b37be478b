import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { MemoryStore } from 'holdfast/session';
import { afterAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { type Answer, cookieOf, ManagedBackend } from './managed-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'managed-'));
const tls = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

const control = (value: string): Answer => ({ headers: { 'Holdfast-Session': value } });

/** A relayed WebSocket, with the cookie that its 101 sets and how it closes. */
async function socket(backend: ManagedBackend, answer: Answer, cookie?: string) {
  backend.answer = answer;
  const client = new WebSocket(backend.url.replace('http', 'ws'), {
    headers: { ...(cookie !== undefined && { cookie }), origin: backend.url },
  });
  const closed = once(client, 'close').then(([code]) => code as number);
  const [response] = await Promise.all([once(client, 'upgrade'), once(client, 'open')]);
  const headers = new Headers((response[0].headers['set-cookie'] ?? []).map((line: string) => ['set-cookie', line]));
  return { client, closed, headers, raw: response[0].headers };
}

describe('what a backend is told', () => {
  test('is who owns the session, encoded so that no name is more than a name', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const cookie = await backend.signIn('alice');
    await backend.ask({}, { cookie });
    expect(backend.told).toMatchObject({ 'x-forwarded-user': 'alice', 'x-forwarded-groups': 'user,admin' });
    expect(backend.told['x-session-id']).toMatch(/^[\w-]{22}$/);
    expect(backend.told.cookie).toBeUndefined();

    const other = cookieOf(
      await backend.ask(control('renew; user=%"J%c3%bcrgen, 100%25%0d%0aX: y"; roles=%"a b%c3%a9"')),
    )!;
    await backend.ask({}, { cookie: other });
    expect(backend.told['x-forwarded-user']).toBe('J%C3%BCrgen%2C%20100%25%0D%0AX:%20y');
    expect(decodeURIComponent(backend.told['x-forwarded-user'] as string)).toBe('Jürgen, 100%\r\nX: y');
    expect(backend.told['x-forwarded-groups']).toBe('a%20b%C3%A9');
  });

  test('is never what a client says, over HTTP/1.1, HTTP/2 and in a handshake, in whatever spelling', async () => {
    await using backend = await ManagedBackend.start(
      { controlsSession: true, userHeader: 'X-Remote-User' },
      {
        listen: [
          { port: 0, host: '127.0.0.1' },
          { port: 0, host: '127.0.0.1', tls },
        ],
        trustedProxies: ['127.0.0.1'],
      },
    );
    const lies = {
      'holdfast-session': 'renew; user=admin',
      'x-session-id': 'stolen',
      x_session_id: 'stolen',
      'x-remote-user': 'admin',
      'x-remote_user': 'admin',
      'x-forwarded-groups': 'admin',
      'X.Forwarded.Groups': 'admin',
    };
    await backend.ask({}, lies);
    using client = new Http2Client(backend.server.urls[1]!);
    await client.get('/', lies);
    await (await client.webSocket('/', lies)).terminate();
    const plain = new WebSocket(backend.url.replace('http', 'ws'), { headers: lies });
    await once(plain, 'open');
    plain.terminate();
    expect(backend.seen).toHaveLength(4);
    expect(JSON.stringify(backend.seen)).not.toMatch(/stolen|admin/);

    // And what is ours cannot be taken away by calling it a header of the connection.
    const cookie = await backend.signIn('alice');
    await once(
      new WebSocket(backend.url.replace('http', 'ws'), {
        headers: { cookie, origin: backend.url, connection: 'Upgrade, X-Session-ID, X-Remote-User', ...lies },
      }).on('open', function () {
        this.terminate();
      }),
      'close',
    );
    expect(backend.told).toMatchObject({
      'x-session-id': expect.stringMatching(/^[\w-]{22}$/),
      'x-remote-user': 'alice',
    });
    expect(JSON.stringify(backend.told)).not.toMatch(/stolen|"admin/);
  });

  test('is as configured: other names, or none, and then what a trusted proxy in front says', async () => {
    for (const trustedProxies of [[], ['127.0.0.1']]) {
      await using backend = await ManagedBackend.start(
        { controlsSession: true, userHeader: false, rolesHeader: 'X-Roles' },
        { trustedProxies },
      );
      const cookie = await backend.signIn('alice');
      await backend.ask({}, { cookie, 'X-Forwarded-User': 'by a proxy', 'X-Roles': 'theirs' });
      expect(backend.told['x-forwarded-user']).toBe(trustedProxies[0] && 'by a proxy');
      expect(backend.told['x-roles']).toBe('user,admin');
    }
  });
});

describe('a backend that controls the session', () => {
  test('signs in with an answer of any kind: the session has a new secret, and its answer is private', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const page = await backend.ask({}, { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' });
    const before = cookieOf(page)!;
    const sid = backend.told['x-session-id'] as string;

    const answer = await backend.ask(
      {
        status: 303,
        headers: {
          ...control('renew; user=alice').headers,
          Location: '/home',
          'Cache-Control': 'public, max-age=60',
          'Set-Cookie': ['theme=dark', 'holdfast=forged'],
        },
      },
      { cookie: before },
    );
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/home']);
    expect(answer.headers.get('holdfast-session')).toBeNull();
    expect(answer.headers.get('cache-control')).toBe('private, no-cache');
    expect(answer.headers.getSetCookie()).toHaveLength(2);
    expect(answer.headers.getSetCookie()).toContain('theme=dark');
    const after = cookieOf(answer)!;
    expect(after).not.toBe(before);
    expect(await backend.server.sessions.info(sid)).toMatchObject({ owner: { name: 'alice', roles: [] } });

    await backend.ask({}, { cookie: after });
    expect(backend.told).toMatchObject({ 'x-session-id': sid, 'x-forwarded-user': 'alice' });
    await backend.ask({}, { cookie: before });
    expect(backend.told['x-session-id']).toBeUndefined();
  });

  test('signs somebody else in: that is another session, and the one before is over', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const alices = await backend.signIn('alice');
    const held = await socket(backend, {}, alices);
    const sid = backend.told['x-session-id'] as string;
    const bobs = await backend.signIn('bob', alices);
    expect(await held.closed).toBe(1008);
    await backend.ask({}, { cookie: bobs });
    expect(backend.told['x-forwarded-user']).toBe('bob');
    expect(backend.told['x-session-id']).not.toBe(sid);
    expect(await backend.server.sessions.info(sid)).toBeUndefined();
  });

  test('renews: new secret, same owner; and makes a session where there is none', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const first = cookieOf(await backend.ask(control('renew')))!;
    await backend.ask({}, { cookie: first });
    const sid = backend.told['x-session-id'];
    const second = cookieOf(await backend.ask(control('renew'), { cookie: first }))!;
    await backend.ask({}, { cookie: second });
    expect(backend.told['x-session-id']).toBe(sid);
  });

  test('ends: the cookie is taken away and every socket closes with 1008', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const cookie = await backend.signIn('alice');
    const sockets = [await socket(backend, {}, cookie), await socket(backend, {}, cookie)];
    const answer = await backend.ask(control('end'), { cookie });
    expect(cookieOf(answer)).toMatch(/=$/);
    expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual([1008, 1008]);
    await backend.ask(control('end'), { cookie });
    expect(backend.told['x-session-id']).toBeUndefined();
  });

  test('signs in with a 101: the WebSocket belongs to the session that it has made', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    const held = await socket(backend, control('renew; user=alice'));
    expect(held.raw['holdfast-session']).toBeUndefined();
    const cookie = cookieOf(held)!;
    await backend.ask({}, { cookie });
    expect(backend.told['x-forwarded-user']).toBe('alice');
    // Over a session that it came with: the others of it close, because a login must leave no stranger behind.
    const [others, own] = [held, await socket(backend, control('renew; user=alice; roles=admin'), cookie)];
    expect(await others.closed).toBe(1012);
    await backend.ask(control('end'), { cookie: cookieOf(own)! });
    expect(await own.closed).toBe(1008);
  });

  test('signs in with an answer that declines the upgrade', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    backend.answer = { status: 401, headers: { 'Cache-Control': 'public', ...control('renew; user=alice').headers } };
    const [, answer] = await once(new WebSocket(backend.url.replace('http', 'ws')), 'unexpected-response');
    answer.resume();
    expect([answer.statusCode, answer.headers['cache-control'], answer.headers['holdfast-session']]).toEqual([
      401,
      'private, no-cache',
      undefined,
    ]);
    await backend.ask({}, { cookie: answer.headers['set-cookie'][0].split(';')[0] });
    expect(backend.told['x-forwarded-user']).toBe('alice');
  });

  test('signs in over HTTP/2, on a route that only reads sessions', async () => {
    await using backend = await ManagedBackend.start(
      { controlsSession: true },
      {
        listen: [{ port: 0, host: '127.0.0.1', tls }],
        routes: [{ path: '/*', upstream: 'app', session: 'existing' }],
      },
    );
    using client = new Http2Client(backend.url);
    backend.answer = control('renew; user=alice');
    const { headers } = await client.get('/');
    expect(headers['holdfast-session']).toBeUndefined();
    expect(headers['cache-control']).toBe('private, no-cache');
    const cookie = headers['set-cookie']![0]!.split(';')[0]!;
    expect(cookie).toMatch(/^__Host-holdfast=v1\./);
    backend.answer = {};
    await client.get('/', { cookie });
    expect(backend.told['x-forwarded-user']).toBe('alice');
  });

  test('does no harm when the client, or itself, is gone before the store has answered', async () => {
    const store = new MemoryStore();
    await using backend = await ManagedBackend.start({ controlsSession: true }, { session: { store } });
    const { commit } = store;
    for (const whose of ['client', 'backend'] as const) {
      const cookie = await backend.signIn('alice');
      const isAsked = Promise.withResolvers<void>();
      const mayAnswer = Promise.withResolvers<void>();
      store.commit = async (...args) => {
        isAsked.resolve();
        await mayAnswer.promise;
        return commit.apply(store, args);
      };
      const leaving = new AbortController();
      // A body that never ends: it breaks off with the connection.
      backend.answer = { headers: { ...control('renew').headers, 'Content-Length': '100' } };
      const answer = fetch(backend.url, { headers: { cookie }, signal: leaving.signal }).then(async one =>
        one.status === 502 ? 'broken off' : one.text().then(() => 'whole'),
      );
      answer.catch(() => {});
      await isAsked.promise;
      if (whose === 'client') leaving.abort();
      else backend.breakOff();
      await backend.isBrokenOff;
      for (let i = 0; i < 10; i++) await setImmediate();
      mayAnswer.resolve();
      store.commit = commit;
      // When we have noticed only after the head was passed on, it is what breaks off.
      expect(await answer.catch(() => 'broken off')).toBe('broken off');
    }
    // Each login was asked for once.
    expect(backend.seen).toHaveLength(4);
    expect((await backend.ask({})).status).toBe(200);
    expect(backend.log.filter(({ message }) => message.includes('a request failed'))).toEqual([]);
  });

  test('that has gone before the store has answered opens no WebSocket, and is not waited for', async () => {
    const store = new MemoryStore();
    await using backend = await ManagedBackend.start({ controlsSession: true }, { session: { store } });
    const { create } = store;
    for (const status of [101, 401]) {
      const isAsked = Promise.withResolvers<void>();
      const mayAnswer = Promise.withResolvers<void>();
      store.create = async (...args) => {
        isAsked.resolve();
        await mayAnswer.promise;
        return create.apply(store, args);
      };
      backend.answer = { status, headers: { ...control('renew; user=alice').headers, 'Content-Length': '100' } };
      const client = new WebSocket(backend.url.replace('http', 'ws'));
      const over = Promise.race([
        once(client, 'unexpected-response').then(([, answer]) => {
          answer.resume();
          return once(answer, answer.statusCode === 502 ? 'end' : 'aborted').then(() => 'refused');
        }),
        once(client, 'close').then(() => 'closed'),
        once(client, 'error').then(() => 'cut'),
      ]);
      over.catch(() => {});
      await isAsked.promise;
      backend.breakOff();
      for (let i = 0; i < 10; i++) await setImmediate();
      mayAnswer.resolve();
      store.create = create;
      // Noticed before the 101 is passed on, or right after it: what does not happen is a WebSocket to nobody.
      expect(['refused', 'closed', 'cut']).toContain(await over.catch(() => 'cut'));
    }
  });

  test('is not passed on when what it says of the session cannot be understood', async () => {
    await using backend = await ManagedBackend.start({ controlsSession: true });
    for (const value of ['renew; user=a@b', 'login; user=alice']) {
      const answer = await backend.ask(control(value));
      expect([answer.status, cookieOf(answer), await answer.text()]).toEqual([502, undefined, 'Bad Gateway\n']);
    }
    const twice = { headers: { 'Holdfast-Session': ['renew; user=alice', 'end'] } };
    expect((await backend.ask(twice)).status).toBe(502);
    backend.answer = control('renew; user=');
    const [, answer] = await once(new WebSocket(backend.url.replace('http', 'ws')), 'unexpected-response');
    answer.resume();
    expect(answer.statusCode).toBe(502);
    expect(backend.log.filter(({ level }) => level === 'error')).toHaveLength(4);
    // The backend's mistake, not a sign that it is down.
    expect((await backend.ask({})).status).toBe(200);
  });

  test('finds its login refused, not half done, when the store is away', async () => {
    const store = new MemoryStore();
    await using backend = await ManagedBackend.start({ controlsSession: true }, { session: { store } });
    const cookie = await backend.signIn('alice');
    const commit = store.commit.bind(store);
    const create = store.create.bind(store);
    const away = () => Promise.reject(new Error('away'));
    Object.assign(store, { commit: away, create: away });
    for (const headers of [{}, { cookie }] as Record<string, string>[]) {
      const answer = await backend.ask(control('renew; user=alice; roles=admin'), headers);
      expect([answer.status, answer.headers.getSetCookie()]).toEqual([503, []]);
    }
    backend.answer = control('renew; user=alice; roles=admin');
    const client = new WebSocket(backend.url.replace('http', 'ws'), { headers: { cookie, origin: backend.url } });
    const [, refused] = await once(client, 'unexpected-response');
    refused.resume();
    expect([refused.statusCode, refused.headers['set-cookie']]).toEqual([503, undefined]);
    Object.assign(store, { commit, create });
    await backend.ask({}, { cookie });
    expect(backend.told).toMatchObject({ 'x-forwarded-user': 'alice', 'x-forwarded-groups': 'user,admin' });
  });
});

test('a backend that does not control the session is not heard, and says so once in the log', async () => {
  await using backend = await ManagedBackend.start();
  for (let i = 0; i < 2; i++) {
    const answer = await backend.ask(control('renew; user=alice'));
    expect([answer.status, answer.headers.get('holdfast-session'), cookieOf(answer)]).toEqual([200, null, undefined]);
  }
  await (await socket(backend, control('end'))).client.terminate();
  expect(backend.log.filter(({ message }) => message.includes('Holdfast-Session'))).toHaveLength(1);
});
