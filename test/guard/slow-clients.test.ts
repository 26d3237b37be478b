import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect } from 'vitest';
import { until } from '../services/until.ts';
import { FrameType, Http2Wire, Setting } from './http2-wire.ts';
import { every, Peer } from './peer.ts';
import { Served } from './served.ts';
import { States } from './states.ts';

// What a client can hold open, for each target and each wire: all of it has an end, with a `clientTimeout` of two
// seconds.
// Every state takes seconds, so all are begun together.

const states = new States();
const ignore = () => {};
const LARGE = 16 * 1024 * 1024;

let backend: http.Server;
let server: Served;
let internalPort: number;

beforeAll(async () => {
  backend = http.createServer((request, response) => {
    request.on('error', () => {}).resume();
    if (request.url === '/app/large') response.end(Buffer.alloc(LARGE));
    else request.on('end', () => response.end('ok'));
  });
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  const { port } = backend.address() as AddressInfo;
  server = await Served.module(
    `const stream = pull => new Response(new ReadableStream({ pull }));
    const read = async request => new Response(String((await request.text()).length));
    const wait = ms => new Promise(resolve => setTimeout(resolve, ms));
    export default defineConfig({
      listen, clientTimeout: '2s',
      session: { store: 'memory:' },
      internal: { port: 0 },
      upstreams: { app: { servers: ['http://127.0.0.1:${port}'], sessionApi: { tokenVariable: 'TOKEN' }, controlsSession: true } },
      routes: [
        { path: '/app/*', upstream: 'app' },
        { path: '/files/*', files: 'public' },
        { path: '/go', redirect: '/elsewhere' },
        { path: '/far', redirect: '/${'x'.repeat(30_000)}' },
        { path: '/read', session: 'none', fetch: read },
        { path: '/ignore', session: 'none', fetch: () => new Response('ignored') },
        { path: '/whole', session: 'none', fetch: () => new Response(Buffer.alloc(${LARGE})) },
        { path: '/megabyte', session: 'none', fetch: () => new Response(Buffer.alloc(2 ** 20)) },
        { path: '/endless', session: 'none', fetch: () => stream(controller => controller.enqueue(Buffer.alloc(65536))) },
        { path: '/silent', session: 'none', fetch: () => stream(() => new Promise(() => {})) },
        { path: '/later', session: 'none', fetch: async request => { await wait(4000); return read(request); } },
      ],
    });`,
    { env: { TOKEN: 'a-token-of-more-than-thirty-two-characters' }, files: { 'public/large': Buffer.alloc(LARGE) } },
  );
  const [, found] = await server.program.printed(/for backends on http:\S+:(\d+)/);
  internalPort = Number(found);
  states.begin();
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  backend.close();
});

const dial = async (wire: 'http/1' | 'tls' | 'internal') =>
  new Peer(await (wire === 'internal' ? server.dial('http/1', internalPort) : server.dial(wire)));

/** On a busy machine. What has no end has none then either. */
const LIMIT_MS = 40_000;
const JSON_OF_OUR_OWN =
  'Authorization: Bearer a-token-of-more-than-thirty-two-characters\r\nContent-Type: application/json\r\n';
const ATTRIBUTE = '/sessions/AAAAAAAAAAAAAAAAAAAAAA/attributes/a';
const UPGRADE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
const http1 = ['http/1', 'tls'] as const;
const targets = ['/read', '/ignore', '/go', '/files/large', '/nothing', '/app/x'];
const large = ['/files/large', '/endless', '/whole', '/app/large'];

function each<A extends string, B extends string>(wires: readonly A[], paths: readonly B[]): { wire: A; path: B }[] {
  return wires.flatMap(wire => paths.map(path => ({ wire, path })));
}

/**
 * Sends a request and reads no more than the beginning of its answer; then waits until the other end is not there any
 * more.
 */
async function neglect(wire: 'http/1' | 'tls', request: string): Promise<void> {
  const socket = await server.dial(wire);
  const { localPort, remotePort } = socket;
  socket.on('readable', ignore).write(request);
  await until(() => socket.readableLength > 0 || socket.destroyed, LIMIT_MS);
  await until(() => !server.holds({ localPort, remotePort }), LIMIT_MS);
  socket.destroy();
}

