import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { until } from '../services/until.ts';

// Beside test/full/guard-half-closed-clients.test.ts: answers for which a client that has ended its side is asked whether it is
// still there.

const CONFIG = `
import { createServer as createBackend } from 'node:http';

const gone = [];
const later = (ms, value) => new Promise(resolve => setTimeout(resolve, ms, value));
const backend = createBackend(async (request, response) => {
  await later(6_500);
  response.end('late');
});
await new Promise(resolve => backend.listen(0, '127.0.0.1', resolve));
backend.unref();

export default defineConfig({
  listen,
  session: { store: 'memory:' },
  upstreams: { app: { servers: [\`http://127.0.0.1:\${backend.address().port}\`], affinity: 'none' } },
  routes: [
    { path: '/fetch', session: 'create', fetch: () => later(6_500, new Response('late')) },
    { path: '/upstream', session: 'none', upstream: 'app' },
    { path: '/gone', session: 'none', fetch: () => Response.json(gone) },
    {
      path: '/events/*', session: 'none', fetch: request => {
        request.signal.addEventListener('abort', () => gone.push(new URL(request.url).pathname));
        return new Response(new ReadableStream({ start: controller => controller.enqueue(new TextEncoder().encode('first')) }));
      },
    },
  ],
});
`;

let server: Served;
beforeAll(async () => {
  server = await Served.module(CONFIG);
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

const wires = ['http/1', 'tls'] as const;
const cases = wires.flatMap(wire =>
  ['/fetch', '/upstream'].flatMap(path => ['1.1', '1.0'].map(version => [path, version, wire] as const)),
);

test.concurrent.each(cases)(
  '%s answers a client of HTTP/%s that has ended its side, after 6.5 s, over %s',
  async (...how) => {
    const [path, version, wire] = how;
    const socket = await server.dial(wire);
    let text = '';
    socket.on('data', chunk => {
      text += chunk.toString('latin1');
    });
    socket.end(`GET ${path} HTTP/${version}\r\nHost: localhost\r\n\r\n`);
    await once(socket, 'close');
    expect(text.match(/^HTTP\/1\.1 \d+|late/gm)).toEqual([
      // Only a client of HTTP/1.1 knows interim answers.
      ...(version === '1.1' ? ['HTTP/1.1 100', 'HTTP/1.1 100'] : []),
      ...['HTTP/1.1 200', 'late'],
    ]);
  },
  20_000,
);

test.concurrent.each(wires)(
  'an answer that has begun, and goes on no more, is given up after 5 s, over %s',
  async wire => {
    const socket = await server.dial(wire);
    let text = '';
    socket.on('data', chunk => {
      text += chunk.toString('latin1');
    });
    const start = performance.now();
    socket.end(`GET /events/${wire} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await once(socket, 'close');
    expect(text).toMatch(/first/);
    expect(performance.now() - start).toBeGreaterThan(4_000);
    await until(async () => (await (await fetch(`${server.url('http/1')}/gone`)).text()).includes(`/events/${wire}`));
  },
  20_000,
);
