import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import tls, { type ConnectionOptions } from 'node:tls';
import { type Config, createServer, type Server } from 'holdfast';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/index.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from './http2-client.ts';
import { Lines } from './wires.ts';

const folder = mkdtempSync(join(tmpdir(), 'listener-answers-'));
const certificate = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

const COMBINED = 'combined';
const APACHE = '%h %l %u "%r" %>s %b %m %U %H %V %k %X';

let server: Server | undefined;
let access: string[];
let log: Lines;
beforeEach(() => {
  access = [];
  log = new Lines();
});
afterEach(() => server?.stop({ drain: 0 }));

async function start(config: Config = {}, clock?: FakeClock): Promise<{ plain: number; secure: number }> {
  server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: certificate },
      ],
      session: false,
      metrics: true,
      routes: [{ path: '/*', fetch: () => new Response('hello') }],
      log: { access: 'json', level: 'debug' },
      ...config,
    },
    { logger: log, accessLog: { write: line => access.push(line) }, ...(clock && { clock }) },
  );
  await server.start();
  const [plain, secure] = server.urls.map(url => Number(new URL(url).port));
  return { plain: plain!, secure: secure! };
}

/** What a client gets that sends these bytes. */
async function send(port: number, bytes: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(bytes, 'latin1');
  return await text(socket).catch(() => '');
}

async function lines(count: number): Promise<string[]> {
  await expect.poll(() => access.length).toBe(count);
  return access.map(line => line.trimEnd());
}

async function entries(count: number): Promise<Record<string, unknown>[]> {
  return (await lines(count)).map(line => JSON.parse(line));
}

describe('what a listener answers by itself has its line in the access log', () => {
  const ROWS: readonly (readonly [string, string, number, { method: string; target: string; httpVersion: string }])[] =
    [
      ['bytes that are not HTTP', 'garbage\r\n\r\n', 400, { method: '', target: '', httpVersion: '' }],
      ['a handshake of TLS', '\x16\x03\x01\x00\x05hello', 400, { method: '', target: '', httpVersion: '' }],
      [
        'a header that is none',
        'GET /a?token=x HTTP/1.1\r\nno header\r\n\r\n',
        400,
        { method: 'GET', target: '/a?token=***', httpVersion: '1.1' },
      ],
      [
        'a head that is too large',
        `GET /b HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
        431,
        { method: 'GET', target: '/b', httpVersion: '1.1' },
      ],
      [
        'a method that nobody knows',
        'BREW /c HTTP/1.1\r\nHost: a\r\n\r\n',
        501,
        { method: 'BREW', target: '/c', httpVersion: '1.1' },
      ],
      [
        'a version that nobody speaks',
        'GET /d HTTP/3.1\r\nHost: a\r\n\r\n',
        505,
        { method: 'GET', target: '/d', httpVersion: '3.1' },
      ],
      [
        'HTTP/2 without TLS',
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        505,
        { method: 'PRI', target: '*', httpVersion: '2.0' },
      ],
      [
        'a version from before hosts',
        'GET /e HTTP/0.9\r\nHost: a\r\nConnection: close\r\n\r\n',
        505,
        { method: 'GET', target: '/e', httpVersion: '0.9' },
      ],
      [
        'an expectation',
        'GET /f HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nConnection: close\r\n\r\n',
        417,
        { method: 'GET', target: '/f', httpVersion: '1.1' },
      ],
      [
        'a forward proxy that is asked for',
        'CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n',
        400,
        { method: 'CONNECT', target: 'example.com:443', httpVersion: '1.1' },
      ],
    ];

  test.each(ROWS)('%s', async (_what, bytes, status, facts) => {
    const { plain } = await start();
    const answer = await send(plain, bytes);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
    const [entry] = await entries(1);
    expect(entry).toMatchObject({ ...facts, event: 'request', clientAddress: '127.0.0.1', status });
    expect(entry).toMatchObject({ bytesSent: body.length, complete: true, requestId: expect.any(String) });
    expect(entry).not.toHaveProperty('route');
    const { body: metrics } = await server!.metrics();
    expect(metrics).toContain(`holdfast_requests_total{route="none",status="${status}"} 1`);
    expect(metrics).toMatch(/^holdfast_requests_in_progress 0$/m);
  });

  test('a head that does not end in time is 408', async () => {
    const { plain } = await start({ headerTimeout: '200ms' });
    expect(await send(plain, 'GET /late HTTP/1.1\r\nHost: a\r\n')).toMatch(/^HTTP\/1\.1 408 /);
    expect(await entries(1)).toMatchObject([{ status: 408, method: '', clientAddress: '127.0.0.1' }]);
  });

  test('in each format, with "-" for what is not known', async () => {
    const { plain } = await start({ log: { access: [{ format: COMBINED }, { format: APACHE }], level: 'silent' } });
    await send(plain, 'garbage\r\n\r\n');
    const [combined, apache] = await lines(2);
    expect(combined).toMatch(/^127\.0\.0\.1 - - \[[^\]]+\] "-" 400 12 "-" "-" -$/);
    expect(apache).toBe('127.0.0.1 - - "-" 400 12 - / HTTP/1.0 - 0 -');
  });

  test('a request that came whole before it has its own, and nothing of a body is taken for a request line', async () => {
    const { plain } = await start();
    const post = 'POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nuser=bob&password=secret';
    await send(plain, `${post}GET /second HTTP/1.1\r\nno header\r\n\r\n`);
    const written = await entries(2);
    expect(written.sort((a, b) => Number(a.status) - Number(b.status))).toMatchObject([
      { method: 'POST', target: '/whole', status: 200 },
      { method: '', target: '', status: 400 },
    ]);
    expect(access.join('')).not.toContain('secret');
  });

  test('where the rest of a request cannot be read, that is the one line of this request', async () => {
    const { plain } = await start({
      routes: [{ path: '/*', fetch: async request => new Response(await request.text()) }],
    });
    const answer = await send(
      plain,
      'POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(await entries(1)).toMatchObject([
      { method: 'POST', target: '/broken', route: '/*', status: 400, bytesSent: 12, complete: true },
    ]);
    const { body } = await server!.metrics();
    expect(body).toContain('status="400"} 1');
    expect(body).not.toContain('status="499"} 1');
  });

  test('streams of HTTP/2 that ask for a proxy, or for a protocol that is not spoken', async () => {
    const { secure } = await start();
    using client = await Http2Client.connect(`https://127.0.0.1:${secure}`);
    const statuses: unknown[] = [];
    for (const head of [
      { ':method': 'CONNECT', ':authority': 'example.com:443' },
      { ':method': 'CONNECT', ':protocol': 'connect-udp', ':scheme': 'https', ':path': '/udp', ':authority': 'a' },
    ]) {
      const stream = client.session.request(head, { endStream: false });
      const [answer] = await once(stream, 'response');
      statuses.push(answer[':status']);
    }
    expect(statuses).toEqual([400, 501]);
    expect(await entries(2)).toMatchObject([
      { method: 'CONNECT', target: 'example.com:443', httpVersion: '2.0', status: 400, bytesSent: 0 },
      { method: 'CONNECT', target: '/udp', httpVersion: '2.0', status: 501, bytesSent: 0 },
    ]);
  });

  test('a redirect to https has its line, and what that listener refuses', async () => {
    await start({
      listen: [
        { port: 0, host: '127.0.0.1', redirect: 'https' },
        { port: 0, host: '127.0.0.1', tls: certificate },
      ],
    });
    const port = Number(new URL(server!.urls[0]!).port);
    const request = http.get({ port, path: '/page?x=1', headers: { host: 'example.com' }, agent: false });
    const [response] = await once(request, 'response');
    response.resume();
    await send(port, 'garbage\r\n\r\n');
    expect(await entries(2)).toMatchObject([
      { method: 'GET', target: '/page?x=1', host: 'example.com', status: 308, bytesSent: 0, complete: true },
      { method: '', status: 400 },
    ]);
  });
});

