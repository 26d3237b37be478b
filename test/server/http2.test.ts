import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo, connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { testClient } from '../../src/testing/index.ts';
import { FrameType, frame, settingsFrame } from '../guard/http2-wire.ts';
import { createAuthority, createCertificate, writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from './http2-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'http2-'));
const tls = writeSelfSignedCertificate(folder);
writeFileSync(join(folder, 'page.html'), '<p>page</p>');
afterAll(() => rmSync(folder, { recursive: true }));

const MIB = 1024 * 1024;

async function serve(config: Config = {}, listen: Partial<NonNullable<Config['listen']>[number]> = {}) {
  const log: { fields: object; message: string }[] = [];
  const note = (fields: object, message: string) => void log.push({ fields, message });
  const closed: { code: number; reason: string }[] = [];
  const echo = defineEndpoint({
    path: '/echo',
    subprotocols: ['chat.v1'],
    maxMessageSize: '4MiB',
    accept: ({ headers }) => (headers['x-refuse'] === undefined ? { headers: { 'X-Taken': 'yes' } } : false),
    onMessage: (connection, data) => void connection.send(data),
    onClose: (_, { code, reason }) => void closed.push({ code, reason }),
  });
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1', tls, ...listen }],
      session: false,
      ...config,
      routes: [
        { endpoint: echo },
        {
          path: '/facts',
          fetch: async (request, { clientAddress, isSecure }) =>
            Response.json({
              url: request.url,
              method: request.method,
              headers: Object.fromEntries(request.headers),
              body: request.body ? await request.text() : null,
              clientAddress,
              isSecure,
            }),
        },
        { path: '/files/*', files: folder },
        { path: '/moved', redirect: '/facts' },
        ...(config.routes ?? []),
      ],
    },
    { logger: { ...silentLogger, info: note, warn: note, error: note } },
  );
  await server.start();
  return {
    server,
    log,
    echo,
    closed,
    url: server.urls[0]!,
    [Symbol.asyncDispose]: () => server.stop({ drain: 0 }),
  };
}

function zeros(): Readable {
  return new Readable({
    read() {
      this.push(Buffer.alloc(65_536));
    },
  });
}

