import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';

const FLOOD_BYTES = 6 * 1024 * 1024;
const MOST_GROWTH_BYTES = 40 * 1024 * 1024;

let server: Served;
beforeAll(async () => {
  server = await Served.module(
    `export default defineConfig({ listen, session: false, routes: [
       { path: '/slow', fetch: () => new Promise(() => {}) },
       { path: '/*', fetch: () => new Response('served') },
     ] });`,
  );
});
afterAll(() => server[Symbol.asyncDispose]());

/** Sends as long as the other side takes it, at most for a while. */
async function flood(socket: Socket, text: string): Promise<void> {
  const chunk = Buffer.from(text.repeat(Math.ceil(64 / text.length) * 1_000));
  for (let sent = 0; sent < FLOOD_BYTES && !socket.destroyed; sent += chunk.length) {
    if (socket.write(chunk)) continue;
    const timeout = AbortSignal.timeout(2_000);
    const isTaken = await once(socket, 'drain', { signal: timeout }).then(
      () => true,
      () => false,
    );
    if (!isTaken) return;
  }
}

test.each(['http/1', 'tls'] as const)(
  'what follows a request whose Upgrade was ignored costs no memory while it is answered, over %s',
  async wire => {
    const before = server.residentBytes();
    const socket = await server.dial(wire);
    socket.write('GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
    await new Promise(resolve => setTimeout(resolve, 200)); // in a packet of its own
    await flood(socket, 'GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(server.residentBytes() - before).toBeLessThan(MOST_GROWTH_BYTES);
    socket.destroy();
  },
);
