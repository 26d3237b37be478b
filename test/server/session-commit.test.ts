import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { type Config, createServer, type Server } from 'holdfast';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { FaultyStore } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// Whatever answers: what has changed in the session is in the store before the client sees the head, and what changes
// after that before it sees the end.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-commit-'));
writeFileSync(join(folder, 'page.html'), '<p>page</p>');
const tls = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

interface AnySession {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
}

/** An answer as a client sees it: the head, then the body as far as it comes. */
interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly stream: Readable;
  /** Undefined: it was cut off. */
  readonly body: Promise<string | undefined>;
  leave(): void;
}

interface Sent {
  readonly answer: Promise<Answer>;
  leave(): void;
}

type Send = (path: string, options?: { cookie?: string; method?: string; headers?: Record<string, string> }) => Sent;

async function whole(stream: Readable, isComplete: () => boolean): Promise<string | undefined> {
  let body = '';
  stream.setEncoding('utf8').on('data', text => {
    body += text;
  });
  await new Promise(resolve => stream.on('end', resolve).on('error', resolve).on('close', resolve));
  return isComplete() ? body : undefined;
}

const overHttp1 =
  (url: string): Send =>
  (path, { cookie, method = 'GET', headers = {} } = {}) => {
    const options = { agent: false, method, headers: { ...headers, ...(cookie && { cookie }) } };
    const request = http.request(new URL(path, url), options).end();
    request.on('error', () => {});
    // With a reset: whether a client that only ends its side has left shows later.
    const leave = () => void request.socket?.resetAndDestroy();
    const answer = once(request, 'response').then(([response]: http.IncomingMessage[]): Answer => {
      const body = whole(response!, () => response!.complete);
      return { status: response!.statusCode!, headers: response!.headers, stream: response!, body, leave };
    });
    answer.catch(() => {});
    return { answer, leave };
  };

const overHttp2 =
  (client: Http2Client): Send =>
  (path, { cookie, method = 'GET', headers = {} } = {}) => {
    const stream = client.open({ ':path': path, ':method': method, ...headers, ...(cookie && { cookie }) });
    const leave = () => stream.close(8);
    const answer = once(stream, 'response').then(([received]): Answer => {
      const body = whole(stream, () => stream.rstCode === 0);
      return { status: received[':status'], headers: received, stream, body, leave };
    });
    answer.catch(() => {});
    return { answer, leave };
  };

