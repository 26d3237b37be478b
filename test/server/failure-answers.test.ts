import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import tls from 'node:tls';
import { type Config, createServer, type Server } from 'holdfast';
import { afterAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { listenTcp, unusedServer } from '../gateway/gateway-server.ts';
import { createCertificate } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';

// What a client is told for each way in which a backend can fail, over HTTP and over WebSocket.

const dataFolder = mkdtempSync(join(tmpdir(), 'holdfast-failures-'));
const open = closing();

afterAll(() => rmSync(dataFolder, { recursive: true }));

interface Logged {
  reason?: string;
  failure?: string;
  status?: number;
  repeated?: number;
}

async function serve(config: Config): Promise<Server & { logged: Logged[] }> {
  const logged: Logged[] = [];
  const note = (fields: object) => void logged.push(fields);
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      dataFolder,
      routes: [{ path: '/*', upstream: 'app' }],
      ...config,
    },
    { logger: { ...silentLogger, info: note, warn: note } },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return Object.assign(server, { logged });
}

/** A backend that does this with each connection, once a request has come. */
async function backend(act: (socket: Socket) => void): Promise<string> {
  const server = await listenTcp(socket => socket.once('data', () => act(socket)));
  open.push(server);
  return server.url;
}

async function tlsBackend(name: string): Promise<string> {
  const { certificate, key } = createCertificate({ name });
  const server = tls.createServer({ cert: certificate, key }, socket => socket.on('error', () => {}));
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({ close: () => new Promise(resolve => server.close(resolve)) });
  return `https://localhost:${(server.address() as net.AddressInfo).port}`;
}

const HANDSHAKE =
  'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';

/** Reads until the server ends the connection, which it does by itself after an upgrade that was refused. */
async function ask(server: Server, headers = 'Connection: close\r\n'): Promise<string> {
  const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  socket.write(`GET / HTTP/1.1\r\nHost: a\r\n${headers}\r\n`);
  return text(socket);
}

const answering = (bytes: string) => () => backend(socket => socket.write(bytes));

