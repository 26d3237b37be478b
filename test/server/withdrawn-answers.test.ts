import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { type Config, createServer, type Server } from 'holdfast';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { FaultyStore } from '../session/fixture.ts';
import { Http2Client } from './http2-client.ts';

// An answer that fails before its head has left gives way to another. What is ours on it stays, once; the rest goes.

const folder = mkdtempSync(join(tmpdir(), 'withdrawn-'));
writeFileSync(join(folder, 'page.html'), '<p>page</p>');
const tls = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

const HEADER = 'Holdfast-Session-Ticket';
const LINES: [string, string][] = [
  ['Set-Cookie', 'theirs=1'],
  ['Set-Cookie', 'theirs=2'],
  ['Cache-Control', 'no-store'],
  ['X-Mine', '1'],
  [HEADER, 'theirs'],
  ['Strict-Transport-Security', 'max-age=1'],
];

interface Answer {
  readonly status: number;
  readonly reason?: string | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

describe.each(['HTTP/1', 'HTTP/2'])('over %s', protocol => {
  let store: FaultyStore;
  let server: Server;
  let client: Http2Client | undefined;
  let backend: http.Server;
  let body: () => ReadableStream | string;
  let init: ResponseInit;

  beforeAll(async () => {
    backend = http.createServer(({ url }, response) => {
      if (!url!.endsWith('/bare')) for (const [name, value] of LINES) response.appendHeader(name, value);
      response.writeHead(600, 'Odd').end('odd');
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
  });
  afterAll(() => {
    backend.closeAllConnections();
    backend.close();
  });

  async function start(session: Config['session'] = {}) {
    const servers = [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`];
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', ...(protocol === 'HTTP/2' && { tls }) }],
        dataFolder: folder,
        session: { store, ...(session as object) },
        upstreams: { app: { servers }, tied: { servers, affinity: 'cookie' } },
        maxBodySize: 8,
        routes: [
          { path: '/made', session: 'create', fetch: () => new Response(body(), { headers: LINES, ...init }) },
          {
            path: '/echo',
            session: 'create',
            fetch: request => new Response(request.body, { headers: LINES, statusText: 'Mine' }),
          },
          { path: '/app/*', session: 'create', upstream: 'app' },
          { path: '/tied/*', upstream: 'tied' },
        ],
        log: { access: 'off' },
      } as Config,
      { logger: silentLogger },
    );
    await server.start();
    client = protocol === 'HTTP/2' ? await Http2Client.connect(server.urls[0]!) : undefined;
  }

  async function get(path: string, sent?: string): Promise<Answer> {
    const method = sent === undefined ? 'GET' : 'POST';
    if (client) {
      const answer = await client.request({ ':path': path, ':method': method }, sent);
      return { ...answer, headers: answer.headers as http.IncomingHttpHeaders };
    }
    const request = http.request(new URL(path, server.urls[0]), { agent: false, method });
    if (sent !== undefined) request.write(sent);
    request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const { headers, statusCode, statusMessage } = response;
    return { status: statusCode!, reason: statusMessage, headers, body: await text(response) };
  }

  beforeEach(async () => {
    store = new FaultyStore();
    init = {};
    await start();
  });
  afterEach(async () => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
  });

  /** What is ours is there once, and nothing of the answer that was withdrawn. */
  function expectOurs(answer: Answer, status: string) {
    expect(answer.headers['set-cookie']).toEqual([expect.stringMatching(/^(__Host-)?holdfast=v1\./)]);
    expect(answer.headers['cache-control']).toBe('private, no-cache');
    expectNotTheirs(answer, status);
  }

  /** Who is refused gets no session. */
  async function expectRefused(answer: Answer, status: string) {
    expect([answer.headers['set-cookie'], answer.headers['cache-control']]).toEqual([undefined, undefined]);
    expectNotTheirs(answer, status);
    await expect.poll(() => store.count(), { timeout: 1_000 }).toBe(0);
  }

  function expectNotTheirs({ headers, reason }: Answer, status: string) {
    expect([headers['x-mine'], headers[HEADER.toLowerCase()]]).toEqual([undefined, undefined]);
    if (protocol === 'HTTP/2') expect(headers['strict-transport-security']).not.toBe('max-age=1');
    else expect(reason).toBe(status);
  }

  /** A body that goes on without end. */
  const endless = (begin: (controller: ReadableStreamDefaultController) => unknown) => () =>
    new ReadableStream({ start: controller => void begin(controller) });

  /** Runs while a new session is stored, which goes on until after it. */
  function whileStored(run: () => void) {
    store.before = async call => {
      if (call !== 'create') return;
      run();
      for (let i = 0; i < 10; i++) await setImmediate();
    };
  }

  test('a 500 for a body of neither text nor bytes has the cookie of the new session', async () => {
    body = endless(controller => controller.enqueue(5));
    const answer = await get('/made');
    expect(answer.status).toBe(500);
    expectOurs(answer, 'Internal Server Error');
    expect(await store.count()).toBe(1);
  });

  test('a 500 for a body of neither text nor bytes has the header of the new session, under header tracking', async () => {
    client?.[Symbol.dispose]();
    await server.stop({ drain: 0 });
    await start({ tracking: 'header' } as Config['session']);
    body = endless(controller => controller.enqueue(5));
    const { headers, status } = await get('/made');
    expect([status, headers['set-cookie'], headers['cache-control']]).toEqual([500, undefined, 'private, no-cache']);
    expect(headers[HEADER.toLowerCase()]).toMatch(/^v1\.[^,]+$/);
  });

  test.each([
    ['fails', (controller: ReadableStreamDefaultController) => controller.error(new Error('failed'))],
    ['yields neither text nor bytes', (controller: ReadableStreamDefaultController) => controller.enqueue(5)],
  ])('a body that %s while the session is stored is answered with 500', async (_how, fail) => {
    const { promise, resolve } = Promise.withResolvers<ReadableStreamDefaultController>();
    body = endless(resolve);
    whileStored(() => void promise.then(fail));
    const answer = await get('/made');
    expect([answer.status, answer.body]).toEqual([500, expect.stringMatching(/^Internal Server Error \(.*\)\n$/)]);
    expectOurs(answer, 'Internal Server Error');
    expect(await store.count()).toBe(1);
  });

  test('a 413 for the body of a request has nothing of the answer that was made from it', async () => {
    const answer = await get('/echo', 'much too long');
    expect(answer.status).toBe(413);
    await expectRefused(answer, 'Payload Too Large');
  });

  // HTTP/2 announces no trailers.
  test.runIf(protocol === 'HTTP/1')('a 500 for headers that cannot be written has the cookie', async () => {
    body = () => 'whole';
    init = { headers: [...LINES, ['Content-Length', '5'], ['Trailer', 'X-After']], statusText: 'Mine' };
    const answer = await get('/made');
    expect(answer.status).toBe(500);
    expectOurs(answer, 'Internal Server Error');
  });

  test.each(['bare', 'full'])(
    'a %s answer of a backend with a status above 599 is a 502 without a session',
    async path => {
      const answer = await get(`/app/${path}`);
      if (protocol === 'HTTP/1') return void expect([answer.status, answer.reason]).toEqual([600, 'Odd']);
      expect(answer.status).toBe(502);
      await expectRefused(answer, 'Bad Gateway');
    },
  );

  test.each(['bare', 'full'])(
    'a %s answer of a backend with a status above 599 ties its client to no server',
    async path => {
      const { headers, status } = await get(`/tied/${path}`);
      if (protocol === 'HTTP/1') return void expect(status).toBe(600);
      expect([status, headers['set-cookie'], headers['cache-control']]).toEqual([502, undefined, undefined]);
    },
  );
});
