import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { createServer, type Server } from 'holdfast';
import { attachSession, SessionManager } from 'holdfast/session';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { settle } from '../session/cluster.ts';
import { FaultyStore, KEY } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// A request that runs is use of its session, whatever it does: only when it has ended does the silence begin.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-running-'));
const tls = writeSelfSignedCertificate(folder);
writeFileSync(join(folder, 'large'), Buffer.alloc(32 * 1024 * 1024));
afterAll(() => rmSync(folder, { recursive: true }));

const SECOND = 1_000;

/** A request that its client has begun, and may take long to send; and an answer that it may take long to read. */
interface Exchange {
  readonly body: { write(data: string | Buffer): unknown; end(): unknown; destroy(): unknown };
  readonly answer: Promise<{ status: number; cookie: string | undefined; stream: Readable }>;
}

type Begin = (method: string, path: string, cookie?: string) => Exchange;

const cookieIn = (lines: readonly string[] | undefined) => lines?.find(line => line.startsWith('sid='))?.split(';')[0];

const overHttp1 =
  (url: string): Begin =>
  (method, path, cookie) => {
    const options = { agent: false, rejectUnauthorized: false, method, headers: cookie ? { cookie } : {} };
    const { request } = url.startsWith('https:') ? https : http;
    const body = request(new URL(path, url), options).on('error', () => {});
    body.flushHeaders();
    const answer = once(body, 'response').then(([stream]: http.IncomingMessage[]) => ({
      status: stream!.statusCode!,
      cookie: cookieIn(stream!.headers['set-cookie']),
      stream: stream!,
    }));
    return { body, answer };
  };

const overHttp2 =
  (client: Http2Client): Begin =>
  (method, path, cookie) => {
    const stream = client.open({ ':method': method, ':path': path, ...(cookie && { cookie }) }, { endStream: false });
    const answer = once(stream, 'response').then(([headers]) => ({
      status: headers[':status'] as number,
      cookie: cookieIn(headers['set-cookie']),
      stream,
    }));
    return { body: stream, answer };
  };

