import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import tls from 'node:tls';
import { expect, test } from 'vitest';
import { defineEndpoint } from '../../src/index.ts';
import { RawBackend, type Wire, WiredServer } from './wires.ts';

// A client may send before it is answered. What arrives after a connection is closed makes the kernel reset it, and then
// the client reads nothing of the answer.

const BODY = 'b'.repeat(20_000);
const PIECE = Buffer.alloc(64 * 1024, 0x61);

async function start() {
  const backend = await RawBackend.listen();
  backend.answer = () => `HTTP/1.1 403 Forbidden\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`;
  const server = await WiredServer.upstream(
    backend,
    {
      routes: [
        { endpoint: defineEndpoint({ path: '/refused', origins: 'any', accept: () => ({ status: 401, body: BODY }) }) },
        { path: '/none', fetch: () => new Response('no WebSocket') },
        { path: '/declined', upstream: 'app' },
      ],
    },
    {},
  );
  return { backend, server };
}

/** Sends for 700 ms, and reads nothing before that. Resolves with all that has come when the connection has ended. */
async function sendFirst(server: WiredServer, wire: Wire, path: string): Promise<string> {
  const options = { host: '127.0.0.1', port: server.port(wire) };
  const socket = wire === 'tls' ? tls.connect({ ...options, rejectUnauthorized: false }) : net.connect(options);
  await once(socket, wire === 'tls' ? 'secureConnect' : 'connect');
  const closed = new Promise(resolve => socket.on('close', resolve));
  socket.pause().on('error', () => {});
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: public.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
  );
  for (let sent = 0; sent < 7; sent++) {
    socket.write(PIECE);
    await wait(100);
  }
  let text = '';
  socket.on('data', chunk => {
    text += chunk.toString('latin1');
  });
  socket.resume();
  await closed;
  return text;
}

test.each(['http/1', 'tls'] as const)(
  'over %s, a client that is sending when its handshake is refused gets the whole answer',
  async wire => {
    const { backend, server } = await start();
    try {
      const [refused, none, declined] = await Promise.all(
        ['/refused', '/nowhere', '/declined'].map(path => sendFirst(server, wire, path)),
      );
      expect(refused!.slice(0, 13)).toBe('HTTP/1.1 401 ');
      expect(refused!.endsWith(BODY)).toBe(true);
      expect(none!.slice(0, 13)).toBe('HTTP/1.1 404 ');
      expect(declined!.slice(0, 13)).toBe('HTTP/1.1 403 ');
      expect(declined!.endsWith(BODY)).toBe(true);
    } finally {
      await server.close();
      await backend.close();
    }
  },
);

test('a client that goes on sending after its handshake is refused does not keep the server from stopping', async () => {
  const { backend, server } = await start();
  const sent = sendFirst(server, 'http/1', '/refused');
  await wait(300);
  const before = performance.now();
  await server.close();
  expect(performance.now() - before).toBeLessThan(1_000);
  await sent;
  await backend.close();
});
