import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';

// Beside test/full/guard-half-closed-clients.test.ts: a client of whose requests so many wait that none is read.

const CONFIG = `
const gone = [];
const silent = request => {
  request.signal.addEventListener('abort', () => gone.push(new URL(request.url).pathname));
  return new Response(new ReadableStream({ start: controller => controller.enqueue(new TextEncoder().encode('first')) }));
};

export default defineConfig({
  listen,
  session: { store: 'memory:' },
  routes: [
    { path: '/silent/*', session: 'none', fetch: silent },
    { path: '/gone', session: 'none', fetch: () => Response.json(gone) },
  ],
});
`;

let server: Served;
beforeAll(async () => {
  server = await Served.module(CONFIG);
}, 30_000);
afterAll(() => server[Symbol.asyncDispose]());

const wires = ['http/1', 'tls'] as const;

test.concurrent.each(wires)(
  'who has gone from a silent answer with more requests behind it than are read is noticed within 70 s, over %s',
  async wire => {
    const head = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    const socket = await server.dial(wire);
    socket.write(head(`/silent/${wire}`) + head('/gone').repeat(40));
    await once(socket, 'data');
    socket.end();
    socket.destroy();
    const gone = async () => (await (await fetch(`${server.url('http/1')}/gone`)).json()) as string[];
    const end = performance.now() + 70_000;
    while (performance.now() < end && !(await gone()).includes(`/silent/${wire}`))
      await new Promise(resolve => setTimeout(resolve, 500));
    expect(await gone()).toContain(`/silent/${wire}`);
  },
  80_000,
);
