import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { attachSession, SessionManager } from 'holdfast/session';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// A login replaces the secret at once. Its answer may be lost, and a person clicks twice: the old cookie comes again, and
// signing in with it works.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-sign-in-again-'));
const tls = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

interface Seen {
  readonly status: number;
  /** The session cookie that it sets. */
  readonly cookie: string | undefined;
  readonly body: string;
}

type Ask = (path: string, cookie?: string, headers?: Record<string, string>) => Promise<Seen>;

const cookieIn = (lines: readonly string[]) => lines.find(line => line.startsWith('sid='))?.split(';')[0];

const overHttp1 =
  (url: string): Ask =>
  async (path, cookie, headers = {}) => {
    const options = { agent: false, rejectUnauthorized: false, headers: { ...headers, ...(cookie && { cookie }) } };
    const { request } = url.startsWith('https:') ? await import('node:https') : http;
    const [answer] = (await once(request(new URL(path, url), options).end(), 'response')) as [http.IncomingMessage];
    let body = '';
    for await (const chunk of answer.setEncoding('utf8')) body += chunk;
    return { status: answer.statusCode!, cookie: cookieIn(answer.headers['set-cookie'] ?? []), body };
  };

const overHttp2 =
  (client: Http2Client): Ask =>
  async (path, cookie, headers = {}) => {
    const { status, headers: received, body } = await client.get(path, { ...headers, ...(cookie && { cookie }) });
    return { status, cookie: cookieIn(received['set-cookie'] ?? []), body };
  };