states.add(
  'a body that stops coming is answered with 408 ($wire $path)',
  [...each(http1, ['/read', '/app/x']), { wire: 'internal' as const, path: ATTRIBUTE }],
  async ({ wire, path }) => {
    const peer = await dial(wire);
    const more = wire === 'internal' ? JSON_OF_OUR_OWN : '';
    peer.socket.write(`PUT ${path} HTTP/1.1\r\nHost: localhost\r\n${more}Content-Length: 100\r\n\r\nx`);
    await until(() => peer.isClosed, LIMIT_MS);
    expect(peer.text).toMatch(/^HTTP\/1\.1 408 /);
  },
);

states.add(
  'an answered request whose body goes on a byte at a time ends its connection ($wire $path)',
  [...each(http1, targets), { wire: 'internal' as const, path: ATTRIBUTE }],
  async ({ wire, path }) => {
    const peer = await dial(wire);
    // More than they may have, for those that would read it.
    const length = path === '/read' || path === '/app/x' ? 2 ** 31 : 1000;
    peer.socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\nx`);
    void peer.trickle('x');
    await until(() => peer.isClosed, LIMIT_MS);
    expect(peer.text).toMatch(/^HTTP\/1\.1 (?:200|308|401|404|405|413) /);
  },
);

states.add('an answer that is not read ends its connection ($wire $path)', each(http1, large), async ({ wire, path }) =>
  neglect(wire, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
);

states.add(
  'answers to many requests at once that are not read end their connection ($wire)',
  http1.map(wire => ({ wire })),
  async ({ wire }) => neglect(wire, 'GET /far HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(500)),
);

states.add(
  'the connection of $what that was refused ends, also for a client that does not go ($wire)',
  http1.flatMap(wire => [
    { wire, what: 'an upgrade', head: `GET /go HTTP/1.1\r\nHost: localhost\r\n${UPGRADE}` },
    { wire, what: 'an upgrade nowhere', head: `GET /nothing HTTP/1.1\r\nHost: localhost\r\n${UPGRADE}` },
    { wire, what: 'a CONNECT', head: 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n' },
  ]),
  async ({ wire, head }) => neglect(wire, `${head}\r\n`),
);

states.add(
  'a stream that says nothing, and a handler that takes its time, are not the fault of their client ($wire)',
  http1.map(wire => ({ wire })),
  async ({ wire }) => {
    const silent = await dial(wire);
    silent.socket.write('GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const later = await dial(wire);
    // More than is read ahead of the handler.
    const body = 'x'.repeat(300_000);
    later.socket.write(`POST /later HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await until(() => /^HTTP\/1\.1 200 [\s\S]*300000$/.test(later.text), LIMIT_MS);
    expect(silent.isClosed).toBe(false);
    expect(silent.text).toMatch(/^HTTP\/1\.1 200 /);
    for (const { socket } of [silent, later]) socket.destroy();
  },
);

const http2 = (settings?: Readonly<Record<number, number>>) => Http2Wire.dial(server.port('http/2'), settings);

states.add('answers over HTTP/2 without a window are reset, and hold no file meanwhile', [{}], async () => {
  using wire = await http2({ [Setting.initialWindowSize]: 0 });
  const paths = ['/files/large', '/endless', '/megabyte', '/app/large', '/nothing'];
  const streams = Array.from({ length: 100 }, (_, index) => wire.request('GET', paths[index % paths.length]!));
  await until(() => streams.every(stream => wire.of(stream, FrameType.headers).length > 0), LIMIT_MS);
  // Those of other tests are over soon, too.
  await until(() => !server.descriptors().some(path => path.endsWith('/public/large')), LIMIT_MS);
  // Before the rate counts, which is after 20 s: the server's own pings are no progress.
  await until(() => streams.every(stream => wire.isOver(stream)), 15_000);
  expect(wire.isClosed).toBe(false);
});

