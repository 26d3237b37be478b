import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';

// Beside test/guard/half-closed.test.ts: answers for which a client that has ended its side is asked whether it is
// still there.

const CONFIG = `
import { createServer as createBackend } from 'node:http';

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