describe.each(['HTTP/1', 'TLS', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let server: Server;
  let backend: http.Server;
  let client: Http2Client | undefined;
  let ask: Ask;

  beforeEach(async () => {
    store = new FaultyStore();
    backend = http.createServer((request, response) => {
      const control = request.headers['x-control'];
      response.writeHead(200, control === undefined ? {} : { 'Holdfast-Session': control });
      response.end(String(request.headers['x-session-id']));
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    const { port } = backend.address() as AddressInfo;
    const signIn = async (request: Request) => {
      const name = new URL(request.url).searchParams.get('name') ?? 'ann';
      const session = await server.sessions.signIn(request, { name, roles: [] });
      return new Response(session.id);
    };
    const show = async (request: Request) => {
      const session = await server.sessions.get(request);
      return Response.json([session?.id, session?.owner?.name, session?.get('cart' as never)]);
    };
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol !== 'HTTP/1' && { tls }) }],
        dataFolder: folder,
        session: { store, cookie: { name: 'sid' } },
        upstreams: { app: { servers: [`http://127.0.0.1:${port}`], controlsSession: true } },
        routes: [
          { path: '/sign-in', fetch: signIn },
          { path: '/sign-in-made', session: 'create', fetch: signIn },
          {
            path: '/sign-in-and-fill',
            session: 'create',
            fetch: async (request, { session }) => {
              await signIn(request);
              session!.set('cart' as never, 5 as never);
              return new Response(`${session!.owner?.name} ${session!.get('cart' as never)}`);
            },
          },
          { path: '/show', fetch: show },
          {
            path: '/page',
            session: 'create',
            fetch: (_request, { session, user }) =>
              Response.json({
                user: user?.name ?? 'nobody',
                owner: session!.owner ?? 'nobody',
                cart: session!.scope('shop').get('cart' as never) ?? session!.get('cart' as never) ?? 'empty',
                keys: [...session!.keys(), session!.has('cart' as never)],
                session,
              }),
          },
          {
            path: '/page/:action',
            session: 'create',
            fetch: async (_request, { session, params }) => {
              const act: Record<string, () => unknown> = {
                id: () => session!.id,
                set: () => session!.set('cart' as never, 4 as never),
                delete: () => session!.delete('cart' as never),
                idle: () => {
                  session!.idleTimeoutMs = 5;
                },
                update: () => session!.update('cart' as never, () => 4 as never),
                sync: () => session!.sync(),
                renew: () => session!.renew(),
                end: () => session!.invalidate(),
              };
              const { action } = params;
              await act[action!]!();
              return new Response();
            },
          },
          {
            path: '/fill',
            fetch: async request => {
              const session = await server.sessions.open(request);
              session.set('cart' as never, 3 as never);
              return new Response('filled');
            },
          },
          { path: '/backend', upstream: 'app' },
          { path: '/backend-made', session: 'create', upstream: 'app' },
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    const url = server.urls[0]!;
    client = protocol === 'HTTP/2' ? await Http2Client.connect(url) : undefined;
    ask = client ? overHttp2(client) : overHttp1(url);
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
    backend.closeAllConnections();
    backend.close();
  });

  /** A cookie of a visitor who has filled a cart, and is not signed in. */
  const visitor = async () => (await ask('/fill')).cookie!;
  const shown = async (cookie: string | undefined) => JSON.parse((await ask('/show', cookie)).body) as unknown[];
  const renewFor = (name: string) => ({ 'x-control': `renew; user=${name}` });

  test.each([
    ['/sign-in', {}],
    ['/sign-in-made', {}],
    ['/backend', renewFor('ann')],
    ['/backend-made', renewFor('ann')],
  ])(
    'a login at %s whose answer was lost is done again with the old cookie, in a new session',
    async (path, headers) => {
      const old = await visitor();
      const first = await ask(path, old, headers); // lost
      const second = await ask(path, old, headers);
      expect([first.status, second.status]).toEqual([200, 200]);
      const [one, two] = [await shown(first.cookie), await shown(second.cookie)];
      // Nothing of the first one is given away, and it lives on.
      expect(one.slice(1)).toEqual(['ann', 3]);
      expect(two.slice(1)).toEqual(['ann', null]);
      expect(two[0]).not.toBe(one[0]);
      expect(await shown(old)).toEqual([null, null, null]);
    },
  );

  test.each([
    ['/sign-in', {}],
    ['/sign-in-made', {}],
    ['/backend', renewFor('ann')],
    ['/backend-made', renewFor('ann')],
  ])('a double click at %s signs in twice', async (path, headers) => {
    const old = await visitor();
    const answers = await Promise.all([1, 2, 3].map(() => ask(path, old, headers)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const seen = await Promise.all(answers.map(({ cookie }) => shown(cookie)));
    expect(seen.map(([, owner]) => owner)).toEqual(['ann', 'ann', 'ann']);
    expect(new Set(seen.map(([sid]) => sid)).size).toBe(3);
    // One of them has the cart.
    expect(seen.filter(([, , cart]) => cart === 3)).toHaveLength(1);
  });

  test.each([
    ['/sign-in', '/sign-in?name=bob'],
    ['/sign-in-made', '/sign-in-made?name=bob'],
  ])('another user with the dead cookie ends nothing at %s', async (ann, bob) => {
    const old = await visitor();
    const first = await ask(ann, old);
    const second = await ask(bob, old);
    expect(second.status).toBe(200);
    expect((await shown(first.cookie)).slice(1)).toEqual(['ann', 3]);
    expect((await shown(second.cookie)).slice(1)).toEqual(['bob', null]);
  });

  test('what only opens a session is still a conflict with the dead cookie, and sets no other', async () => {
    const old = await visitor();
    await ask('/sign-in', old);
    for (const [path, headers] of [
      ['/fill', {}],
      ...['id', 'set', 'delete', 'idle', 'update', 'sync', 'renew', 'end'].map(name => [`/page/${name}`, {}] as const),
      ['/backend', { 'x-control': 'renew' }],
    ] as const) {
      const { status, cookie } = await ask(path, old, headers);
      expect([path, status, cookie]).toEqual([path, 409, undefined]);
    }
    expect(await store.count()).toBe(1);
  });

  test('a page that reads its session, as one with the login form may, finds nothing in it with the dead cookie', async () => {
    const old = await visitor();
    expect(JSON.parse((await ask('/page', old)).body)).toMatchObject({ owner: 'nobody', cart: 3 });
    await ask('/sign-in', old);
    const { status, cookie, body } = await ask('/page', old);
    expect([status, cookie]).toEqual([200, undefined]);
    expect(JSON.parse(body)).toEqual({ user: 'nobody', owner: 'nobody', cart: 'empty', keys: [false], session: {} });
    expect(await store.count()).toBe(1);
  });

  test('a handler that signs in with the dead cookie goes on with the session that it was given', async () => {
    const old = await visitor();
    await ask('/sign-in', old);
    const { status, cookie, body } = await ask('/sign-in-and-fill', old);
    expect([status, body]).toEqual([200, 'ann 5']);
    expect((await shown(cookie)).slice(1)).toEqual(['ann', 5]);
  });

  test('a login of a visitor whose session has just ended begins another', async () => {
    const old = await visitor();
    const [sid] = (await shown(old)) as [string];
    let isEnded = false;
    store.before = async call => {
      if (call !== 'commit' || isEnded) return;
      isEnded = true;
      await server.sessions.end(sid, 'logout');
    };
    const { status, cookie } = await ask('/sign-in', old);
    expect(status).toBe(200);
    expect((await shown(cookie)).slice(1)).toEqual(['ann', null]);
  });
});

describe('a handshake', () => {
  test.each(['auto', 'create'] as const)('with a dead cookie signs in, session: %s', async session => {
    const store = new FaultyStore();
    let isLogin = true;
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        dataFolder: folder,
        session: { store, cookie: { name: 'sid' } },
        routes: [
          {
            path: '/socket',
            session,
            endpoint: defineEndpoint({
              path: '/socket',
              async accept(handshake) {
                if (isLogin) await server.sessions.signIn(handshake, { name: 'ann', roles: [] });
                return true;
              },
              onOpen: connection => void connection.send(`${connection.user?.name} ${connection.session?.owner?.name}`),
            }),
          },
          { path: '/open', session: 'create', fetch: () => new Response() },
        ],
      },
      { logger: silentLogger },
    );
    await server.start();
    const url = server.urls[0]!;
    const old = (await overHttp1(url)('/open')).cookie!;
    const connect = async () => {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/socket`, { origin: url, headers: { cookie: old } });
      const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode as number);
      refused.catch(() => {});
      socket.on('error', () => {});
      const greeting = once(socket, 'message').then(([data]) => String(data));
      greeting.catch(() => {});
      const outcome = await Promise.race([refused, greeting]);
      socket.terminate();
      return outcome;
    };
    expect([await connect(), await connect()]).toEqual(['ann ann', 'ann ann']);
    isLogin = false;
    expect(await connect()).toBe(session === 'create' ? 409 : 'undefined undefined');
    await server.stop({ drain: 0 });
  });
});

test('a relayed handshake with a dead cookie signs in, and is refused where it does not and its route makes sessions', async () => {
  const backend = http.createServer();
  backend.on('upgrade', (request, socket) => {
    const control = request.headers['x-control'];
    const accepted = acceptKey(request.headers['sec-websocket-key']!);
    const lines = ['Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accepted}`];
    if (control) lines.push(`Holdfast-Session: ${String(control)}`);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`);
    socket.on('error', () => {}).resume();
  });
  await once(backend.listen(0, '127.0.0.1'), 'listening');
  const { port } = backend.address() as AddressInfo;
  const app = { servers: [`http://127.0.0.1:${port}`], controlsSession: true };
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: { store: new FaultyStore(), cookie: { name: 'sid' } },
      upstreams: { app },
      routes: [
        { path: '/made', session: 'create', upstream: 'app' },
        { path: '/found', session: 'existing', upstream: 'app' },
        {
          path: '/sign-in',
          session: 'create',
          fetch: async request => {
            await server.sessions.signIn(request, { name: 'ann', roles: [] });
            return new Response();
          },
        },
        { path: '/open', session: 'create', fetch: () => new Response() },
      ],
    },
    { logger: silentLogger },
  );
  await server.start();
  const url = server.urls[0]!;
  const old = (await overHttp1(url)('/open')).cookie!;
  await overHttp1(url)('/sign-in', old);
  const connect = async (path: string, control?: string) => {
    const headers = { cookie: old, ...(control && { 'x-control': control }) };
    const socket = new WebSocket(url.replace('http', 'ws') + path, { origin: url, headers }).on('error', () => {});
    const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode as number);
    refused.catch(() => {});
    const opened = once(socket, 'open').then(() => 101);
    opened.catch(() => {});
    const outcome = await Promise.race([refused, opened]);
    socket.terminate();
    return outcome;
  };
  expect([
    await connect('/made'),
    await connect('/made', 'end'),
    await connect('/made', 'renew; user=ann'),
    await connect('/found'),
  ]).toEqual([409, 409, 101, 101]);
  await server.stop({ drain: 0 });
  backend.closeAllConnections();
  backend.close();
});

