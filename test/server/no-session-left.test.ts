import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { attachSession, SessionManager } from 'holdfast/session';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// What nobody can come back to is not made: by the question of a browser whether a page of another site may ask, by what
// is refused, and by what is given up before its answer.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-no-session-'));
const certificate = writeSelfSignedCertificate(folder);
writeFileSync(join(folder, 'page.html'), '<p>page</p>');
afterAll(() => rmSync(folder, { recursive: true }));

interface Seen {
  readonly status: number;
  readonly cookies: readonly string[];
}

interface Sent {
  readonly answer: Promise<Seen>;
  /** Gives it up before its answer. */
  reset(): void;
}

interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

type Send = (path: string, asked?: Asked) => Sent;

const NAVIGATION = { 'sec-fetch-dest': 'document', accept: 'text/html' };
const PREFLIGHT = {
  method: 'OPTIONS',
  headers: { origin: 'https://elsewhere.test', 'access-control-request-method': 'PUT' },
};

const overHttp1 =
  (url: string): Send =>
  (path, { method = 'GET', headers = {}, body } = {}) => {
    const { port, hostname: host } = new URL(url);
    const raw = connect({ port: Number(port), host }).on('error', () => {});
    const isSecure = url.startsWith('https:');
    const createConnection = () =>
      isSecure ? connectTls({ socket: raw, rejectUnauthorized: false }).on('error', () => {}) : raw;
    const sent = (isSecure ? https : http)
      .request(new URL(path, url), { createConnection, method, headers })
      .on('error', () => {})
      .end(body);
    const answer = once(sent, 'response').then(async ([response]: http.IncomingMessage[]) => {
      response!.resume().on('error', () => {});
      return { status: response!.statusCode!, cookies: response!.headers['set-cookie'] ?? [] };
    });
    answer.catch(() => {});
    // Sent when the TLS beneath has come to rest.
    return { answer, reset: () => void setTimeout(() => raw.resetAndDestroy(), isSecure ? 20 : 0) };
  };

