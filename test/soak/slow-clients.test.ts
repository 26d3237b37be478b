import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Http2Wire, Setting } from '../guard/http2-wire.ts';
import { Peer } from '../guard/peer.ts';
import { Served } from '../guard/served.ts';

// Beside test/guard/slow-clients.test.ts: the limits as they are where nothing is set, in real time.

const LARGE = 16 * 1024 * 1024;
const targets = ['/files/large', '/endless', '/whole', '/app/large'];

describe.each([
  // A byte that it has taken is credit, up to as much time as the silence that is borne anyway.
  { what: 'the rate after 20 s, or the silence of 60 s', setting: '', from: 15_000, to: 75_000 },
  { what: 'the silence of 60 s, without a rate', setting: 'clientRate: -1,', from: 55_000, to: 75_000 },
])('a client that owes something is ended by $what', ({ setting, from, to }) => {
  let backend: http.Server;
  let server: Served;
  beforeAll(async () => {
    backend = http.createServer((request, response) => {
      request.on('error', () => {}).resume();
      response.end(Buffer.alloc(LARGE));
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    server = await Served.module(
      `const read = async request => new Response(String((await request.text()).length));
      const endless = { pull: controller => controller.enqueue(Buffer.alloc(65536)) };
      export default defineConfig({
        listen, session: false, ${setting}
        upstreams: { app: { servers: ['http://127.0.0.1:${(backend.address() as AddressInfo).port}'] } },
        routes: [
          { path: '/app/*', upstream: 'app' },
          { path: '/files/*', files: 'public' },
          { path: '/read', fetch: read },
          { path: '/whole', fetch: () => new Response(Buffer.alloc(${LARGE})) },
          { path: '/endless', fetch: () => new Response(new ReadableStream(endless)) },
        ],
      });`,
      { files: { 'public/large': Buffer.alloc(LARGE) } },
    );
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    backend.closeAllConnections();
    backend.close();
  });

  /** How long it takes until it holds. */
  async function lasts(isOver: () => boolean): Promise<number> {
    const start = performance.now();
    while (!isOver() && performance.now() - start < 120_000) await new Promise(resolve => setTimeout(resolve, 200));
    return performance.now() - start;
  }

  test.concurrent.each((['http/1', 'tls'] as const).flatMap(wire => targets.map(path => [wire, path] as const)))(
    'over %s that does not take the answer of %s',
    async (wire, path) => {
      const socket = await server.dial(wire);
      const { localPort, remotePort } = socket;
      socket.on('error', () => {}).on('readable', () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      const ms = await lasts(() => !server.holds({ localPort, remotePort }));
      socket.destroy();
      expect(ms).toBeGreaterThan(from);
      expect(ms).toBeLessThan(to);
    },
  );

  test.concurrent.each(targets)('over HTTP/2 that opens no window for the answer of %s', async path => {
    using wire = await Http2Wire.dial(server.port('http/2'), { [Setting.initialWindowSize]: 0 });
    const stream = wire.request('GET', path);
    const ms = await lasts(() => wire.isOver(stream));
    expect(ms).toBeGreaterThan(from);
    expect(ms).toBeLessThan(to);
    expect(wire.isClosed).toBe(false);
  });

  test.concurrent.each(['http/1', 'tls'] as const)('over %s that does not send the rest of a body', async wire => {
    const peer = new Peer(await server.dial(wire));
    peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx');
    const ms = await lasts(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 408 /);
    expect(ms).toBeGreaterThan(from);
    expect(ms).toBeLessThan(to);
  });
});