describe('in a server of the application, by attachSession', () => {
  test.each(['end-of-request', 'manual', { everyMs: 1_000 }] as const)(
    'a lost login, a double click and another user, writing %j',
    async write => {
      const sessions = new SessionManager({ store: new FaultyStore(), keys: [KEY], cookie: { name: 'sid' }, write });
      const server = http.createServer(async (request, response) => {
        attachSession(sessions, request, response);
        const name = new URL(request.url!, 'http://localhost').searchParams.get('name');
        try {
          const session = name
            ? await sessions.signIn(request, { name, roles: [] })
            : request.url === '/open'
              ? await sessions.open(request)
              : await sessions.get(request);
          response.end(JSON.stringify([session?.id, session?.owner?.name]));
        } catch (error) {
          response.writeHead((error as { status?: number }).status ?? 500).end('[]');
        }
      });
      await once(server.listen(0, '127.0.0.1'), 'listening');
      const ask = overHttp1(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
      const owner = async (cookie: string | undefined) => JSON.parse((await ask('/', cookie)).body)[1];
      const old = (await ask('/open')).cookie!;
      const answers = await Promise.all(['ann', 'bob', 'ann'].map(name => ask(`/?name=${name}`, old)));
      answers.push(await ask('/?name=bob', old));
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
      expect(await Promise.all(answers.map(({ cookie }) => owner(cookie)))).toEqual(['ann', 'bob', 'ann', 'bob']);
      expect(await owner(old)).toBeNull();
      server.closeAllConnections();
      server.close();
      await sessions.close();
    },
  );
});