const overHttp2 =
  (client: Http2Client): Send =>
  (path, { method = 'GET', headers = {}, body } = {}) => {
    const stream = client.open({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    const answer = once(stream, 'response').then(([received]) => {
      stream.resume();
      return { status: received[':status'] as number, cookies: (received['set-cookie'] ?? []) as string[] };
    });
    answer.catch(() => {});
    return { answer, reset: () => stream.close(8) };
  };

interface AnySession {
  set(name: string, value: unknown): void;
  update(name: string, change: (value: unknown) => unknown): Promise<unknown>;
  sync(): Promise<void>;
}

/** What a handler does with a new session before its client leaves, and after. */
type Work = (
  open: () => Promise<AnySession>,
  signIn: () => Promise<unknown>,
  left: () => Promise<void>,
) => Promise<void>;

const ABORTED: Record<string, Work> = {
  'opens one': async (open, _, left) => {
    (await open()).set('n', 1);
    await left();
  },
  'stores one by sync': async (open, _, left) => {
    const session = await open();
    session.set('n', 1);
    await session.sync();
    await left();
    session.set('n', 2);
  },
  'stores one by update': async (open, _, left) => {
    await (await open()).update('n', n => Number(n ?? 0) + 1);
    await left();
  },
  'opens one afterwards': async (open, _, left) => {
    await left();
    const session = await open();
    session.set('n', 1);
    await session.sync();
    await session.update('n', n => Number(n) + 1);
  },
  'signs in': async (_, signIn, left) => {
    await signIn();
    await left();
  },
  'signs in afterwards': async (_, signIn, left) => {
    await left();
    await signIn();
  },
};

/** A handler's end of an exchange that its client gives up. */
class Meeting {
  readonly reached = Promise.withResolvers<void>();
  readonly gone = Promise.withResolvers<void>();
  readonly done = Promise.withResolvers<void>();
}

async function resetBeforeAnswer({ reset }: ReturnType<Send>, meeting: Meeting): Promise<void> {
  await meeting.reached.promise;
  reset();
  await meeting.gone.promise;
  await meeting.done.promise;
  await new Promise(resolve => setTimeout(resolve, 10));
}

async function resetWhileStoring(ask: () => ReturnType<Send>, store: FaultyStore, meeting: Meeting): Promise<void> {
  const isAsked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  store.before = call => {
    if (call !== 'create') return;
    isAsked.resolve();
    return gate.promise;
  };
  const { reset } = ask();
  await isAsked.promise;
  reset();
  await meeting.gone.promise;
  gate.resolve();
  await new Promise(resolve => setTimeout(resolve, 10));
}

async function noneIsLeft(store: FaultyStore): Promise<void> {
  await expect.poll(() => store.count(), { timeout: 4_000 }).toBe(0);
}

describe.each(['HTTP/1', 'TLS', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let server: Server;
  let backend: http.Server;
  let client: Http2Client | undefined;
  let send: Send;
  let meeting: Meeting;
  let work: Work;

  beforeEach(async () => {
    store = new FaultyStore();
    meeting = new Meeting();
    backend = http.createServer((request, response) => {
      if (request.url === '/broken') return void response.destroy();
      meeting.reached.resolve();
      const control = request.headers['x-control'];
      const headers: Record<string, string> = control === undefined ? {} : { 'Holdfast-Session': String(control) };
      if (request.url !== '/slow') return void response.writeHead(200, headers).end('backend');
      response.on('close', meeting.gone.resolve);
      void meeting.gone.promise.then(() => response.writeHead(200, headers).end('backend'));
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    const { port } = backend.address() as AddressInfo;
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol !== 'HTTP/1' && { tls: certificate }) }],
        dataFolder: folder,
        maxBodySize: '1KiB',
        session: { store, cookie: { name: 'sid' }, maxSessionsPerUser: { max: 9, whenReached: 'end-oldest' } },
        upstreams: {
          app: { servers: [`http://127.0.0.1:${port}`], controlsSession: true, maxBodySize: '1KiB' },
          dead: { servers: ['http://127.0.0.1:1'] },
        },
        routes: [
          {
            path: '/made',
            session: 'create',
            fetch: async (request, { session }) => {
              const { gone } = meeting;
              request.signal.addEventListener('abort', () => gone.resolve());
              session!.set('n' as never, 1 as never);
              await session!.update('m' as never, () => 1 as never);
              await request.text();
              return new Response('made');
            },
          },
          {
            path: '/opened',
            fetch: async request => {
              const session = await server.sessions.open(request);
              session.set('n' as never, 1 as never);
              await session.update('n' as never, n => (Number(n) + 1) as never);
              await session.sync();
              await server.sessions.signIn(request, { name: 'ann', roles: [] });
              return Response.json([session.get('n' as never), session.owner?.name]);
            },
          },
          {
            path: '/work',
            fetch: async request => {
              const { gone } = meeting;
              request.signal.addEventListener('abort', () => gone.resolve());
              const open = () => server.sessions.open(request) as unknown as Promise<AnySession>;
              const signIn = () => server.sessions.signIn(request, { name: 'ann', roles: [] });
              try {
                await work(open, signIn, () => {
                  meeting.reached.resolve();
                  return meeting.gone.promise;
                });
              } finally {
                setImmediate(meeting.done.resolve);
              }
              return new Response('done');
            },
          },
          {
            path: '/events',
            session: 'create',
            fetch: () =>
              new Response(new ReadableStream({ start: controller => controller.enqueue(Buffer.from('data: 1\n\n')) })),
          },
          { path: '/thrown', session: 'create', fetch: () => Promise.reject(new Error('thrown')) },
          {
            path: '/forbidden',
            fetch: async request => {
              await server.sessions.open(request);
              throw Object.assign(new Error('limit'), {
                name: 'HoldfastError',
                code: 'ERR_SESSION_USER_LIMIT',
                status: 403,
              });
            },
          },
          { path: '/files/*', session: 'create', files: folder },
          { path: '/backend/*', session: 'create', upstream: 'app', rewrite: '/' },
          { path: '/dead', session: 'create', upstream: 'dead' },
          { path: '/get', session: 'create', methods: ['GET'], fetch: () => new Response() },
          { path: '/pages', session: 'existing', methods: ['GET'], upstream: 'dead' },
          {
            path: '/secret',
            session: 'create',
            policy: { origins: ['https://other.test'] },
            fetch: () => new Response(),
          },
          { endpoint: defineEndpoint({ path: '/socket', accept: () => true }), session: 'create' } as never,
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    const url = server.urls[0]!;
    client = protocol === 'HTTP/2' ? await Http2Client.connect(url) : undefined;
    send = client ? overHttp2(client) : overHttp1(url);
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    meeting.gone.resolve();
    await server.stop({ drain: 0 });
    backend.closeAllConnections();
    backend.close();
  });

  test.each(['/made', '/opened', '/files/page.html', '/backend/x', '/dead', '/socket'])(
    'a preflight of %s makes no session',
    async path => {
      const { status, cookies } = await send(path, PREFLIGHT).answer;
      expect([cookies, await store.count()]).toEqual([[], 0]);
      if (path === '/made' || path === '/opened') expect(status).toBe(200);
      if (path.startsWith('/backend')) expect(status).toBe(200);
      expect(store.calls).not.toContain('create');
    },
  );

  test('any other OPTIONS is a request like others', async () => {
    const { cookies } = await send('/made', { method: 'OPTIONS' }).answer;
    expect([cookies.length, await store.count()]).toEqual([1, 1]);
  });

  test.each([
    ['/none', 404, {}],
    ['/get', 405, { method: 'POST', body: 'x' }],
    ['/secret', 403, { method: 'POST', headers: { origin: 'https://elsewhere.test' }, body: '' }],
    ['/made', 413, { method: 'POST', body: 'x'.repeat(2_000) }],
    ['/made', 501, { method: 'TRACE' }],
    ['/files/none.html', 404, {}],
    ['/files/page.html', 405, { method: 'DELETE' }],
    ['/backend/x', 413, { method: 'POST', body: 'x'.repeat(2_000) }],
    ['/backend/broken', 502, {}],
    ['/dead', 503, {}],
    ['/pages', 503, {}],
    ['/socket', 426, {}],
    ['/forbidden', 403, {}],
  ] as [string, number, Asked][])(
    'what is refused at %s with %d makes no session and sets no cookie',
    async (...row) => {
      const [path, status, asked] = row;
      const seen = await send(path, { ...asked, headers: { ...NAVIGATION, ...asked.headers } }).answer;
      expect(seen).toEqual({ status, cookies: [] });
      await noneIsLeft(store);
    },
  );

  test('a body that is too large once it is read makes none either, whatever its handler has stored before', async () => {
    const headers: Record<string, string> = protocol === 'HTTP/2' ? {} : { 'transfer-encoding': 'chunked' };
    const seen = await send('/made', { method: 'POST', headers, body: 'x'.repeat(2_000) }).answer;
    expect(seen).toEqual({ status: 413, cookies: [] });
    await noneIsLeft(store);
  });

  test('a handler that fails keeps what it has set', async () => {
    const { status, cookies } = await send('/thrown').answer;
    expect([status, cookies.length, await store.count()]).toEqual([500, 1, 1]);
  });

  test.each(Object.keys(ABORTED))(
    'a request that is reset before its answer, whose handler %s, leaves none',
    async what => {
      work = ABORTED[what]!;
      await resetBeforeAnswer(send('/work'), meeting);
      await noneIsLeft(store);
    },
  );

  test('a request that is reset while its session is being stored leaves none', async () => {
    await resetWhileStoring(() => send('/made'), store, meeting);
    expect(store.calls).toContain('create');
    await noneIsLeft(store);
  });

  test('a request to a backend that is reset before its answer leaves none', async () => {
    const { reset } = send('/backend/slow', { headers: { 'x-control': 'renew; user=ann' } });
    await meeting.reached.promise;
    reset();
    await meeting.gone.promise;
    await new Promise(resolve => setTimeout(resolve, 20));
    await noneIsLeft(store);
  });

  test('what was there before stays when a request is reset', async () => {
    const { cookies } = await send('/made').answer;
    work = ABORTED['stores one by sync']!;
    const { reset } = send('/work', { headers: { cookie: cookies[0]!.split(';')[0]! } });
    await meeting.reached.promise;
    reset();
    await meeting.gone.promise;
    await meeting.done.promise;
    expect(await store.count()).toBe(1);
  });

  test('a client that leaves behind the head of its answer keeps its session', async () => {
    const { answer, reset } = send('/events');
    const { cookies } = await answer;
    reset();
    await new Promise(resolve => setTimeout(resolve, 60));
    expect([cookies.length, await store.count()]).toEqual([1, 1]);
  });
});

test('over TLS, a client that resets its first request at the moment at which that is taken leaves none', async () => {
  const store = new FaultyStore();
  const isAborted = Promise.withResolvers<void>();
  let raw: Socket | undefined;
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1', tls: certificate }],
      dataFolder: folder,
      session: { store },
      routes: [
        {
          path: '/',
          session: 'create',
          fetch: async (request, { session }) => {
            request.signal.addEventListener('abort', () => isAborted.resolve());
            // TLS has tickets of its own to write now, and takes the error from what is read.
            raw!.resetAndDestroy();
            await session!.sync();
            await isAborted.promise;
            return new Response();
          },
        },
      ],
    },
    { logger: silentLogger },
  );
  await server.start();
  raw = connect({ port: Number(new URL(server.urls[0]!).port), host: '127.0.0.1' }).on('error', () => {});
  connectTls({ socket: raw, rejectUnauthorized: false })
    .on('error', () => {})
    .write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('no abort')), 2_000));
  await Promise.race([isAborted.promise, late]).finally(() => server.stop({ drain: 0 }));
  await expect.poll(() => store.count()).toBe(0);
});

