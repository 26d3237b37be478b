import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { connect as tlsConnect } from 'node:tls';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { listenTcp, unusedServer } from '../gateway/gateway-server.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { closeFrame } from '../websocket/raw-client.ts';
import { Http2Client } from './http2-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'access-lines-'));
const tls = writeSelfSignedCertificate(folder);
writeFileSync(join(folder, 'page.txt'), '0123456789'.repeat(10_000));
afterAll(() => rmSync(folder, { recursive: true }));

/** What the backend answers at each path, byte by byte; what has no end is a connection that it cuts. */
const ANSWERS: Readonly<Record<string, string>> = {
  '/app/length': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  '/app/chunked':
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n',
  '/app/close': 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello, you',
  '/app/empty': 'HTTP/1.1 204 No Content\r\n\r\n',
  '/app/unchanged': 'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 5\r\n\r\n',
  '/app/dies': 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello',
  '/app/signs-in': 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n',
  '/app/declines': 'HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsorry\n',
};

interface Question {
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Leaves when the answer has begun, or for `0` when nothing has come for a while. */
  readonly leaves?: 'in the middle' | 'before the answer';
}

/** What the client has seen. */
interface Seen {
  readonly status: number | undefined;
  readonly bytes: number;
  readonly isWhole: boolean;
}

async function askHttp1(url: string, { path, method = 'GET', headers, body, leaves }: Question): Promise<Seen> {
  const request = http.request(new URL(path, url), {
    method,
    agent: false,
    headers: { host: 'localhost', ...headers },
  });
  request.on('error', () => {});
  if (leaves === 'before the answer') setTimeout(() => request.socket!.resetAndDestroy(), 300);
  request.end(body);
  const closed = new Promise(resolve => request.on('close', resolve));
  const response = await Promise.race([
    once(request, 'response').then(([found]) => found as http.IncomingMessage),
    closed.then(() => undefined),
  ]);
  if (!response) return { status: undefined, bytes: 0, isWhole: false };
  let bytes = 0;
  response.on('error', () => {});
  response.on('data', chunk => {
    bytes += chunk.length;
    if (leaves) request.destroy();
  });
  await closed;
  return { status: response.statusCode, bytes, isWhole: response.complete && !leaves };
}

async function askHttp2(url: string, { path, method = 'GET', headers, body, leaves }: Question): Promise<Seen> {
  const raw = net.connect(Number(new URL(url).port), '127.0.0.1');
  const socket = tlsConnect({ socket: raw, ALPNProtocols: ['h2'], rejectUnauthorized: false });
  using client = await Http2Client.connect(url, socket);
  const fields = { ':path': path, ':method': method, ':authority': 'localhost', ...headers };
  const stream = client.open(fields, { endStream: body === undefined });
  let status: number | undefined;
  let bytes = 0;
  stream.on('response', received => {
    status = received[':status'];
  });
  stream.on('data', chunk => {
    bytes += chunk.length;
    if (leaves) raw.resetAndDestroy();
  });
  if (leaves === 'before the answer') setTimeout(() => raw.resetAndDestroy(), 300);
  if (body !== undefined) stream.end(body);
  await new Promise(resolve => stream.on('close', resolve));
  return { status, bytes, isWhole: stream.rstCode === 0 && !leaves };
}

type Line = Readonly<Record<string, unknown>>;
interface Expected extends Line {
  readonly status: number;
  /** Undefined: at least what the client has got. */
  readonly bytesSent?: number;
}

/** Of a request that a server of the upstream has answered, or should have. */
const byApp = { route: '/app/*', upstream: 'app', server: 'BACKEND' };