describe('an upstream whose server', () => {
  test.each<[string, () => Promise<string>, number, string]>([
    ['refuses connections', unusedServer, 503, 'refused'],
    ['never answers', answering(''), 504, 'timeout'],
    ['closes without an answer', () => backend(socket => socket.end()), 502, 'reset'],
    ['resets', () => backend(socket => socket.resetAndDestroy()), 502, 'reset'],
    ['answers garbage', answering('\0\x01garbage\r\n\r\n'), 502, 'invalid'],
    ['answers as HTTP/0.9 did', answering('<html>hello</html>\r\n\r\n'), 502, 'invalid'],
    [
      'switches to another protocol',
      answering('HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'),
      502,
      'invalid',
    ],
    ['has a name that does not resolve', async () => 'http://does-not-exist.invalid', 502, 'dns'],
    [
      'speaks no TLS where it should',
      async () => (await backend(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))).replace('http', 'wss'),
      502,
      'tls',
    ],
    ['has the certificate of another', () => tlsBackend('other.example'), 502, 'tls'],
  ])('%s', async (_, make, status, reason) => {
    const servers = [await make()];
    const app = { servers, answerTimeout: 100, handshakeTimeout: 100, ejection: false as const };
    const server = await serve({ upstreams: { app }, exposeReason: true });
    for (const headers of [undefined, HANDSHAKE]) {
      const answer = await ask(server, headers);
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*\\r\\nHoldfast-Reason: ${reason}\\r\\n`));
      expect(/\r\nRetry-After: \d+\r\n/.test(answer)).toBe(status === 503);
    }
    // The second is of the kind of the first: it is counted, and the count is written at the latest when the server
    // stops.
    await server.stop({ drain: 0 });
    const counts = server.logged.filter(({ failure }) => failure === reason).map(({ repeated }) => repeated);
    expect(counts).toEqual([undefined, 1]);
    // Unless it is asked for, clients learn no more than the status.
    const silent = await serve({ upstreams: { app } });
    expect(await ask(silent)).not.toContain(reason);
    expect(silent.logged.some(({ failure }) => failure === reason)).toBe(true);
  });

  test.each([426, 401, 403])('answers %d is passed on, be it to a request or to a handshake', async status => {
    const app = {
      servers: [await answering(`HTTP/1.1 ${status} No\r\nHoldfast-Reason: dns\r\nContent-Length: 2\r\n\r\nno`)()],
    };
    const server = await serve({ upstreams: { app }, exposeReason: true });
    for (const headers of [undefined, HANDSHAKE]) {
      const answer = await ask(server, headers);
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*\r\n\r\nno$`));
      expect(answer).not.toContain('Holdfast-Reason');
    }
  });

  test('drains is 503 because of that, and so is an upstream without any', async () => {
    const app = { servers: [await answering('HTTP/1.1 204 No Content\r\n\r\n')()] };
    const server = await serve({ upstreams: { app }, exposeReason: true });
    const upstream = server.upstreams.get('app')!;
    await upstream.drain(upstream.status.servers[0]!.url);
    expect(await ask(server)).toMatch(/^HTTP\/1\.1 503 [\s\S]*Holdfast-Reason: draining\r\n/);
    await upstream.remove(upstream.status.servers[0]!.url);
    expect(await ask(server, HANDSHAKE)).toMatch(/^HTTP\/1\.1 503 [\s\S]*Holdfast-Reason: nomember\r\n/);
  });

  test('is the one a client belongs to and is gone is 503 with strict affinity, while others are there', async () => {
    const gone = { url: await unusedServer(), route: 'a' };
    const there = { url: await answering('HTTP/1.1 204 No Content\r\n\r\n')(), route: 'b' };
    const app = { servers: [gone, there], affinity: { by: 'route' as const, strict: true } };
    const server = await serve({ upstreams: { app }, exposeReason: true });
    const cookie = 'Cookie: JSESSIONID=x.a\r\nOrigin: http://a\r\nConnection: close\r\n';
    expect(await ask(server, cookie)).toMatch(/^HTTP\/1\.1 503 [\s\S]*Holdfast-Reason: refused\r\n/);
    expect(await ask(server, cookie.replace('x.a', 'x.b'))).toMatch(/^HTTP\/1\.1 204 /);
  });

  test('has no free connection for the connect timeout is 503', async () => {
    const app = { servers: [await backend(() => {})], maxConnections: 1, connectTimeout: 100 };
    const server = await serve({ upstreams: { app }, exposeReason: true });
    const first = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
    first.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await expect.poll(() => server.upstreams.get('app')!.status.servers[0]!.active).toBe(1);
    expect(await ask(server)).toMatch(/^HTTP\/1\.1 503 [\s\S]*Holdfast-Reason: busy\r\n/);
    first.destroy();
  });
});

test('a server that stops says so, and ends the connection', async () => {
  const app = { servers: [await answering('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone')()] };
  const server = await serve({ upstreams: { app }, exposeReason: true });
  const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  // When the answer comes, the beginning of the next request has come, too.
  socket.write('GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\n');
  let received = '';
  socket.on('data', data => {
    received += data;
  });
  while (!received.endsWith('done')) await once(socket, 'data');
  const stopped = server.stop();
  received = '';
  socket.write('Host: a\r\n\r\n');
  await once(socket, 'close');
  expect(received).toMatch(/^HTTP\/1\.1 503 [\s\S]*Connection: close\r\nHoldfast-Reason: draining\r\n/);
  await stopped;
});

test('a handshake of another version is told which one there is', async () => {
  const app = { servers: [await backend(() => {})] };
  const answer = await ask(await serve({ upstreams: { app } }), HANDSHAKE.replace('Version: 13', 'Version: 8'));
  expect(answer).toMatch(/^HTTP\/1\.1 426 [\s\S]*\r\nSec-WebSocket-Version: 13\r\n/);
});

test('a handshake from elsewhere is 403 and reaches no backend', async () => {
  let asked = 0;
  const app = { servers: [await backend(() => asked++)] };
  const answer = await ask(await serve({ upstreams: { app } }), `${HANDSHAKE}Origin: http://evil.example\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 403 /);
  expect(asked).toBe(0);
});