describe('a client that ends its side behind a whole request', () => {
  test('gets its answer, and its session', async () => {
    const store = new FaultyStore();
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        dataFolder: folder,
        session: { store, cookie: { name: 'sid' } },
        routes: [
          {
            path: '/made',
            session: 'create',
            fetch: async () => {
              await new Promise(resolve => setTimeout(resolve, 30));
              return new Response('made');
            },
          },
        ],
      },
      { logger: silentLogger },
    );
    await server.start();
    const socket = connect({ port: Number(new URL(server.urls[0]!).port), host: '127.0.0.1', allowHalfOpen: true });
    socket.end('GET /made HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*set-cookie: sid=v1/i);
    expect(await store.count()).toBe(1);
    await server.stop({ drain: 0 });
  });
});

describe('a handshake', () => {
  test.each(['/socket', '/relayed'])('at %s that is given up before its 101 leaves no session', async path => {
    const store = new FaultyStore();
    const meeting = new Meeting();
    const backend = http.createServer().on('upgrade', async (request, socket) => {
      socket.on('error', () => {});
      meeting.reached.resolve();
      await meeting.gone.promise;
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(request.headers['sec-websocket-key']!)}\r\n\r\n`,
      );
      setTimeout(() => socket.destroy(), 20);
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        dataFolder: folder,
        session: { store, cookie: { name: 'sid' } },
        upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
        routes: [
          {
            path: '/socket',
            session: 'create',
            endpoint: defineEndpoint({
              path: '/socket',
              async accept({ session }) {
                await session!.sync();
                meeting.reached.resolve();
                await meeting.gone.promise;
                return true;
              },
            }),
          },
          { path: '/relayed', session: 'create', upstream: 'app' },
        ],
      },
      { logger: silentLogger },
    );
    await server.start();
    const { port, host, origin } = new URL(server.urls[0]!);
    const knock = () => {
      const socket = connect({ port: Number(port), host: '127.0.0.1' });
      socket.on('error', () => {});
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nOrigin: ${origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
      );
      return socket;
    };
    const socket = knock();
    await meeting.reached.promise;
    expect(await store.count()).toBe(1);
    socket.resetAndDestroy();
    await new Promise(resolve => setTimeout(resolve, 150));
    meeting.gone.resolve();
    await noneIsLeft(store);
    // One that is not given up has its session.
    const stays = knock();
    const [head] = await once(stays, 'data');
    expect(String(head)).toMatch(/^HTTP\/1\.1 101 [\s\S]*set-cookie: sid=v1/i);
    expect(await store.count()).toBe(1);
    stays.destroy();
    await server.stop({ drain: 0 });
    backend.closeAllConnections();
    backend.close();
  });
});

describe.each(['node:http', 'node:https', 'node:http2'])('in a server of the application, on %s', kind => {
  const tlsFiles = () => ({ key: certificate.key, cert: certificate.certificate });
  let store: FaultyStore;
  let sessions: SessionManager;
  let server: http.Server;
  let client: Http2Client | undefined;
  let send: Send;
  let meeting: Meeting;
  let work: Work;
  let isBroken: boolean;

  beforeEach(async () => {
    store = new FaultyStore();
    meeting = new Meeting();
    isBroken = false;
    sessions = new SessionManager({ store, keys: [KEY], cookie: { name: 'sid' } });
    const handle = async (request: http.IncomingMessage, response: http.ServerResponse) => {
      response.once('close', meeting.gone.resolve);
      attachSession(sessions, request, response);
      const open = () => sessions.open(request) as unknown as Promise<AnySession>;
      const signIn = () => sessions.signIn(request, { name: 'ann', roles: [] });
      await work(open, signIn, () => {
        meeting.reached.resolve();
        return meeting.gone.promise;
      });
      if (isBroken) response.statusMessage = 'broken\r\n';
      response.end('done');
      setImmediate(meeting.done.resolve);
    };
    const fs = await import('node:fs');
    const { key, cert } = tlsFiles();
    const options = { key: fs.readFileSync(key as string), cert: fs.readFileSync(cert as string) };
    server =
      kind === 'node:http'
        ? http.createServer(handle)
        : kind === 'node:https'
          ? https.createServer(options, handle)
          : (http2.createSecureServer(options, handle as never) as unknown as http.Server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const url = `${kind === 'node:http' ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
    client = kind === 'node:http2' ? await Http2Client.connect(url) : undefined;
    send = client ? overHttp2(client) : overHttp1(url);
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    server.closeAllConnections?.();
    server.close();
    await sessions.close();
  });

  test('a preflight works with a session that is not kept', async () => {
    work = async (open, signIn) => {
      const session = await open();
      session.set('n', 1);
      await session.update('n', n => Number(n) + 1);
      await session.sync();
      await signIn();
    };
    const { status, cookies } = await send('/', PREFLIGHT).answer;
    expect([status, cookies, store.calls]).toEqual([200, [], []]);
    expect((await send('/').answer).cookies).toHaveLength(1);
  });

  test.each(Object.keys(ABORTED))(
    'a request that is reset before its answer, whose handler %s, leaves none',
    async what => {
      work = ABORTED[what]!;
      await resetBeforeAnswer(send('/'), meeting);
      await noneIsLeft(store);
    },
  );

  test('a request that is reset while its session is being stored leaves none', async () => {
    work = async open => (await open()).set('n', 1);
    await resetWhileStoring(() => send('/'), store, meeting);
    await noneIsLeft(store);
  });

  test.runIf(kind === 'node:http')('a client that ends its side has a session if it gets its answer', async () => {
    work = async (open, _, left) => {
      await left();
      (await open()).set('n', 1);
    };
    const { port } = server.address() as AddressInfo;
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    socket.end('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await meeting.reached.promise;
    await new Promise(resolve => setTimeout(resolve, 30));
    meeting.gone.resolve();
    let text = '';
    for await (const chunk of socket) text += chunk;
    await meeting.done.promise;
    await new Promise(resolve => setTimeout(resolve, 10));
    expect(await store.count()).toBe(text === '' ? 0 : 1);
  });

  test.skipIf(kind === 'node:http2')('an answer that cannot be written leaves none', async () => {
    work = async open => (await open()).set('n', 1);
    isBroken = true;
    await expect(send('/').answer).rejects.toThrow();
    await noneIsLeft(store);
  });
});
