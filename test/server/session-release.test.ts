import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { FaultyStore } from '../session/fixture.ts';

let dataFolder: string;
let backend: http.Server;
let store: FaultyStore;
let server: Server;
let port: number;
let cookie: string;

beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-release-'));
  backend = http.createServer((_, response) => response.end('ok')).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  store = new FaultyStore();
  server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store },
      dataFolder,
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [
        { endpoint: defineEndpoint({ path: '/socket' }) },
        { path: '/backend', upstream: 'app' },
        { path: '/plain', fetch: () => new Response('plain') },
        {
          path: '/open',
          fetch: async request => {
            await server.sessions.open(request);
            return new Response();
          },
        },
      ],
      log: { access: 'off' },
    },
    { logger: silentLogger },
  );
  await server.start();
  port = Number(new URL(server.urls[0]!).port);
  const opened = await fetch(`http://127.0.0.1:${port}/open`);
  await opened.text();
  cookie = opened.headers.getSetCookie()[0]!.split(';')[0]!;
  await expect.poll(active).toBe(0);
});
afterEach(async () => {
  await server.stop({ drain: 0 });
  backend.close();
  await rm(dataFolder, { recursive: true });
});

const active = () => server.sessions.statistics().activeNow;

async function send(path: string, lines: readonly string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  let answer = '';
  socket.on('data', data => {
    answer += data;
  });
  const head = [`GET ${path} HTTP/1.1`, 'Host: a', 'Origin: http://a', `Cookie: ${cookie}`, ...lines];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  await once(socket, 'close');
  return answer;
}

describe('a session is held by nobody any more', () => {
  test.each([
    ['a WebSocket is asked for where there is none', '/plain', ['Sec-WebSocket-Version: 13'], 400],
    ['the handshake for a backend is a bad one', '/backend', ['Sec-WebSocket-Version: 13'], 400],
    ['the handshake for a backend is of another version', '/backend', ['Sec-WebSocket-Version: 12'], 426],
    ['the handshake for an endpoint is a bad one', '/socket', ['Sec-WebSocket-Version: 13'], 400],
  ])('after %s', async (_what, path, lines, status) => {
    const { cacheHits } = server.sessions.statistics();
    const answer = await send(path, ['Connection: Upgrade', 'Upgrade: websocket', ...lines]);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(server.sessions.statistics().cacheHits).toBe(cacheHits + 1); // it was held
    expect(active()).toBe(0);
  });

  test.each(['/plain', '/backend', '/open'])('after its client has left while it was read, at %s', async path => {
    const asked = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    store.before = call => {
      if (call !== 'glance') return;
      asked.resolve();
      return gate.promise;
    };
    const { cacheHits } = server.sessions.statistics();
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nCookie: ${cookie}\r\n\r\n`);
    await asked.promise;
    socket.destroy();
    // The server cannot be seen to notice it.
    await new Promise(resolve => setTimeout(resolve, 50));
    gate.resolve();
    await expect.poll(() => server.sessions.statistics().cacheHits).toBe(cacheHits + 1);
    await expect.poll(active).toBe(0);
  });
});