// Heads need no window.
states.add('heads over HTTP/2 that are not read end their connection', [{}], async () => {
  using wire = await http2();
  const { socket } = wire;
  const { localPort, remotePort } = socket;
  socket.pause();
  // More than the kernel holds for both sides.
  for (let i = 0; i < 10 && server.holds({ localPort, remotePort }); i++) {
    for (let j = 0; j < 100; j++) wire.request('GET', '/far');
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  await until(() => !server.holds({ localPort, remotePort }), LIMIT_MS);
});

states.add('an answer over HTTP/2 is reset whose window is shut, beside one that is read', [{}], async () => {
  using wire = await http2({ [Setting.initialWindowSize]: 1 });
  const read = wire.request('GET', '/endless');
  const held = wire.request('GET', '/endless');
  using _ = every(50, () => {
    wire.widen(0, 20_000);
    wire.widen(read, 20_000);
  });
  await until(() => wire.isOver(held), LIMIT_MS);
  expect(wire.resetOf(read)).toBeUndefined();
});

states.add(
  'a body over HTTP/2 that stops coming is answered with 408 ($path)',
  ['/read', '/app/x'].map(path => ({ path })),
  async ({ path }) => {
    using wire = await http2();
    const stream = wire.request('POST', path, { isWhole: false });
    wire.data(stream, 'x');
    await until(() => wire.statusOf(stream) === 408, LIMIT_MS);
    expect(wire.isClosed).toBe(false);
  },
);

states.add(
  'an answered request over HTTP/2 whose body goes on a byte at a time is reset ($path)',
  targets.map(path => ({ path })),
  async ({ path }) => {
    using wire = await http2();
    const more = path === '/read' || path === '/app/x' ? ([['content-length', String(2 ** 31)]] as const) : [];
    const stream = wire.request('POST', path, { isWhole: false, more });
    using _ = every(100, () => wire.data(stream, 'x'));
    await until(() => wire.resetOf(stream) !== undefined, LIMIT_MS);
    expect([200, 308, 404, 405, 413]).toContain(wire.statusOf(stream));
  },
);

states.add('silence over HTTP/2, of a stream or a handler, is not the fault of the client', [{}], async () => {
  using wire = await http2();
  const silent = wire.request('GET', '/silent');
  const later = wire.request('POST', '/later', { isWhole: false });
  wire.data(later, 'x'.repeat(10_000), true);
  await until(() => wire.isOver(later), LIMIT_MS);
  expect([wire.statusOf(later), wire.statusOf(silent), wire.isOver(silent)]).toEqual([200, 200, false]);
});

states.add('a connection of HTTP/2 takes 100 streams at a time, and refuses one more', [{}], async () => {
  using wire = await http2();
  const streams = Array.from({ length: 101 }, () => wire.request('GET', '/silent'));
  const refused = streams.at(-1)!;
  await until(() => wire.resetOf(refused) === 7, LIMIT_MS);
  await until(() => streams.filter(stream => wire.of(stream, FrameType.headers).length > 0).length === 100, LIMIT_MS);
});

states.add(
  '$what ends one stream of HTTP/2, and no other',
  [
    { what: 'data beyond a content-length', data: '12345', isLast: false },
    { what: 'an end before a content-length', data: '1', isLast: true },
  ],
  async ({ data, isLast }) => {
    using wire = await http2();
    const other = wire.request('POST', '/read', { isWhole: false });
    const stream = wire.request('POST', '/read', { isWhole: false, more: [['content-length', '3']] });
    {
      // The other one is never silent, however busy the machine is.
      using _ = every(500, () => wire.data(other, 'x'));
      wire.data(stream, data, isLast);
      await until(() => wire.resetOf(stream) === 1, LIMIT_MS);
    }
    wire.data(other, 'hello', true);
    await until(() => wire.statusOf(other) === 200, LIMIT_MS);
    const next = wire.request('GET', '/go');
    await until(() => wire.statusOf(next) === 308, LIMIT_MS);
    expect(wire.isClosed).toBe(false);
  },
);

states.add('a violation of the connection ends a connection of HTTP/2 with GOAWAY', [{}], async () => {
  using wire = await http2();
  wire.request('GET', '/silent');
  wire.data(0, 'x');
  await until(() => wire.isClosed, LIMIT_MS);
  expect(wire.frames.find(({ type }) => type === FrameType.goAway)?.payload.readUInt32BE(4)).toBe(1);
});

states.tests();