describe.each(['HTTP/1', 'TLS', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let clock: FakeClock;
  let server: Server;
  let other: SessionManager;
  let backend: http.Server;
  let client: Http2Client | undefined;
  let begin: Begin;
  /** What a target waits for. */
  let gate: PromiseWithResolvers<void>;
  let reached: PromiseWithResolvers<void>;

  const wait = async () => {
    reached.resolve();
    await gate.promise;
  };
  const count = (session: { get(name: never): unknown; set(name: never, value: never): void } | undefined) =>
    session!.set('n' as never, (Number(session!.get('n' as never) ?? 0) + 1) as never);

  beforeEach(async () => {
    store = new FaultyStore();
    clock = new FakeClock();
    gate = Promise.withResolvers();
    reached = Promise.withResolvers();
    backend = http.createServer(async (request, response) => {
      request.resume();
      await wait();
      response.end('backend');
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol !== 'HTTP/1' && { tls }) }],
        dataFolder: folder,
        session: { store, idleTimeout: '10s', cookie: { name: 'sid' } },
        upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
        routes: [
          { path: '/open', session: 'create', fetch: () => new Response() },
          {
            path: '/wait',
            fetch: async (_request, { session }) => {
              await wait();
              count(session);
              return new Response('done');
            },
          },
          {
            path: '/upload',
            fetch: async (request, { session }) => {
              reached.resolve();
              await request.text();
              count(session);
              return new Response('done');
            },
          },
          {
            path: '/events',
            fetch: (_request, { session }) =>
              new Response(
                new ReadableStream({
                  async pull(controller) {
                    controller.enqueue(Buffer.from('data: 1\n\n'));
                    await wait();
                    count(session);
                    controller.enqueue(Buffer.from('data: 2\n\n'));
                    controller.close();
                  },
                }),
                { headers: { 'Content-Type': 'text/event-stream' } },
              ),
          },
          { path: '/files/*', session: 'existing', files: folder },
          { path: '/backend', upstream: 'app' },
        ],
        log: { access: 'off' },
        clientRate: -1,
      },
      { clock, logger: silentLogger },
    );
    await server.start();
    // Another process, which knows of the requests of this one by the store alone.
    other = new SessionManager({ store, keys: [KEY], clock, sweep: { everyMs: SECOND }, cookie: { name: 'sid' } });
    await other.start();
    const url = server.urls[0]!;
    client = protocol === 'HTTP/2' ? await Http2Client.connect(url) : undefined;
    begin = client ? overHttp2(client) : overHttp1(url);
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    const { close } = store;
    store.close = async () => {};
    await server.stop({ drain: 0 });
    await other.close();
    await close.call(store);
    backend.closeAllConnections();
    backend.close();
  });

  async function pass(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      await clock.advance(SECOND);
      await settle();
    }
  }

  async function visitor(): Promise<{ cookie: string; sid: string }> {
    const { body, answer } = begin('GET', '/open');
    body.end();
    const { cookie, stream } = await answer;
    stream.resume();
    for await (const sid of store.sids()) return { cookie: cookie!, sid };
    throw new Error('no session');
  }
  const stored = (sid: string) => server.sessions.access(sid, session => session.get('n' as never));
  const textOf = async (stream: Readable) => {
    let text = '';
    for await (const chunk of stream.setEncoding('utf8')) text += chunk;
    return text;
  };

  test.each([
    ['a long poll', 'GET', '/wait', 'done', 1],
    ['an upload', 'POST', '/upload', 'done', 1],
    ['a stream of events', 'GET', '/events', 'data: 1\n\ndata: 2\n\n', 1],
    ['an exchange with a backend', 'GET', '/backend', 'backend', undefined],
  ])('%s that is longer than the idle time keeps its session, and what it sets is stored', async (...row) => {
    const [, method, path, text, n] = row;
    const { cookie, sid } = await visitor();
    const { body, answer } = begin(method, path, cookie);
    if (method === 'POST') body.write('some');
    else body.end();
    await reached.promise;
    await pass(35);
    gate.resolve();
    body.end();
    const { status, stream } = await answer;
    expect([status, await textOf(stream), await stored(sid)]).toEqual([200, text, n]);
    await pass(8);
    expect(await other.info(sid)).toBeDefined();
    await pass(5);
    expect(await other.info(sid)).toBeUndefined();
  });

  test('a download that its client takes its time for keeps its session until it has it all', async () => {
    const { cookie, sid } = await visitor();
    const { body, answer } = begin('GET', '/files/large', cookie);
    body.end();
    const { stream } = await answer;
    stream.once('data', () => stream.pause());
    await pass(35);
    expect(await other.info(sid)).toBeDefined();
    stream.resume();
    await once(stream, 'close');
    await pass(13);
    expect(await other.info(sid)).toBeUndefined();
  });

  test('a client that leaves does not keep its session', async () => {
    const { cookie, sid } = await visitor();
    const { body, answer } = begin('GET', '/wait', cookie);
    answer.catch(() => {});
    body.end();
    await reached.promise;
    body.destroy();
    await new Promise(resolve => setTimeout(resolve, 30));
    await pass(20);
    expect(await other.info(sid)).toBeUndefined();
    gate.resolve();
  });

  test('what a request sets in a session that somebody has ended meanwhile is told to its client', async () => {
    const { cookie, sid } = await visitor();
    const { body, answer } = begin('GET', '/wait', cookie);
    body.end();
    await reached.promise;
    await other.end(sid, 'logout');
    gate.resolve();
    const { status, stream } = await answer;
    expect([status, await textOf(stream)]).toEqual([
      401,
      'The session has ended, and nothing was saved. Please sign in again.\n',
    ]);
  });
});

test('in a server of the application, by attachSession: also when the session is asked for behind a long upload', async () => {
  const store = new FaultyStore();
  const clock = new FakeClock();
  const options = {
    keys: [KEY],
    clock,
    sweep: { everyMs: SECOND },
    idleTimeoutMs: 10 * SECOND,
    cookie: { name: 'sid' },
  };
  const [sessions, other] = [new SessionManager({ store, ...options }), new SessionManager({ store, ...options })];
  await Promise.all([sessions.start(), other.start()]);
  const server = http.createServer(async (request, response) => {
    attachSession(sessions, request, response);
    for await (const _ of request);
    const session = await sessions.open(request);
    session.set('n' as never, 1 as never);
    response.end(session.id);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const begin = overHttp1(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const first = begin('POST', '/');
  first.body.end();
  const begun = await first.answer;
  const sid = String((await begun.stream.toArray())[0]);
  const second = begin('POST', '/', begun.cookie);
  second.body.write('some');
  await new Promise(resolve => setTimeout(resolve, 30));
  for (let passed = 0; passed < 35; passed++) {
    await clock.advance(SECOND);
    await settle();
  }
  second.body.end();
  const { stream } = await second.answer;
  expect(String((await stream.toArray())[0])).toBe(sid);
  server.closeAllConnections();
  server.close();
  await sessions.close();
  await other.close();
});