describe('requests of HTTP/2', () => {
  test('are agreed on in the TLS handshake, and HTTP/1.1 stays for who does not know it', async () => {
    await using served = await serve();
    for (const [offer, expected] of [
      [['h2', 'http/1.1'], 'h2'],
      [['http/1.1'], 'http/1.1'],
      [undefined, false],
    ] as const) {
      const { port } = new URL(served.url);
      const socket = connect({
        port: Number(port),
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ...(offer && { ALPNProtocols: [...offer] }),
      });
      await once(socket, 'secureConnect');
      expect(socket.alpnProtocol).toBe(expected);
      socket.destroy();
    }
  });

  test('reach a fetch handler as requests of HTTP/1.1 do', async () => {
    await using served = await serve();
    using client = new Http2Client(served.url);
    const { status, body } = await client.get('/facts?a=1', { cookie: ['a=1', 'b=2'], 'x-own': 'yes' });
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual({
      url: `https://${client.authority}/facts?a=1`,
      method: 'GET',
      headers: { host: client.authority, cookie: 'a=1; b=2', 'x-own': 'yes' },
      body: null,
      clientAddress: '127.0.0.1',
      isSecure: true,
    });
  });

  test.each([
    ['with a length', { 'content-length': '5' }],
    ['without a length', {}],
  ])('bring a body %s', async (_, headers) => {
    await using served = await serve();
    using client = new Http2Client(served.url);
    const { body } = await client.request({ ':method': 'POST', ':path': '/facts', ...headers }, 'hello');
    expect(JSON.parse(body)).toMatchObject({ method: 'POST', body: 'hello' });
  });

  test('without a body have none', async () => {
    await using served = await serve();
    using client = new Http2Client(served.url);
    const { body } = await client.request({ ':method': 'POST', ':path': '/facts' });
    expect(JSON.parse(body)).toMatchObject({ method: 'POST', body: null });
  });

  test('are limited as those of HTTP/1.1', async () => {
    await using served = await serve({ maxBodySize: '1KiB' });
    using client = new Http2Client(served.url);
    const { status } = await client.request({ ':method': 'POST', ':path': '/facts' }, Buffer.alloc(2048));
    expect(status).toBe(413);
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('get files, redirects, and refusals', async () => {
    await using served = await serve();
    using client = new Http2Client(served.url);
    const file = await client.get('/files/page.html');
    expect(file).toMatchObject({ status: 200, body: '<p>page</p>' });
    const { etag } = file.headers;
    expect(await client.get('/files/page.html', { 'if-none-match': etag })).toMatchObject({ status: 304, body: '' });
    expect(await client.request({ ':method': 'HEAD', ':path': '/files/page.html' })).toMatchObject({
      status: 200,
      body: '',
      headers: { 'content-length': '11' },
    });
    expect(await client.get('/moved')).toMatchObject({ status: 308, headers: { location: '/facts' } });
    expect((await client.get('/none')).status).toBe(404);
    expect((await client.get('/echo')).status).toBe(426);
  });

  test('whose Host is another than their authority are refused', async () => {
    await using served = await serve();
    using client = new Http2Client(served.url);
    expect((await client.get('/facts', { host: 'other.example' })).status).toBe(400);
    expect((await client.get('/facts', { host: client.authority })).status).toBe(200);
  });

  test('run side by side', async () => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    await using served = await serve({
      routes: [{ path: '/slow', fetch: () => gate.then(() => new Response('slow')) }],
    });
    using client = new Http2Client(served.url);
    const slow = client.get('/slow');
    expect((await client.get('/facts')).status).toBe(200);
    open();
    expect((await slow).body).toBe('slow');
  });

  test('whose client leaves abort their handler', async () => {
    const { promise: aborted, resolve } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const handler = (request: Request) => {
      request.signal.addEventListener('abort', () => resolve());
      begin();
      return new Promise<Response>(() => {});
    };
    await using served = await serve({ routes: [{ path: '/never', fetch: handler }] });
    using client = new Http2Client(served.url);
    const stream = client.open({ ':path': '/never' });
    await begun;
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await aborted;
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('keep a session, whose change is in the store before the headers leave', async () => {
    const server = { get: (): ReturnType<typeof createServer> => served.server };
    await using served = await serve({
      session: { store: 'memory:' },
      routes: [
        {
          path: '/count',
          fetch: async request => {
            const session = await server.get().sessions.open(request);
            const count = (session.get('count' as never) as unknown as number | undefined) ?? 0;
            session.set('count' as never, (count + 1) as never);
            return new Response(String(count + 1), { headers: { 'Set-Cookie': 'own=1' } });
          },
        },
      ],
    });
    using client = new Http2Client(served.url);
    const first = await client.get('/count');
    const cookies = first.headers['set-cookie']!;
    expect(cookies).toEqual(expect.arrayContaining([expect.stringMatching(/^__Host-/), 'own=1']));
    const cookie = cookies.find(value => value.startsWith('__Host-'))!.split(';')[0]!;
    expect((await client.get('/count', { cookie })).body).toBe('2');
  });
});

describe('requests of HTTP/2 to a backend', () => {
  let backend: http.Server;
  let seen: { request: http.IncomingMessage; body: Buffer } | undefined;
  beforeAll(async () => {
    backend = http.createServer(async (request, response) => {
      const body = await buffer(request);
      seen = { request, body };
      if (request.url === '/app/early') response.writeEarlyHints({ link: '</style.css>; rel=preload' });
      response.writeHead(201, 'Made', { 'Set-Cookie': ['a=1', 'b=2'], 'Keep-Alive': 'timeout=5', Trailer: 'X-Sum' });
      response.write(request.url === '/app/large' ? Buffer.alloc(8 * MIB, 'x') : 'answer');
      response.addTrailers({ 'X-Sum': '42' });
      response.end();
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
  });
  afterAll(() => void backend.close());

  const config = (): Config => ({
    upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
    routes: [{ path: '/app/*', upstream: 'app' }],
  });

  test('arrive as requests of HTTP/1.1, with one Cookie and one Host', async () => {
    await using served = await serve(config());
    using client = new Http2Client(served.url);
    const answer = await client.request(
      { ':method': 'POST', ':path': '/app/form', cookie: ['a=1', 'b=2'], te: 'trailers' },
      'a body',
    );
    expect(answer).toMatchObject({ status: 201, body: 'answer', trailers: { 'x-sum': '42' } });
    expect(answer.headers).toMatchObject({ 'set-cookie': ['a=1', 'b=2'] });
    expect(answer.headers).not.toHaveProperty('keep-alive');
    const { request, body } = seen!;
    expect(body.toString()).toBe('a body');
    expect(request.headers).toMatchObject({
      host: client.authority,
      cookie: 'a=1; b=2',
      'x-forwarded-proto': 'https',
      'transfer-encoding': 'chunked',
    });
    expect(request.rawHeaders.filter(name => name.startsWith(':'))).toEqual([]);
    expect(request.headers).toMatchObject({ te: 'trailers', connection: 'keep-alive, TE' });
  });

  test('pass bodies larger than any buffer, both ways', async () => {
    await using served = await serve(config());
    using client = new Http2Client(served.url);
    const sent = Buffer.alloc(8 * MIB, 'y');
    const { body } = await client.request({ ':method': 'PUT', ':path': '/app/large' }, sent);
    expect(seen!.body.equals(sent)).toBe(true);
    expect(body.length).toBe(8 * MIB);
  });

  test('have the same limits: the size of a body, and the silence of a client that is to send or to read', async () => {
    const endless = http.createServer((request, response) => {
      if (request.method === 'GET')
        zeros()
          .on('error', () => {})
          .pipe(response);
    });
    endless.listen(0, '127.0.0.1');
    await once(endless, 'listening');
    const app = {
      servers: [`http://127.0.0.1:${(endless.address() as AddressInfo).port}`],
      maxBodySize: 10,
      clientTimeout: 100,
    };
    await using served = await serve({ upstreams: { app }, routes: [{ path: '/app/*', upstream: 'app' }] });
    using client = new Http2Client(served.url);
    const post = { ':method': 'POST', ':path': '/app/x' };
    expect((await client.request({ ...post, 'content-length': '11' }, '12345678901')).status).toBe(413);
    expect((await client.request(post, '12345678901')).status).toBe(413);
    const stalled = client.open(post);
    stalled.write('1');
    const [answer] = await once(stalled, 'response');
    expect(answer[':status']).toBe(408);
    const unread = client.open({ ':path': '/app/x' }, { endStream: true });
    await once(unread, 'response');
    await new Promise(resolve => unread.on('close', resolve));
    expect(unread.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
    endless.closeAllConnections();
    endless.close();
  });

  test('pass interim answers on', async () => {
    await using served = await serve(config());
    using client = new Http2Client(served.url);
    const stream = client.open({ ':path': '/app/early' });
    const [hints] = await once(stream, 'headers');
    expect(hints).toMatchObject({ ':status': 103, link: '</style.css>; rel=preload' });
    const [answer] = await once(stream, 'response');
    expect(answer[':status']).toBe(201);
    stream.close();
  });

  test.each([
    [
      'a header twice that is to be there once',
      'Date: a\r\nDate: b\r\nContent-Type: a\r\nContent-Type: b',
      'X-A: b',
      200,
    ],
    ['headers and trailers that HTTP/2 forbids', 'HTTP2-Settings: a\r\nProxy-Connection: b', 'HTTP2-Settings: c', 200],
    ['trailers that are there twice', 'X-A: b', 'ETag: a\r\nETag: b', 200],
    ['a status that HTTP/2 does not have', '', '', 502],
  ])('pass with %s', async (_, headers, trailers, status) => {
    const line = status === 200 ? '200 OK' : '999 Odd';
    const rest = `Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n${trailers && `${trailers}\r\n`}\r\n`;
    const odd = net.createServer(socket => {
      const answer = `HTTP/1.1 ${line}\r\n${headers && `${headers}\r\n`}${rest}`;
      socket.on('error', () => {}).on('data', () => socket.write(answer));
    });
    odd.listen(0, '127.0.0.1');
    await once(odd, 'listening');
    await using served = await serve({
      upstreams: { app: { servers: [`http://127.0.0.1:${(odd.address() as AddressInfo).port}`] } },
      routes: [{ path: '/app/*', upstream: 'app' }],
    });
    using client = await Http2Client.connect(served.url);
    const answer = await client.get('/app/x');
    expect(answer).toMatchObject({ status, body: status === 200 ? 'hi' : 'Bad Gateway\n' });
    // A 200 would say that the WebSocket is open.
    expect((await client.knock('/app/x')).status).toBe(502);
    expect((await client.get('/moved')).status).toBe(308);
    odd.close();
  });

  test('that it breaks off are reset, so that they do not look complete', async () => {
    const broken = http.createServer((_, response) => {
      response.writeHead(200);
      response.write('begun', () => setTimeout(() => response.destroy(), 20));
    });
    broken.on('upgrade', (_, socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun', () => setTimeout(() => socket.destroy(), 20));
    });
    broken.listen(0, '127.0.0.1');
    await once(broken, 'listening');
    await using served = await serve({
      upstreams: { app: { servers: [`http://127.0.0.1:${(broken.address() as AddressInfo).port}`] } },
      routes: [{ path: '/app/*', upstream: 'app' }],
    });
    using client = await Http2Client.connect(served.url);
    const asked = client.open({ ':path': '/app/x' });
    await new Promise(resolve => asked.resume().on('close', resolve));
    expect(asked.rstCode).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR);
    const { stream: knocked } = await client.knock('/app/x');
    await new Promise(resolve => knocked.resume().on('close', resolve));
    expect(knocked.rstCode).toBe(http2.constants.NGHTTP2_CANCEL);
    broken.close();
  });

  test('are answered with 503 when there is none', async () => {
    const gone = { ...config(), upstreams: { app: { servers: ['http://127.0.0.1:1'] } } };
    await using served = await serve(gone);
    using client = new Http2Client(served.url);
    const answer = await client.request({ ':method': 'POST', ':path': '/app/form' }, 'a body');
    expect(answer).toMatchObject({ status: 503, headers: { 'retry-after': expect.any(String) } });
    expect((await client.get('/facts')).status).toBe(200);
  });
});

describe('WebSockets over HTTP/2', () => {
  test('are offered to the client, and open at an endpoint', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    expect(client.session.remoteSettings.enableConnectProtocol).toBe(true);
    const { stream, status, headers } = await client.knock('/echo', { 'sec-websocket-protocol': 'other, chat.v1' });
    expect(status).toBe(200);
    expect(headers).toMatchObject({ 'sec-websocket-protocol': 'chat.v1', 'x-taken': 'yes' });
    for (const name of ['connection', 'upgrade', 'sec-websocket-accept']) expect(headers).not.toHaveProperty(name);
    stream.close();
  });

  test('carry messages of every size both ways, many on one connection', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const sockets = await Promise.all(Array.from({ length: 20 }, () => client.webSocket('/echo')));
    expect(served.echo.connections.size).toBe(20);
    for (const [index, socket] of sockets.entries()) socket.send(`${index}`);
    for (const [index, socket] of sockets.entries()) expect(await socket.receive()).toBe(`${index}`);
    const large = Buffer.alloc(3 * MIB, 'z');
    sockets[0]!.send(large);
    expect(Buffer.compare((await sockets[0]!.receive()) as Buffer, large)).toBe(0);
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('close with code and reason from either side, and leave the connection', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const left = await client.webSocket('/echo');
    left.close(4001, 'bye');
    expect(await left.closed).toEqual({ code: 4001, reason: 'bye', clean: true });
    const sent = await client.webSocket('/echo');
    for (const connection of served.echo.connections) connection.close(4002, 'go');
    expect(await sent.closed).toEqual({ code: 4002, reason: 'go', clean: true });
    await expect
      .poll(() => served.closed)
      .toEqual([
        { code: 4001, reason: 'bye' },
        { code: 4002, reason: 'go' },
      ]);
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('that are reset are gone at once', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const { stream } = await client.knock('/echo');
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await expect.poll(() => served.closed).toEqual([{ code: 1006, reason: '' }]);
  });

  test('go with their connection', async () => {
    await using served = await serve();
    const client = await Http2Client.connect(served.url);
    await client.webSocket('/echo');
    client.session.destroy();
    await expect.poll(() => served.closed).toEqual([{ code: 1006, reason: '' }]);
  });

  test.each([
    ['to an unknown path', '/none', {}, 404],
    ['to a route that takes none', '/facts', {}, 400],
    ['from another origin', '/echo', { origin: 'https://evil.example' }, 403],
    ['that accept refuses', '/echo', { 'x-refuse': '1' }, 403],
    ['of another version', '/echo', { 'sec-websocket-version': '8' }, 426],
  ])('%s are refused as over HTTP/1.1, and the connection stays', async (_, path, headers, expected) => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const { status, stream } = await client.knock(path, headers);
    expect(status).toBe(expected);
    const body = await buffer(stream);
    expect(body.length).toBeGreaterThan(0);
    if (!stream.closed) await once(stream, 'close');
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('from the same origin are taken', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const { status } = await client.knock('/echo', { origin: `https://${client.authority}` });
    expect(status).toBe(200);
  });

  test('are relayed to a backend that speaks HTTP/1.1', async () => {
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'chat.v1' });
    await once(backend, 'listening');
    const asked: http.IncomingMessage[] = [];
    backend.on('connection', (socket, request) => {
      asked.push(request);
      socket.on('message', (data, isBinary) => {
        if (String(data) === 'close') socket.close(4003, 'enough');
        else socket.send(data, { binary: isBinary });
      });
    });
    await using served = await serve({
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [{ path: '/relay', upstream: 'app', websocket: { maxMessageSize: '4MiB' } }],
    });
    using client = await Http2Client.connect(served.url);
    const socket = await client.webSocket('/relay?a=1', {
      'sec-websocket-protocol': 'chat.v1',
      cookie: ['a=1', 'b=2'],
      origin: `https://${client.authority}`,
    });
    expect(socket.subprotocol).toBe('chat.v1');
    expect(asked[0]).toMatchObject({
      url: '/relay?a=1',
      headers: { cookie: 'a=1; b=2', 'x-forwarded-proto': 'https' },
    });
    const large = Buffer.alloc(2 * MIB, 'r');
    socket.send(large);
    expect(Buffer.compare((await socket.receive()) as Buffer, large)).toBe(0);
    socket.send('close');
    expect(await socket.closed).toEqual({ code: 4003, reason: 'enough', clean: true });
    expect((await client.get('/facts')).status).toBe(200);
    backend.close();
  });

  test('that a backend declines get its answer', async () => {
    const backend = http.createServer();
    backend.on('upgrade', (_, socket) => socket.end('HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort'));
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    await using served = await serve({
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [{ path: '/relay', upstream: 'app' }],
    });
    using client = await Http2Client.connect(served.url);
    const { status, stream } = await client.knock('/relay');
    expect(status).toBe(418);
    expect((await buffer(stream)).toString()).toBe('short');
    backend.close();
  });

  test('whose client does not read are cut off as over HTTP/1.1', async () => {
    const flood = defineEndpoint({ path: '/flood', maxBufferedAmount: '64KiB', slowReader: 'wait' });
    await using served = await serve({ routes: [{ endpoint: flood }] });
    using client = await Http2Client.connect(served.url);
    const { stream } = await client.knock('/flood');
    stream.pause();
    await expect.poll(() => flood.connections.size).toBe(1);
    const [connection] = flood.connections;
    const block = Buffer.alloc(16 * 1024);
    let sent = 0;
    while (connection!.isOpen && sent < 1_000) {
      connection!.send(block);
      sent++;
      await new Promise(resolve => setImmediate(resolve));
    }
    // Its window, what Node holds, and four times the limit.
    expect(sent).toBeLessThan(100);
    expect((await client.get('/facts')).status).toBe(200);
  });

  test('are told to go when the server stops', async () => {
    const served = await serve();
    using client = await Http2Client.connect(served.url);
    const socket = await client.webSocket('/echo');
    await served.server.stop({ drain: '5s' });
    expect(await socket.closed).toMatchObject({ code: 1001, clean: true });
    if (!client.session.closed) await once(client.session, 'close');
  });

  test('can be switched off, and with them all of HTTP/2', async () => {
    await using without = await serve({}, { http2: { websocket: false } });
    using client = await Http2Client.connect(without.url);
    expect(client.session.remoteSettings.enableConnectProtocol).toBe(false);
    expect((await client.get('/facts')).status).toBe(200);

    await using only1 = await serve({}, { http2: false });
    const { port } = new URL(only1.url);
    const socket = connect({
      port: Number(port),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ALPNProtocols: ['h2', 'http/1.1'],
    });
    await once(socket, 'secureConnect');
    expect(socket.alpnProtocol).toBe('http/1.1');
    socket.destroy();
  });

  test('stand beside those of HTTP/1.1 on one port', async () => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const [first, second] = [
      await client.webSocket('/echo'),
      await testClient(`${served.url}/echo`, { tls: { rejectUnauthorized: false } }),
    ];
    first.send('one');
    second.send('two');
    expect([await first.receive(), await second.receive()]).toEqual(['one', 'two']);
    second.terminate();
  });
});

describe('what belongs to the connection', () => {
  test('is known of each of its streams: the certificate of the client, and who it is behind a proxy', async () => {
    const authority = createAuthority('Test Authority');
    writeFileSync(join(folder, 'ca.crt'), authority.certificate);
    const seen: object[] = [];
    const facts = defineEndpoint({
      path: '/who',
      accept: ({ clientCertificate, remoteAddress, remotePort, isSecure }) => {
        seen.push({ name: clientCertificate?.subject.CN, remoteAddress, remotePort, isSecure });
        return true;
      },
    });
    await using served = await serve(
      { routes: [{ endpoint: facts }], trustedProxies: ['127.0.0.1'] },
      { tls: { ...tls, clientCertificates: { ca: join(folder, 'ca.crt') }, hsts: '1d' }, proxyProtocol: 'required' },
    );
    const raw = connectTcp(Number(new URL(served.url).port), '127.0.0.1');
    raw.write('PROXY TCP4 192.0.2.7 198.51.100.2 3000 443\r\n');
    const { certificate, key } = createCertificate({ name: 'alice', authority });
    const socket = connect({ socket: raw, rejectUnauthorized: false, ALPNProtocols: ['h2'], cert: certificate, key });
    using client = await Http2Client.connect(served.url, socket);
    await client.webSocket('/who');
    const { headers, body } = await client.get('/facts');
    expect(headers['strict-transport-security']).toBe('max-age=86400');
    expect(JSON.parse(body)).toMatchObject({ clientAddress: '192.0.2.7', isSecure: true });
    expect(seen).toEqual([{ name: 'alice', remoteAddress: '192.0.2.7', remotePort: 3000, isSecure: true }]);
  });
});

describe('CONNECT over HTTP/2', () => {
  test.each([
    ['without a protocol', { ':authority': 'example.com:80' }, 400],
    ['for an unknown protocol', { ':protocol': 'connect-udp', ':path': '/echo', ':scheme': 'https' }, 501],
  ])('%s is refused', async (_, headers, expected) => {
    await using served = await serve();
    using client = await Http2Client.connect(served.url);
    const stream = client.session.request({ ':method': 'CONNECT', ':authority': client.authority, ...headers });
    stream.on('error', () => {});
    stream.resume();
    const [answer] = await once(stream, 'response');
    expect(answer[':status']).toBe(expected);
    expect((await client.get('/facts')).status).toBe(200);
  });
});

describe('a client of HTTP/2 that asks for too much', () => {
  test('in one head is refused', async () => {
    await using served = await serve({ maxHeaderSize: '8KiB' });
    using client = await Http2Client.connect(served.url);
    const stream = client.open({ ':path': '/facts', 'x-large': 'x'.repeat(9_000) });
    await new Promise(resolve => stream.on('close', resolve));
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    using other = await Http2Client.connect(served.url);
    expect((await other.get('/facts')).status).toBe(200);
  });

  test('by streams that it resets at once is served no more, and others do not notice', async () => {
    let count = 0;
    await using server = await serve({ routes: [{ path: '/count', fetch: () => new Response(String(++count)) }] });
    using client = await Http2Client.connect(server.url);
    const { session } = client;
    const isGone = () => session.destroyed || session.closed;
    for (let opened = 0; opened < 10_000 && !isGone(); opened++) {
      client.open({ ':path': '/count' }).close(http2.constants.NGHTTP2_CANCEL);
      if (opened % 50 === 49) await new Promise(resolve => setImmediate(resolve));
    }
    using other = await Http2Client.connect(server.url);
    expect((await other.get('/facts')).status).toBe(200);
    expect(count).toBeLessThan(5_000);
  });

  test('by a head that never ends loses its connection', async () => {
    await using server = await serve();
    const { port } = new URL(server.url);
    const socket = connect({
      port: Number(port),
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
    });
    socket.on('error', () => {});
    await once(socket, 'secureConnect');
    socket.resume();
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(settingsFrame({}));
    socket.write(frame(FrameType.headers, 0, 1, Buffer.from([0x82, 0x87, 0x84])));
    const more = Buffer.concat(
      Array.from({ length: 100 }, () =>
        frame(FrameType.continuation, 0, 1, Buffer.from('\x00\x01x\x01y'.repeat(20), 'latin1')),
      ),
    );
    const closed = once(socket, 'close');
    socket.write(more);
    await closed;
  });
});