describe.each(['HTTP/1', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let server: Server;
  let send: Send;
  let client: Http2Client | undefined;
  let backend: http.Server;
  let backendUrl: string;
  /** What fetch handlers do before they answer. */
  let change: (session: AnySession | undefined, request: Request) => unknown;
  /** Runs while a body is streamed: between its two parts. */
  let whileStreaming: (session: AnySession | undefined) => unknown;
  let isCancelled: boolean;

  beforeAll(async () => {
    backend = http.createServer((request, response) => {
      const control = request.headers['x-control'];
      if (control !== undefined) response.setHeader('Holdfast-Session', control);
      response.setHeader('Cache-Control', 'public, max-age=3600');
      response.setHeader('Set-Cookie', 'theirs=1');
      if (request.url !== '/parts') return void response.end('backend');
      response.write('back');
      setTimeout(() => response.end('end'), 20);
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    backendUrl = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    backend.closeAllConnections();
    backend.close();
  });

  async function start(session: Config['session'] = {}) {
    const answerWith = (type: string, parts: readonly [string, string] | string) => async (request: Request) => {
      const held = (await server.sessions.get(request)) as AnySession | undefined;
      await change(held, request);
      const headers = { 'Content-Type': type, 'X-Mine': '1', 'Cache-Control': 'public, max-age=60' };
      if (typeof parts === 'string') return new Response(parts, { headers });
      const body = new ReadableStream({
        async start(controller) {
          // A head does not wait for its body.
          if (type === 'text/plain') controller.enqueue(Buffer.from(parts[0]));
          await whileStreaming(held);
          try {
            if (type !== 'text/plain') controller.enqueue(Buffer.from(parts[0]));
            controller.enqueue(Buffer.from(parts[1]));
            controller.close();
          } catch {
            // cancelled
          }
        },
        cancel() {
          isCancelled = true;
        },
      });
      return new Response(body, { headers });
    };
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol === 'HTTP/2' && { tls }) }],
        dataFolder: folder,
        session: { store, ...(session as object) },
        upstreams: { app: { servers: [backendUrl], controlsSession: true } },
        routes: [
          { path: '/known', session: 'create', fetch: answerWith('text/plain', 'known') },
          { path: '/streamed', session: 'create', fetch: answerWith('text/plain', ['str', 'eamed']) },
          {
            path: '/events',
            session: 'create',
            fetch: answerWith('text/event-stream', ['data: 1\n\n', 'data: 2\n\n']),
          },
          { path: '/thrown', session: 'create', fetch: () => Promise.reject(new Error('thrown')) },
          {
            path: '/empty',
            session: 'create',
            fetch: async request => {
              await change((await server.sessions.get(request)) as AnySession | undefined, request);
              return new Response(null, { status: 204 });
            },
          },
          { path: '/files/*', session: 'create', files: folder },
          { path: '/moved', session: 'create', redirect: '/known' },
          { path: '/backend/*', session: 'create', upstream: 'app', rewrite: '/' },
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    const url = server.urls[0]!;
    client = protocol === 'HTTP/2' ? await Http2Client.connect(url) : undefined;
    send = client ? overHttp2(client) : overHttp1(url);
  }

  beforeEach(async () => {
    store = new FaultyStore();
    change = () => {};
    whileStreaming = () => new Promise(resolve => setTimeout(resolve, 20));
    isCancelled = false;
    await start();
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
  });

  const BODIES = {
    '/known': 'known',
    '/streamed': 'streamed',
    '/events': 'data: 1\n\ndata: 2\n\n',
    '/empty': '',
    '/files/page.html': '<p>page</p>',
    '/moved': '',
    '/backend/': 'backend',
    '/backend/parts': 'backend',
  } as const;
  const EVERY = Object.keys(BODIES) as (keyof typeof BODIES)[];
  /** Those whose handlers change the session. */
  const HANDLED = ['/known', '/streamed', '/events', '/empty'] as const;
  const STREAMED = ['/streamed', '/events'] as const;

  const ours = ({ headers }: Answer) =>
    [headers['set-cookie'] ?? []].flat().filter(line => !line.startsWith('theirs=') && !/nonce/i.test(line));

  async function cookieOf(path = '/known'): Promise<string> {
    const answer = await send(path).answer;
    await answer.body;
    store.calls.length = 0;
    return ours(answer)[0]!.split(';')[0]!;
  }

  const writes = () => store.calls.filter(call => call === 'create' || call === 'commit');

  async function stored(name: string): Promise<unknown> {
    for await (const sid of store.sids())
      return server.sessions.access(sid, session => (session as unknown as AnySession).get(name));
    return undefined;
  }

  test.each(EVERY)('%s without a change is answered as it is, and nothing is written', async path => {
    const cookie = await cookieOf();
    const answer = await send(path, { cookie }).answer;
    expect(await answer.body).toBe(BODIES[path]);
    expect([ours(answer), writes()]).toEqual([[], []]);
    if (path !== '/moved' && path !== '/empty') expect(answer.headers['cache-control']).toMatch(/^public/);
  });

  test.each(EVERY)('%s with a new session is answered when that is stored, for its client alone', async path => {
    const isAsked = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    store.before = call => {
      if (call !== 'create') return;
      isAsked.resolve();
      return gate.promise;
    };
    let hasHead = false;
    const { answer } = send(path);
    void answer.then(() => {
      hasHead = true;
    });
    await isAsked.promise;
    await new Promise(resolve => setTimeout(resolve, 60));
    expect([hasHead, await store.count()]).toEqual([false, 0]);
    gate.resolve();
    const received = await answer;
    expect(await store.count()).toBe(1);
    expect(ours(received)).toHaveLength(1);
    expect(received.headers['cache-control']).toBe('private, no-cache');
    expect(await received.body).toBe(BODIES[path]);
    expect(writes()).toEqual(['create']);
    if (path.startsWith('/backend')) expect([received.headers['set-cookie']].flat()).toContain('theirs=1');
  });

  test.each(HANDLED)('%s with a change before its head is answered when that is stored', async path => {
    const cookie = await cookieOf();
    change = session => session!.set('visits', 1);
    let isStored = false;
    store.before = call => {
      if (call === 'commit')
        return new Promise(resolve => setTimeout(resolve, 40)).then(() => {
          isStored = true;
        });
    };
    const answer = await send(path, { cookie }).answer;
    expect([isStored, await stored('visits')]).toEqual([true, 1]);
    expect([await answer.body, ours(answer), writes()]).toEqual([BODIES[path], [], ['commit']]);
  });

  test('a backend signs in before the client has the head', async () => {
    const cookie = await cookieOf();
    const headers = { 'x-control': 'renew; user=ann' };
    const answer = await send('/backend/', { cookie, headers }).answer;
    expect([answer.status, ours(answer).length, await answer.body]).toEqual([200, 1, 'backend']);
    expect(answer.headers['cache-control']).toBe('private, no-cache');
    expect(await store.sidsOf('ann')).toHaveLength(1);
  });

  /** The handler of what is streamed changes the session when the client has the head, which the function says. */
  function changesBehindHead(): () => void {
    const hasHead = Promise.withResolvers<void>();
    whileStreaming = async session => {
      await hasHead.promise;
      session!.set('visits', 2);
    };
    return hasHead.resolve;
  }

  test.each(STREAMED)('%s with a change while it is streamed ends when that is stored', async path => {
    const cookie = await cookieOf();
    const sayHasHead = changesBehindHead();
    const answer = await send(path, { cookie }).answer;
    expect(writes()).toEqual([]);
    sayHasHead();
    expect(await answer.body).toBe(BODIES[path]);
    expect([await stored('visits'), writes()]).toEqual([2, ['commit']]);
  });

  test.each(STREAMED)('%s whose change while it is streamed cannot be stored is cut off', async path => {
    const cookie = await cookieOf();
    const sayHasHead = changesBehindHead();
    const answer = await send(path, { cookie }).answer;
    store.failing.add('commit');
    sayHasHead();
    expect([answer.status, await answer.body]).toEqual([200, undefined]);
    store.failing.clear();
    expect(await stored('visits')).toBeUndefined();
  });

  const REFUSED = 'The session could not be saved. Please try again.\n';

  test.each([...EVERY, '/thrown'])('%s whose new session cannot be stored is 503', async path => {
    store.failing.add('create');
    const answer = await send(path).answer;
    expect([answer.status, await answer.body]).toEqual([503, REFUSED]);
    expect(answer.headers).toMatchObject({ 'retry-after': '5', 'cache-control': 'no-store' });
    for (const name of ['x-mine', 'set-cookie', 'location', 'etag', 'last-modified'])
      expect(answer.headers).not.toHaveProperty(name);
    store.failing.clear();
    expect(await store.count()).toBe(0);
    // The same connection of HTTP/2 still serves.
    expect((await send('/known').answer).status).toBe(200);
  });

  test.each(HANDLED)('%s whose change cannot be stored is 503, and the next request is served', async path => {
    const cookie = await cookieOf();
    store.failing.add('commit');
    change = session => session!.set('visits', 1);
    const answer = await send(path, { cookie }).answer;
    expect([answer.status, await answer.body]).toEqual([503, REFUSED]);
    store.failing.clear();
    change = () => {};
    const next = await send(path, { cookie }).answer;
    expect(await next.body).toBe(BODIES[path]);
  });

  test.each(HANDLED)('%s that was refused is not stored when the response has closed', async path => {
    const cookie = await cookieOf();
    let isFirst = true;
    store.before = call => {
      if (call !== 'commit' || !isFirst) return;
      isFirst = false;
      throw new Error('connection refused');
    };
    change = session => session!.set('visits', 1);
    const answer = await send(path, { cookie }).answer;
    expect([answer.status, await answer.body]).toEqual([503, REFUSED]);
    await expect.poll(() => server.sessions.statistics().activeNow).toBe(0);
    await new Promise(resolve => setTimeout(resolve, 20));
    expect([await stored('visits'), writes()]).toEqual([undefined, ['commit']]);
  });

  test('events that nothing has come of yet are refused as well', async () => {
    const cookie = await cookieOf();
    store.failing.add('commit');
    change = session => session!.set('visits', 1);
    whileStreaming = () => new Promise(() => {});
    const answer = await send('/events', { cookie }).answer;
    expect([answer.status, await answer.body]).toEqual([503, REFUSED]);
  });

  test.each(HANDLED)('%s whose change loses against another request is 409', async path => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
    store = new FaultyStore();
    await start({ conflicts: 'reject' });
    const cookie = await cookieOf();
    change = async session => {
      session!.set('visits', 1);
      for await (const sid of store.sids())
        await server.sessions.access(sid, other => (other as unknown as AnySession).set('visits', 3));
    };
    const answer = await send(path, { cookie }).answer;
    expect([answer.status, await answer.body]).toEqual([409, REFUSED]);
    expect(answer.headers).not.toHaveProperty('retry-after');
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(await stored('visits')).toBe(3);
  });

  test.each(EVERY)('%s gives a session in use its new secret', async path => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
    await start({ renewalTimeout: '10ms' });
    const cookie = await cookieOf();
    await new Promise(resolve => setTimeout(resolve, 30));
    const answer = await send(path, { cookie }).answer;
    expect(await answer.body).toBe(BODIES[path]);
    expect(ours(answer)).toHaveLength(1);
    expect(ours(answer)[0]).not.toContain(cookie);
    expect(answer.headers['cache-control']).toBe('private, no-cache');
    expect(writes()).toEqual(['commit']);
  });

  test('an error tells the client its new session, too, and a refusal makes none', async () => {
    for (const [path, status, made] of [
      ['/thrown', 500, 1],
      ['/files/nothing', 404, 0],
    ] as const) {
      const sessions = await store.count();
      const answer = await send(path).answer;
      await answer.body;
      expect([answer.status, ours(answer).length, await store.count()]).toEqual([status, made, sessions + made]);
      if (made) expect(answer.headers['cache-control']).toBe('private, no-cache');
    }
  });

  test('HEAD and a file that has not changed tell it, and have no body', async () => {
    const page = await send('/files/page.html').answer;
    await page.body;
    for (const path of ['/files/page.html', '/known', '/streamed', '/backend/']) {
      const answer = await send(path, { method: 'HEAD' }).answer;
      expect([answer.status, ours(answer).length, await answer.body]).toEqual([200, 1, '']);
      expect(answer.headers['cache-control']).toBe('private, no-cache');
    }
    const head = await send('/files/page.html', { method: 'HEAD' }).answer;
    expect(head.headers['content-length']).toBe('11');
    const headers = { 'If-None-Match': page.headers.etag as string };
    const same = await send('/files/page.html', { headers }).answer;
    expect([same.status, ours(same).length, await same.body]).toEqual([304, 1, '']);
    expect(same.headers).not.toHaveProperty('content-type');
    expect(same.headers).toMatchObject({ etag: page.headers.etag, 'cache-control': 'private, no-cache' });
    const part = await send('/files/page.html', { headers: { Range: 'bytes=3-6' } }).answer;
    expect([part.status, ours(part).length, await part.body]).toEqual([206, 1, 'page']);
    const outside = await send('/files/page.html', { headers: { Range: 'bytes=99-' } }).answer;
    expect([outside.status, ours(outside).length]).toEqual([416, 0]);
    const folderUrl = await send('/files').answer;
    expect([folderUrl.status, ours(folderUrl).length]).toEqual([301, 1]);
  });

  test.each(STREAMED)('%s whose client leaves while it is streamed keeps what was set', async path => {
    const cookie = await cookieOf();
    const hasHead = Promise.withResolvers<void>();
    const isSet = Promise.withResolvers<void>();
    whileStreaming = async session => {
      await hasHead.promise;
      session!.set('visits', 4);
      isSet.resolve();
      await new Promise(() => {});
    };
    const answer = await send(path, { cookie }).answer;
    hasHead.resolve();
    await isSet.promise;
    answer.leave();
    await expect.poll(() => stored('visits')).toBe(4);
    await expect.poll(() => isCancelled).toBe(true);
    await expect.poll(() => server.sessions.statistics().activeNow).toBe(0);
  });

  test.each(HANDLED)('%s whose client leaves before the head keeps what was set, but no new session', async path => {
    const cookie = await cookieOf();
    const sessions = await store.count();
    for (const shown of [cookie, undefined]) {
      const isSet = Promise.withResolvers<void>();
      const gate = Promise.withResolvers<void>();
      change = async session => {
        session!.set('visits', 5);
        isSet.resolve();
        await gate.promise;
      };
      const { leave } = send(path, shown === undefined ? {} : { cookie: shown });
      await isSet.promise;
      leave();
      await expect.poll(() => server.sessions.statistics().activeNow).toBe(0);
      gate.resolve();
      await expect.poll(() => stored('visits')).toBe(5);
      await new Promise(resolve => setTimeout(resolve, 20));
      expect(await store.count()).toBe(sessions);
    }
  });

  test('a client that leaves during the commit loses nothing of it', async () => {
    const cookie = await cookieOf();
    const isAsked = Promise.withResolvers<void>();
    store.before = call => {
      if (call !== 'commit') return;
      isAsked.resolve();
      return new Promise(resolve => setTimeout(resolve, 40));
    };
    change = session => session!.set('visits', 6);
    for (const path of HANDLED) {
      const { leave } = send(path, { cookie });
      await isAsked.promise;
      leave();
    }
    await expect.poll(() => stored('visits')).toBe(6);
    await expect.poll(() => server.sessions.statistics().activeNow).toBe(0);
  });

  test.each(HANDLED)('%s ends its session: the cookie goes with the answer', async path => {
    const cookie = await cookieOf();
    change = session => (session as unknown as { invalidate(): Promise<void> }).invalidate();
    const answer = await send(path, { cookie }).answer;
    expect([await answer.body, await store.count()]).toEqual([BODIES[path], 0]);
    expect(ours(answer)[0]).toMatch(/Max-Age=0|Expires=Thu, 01 Jan 1970/i);
  });

  test.each(HANDLED)('%s says that nothing was saved where another request has ended the session', async path => {
    const cookie = await cookieOf();
    change = async session => {
      session!.set('visits', 1);
      for await (const sid of store.sids()) await server.sessions.end(sid, 'logout');
    };
    const answer = await send(path, { cookie }).answer;
    expect([answer.status, await answer.body, ours(answer), await store.count()]).toEqual([
      401,
      'The session has ended, and nothing was saved. Please sign in again.\n',
      [],
      0,
    ]);
  });

  test.each(HANDLED)('%s is the answer where nothing was changed in a session that has ended', async path => {
    const cookie = await cookieOf();
    change = async session => {
      session!.get('visits');
      for await (const sid of store.sids()) await server.sessions.end(sid, 'logout');
    };
    const answer = await send(path, { cookie }).answer;
    expect([await answer.body, await store.count()]).toEqual([BODIES[path], 0]);
  });

  test.each(STREAMED)(
    '%s is cut off when its session has ended before what was set after its head is stored',
    async path => {
      const cookie = await cookieOf();
      whileStreaming = async session => {
        await new Promise(resolve => setTimeout(resolve, 20));
        session!.set('visits', 1);
        for await (const sid of store.sids()) await server.sessions.end(sid, 'logout');
      };
      const answer = await send(path, { cookie }).answer;
      expect([answer.status, await answer.body, await store.count()]).toEqual([200, undefined, 0]);
    },
  );
});