test('a client has 20 lines of what is not a request in 10 s, and the log says how many were left out', async () => {
  const clock = new FakeClock();
  const { plain } = await start({}, clock);
  for (let i = 0; i < 30; i++) await send(plain, 'garbage\r\n\r\n');
  await send(plain, 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  const written = await entries(21);
  expect(written.at(-1)).toMatchObject({ status: 200 });
  const { body } = await server!.metrics();
  expect(body).toContain('holdfast_requests_total{route="none",status="400"} 30');
  await clock.advance(10_000);
  expect(log.all).toContainEqual(
    expect.objectContaining({ level: 'warn', fields: { event: 'access-lines-left-out', lines: 10, part: 'server' } }),
  );
  await send(plain, 'garbage\r\n\r\n');
  await lines(22);
});

describe('a TLS handshake that fails', () => {
  const failures = () =>
    log.all.filter(({ fields }) => fields.event === 'tls-handshake-failed').map(line => line.fields);
  const connect = async (options: ConnectionOptions) => {
    const socket = tls.connect({ host: '127.0.0.1', rejectUnauthorized: false, ...options });
    await new Promise(resolve => socket.on('error', resolve));
  };

  test('is an event with its reason and its client, and has no line in the access log', async () => {
    const { secure } = await start();
    await connect({ port: secure, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' });
    await send(secure, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await expect.poll(failures).toEqual([
      { event: 'tls-handshake-failed', address: '127.0.0.1', failure: 'UNSUPPORTED_PROTOCOL', part: 'policy' },
      { event: 'tls-handshake-failed', address: '127.0.0.1', failure: 'HTTP_REQUEST', part: 'policy' },
    ]);
    expect(access).toEqual([]);
  });

  test('is of the client that a PROXY header names', async () => {
    await start({
      listen: [{ port: 0, host: '127.0.0.1', tls: certificate, proxyProtocol: 'required' }],
      trustedProxies: ['127.0.0.1'],
    });
    const port = Number(new URL(server!.urls[0]!).port);
    await send(port, 'PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await expect.poll(failures).toMatchObject([{ address: '192.0.2.7', failure: 'HTTP_REQUEST' }]);
  });

  test('has none where the client has only left', async () => {
    const { secure } = await start();
    const socket = net.connect(secure, '127.0.0.1');
    await once(socket, 'connect');
    socket.end();
    await once(socket.resume(), 'close');
    expect(failures()).toEqual([]);
  });
});
