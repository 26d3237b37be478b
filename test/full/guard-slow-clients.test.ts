import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect } from 'vitest';
import { FrameType, frame, Http2Wire, Setting } from '../guard/http2-wire.ts';
import { every, Peer } from '../guard/peer.ts';
import { Served } from '../guard/served.ts';
import { States } from '../guard/states.ts';
import { until } from '../services/until.ts';

// What takes longer than `npm test` has: limits of heads with the times that Node keeps, and the rate of 500 bytes a
// second, which counts after 20 s.

const routes = `[
  { path: '/go', redirect: '/elsewhere' },
  { path: '/read', fetch: async request => new Response(String((await request.text()).length)) },
  { path: '/endless', fetch: () => stream(controller => controller.enqueue(Buffer.alloc(16384))) },
  { path: '/silent', fetch: () => stream(() => new Promise(() => {})) },
  { path: '/ticking', fetch: () => stream(async controller => { await wait(100); controller.enqueue(Buffer.from('x')); }) },
  { path: '/app/*', upstream: 'app' },
]`;
const module = (options: string) =>
  `const wait = ms => new Promise(resolve => setTimeout(resolve, ms));
  const stream = pull => new Response(new ReadableStream({ pull }));
  export default defineConfig({ listen, session: false, ${options} routes: ${routes} });`;

const states = new States();
let backend: http.Server;
let quick: Served;
let byDefault: Served;

beforeAll(async () => {
  backend = http.createServer((request, response) => {
    request.on('error', () => {}).resume();
    request.on('end', () => response.end('ok'));
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const { port } = backend.address() as AddressInfo;
  const upstreams = `upstreams: { app: { servers: ['http://127.0.0.1:${port}'] } },`;
  quick = await Served.module(module(`headerTimeout: '2s', clientTimeout: '3s', keepAliveTimeout: '5s', ${upstreams}`));
  byDefault = await Served.module(module(upstreams));
  states.begin();
});

afterAll(async () => {
  await quick?.[Symbol.asyncDispose]();
  await byDefault?.[Symbol.asyncDispose]();
  backend.close();
});

const both = ['http/1', 'tls'] as const;

states.add(
  'a kept connection with nothing but $what ends ($wire)',
  both.flatMap(wire => [
    { wire, what: 'empty lines', begin: '', more: '\r\n' },
    { wire, what: 'a head that trickles in', begin: 'GET /go HTTP/1.1\r\nX: ', more: 'x' },
  ]),
  async ({ wire, begin, more }) => {
    using peer = new Peer(await quick.dial(wire));
    peer.socket.write('GET /go HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await until(() => peer.text.startsWith('HTTP/1.1 308 '), 15_000);
    peer.socket.write(begin);
    void peer.trickle(more);
    await until(() => peer.isClosed, 60_000);
  },
);

states.add('a TLS handshake that trickles in ends', [{}], async () => {
  using peer = new Peer(await quick.dial('http/1', quick.port('tls')));
  // The beginning of a ClientHello of 16 KiB.
  peer.socket.write(Buffer.from('16030140000100', 'hex'));
  void peer.trickle('x');
  await until(() => peer.isClosed, 60_000);
});

states.add('a connection of HTTP/2 that brings no request ends', [{}], async () => {
  using wire = await Http2Wire.dial(quick.port('http/2'));
  await until(() => wire.isClosed, 60_000);
});

states.add('a connection of HTTP/2 that never acknowledges our settings ends, also with a stream', [{}], async () => {
  using wire = new Http2Wire(quick.port('http/2'));
  wire.acknowledgesSettings = false;
  const stream = wire.request('GET', '/ticking');
  await until(() => wire.statusOf(stream) === 200, 15_000);
  using _ = every(200, () => wire.isClosed || wire.request('GET', '/go'));
  await until(() => wire.isClosed, 20_000);
});

states.add(
  'a head over HTTP/2 that never ends, beside a stream that $what, ends the connection',
  [
    { what: 'says nothing', path: '/silent' },
    { what: 'goes on', path: '/ticking' },
  ],
  async ({ path }) => {
    using wire = await Http2Wire.dial(quick.port('http/2'));
    const other = wire.request('GET', path);
    await until(() => wire.statusOf(other) === 200, 15_000);
    // In the middle of a head no client can answer anything.
    wire.answersPings = false;
    wire.socket.write(frame(FrameType.headers, 0, other + 2, Buffer.alloc(16_000)).subarray(0, 20));
    using _ = every(500, () => wire.socket.write('x'));
    await until(() => wire.isClosed, 60_000);
  },
);

states.add(
  'a body with 50 bytes a second is answered with 408 after 20 s ($wire $path)',
  both.flatMap(wire => ['/read', '/app/x'].map(path => ({ wire, path }))),
  async ({ wire, path }) => {
    using peer = new Peer(await byDefault.dial(wire));
    peer.socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n`);
    void peer.trickle('x'.repeat(10), 200);
    await wait(15_000);
    expect(peer.isClosed).toBe(false);
    await until(() => peer.isClosed, 60_000);
    expect(peer.text).toMatch(/^HTTP\/1\.1 408 /);
  },
);

states.add('a body over HTTP/2 with 50 bytes a second is answered with 408, one with 1,000 is not', [{}], async () => {
  using wire = await Http2Wire.dial(byDefault.port('http/2'));
  const slow = wire.request('POST', '/read', { isWhole: false });
  const enough = wire.request('POST', '/read', { isWhole: false });
  using _ = every(200, () => {
    if (!wire.isOver(slow)) wire.data(slow, 'x'.repeat(10));
    wire.data(enough, 'x'.repeat(200));
  });
  await until(() => wire.statusOf(slow) === 408, 60_000);
  await wait(10_000);
  expect(wire.isOver(enough)).toBe(false);
});

states.add('a body with 1,000 bytes a second comes through', [{}], async () => {
  using peer = new Peer(await byDefault.dial('http/1'));
  peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 35000\r\n\r\n');
  for (let sent = 0; sent < 35_000; sent += 250) {
    peer.socket.write('x'.repeat(250));
    await wait(250);
  }
  await until(() => /^HTTP\/1\.1 200 [\s\S]*35000$/.test(peer.text), 15_000);
});

states.add(
  'an answer over HTTP/2 whose window gives 50 bytes a second is reset, one with 2,000 is not',
  [{}],
  async () => {
    const closed = { [Setting.initialWindowSize]: 0 };
    using fast = await Http2Wire.dial(byDefault.port('http/2'), closed);
    using slow = await Http2Wire.dial(byDefault.port('http/2'), closed);
    const [taken, held] = [fast.request('GET', '/endless'), slow.request('GET', '/endless')];
    const from = performance.now();
    using _ = every(200, () => {
      for (const [wire, stream, bytes] of [[fast, taken, 400] as const, [slow, held, 10] as const]) {
        wire.widen(0, bytes);
        wire.widen(stream, bytes);
      }
    });
    await until(() => slow.isOver(held), 60_000);
    expect(performance.now() - from).toBeGreaterThan(18_000);
    await wait(10_000);
    expect(fast.isOver(taken)).toBe(false);
    expect(fast.bytesOf(taken)).toBeGreaterThan(20_000);
  },
);

states.tests();
