import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { Served } from '../guard/served.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { until } from '../services/until.ts';

const PYTHON = '/usr/bin/python3';
const SCRIPT = fileURLToPath(new URL('message_limits.py', import.meta.url));
const TIMES = 20;
const LIMIT = 1024 * 1024;

const folder = mkdtempSync(join(tmpdir(), 'last-words-'));
const files = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

type Kind = 'ws' | 'aiohttp' | 'tornado' | 'websockets';

function absent(kind: Kind): string | undefined {
  if (kind === 'ws') return undefined;
  try {
    execFileSync(PYTHON, ['-c', `import ${kind}`], { stdio: 'ignore' });
    return undefined;
  } catch (error) {
    const reason = `${PYTHON} has no module "${kind}"`;
    if (process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(reason, { cause: error });
    return reason;
  }
}

/** A server that takes messages of up to 1 MiB. */
async function startLimited(kind: Kind, isTls: boolean) {
  const scheme = isTls ? 'https' : 'http';
  if (kind === 'ws') {
    const server = isTls
      ? https.createServer({ key: readFileSync(files.key), cert: readFileSync(files.certificate) })
      : http.createServer();
    const sockets = new WebSocketServer({ server, maxPayload: LIMIT });
    sockets.on('connection', socket => socket.on('error', () => {}));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, [Symbol.asyncDispose]: async () => void server.close().closeAllConnections() };
  }
  const tls = isTls ? [files.certificate, files.key] : [];
  const child = spawn(PYTHON, [SCRIPT, kind, ...tls], { stdio: ['pipe', 'pipe', 'ignore'] });
  const [port] = await once(child.stdout, 'data');
  return {
    url: `${scheme}://127.0.0.1:${Number(port)}`,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      child.stdin.end();
      child.kill();
      await exited;
    },
  };
}

for (const kind of ['ws', 'aiohttp', 'tornado', 'websockets'] as const) {
  const reason = absent(kind);
  describe.skipIf(reason)(reason ?? `a message of 2 MiB to ${kind}, which takes 1 MiB`, () => {
    test.each([
      ['http', 'http/1'],
      ['https', 'http/1'],
      ['http', 'tls'],
      ['https', 'http/2'],
    ] as const)(`over %s: its 1009 reaches a client of %s, ${TIMES} times of ${TIMES}`, async (scheme, wire) => {
      await using backend = await startLimited(kind, scheme === 'https');
      await using server = await Served.module(`export default defineConfig({
        listen,
        session: false,
        upstreams: { app: { servers: ['${backend.url}'], ...(${scheme === 'https'} && { tls: { verify: false } }) } },
        routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' }, websocket: { maxMessageSize: '4MiB' } }],
      });`);
      const codes: number[] = [];
      const message = Buffer.alloc(2 * LIMIT);
      for (let i = 0; i < TIMES; i++) {
        if (wire === 'http/2') {
          using client = await Http2Client.connect(server.url(wire));
          const socket = await client.webSocket('/socket');
          void socket.send(message);
          codes.push((await socket.closed).code);
        } else {
          const socket = new WebSocket(`${server.url(wire).replace('http', 'ws')}/socket`, {
            rejectUnauthorized: false,
            perMessageDeflate: false,
          });
          socket.on('error', () => {});
          await once(socket, 'open');
          socket.send(message);
          codes.push((await once(socket, 'close'))[0]);
        }
      }
      expect(codes).toEqual(Array(TIMES).fill(1009));
      expect(server.logged().filter(({ level }) => Number(level) >= 40)).toEqual([]);
    });
  });
}

/** Answers before it has read the body, and reads no more. */
async function startRefusing() {
  const server = http.createServer((_, response) => {
    response.writeHead(401, { Connection: 'close' }).end('too large');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => void server.close() };
}

test.each(['/upstream', '/files', '/fetch', '/moved'])(
  'over HTTP/2 the rest of a body that nobody reads is ended a second after the answer, as no error: %s',
  async path => {
    await using backend = await startRefusing();
    await using server = await Served.module(`export default defineConfig({
      listen,
      session: false,
      upstreams: { app: { servers: ['${backend.url}'] } },
      routes: [
        { path: '/upstream', upstream: 'app' },
        { path: '/fetch', fetch: () => new Response('no', { status: 413 }) },
        { path: '/moved', redirect: '/elsewhere' },
        { path: '/files', files: '.' },
      ],
    });`);
    using client = await Http2Client.connect(server.url('http/2'));
    const stream = client.session.request({ ':method': 'POST', ':path': path });
    stream.on('error', () => {});
    stream.write('begin');
    const [[headers]] = await Promise.all([once(stream, 'response'), once(stream.resume(), 'close')]);
    expect(headers[':status']).toBeGreaterThan(300);
    expect(stream.rstCode).toBe(http2.constants.NGHTTP2_NO_ERROR);
  },
  15_000,
);

test.concurrent.each(['http/1', 'tls'] as const)(
  'a client of %s that has gone is noticed although nobody reads it, by a relay and by an endpoint',
  async wire => {
    // It sends, and reads nothing.
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    const gone = Promise.withResolvers<void>();
    backend.on('connection', socket => {
      socket.pause();
      const timer = setInterval(() => socket.send('news'), 50);
      socket.on('error', () => {}).on('close', gone.resolve);
      (socket as unknown as { _socket: Socket })._socket.on('close', () => {
        clearInterval(timer);
        gone.resolve();
      });
    });
    await once(backend, 'listening');
    await using server = await Served.module(`
      const endpoint = defineEndpoint({
        path: '/endpoint', maxMessageSize: '64MiB', handlerTimeout: '5m', origins: 'any',
        onOpen: connection => void setInterval(() => connection.isOpen && connection.send('news'), 50),
        onMessage: () => new Promise(() => {}),
      });
      const websocket = { maxMessageSize: '64MiB' };
      export default defineConfig({
        listen,
        session: false,
        upstreams: { app: { servers: ['http://127.0.0.1:${(backend.address() as AddressInfo).port}'] } },
        routes: [
          { path: '/relay', upstream: 'app', policy: { origins: 'any' }, websocket },
          { path: '/open', fetch: () => new Response(String([...endpoint.connections].filter(one => one.isOpen).length)) },
          { path: '/endpoint', endpoint },
        ],
      });`);
    for (const path of ['/relay', '/endpoint']) {
      const socket = new WebSocket(`${server.url(wire).replace('http', 'ws')}${path}`, { rejectUnauthorized: false });
      socket.on('error', () => {});
      await once(socket, 'open');
      for (let i = 0; i < 32; i++) socket.send(Buffer.alloc(LIMIT));
      for (let waiting = 0; waiting !== socket.bufferedAmount; await wait(500)) waiting = socket.bufferedAmount;
      expect(socket.bufferedAmount).toBeGreaterThan(LIMIT);
      socket.terminate();
    }
    const start = performance.now();
    const countOpen = async () => (await fetch(`${server.url('http/1')}/open`)).text();
    expect(await countOpen()).toBe('1');
    await gone.promise;
    await until(async () => (await countOpen()) === '0', 20_000);
    expect(performance.now() - start).toBeGreaterThan(20_000);
    backend.close();
  },
  70_000,
);