/** What is asked, and the line without what every line has. */
const ROWS: readonly (readonly [string, Question, Expected])[] = [
  ['a backend’s answer with a length', { path: '/app/length' }, { ...byApp, status: 200, bytesSent: 5 }],
  ['a backend’s answer in chunks', { path: '/app/chunked' }, { ...byApp, status: 200, bytesSent: 11 }],
  [
    'a backend’s answer that ends with its connection',
    { path: '/app/close' },
    { ...byApp, status: 200, bytesSent: 10 },
  ],
  ['a backend’s answer to HEAD', { path: '/app/length', method: 'HEAD' }, { ...byApp, status: 200, bytesSent: 0 }],
  ['a backend’s 204', { path: '/app/empty' }, { ...byApp, status: 204, bytesSent: 0 }],
  ['a backend’s 304 with a length', { path: '/app/unchanged' }, { ...byApp, status: 304, bytesSent: 0 }],
  ['a backend that dies', { path: '/app/dies' }, { ...byApp, status: 200, bytesSent: 5, complete: false }],
  [
    'a client that leaves in the middle of a backend’s answer',
    { path: '/app/endless', leaves: 'in the middle' },
    { ...byApp, status: 200, complete: false },
  ],
  [
    'a client that leaves before its backend answers',
    { path: '/app/silent', leaves: 'before the answer' },
    { ...byApp, status: 499, bytesSent: 0, complete: false },
  ],
  [
    'an upstream that is down',
    { path: '/down/x' },
    { route: '/down/*', upstream: 'down', server: 'DOWN', status: 503, bytesSent: 20 },
  ],
  ['a handler’s answer', { path: '/fetch/whole' }, { route: '/fetch/*', status: 200, bytesSent: 5 }],
  [
    'a handler’s answer to HEAD',
    { path: '/fetch/whole', method: 'HEAD' },
    { route: '/fetch/*', status: 200, bytesSent: 0 },
  ],
  ['a handler’s stream', { path: '/fetch/stream' }, { route: '/fetch/*', status: 200, bytesSent: 300_000 }],
  [
    'a handler’s stream that breaks',
    { path: '/fetch/breaks' },
    { route: '/fetch/*', status: 200, bytesSent: 5, complete: false },
  ],
  [
    'a client that leaves in the middle of a handler’s stream',
    { path: '/fetch/endless', leaves: 'in the middle' },
    { route: '/fetch/*', status: 200, complete: false },
  ],
  [
    'a client that leaves in the middle of an answer that is written whole',
    { path: '/fetch/large', leaves: 'in the middle' },
    { route: '/fetch/*', status: 200, complete: false },
  ],
  [
    'a client that leaves before a handler has answered',
    { path: '/fetch/silent', leaves: 'before the answer' },
    { route: '/fetch/*', status: 499, bytesSent: 0, complete: false },
  ],
  [
    'a body that is too large',
    { path: '/fetch/whole', method: 'POST', body: 'x'.repeat(2_000), headers: { 'content-length': '2000' } },
    { route: '/fetch/*', status: 413, bytesSent: 18 },
  ],
  ['a file', { path: '/files/page.txt' }, { route: '/files/*', status: 200, bytesSent: 100_000 }],
  [
    'a part of a file',
    { path: '/files/page.txt', headers: { range: 'bytes=10-19' } },
    { route: '/files/*', status: 206, bytesSent: 10 },
  ],
  [
    'a file asked for with HEAD',
    { path: '/files/page.txt', method: 'HEAD' },
    { route: '/files/*', status: 200, bytesSent: 0 },
  ],
  [
    'a file that the client has',
    { path: '/files/page.txt', headers: { 'if-modified-since': new Date(Date.now() + 60_000).toUTCString() } },
    { route: '/files/*', status: 304, bytesSent: 0 },
  ],
  ['a file that is not there', { path: '/files/none' }, { route: '/files/*', status: 404, bytesSent: 10 }],
  ['a redirect', { path: '/moved' }, { route: '/moved', status: 308, bytesSent: 0 }],
  ['a path without a route', { path: '/none?token=secret' }, { target: '/none?token=***', status: 404, bytesSent: 10 }],
  ['a host of another server', { path: '/moved', headers: { host: 'other.example' } }, { status: 421, bytesSent: 30 }],
  [
    'a method that files do not take',
    { path: '/files/page.txt', method: 'DELETE' },
    { route: '/files/*', status: 405, bytesSent: 19 },
  ],
  ['an endpoint without a handshake', { path: '/echo' }, { route: '/echo', status: 426, bytesSent: 17 }],
];

