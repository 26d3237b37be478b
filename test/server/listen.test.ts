import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { afterAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

const folder = mkdtempSync(join(tmpdir(), 'listen-'));
afterAll(() => rmSync(folder, { recursive: true }));

const UPGRADE =
  'GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n';

async function serve(config: Config) {
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      ...config,
      routes: [{ endpoint: defineEndpoint({ path: '/socket' }) }, ...(config.routes ?? [])],
    },
    { logger: silentLogger },
  );
  await server.start();
  return {
    server,
    async dial(): Promise<Socket> {
      const socket = connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      return socket;
    },
    [Symbol.asyncDispose]: () => server.stop({ drain: 0 }),
  };
}

test('a handshake that is pipelined behind a request is answered after it, and not as a handshake', async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  await using served = await serve({
    routes: [{ path: '/slow', fetch: () => gate.then(() => new Response('slow')) }],
  });
  const socket = await served.dial();
  socket.end(`GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${UPGRADE}`);
  open();
  const answers = await text(socket);
  expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 426']);
});

test('a handshake on a connection that carried requests before is taken', async () => {
  await using served = await serve({ routes: [{ path: '/fast', fetch: () => new Response('fast') }] });
  const socket = await served.dial();
  socket.write('GET /fast HTTP/1.1\r\nHost: a\r\n\r\n');
  let answers = '';
  for await (const chunk of socket) {
    answers += chunk;
    if (answers.endsWith('fast')) socket.write(UPGRADE);
    if (answers.endsWith('\r\n\r\n')) break;
  }
  expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 101']);
});

test('garbage behind a request whose answer has begun cuts the connection and writes nothing into the answer', async () => {
  const body = new ReadableStream({
    start: controller => controller.enqueue(new TextEncoder().encode('begun')),
  });
  await using served = await serve({
    routes: [{ path: '/endless', fetch: () => new Response(body, { headers: { 'Content-Length': '1000' } }) }],
  });
  const socket = await served.dial();
  socket.write('GET /endless HTTP/1.1\r\nHost: a\r\n\r\n');
  let answer = '';
  socket.on('data', chunk => {
    answer += chunk;
    if (answer.endsWith('begun')) socket.write('\0garbage\r\n\r\n');
  });
  await once(socket, 'close');
  expect(answer).toMatch(/^HTTP\/1\.1 200[\s\S]*begun$/);
});

test('a malformed body is answered with 400 while its request has no answer yet', async () => {
  await using served = await serve({
    routes: [{ path: '/echo', fetch: async request => new Response(await request.text()) }],
  });
  const socket = await served.dial();
  socket.write('POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n');
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
});

test('CONNECT is answered with 400', async () => {
  await using served = await serve({});
  const socket = await served.dial();
  socket.write('CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n');
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
});

test.each([
  ['nothing', ''],
  ['the beginning of a TLS hello', '\x16\x03\x01\x02\x00\x01'],
])('a client of a TLS port that sends %s has the time of a request head', async (_, bytes) => {
  const { certificate, key } = writeSelfSignedCertificate(folder);
  await using served = await serve({
    listen: [{ port: 0, host: '127.0.0.1', tls: { certificate, key } }],
    headerTimeout: '50ms',
  });
  const socket = await served.dial();
  socket.write(bytes, 'latin1');
  await once(socket.resume(), 'close');
});

test.each([
  ['nothing', ''],
  ['half a request line', 'GET / HT'],
  ['a head without an end', 'GET / HTTP/1.1\r\nHost: a\r\n'],
])('a client that sends %s has the time of a request head', async (_, bytes) => {
  await using served = await serve({ headerTimeout: '50ms' });
  const socket = await served.dial();
  socket.write(bytes);
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 /);
});

test('a head that goes on byte by byte ends as one that stops', async () => {
  await using served = await serve({ headerTimeout: '100ms' });
  const socket = await served.dial();
  socket.write('GET / HTTP/1.1\r\nX: ');
  const dripping = setInterval(() => socket.write('x'), 10);
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 /);
  clearInterval(dripping);
});

test('connections that are reset in any state end nothing but themselves', async () => {
  const never = new Promise<Response>(() => {});
  await using served = await serve({
    routes: [
      { path: '/never', fetch: () => never },
      { path: '/body', fetch: async request => new Response(await request.text()) },
    ],
  });
  const resets = ['', 'GET /', 'GET /never HTTP/1.1\r\nHost: a\r\n\r\n', UPGRADE, `${UPGRADE}\x81`].concat(
    'POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf',
  );
  for (const bytes of resets) {
    const socket = await served.dial();
    if (bytes !== '') socket.write(bytes, 'latin1');
    await new Promise(resolve => setTimeout(resolve, 5));
    socket.resetAndDestroy();
  }
  expect((await fetch(new URL('/none', served.server.urls[0]))).status).toBe(404);
});

test('a server that stops ends a connection as soon as its request is answered', async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  await using served = await serve({
    routes: [{ path: '/slow', fetch: () => gate.then(() => new Response('slow')) }],
  });
  const socket = await served.dial();
  socket.write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n');
  // The request has come as soon as the server answers another one that came later.
  await fetch(new URL('/none', served.server.urls[0])).then(response => response.text());
  const stopped = served.server.stop({ drain: '1h' });
  open();
  expect(await text(socket)).toMatch(/slow$/);
  await stopped;
});

test.runIf(process.platform === 'linux').each(['plain', 'TLS', 'PROXY header'])(
  'a client that vanishes without a word is found out by TCP, which asks for it: %s',
  async kind => {
    const tls = kind === 'TLS' && writeSelfSignedCertificate(folder);
    await using served = await serve({
      trustedProxies: ['127.0.0.1'],
      listen: [
        {
          port: 0,
          host: '127.0.0.1',
          ...(tls && { tls }),
          ...(kind === 'PROXY header' && { proxyProtocol: 'required' }),
        },
      ],
    });
    const client = await served.dial();
    // Local and remote port, state, ..., which timer runs (2: keep-alive), when, in hundredths of a second.
    const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0');
    const line = new RegExp(`:${hex(client.remotePort!)} \\w+:${hex(client.localPort!)} 01 \\S+ (\\w\\w):(\\w+) `);
    const timer = () => line.exec(readFileSync('/proc/net/tcp', 'latin1'))?.slice(1);
    await expect.poll(timer).toEqual(['02', expect.stringMatching(/^0000(16|17)[0-9A-F]{2}$/)]); // 60 s
    client.destroy();
  },
);
