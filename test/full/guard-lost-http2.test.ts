import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { Http2Client } from '../server/http2-client.ts';
import { Inspected, inspectable } from '../services/inspected.ts';

let server: Served;
beforeAll(async () => {
  server = await Served.module(
    `
      const stream = () => {
        let timer;
        return new Response(new ReadableStream({
          start(controller) { timer = setInterval(() => controller.enqueue(new TextEncoder().encode('data: x\\n\\n')), 10); },
          cancel() { clearInterval(timer); },
        }), { headers: { 'Content-Type': 'text/event-stream' } });
      };
      export default defineConfig({ listen, session: false, admin: false, routes: [{ path: '/events', fetch: stream }] });
    `,
    { env: inspectable },
  );
});
afterAll(() => server?.[Symbol.asyncDispose]());

/** The connection below TLS, and TLS. */
async function dial(): Promise<{ below: Socket; socket: TLSSocket }> {
  const below = connect(server.port('http/2'), '127.0.0.1');
  below.on('error', () => {});
  await once(below, 'connect');
  const socket = connectTls({ socket: below, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return { below, socket };
}

const sockets = () => server.descriptors().filter(target => target.startsWith('socket')).length;

test('a client of HTTP/2 that goes while it is written to leaves no descriptor behind', async () => {
  const before = sockets();
  for (let i = 0; i < 10; i++) {
    const { below, socket } = await dial();
    using client = await Http2Client.connect(server.url('http/2'), socket);
    await once(client.open({ ':method': 'GET', ':path': '/events' }), 'data');
    // Its end comes first, and then a reset, for what it is sent still.
    below.destroy();
  }
  await expect.poll(sockets, { timeout: 10_000 }).toBe(before);
}, 30_000);

test('clients of HTTP/2 that speak something else and break off leave nothing behind in memory', async () => {
  for (let i = 0; i < 20; i++) {
    const { below, socket } = await dial();
    socket.write('something that is not HTTP at all\r\n\r\n');
    // With it, or when it has arrived.
    await pause(i % 10);
    below.resetAndDestroy();
  }
  using inspected = await Inspected.connect(server.program.stderr);
  const sessions = async () => (await inspected.census()).get('object ServerHttp2Session') ?? 0;
  await expect.poll(sessions, { timeout: 20_000, interval: 500 }).toBe(0);
}, 60_000);