/** A handshake, and its line when there is no WebSocket. */
const HANDSHAKES: readonly (readonly [string, Pick<Question, 'path' | 'headers'>, Expected])[] = [
  ['that has no route', { path: '/none' }, { status: 404, bytesSent: 10 }],
  ['for a route that takes none', { path: '/fetch/whole' }, { route: '/fetch/*', status: 400, bytesSent: 12 }],
  [
    'that its endpoint refuses',
    { path: '/echo', headers: { 'x-refuse': '1' } },
    { route: '/echo', status: 403, bytesSent: 10 },
  ],
  [
    'of another version',
    { path: '/echo', headers: { 'sec-websocket-version': '8' } },
    { route: '/echo', status: 426, bytesSent: 17 },
  ],
  ['that its backend declines', { path: '/app/declines' }, { ...byApp, status: 403, bytesSent: 6 }],
  [
    'for an upstream that is down',
    { path: '/down/x' },
    { route: '/down/*', upstream: 'down', server: 'DOWN', status: 503, bytesSent: 20 },
  ],
];

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** @returns what came before the client, or the server, ended the connection; the client does when it gets a 101. */
async function knock(url: string, { path, headers }: Pick<Question, 'path' | 'headers'>, wire: Wire) {
  const fields = { 'sec-websocket-version': '13', ...headers };
  if (wire === 'HTTP/2') {
    using client = await Http2Client.connect(url);
    const { stream, status } = await client.knock(path, { ':authority': 'localhost', ...fields });
    if (status === 200) stream.end(closeFrame(1000));
    return { status, bytes: (await buffer(stream)).length };
  }
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
  const lines = Object.entries({ upgrade: 'websocket', connection: 'upgrade', 'sec-websocket-key': KEY, ...fields });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${head}\r\n`);
  socket.once('data', data => data.toString('latin1').startsWith('HTTP/1.1 101') && socket.write(closeFrame(1000)));
  const text = (await buffer(socket)).toString('latin1');
  return { status: Number(text.split(' ')[1]), bytes: text.length - text.indexOf('\r\n\r\n') - 4 };
}

/** Everything that a `LogFormat` may ask for. */
const EVERYTHING =
  '%s %b "%r" %h %a %{c}a %A %p %{local}p %{remote}p %l %u %m %U %q %H %B %I %O %S %D %T %{ms}T %t %{end:usec}t %{Referer}i ' +
  '%{Content-Type}o %{Connection}o %{sid}C %{X}^ti %{X}^to %v %V %k %X %L %f %R %P %{tid}P %{SSL_PROTOCOL}x %{SSL_CIPHER}x %!200{Host}i';

type Wire = 'HTTP/1' | 'HTTP/2';
const WIRES = { 'HTTP/1': askHttp1, 'HTTP/2': askHttp2 };

class Scene {
  readonly lines: string[] = [];
  server!: Server;
  backend!: Awaited<ReturnType<typeof listenTcp>>;
  down = '';

  async open(log: Config['log'], session: Config['session']): Promise<void> {
    this.down = await unusedServer();
    this.backend = await listenTcp(socket => {
      socket.on('data', data => {
        const path = data.toString().split(' ')[1]!;
        const key = /sec-websocket-key: (.*)\r\n/i.exec(data.toString())?.[1];
        if (data[0] === 0x88) socket.end(Buffer.from([0x88, 0x02, 0x03, 0xe8]));
        else if (path === '/app/socket') {
          const accept = `Sec-WebSocket-Accept: ${acceptKey(key!)}`;
          socket.write(
            `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${accept}\r\n\r\n`,
          );
        } else if (path === '/app/endless') {
          const timer = setInterval(() => socket.write('x'.repeat(1_000)), 5);
          socket.on('close', () => clearInterval(timer));
          socket.write('HTTP/1.1 200 OK\r\n\r\n');
        } else socket.write(ANSWERS[path] ?? '');
        if (path === '/app/close') socket.end();
        if (path === '/app/dies') setTimeout(() => socket.destroy(), 50);
      });
    });
    const mode = session === false ? {} : { session: 'create' as const };
    this.server = createServer(
      {
        listen: [
          { port: 0, host: '127.0.0.1', hosts: ['localhost'] },
          { port: 0, host: '127.0.0.1', hosts: ['localhost'], tls },
        ],
        session: session === false ? false : { ...session, store: new MemoryStore() },
        dataFolder: folder,
        log,
        maxBodySize: 1_000,
        upstreams: { app: { servers: [this.backend.url] }, down: { servers: [this.down], ejection: false } },
        routes: [
          { path: '/app/*', upstream: 'app', websocket: true, ...mode },
          { path: '/down/*', upstream: 'down', websocket: true, ...mode },
          { path: '/fetch/*', ...mode, fetch: handle },
          { path: '/files/*', files: folder, ...mode },
          { path: '/moved', redirect: '/files', ...mode },
          {
            endpoint: defineEndpoint({
              path: '/echo',
              accept: ({ headers }) => {
                if (headers['x-wait'] === undefined) return headers['x-refuse'] === undefined;
                this.handshake.resolve();
                return new Promise(() => {});
              },
              onMessage: (connection, data) => void connection.send(data),
            }),
            ...mode,
          },
        ],
      },
      { logger: silentLogger, accessLog: { write: line => line.includes(this.target) && this.lines.push(line) } },
    );
    await this.server.start();
  }

  async close(): Promise<void> {
    await this.server.stop({ drain: 0 });
    await this.backend.close();
  }

  /** The names of servers as they are written in the table. */
  named(text: string): string {
    return text.replace(this.backend.url, 'BACKEND').replace(this.down, 'DOWN');
  }

  /** One that is not answered has arrived. */
  handshake = Promise.withResolvers<void>();

  /** Lines of other targets are of strangers: suites that run beside this one may know a port that was theirs. */
  target = '';

  /** The next line, and no other one. */
  async line(): Promise<string> {
    await expect.poll(() => this.lines.length).toBe(1);
    return this.named(this.lines.splice(0)[0]!);
  }
}

async function handle(request: Request): Promise<Response> {
  const ticking = (every: number) => {
    let timer: NodeJS.Timeout;
    return new ReadableStream({
      start(controller) {
        controller.enqueue(Buffer.from('hello'));
        timer = setInterval(() => controller.enqueue(Buffer.alloc(1_000)), every);
      },
      cancel: () => clearInterval(timer),
    });
  };
  switch (new URL(request.url).pathname) {
    case '/fetch/stream':
      return new Response(
        new ReadableStream({
          async start(controller) {
            for (let i = 0; i < 3; i++) {
              controller.enqueue(Buffer.alloc(100_000));
              await new Promise(resolve => setTimeout(resolve, 5));
            }
            controller.close();
          },
        }),
      );
    case '/fetch/breaks':
      return new Response(
        new ReadableStream({
          start: controller => controller.enqueue(Buffer.from('hello')),
          pull: () => new Promise((_, reject) => setTimeout(reject, 50, new Error('broken'))),
        }),
      );
    case '/fetch/large':
      return new Response(Buffer.alloc(16_000_000));
    case '/fetch/endless':
      return new Response(ticking(5));
    case '/fetch/silent':
      return new Promise(resolve => request.signal.addEventListener('abort', () => resolve(new Response())));
    default:
      return new Response('hello');
  }
}

describe.each([
  ['HTTP/1', 'without a session'],
  ['HTTP/1', 'with a session'],
  ['HTTP/2', 'without a session'],
  ['HTTP/2', 'with a session'],
] as const)('over %s %s', (wire, which) => {
  const [json, combined, apache] = [new Scene(), new Scene(), new Scene()];
  const session = which === 'with a session' ? {} : (false as const);
  const isSessionless = session === false;
  const httpVersion = wire === 'HTTP/1' ? '1.1' : '2.0';
  const url = ({ server }: Scene) => server.urls[wire === 'HTTP/1' ? 0 : 1]!;
  beforeAll(() =>
    Promise.all([
      json.open({ access: 'json' }, session),
      combined.open({ access: 'combined' }, session),
      apache.open({ access: EVERYTHING }, session),
    ]),
  );
  afterAll(() => Promise.all([json.close(), combined.close(), apache.close()]));
  beforeEach(() => {
    json.target = combined.target = apache.target = '';
  });

  test.each(ROWS)('the access log has the line of %s', async (_what, given, { complete = true, ...expected }) => {
    const { host, ...headers } = given.headers ?? {};
    const question =
      wire === 'HTTP/2' && host
        ? { ...given, headers: { ...headers, ':authority': host } as Record<string, string> }
        : given;
    const { method = 'GET', path } = given;
    const target = (expected.target as string | undefined) ?? path;
    const { route } = expected;
    const hasSession = !isSessionless && route !== undefined;

    json.target = combined.target = target;

    const seen = await WIRES[wire](url(json), question);
    const line = JSON.parse(await json.line());
    if (expected.bytesSent !== undefined) expect(seen.bytes).toBe(expected.bytesSent);
    expect(line.bytesSent).toBeGreaterThanOrEqual(seen.bytes);
    expect(seen.isWhole).toBe(complete);
    if (seen.status !== undefined) expect(seen.status).toBe(expected.status);
    expect(line).toEqual({
      time: expect.any(String),
      event: 'request',
      clientAddress: '127.0.0.1',
      method,
      target,
      httpVersion,
      requestId: expect.stringMatching(/^[\w-]{13,}$/),
      host: expected.status === 421 ? undefined : 'localhost',
      ...expected,
      ...(hasSession && { sid: expect.stringMatching(/^[\w-]{8}$/) }),
      bytesSent: expected.bytesSent ?? expect.any(Number),
      complete,
      durationMs: expect.any(Number),
    });

    await WIRES[wire](url(combined), question);
    const bytes = expected.bytesSent === undefined ? String.raw`\d+` : expected.bytesSent || '-';
    expect((await combined.line()).replace(/\[.*?\]/, '[TIME]')).toMatch(
      new RegExp(
        `^127\\.0\\.0\\.1 - - \\[TIME\\] "${RegExp.escape(`${method} ${target} HTTP/${httpVersion}`)}" ` +
          `${expected.status} ${bytes} "-" "-" ${hasSession ? String.raw`[\w-]{8}` : '-'}\n$`,
      ),
    );

    apache.target = `${method} ${target}`;
    await WIRES[wire](url(apache), question);
    expect(await apache.line()).toMatch(new RegExp(`^${expected.status} ${bytes} `));
  });

  const common = (path: string, sid: boolean) => ({
    time: expect.any(String),
    clientAddress: '127.0.0.1',
    method: 'GET',
    target: path,
    httpVersion,
    requestId: expect.stringMatching(/^[\w-]{13,}$/),
    host: 'localhost',
    ...(sid && { sid: expect.stringMatching(/^[\w-]{8}$/) }),
  });

  test.each(HANDSHAKES)('the access log has the line of a handshake %s', async (_what, question, expected) => {
    const seen = await knock(url(json), question, wire);
    expect(seen).toEqual({ status: expected.status, bytes: expected.bytesSent });
    expect(JSON.parse(await json.line())).toEqual({
      ...common(question.path, !isSessionless && expected.route !== undefined),
      event: 'request',
      complete: true,
      durationMs: expect.any(Number),
      ...expected,
    });
    apache.target = question.path;
    await knock(url(apache), question, wire);
    expect(await apache.line()).toMatch(new RegExp(`^${expected.status} `));
  });

  test.each(['resets its connection', 'ends its connection'])(
    'the access log has the line of a handshake whose client %s before it is answered',
    async how => {
      const headers = { 'sec-websocket-version': '13', 'x-wait': '1' };
      json.handshake = Promise.withResolvers();
      if (wire === 'HTTP/2') {
        const client = await Http2Client.connect(url(json));
        client.open({
          ':method': 'CONNECT',
          ':protocol': 'websocket',
          ':path': '/echo',
          ':authority': 'localhost',
          ...headers,
        });
        await json.handshake.promise;
        if (how.startsWith('resets')) client.session.destroy();
        else client.session.socket.destroy();
      } else {
        const upgrade = { host: 'localhost', connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-key': KEY };
        const request = http.get(new URL('/echo', url(json)), { agent: false, headers: { ...upgrade, ...headers } });
        request.on('error', () => {});
        await json.handshake.promise;
        if (how.startsWith('resets')) request.socket!.resetAndDestroy();
        else request.destroy();
      }
      expect(JSON.parse(await json.line())).toEqual({
        ...common('/echo', !isSessionless),
        ...{
          event: 'request',
          route: '/echo',
          status: 499,
          bytesSent: 0,
          complete: false,
          durationMs: expect.any(Number),
        },
      });
    },
  );

  test.runIf(wire === 'HTTP/2')('the access log says 505 where a backend signs in connections', async () => {
    using client = await Http2Client.connect(url(json));
    const stream = client.open({ ':path': '/app/signs-in', ':authority': 'localhost' });
    await new Promise(resolve => stream.on('close', resolve));
    expect(JSON.parse(await json.line())).toEqual({
      ...common('/app/signs-in', !isSessionless),
      ...{ ...byApp, event: 'request', status: 505, bytesSent: 0, complete: false, durationMs: expect.any(Number) },
    });
  });

  test('the access log has a line when the WebSocket of an endpoint opens, and one when it closes', async () => {
    await knock(url(json), { path: '/echo' }, wire);
    await expect.poll(() => json.lines.length).toBe(2);
    const [opened, closed] = json.lines.splice(0).map(line => JSON.parse(line));
    const facts = { ...common('/echo', !isSessionless), route: '/echo', connectionId: expect.any(String) };
    expect(opened).toEqual({ ...facts, event: 'socket-opened' });
    expect(closed).toEqual({
      ...facts,
      ...{ event: 'socket-closed', connectionId: opened.connectionId, closeCode: 1000, closeReason: '' },
      ...{ closedBy: 'client', durationMs: expect.any(Number), messagesReceived: 0, messagesSent: 0 },
      ...{ bytesReceived: expect.any(Number), bytesSent: expect.any(Number) },
    });
    expect(opened.requestId).toBe(closed.requestId);
  });

  test('the access log has a line when a relay opens, and one when it closes, with upstream and server', async () => {
    await knock(url(json), { path: '/app/socket' }, wire);
    await expect.poll(() => json.lines.length).toBe(2);
    const [opened, closed] = json.lines.splice(0).map(line => JSON.parse(json.named(line)));
    const facts = { ...common('/app/socket', !isSessionless), ...byApp, connectionId: expect.stringMatching(/^r/) };
    expect(opened).toEqual({ ...facts, event: 'socket-opened' });
    expect(closed).toEqual({
      ...facts,
      ...{ event: 'socket-closed', connectionId: opened.connectionId, closeCode: 1000, closeReason: '' },
      ...{ closedBy: 'client', durationMs: expect.any(Number), messagesReceived: 0, messagesSent: 0 },
      ...{ bytesReceived: expect.any(Number), bytesSent: expect.any(Number) },
    });
  });
});

describe('the address of the client', () => {
  const HEADER = 'PROXY TCP4 192.0.2.7 198.51.100.2 3000 443\r\n';

  test.each([
    ['behind a trusted proxy', '127.0.0.1', {}, '', 'X-Forwarded-For: 203.0.113.9\r\n', '203.0.113.9'],
    ['as IPv4 on a listener of IPv6', '::', {}, '', '', '127.0.0.1'],
    ['of a PROXY header', '127.0.0.1', { proxyProtocol: 'required' }, HEADER, '', '192.0.2.7'],
    [
      'of a PROXY header that writes it as IPv6',
      '127.0.0.1',
      { proxyProtocol: 'required' },
      'PROXY TCP6 ::ffff:192.0.2.7 ::1 3000 443\r\n',
      '',
      '192.0.2.7',
    ],
  ] as const)('%s is the same in both logs, for requests and handshakes, answered and refused', async (...row) => {
    const [, host, listen, first, headers, address] = row;
    const lines: string[] = [];
    const refused: unknown[] = [];
    const info = (fields: object) => void refused.push((fields as { address?: string }).address);
    await using server = createServer(
      {
        listen: [{ port: 0, host, hosts: ['a'], ...listen }],
        session: false,
        trustedProxies: ['127.0.0.1'],
        log: { access: 'json' },
        routes: [{ path: '/found', fetch: () => new Response('ok') }],
      },
      { logger: { ...silentLogger, info }, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const upgrade = `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n`;
    for (const [path, name, more] of [
      ['/found', 'a', 'Connection: close\r\n'],
      ['/none', 'a', 'Connection: close\r\n'],
      ['/found', 'other', 'Connection: close\r\n'],
      ['/none', 'a', upgrade],
      ['/found', 'other', upgrade],
    ]) {
      const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
      socket.write(`${first}GET ${path} HTTP/1.1\r\nHost: ${name}\r\n${headers}${more}\r\n`);
      await buffer(socket);
    }
    await expect.poll(() => lines.length).toBe(5);
    expect(lines.map(line => JSON.parse(line).clientAddress)).toEqual(Array(5).fill(address));
    expect(new Set(refused)).toEqual(new Set([address]));
  });
});
