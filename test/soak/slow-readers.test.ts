import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FrameType, type Http2Wire, frame as http2Frame, Setting, settingsFrame, uint32 } from '../guard/http2-wire.ts';
import { Served } from '../guard/served.ts';
import { fill, flood, policies, serveSlowReaders, type Way, warmUp } from '../guard/slow-reader-server.ts';
import {
  allowedGrowth,
  beginPeak,
  MIB,
  openHttp2,
  peakBytes,
  SilentBackend,
  SlowClients,
  type SlowWire,
  serverFrame,
} from '../guard/slow-readers.ts';
import { frame, TEXT } from '../websocket/raw-client.ts';

const LIMIT = MIB;
const KIB = 1024;
/** What a relay holds in each direction is not set by anybody. */
const RELAY_LIMIT = 64 * KIB;
/** What the garbage collector of the process may leave lying, however many connections there are. */
const GARBAGE = 16 * MIB;

let backend: SilentBackend;
let server: Served;
/** Resident memory before anything waits. */
let before = 0;

// A process of its own for each test: memory is not given back at once, and would count against the next one.
beforeEach(async () => {
  backend = await SilentBackend.listen();
  server = await serveSlowReaders(LIMIT, backend);
  await warmUp(server);
  before = server.residentBytes();
});

afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  await backend?.[Symbol.asyncDispose]();
});

const wires = ['http/1', 'tls', 'http/2', 'http/2, shared'] as const;
const ways = ['send', 'broadcast', 'stream', 'behind a stream', 'ping'] as const;
const sizes = [1, 100, 10_240] as const;

/** Every value of one with every value of the others, and the policies in turn. */
const rows = wires.flatMap((wire, w) =>
  ways.flatMap((way, y) =>
    sizes.map((size, s): [SlowWire, Way, number, (typeof policies)[number]] => [
      wire,
      way,
      size,
      policies[(w + y + s) % policies.length]!,
    ]),
  ),
);

describe('a client that reads nothing costs at most twice its limit and 64 KiB', () => {
  test.each(rows)('over %s, %s of messages of %i bytes, policy %s', async (wire, way, size, policy) => {
    using clients = await SlowClients.open(server, wire, `/${policy}`, wire === 'http/2, shared' ? 200 : 20);
    await fill(server, policy);
    beginPeak(server);
    const { sent } = await flood(
      server,
      policy,
      way,
      size,
      size > 1 ? 200_000 : wire === 'http/2, shared' ? 3_000 : 30_000,
    );
    await wait(50);
    expect(sent).toBeGreaterThan(0);
    expect(peakBytes(server) - before).toBeLessThan(allowedGrowth(LIMIT, clients) + GARBAGE);
  });

  test('also when it was sent as much as its limit takes, in messages of one byte', async () => {
    using clients = await SlowClients.open(server, 'http/1', '/drop', 20);
    await fill(server, 'drop');
    beginPeak(server);
    const { sent, buffered } = await flood(server, 'drop', 'send', 1, Number.POSITIVE_INFINITY);
    expect(buffered).toBeGreaterThan(LIMIT / 2);
    expect(sent).toBeGreaterThan(LIMIT / 6);
    expect(peakBytes(server) - before).toBeLessThan(allowedGrowth(LIMIT, clients) + GARBAGE);
  });

  test.each(['http/1', 'tls', 'http/2'] as const)('over %s, when it asks for answers and pongs itself', async wire => {
    using clients = await SlowClients.open(server, wire, '/drop', 20);
    await fill(server, 'drop');
    beginPeak(server);
    const messages = Buffer.concat([frame(TEXT, 'm'), frame(9, 'x'.repeat(125))]);
    const many = Buffer.concat(Array.from({ length: 100 }, () => messages));
    for (let i = 0; i < 250; i++) {
      clients.send(many);
      await wait(1);
    }
    await wait(200);
    expect(peakBytes(server) - before).toBeLessThan(allowedGrowth(LIMIT, clients) + GARBAGE);
  });
});

describe('a relay holds at most twice 64 KiB, and 64 KiB', () => {
  test.each([
    ['http/2', 1],
    ['http/2', 100],
    ['http/2', 10_240],
    ['http/2, shared', 1],
    ['http/2, shared', 10_240],
  ] as const)('over %s, for a client that reads nothing, with messages of %i bytes', async (wire, size) => {
    // Its window takes two of these, and not the last bytes of them.
    using clients = await SlowClients.open(server, wire, '/relay', 100, { window: 65_535 });
    const part = serverFrame(32_768);
    for (let i = 0; i < 2; i++) backend.send(part);
    await wait(200);
    beginPeak(server);
    const message = serverFrame(size);
    for (let i = 0; i < (size === 1 ? 5_000 : 2_000) && backend.send(message); i++) await wait(0);
    await wait(200);
    expect(peakBytes(server) - before).toBeLessThan(clients.count * (2 * RELAY_LIMIT + 64 * KIB) + GARBAGE);
    backend.cut();
  });

  test.each(['http/1', 'tls', 'http/2', 'http/2, shared'] as const)(
    'over %s, for a backend that reads nothing',
    async wire => {
      using clients = await SlowClients.open(server, wire, '/relay', 20);
      beginPeak(server);
      // As many as the kernel takes for the backend, and many more.
      const messages = Buffer.concat(Array.from({ length: 100 }, () => frame(2, Buffer.alloc(100))));
      for (let i = 0; i < 1_000; i++) {
        clients.send(messages);
        await wait(1);
      }
      const message = frame(2, Buffer.alloc(1));
      for (let i = 0; i < 2_000 && clients.send(message); i++) await wait(0);
      await wait(200);
      expect(peakBytes(server) - before).toBeLessThan(clients.count * (2 * RELAY_LIMIT + 64 * KIB) + GARBAGE);
      backend.cut();
    },
  );
});

test('what a client sends in a byte at a time and nobody takes costs no more than its window', async () => {
  await using blocked = await Served.module(`
    const endpoint = defineEndpoint({ path: '/', idleTimeout: -1, handlerTimeout: -1, onMessage: () => new Promise(() => {}) });
    export default defineConfig({ listen, session: false, routes: [{ endpoint }] });
  `);
  using client = await openHttp2(blocked);
  const streams: number[] = [];
  for (let i = 0; i < 50; i++) streams.push(await client.webSocket('/'));
  const start = blocked.residentBytes();
  beginPeak(blocked);
  const bytes = Buffer.concat(Array.from({ length: 9_000 }, () => frame(TEXT, 'x')));
  for (const stream of streams) {
    const frames = Array.from(bytes, byte => http2Frame(0, 0, stream, Buffer.from([byte])));
    if (!client.send(...frames)) await client.drained();
  }
  await wait(200);
  expect(peakBytes(blocked) - start).toBeLessThan(50 * (2 * 64 * KIB + 64 * KIB) + GARBAGE);
  expect(client.socket.destroyed).toBe(false);
});

describe('a client of HTTP/2 that reads nothing makes no memory grow by', () => {
  const floods: readonly [string, (client: Http2Wire, index: number) => Buffer | undefined][] = [
    ['pings', () => http2Frame(FrameType.ping, 0, 0, Buffer.alloc(8))],
    ['settings', () => settingsFrame({ [Setting.initialWindowSize]: 65_535 })],
    ['updates of windows that are errors', () => http2Frame(FrameType.windowUpdate, 0, 1, uint32(0))],
    ['priorities', (_, index) => http2Frame(FrameType.priority, 0, 1 + 2 * index, Buffer.alloc(5))],
    ['frames that nobody knows', () => http2Frame(0x42, 0, 0, Buffer.alloc(100))],
    ['requests', client => void client.request('GET', '/none')],
    ['requests that it resets', client => http2Frame(FrameType.reset, 0, client.request('GET', '/none'), uint32(8))],
    ['requests that are no requests', client => void client.request('GET', '/none', { more: [['Upper-Case', 'x']] })],
  ];

  test.each(floods)('%s', async (_, next) => {
    beginPeak(server);
    const start = server.residentBytes();
    const clients = await Promise.all(Array.from({ length: 4 }, () => openHttp2(server)));
    for (const { socket } of clients) socket.pause();
    for (let sent = 0; sent < 40_000 && clients.some(({ socket }) => !socket.destroyed); ) {
      for (const client of clients) {
        if (client.socket.destroyed || client.socket.writableLength > MIB) continue;
        const frames = Array.from({ length: 100 }, () => next(client, sent++));
        client.send(...frames.filter(bytes => bytes !== undefined));
      }
      await wait(0);
    }
    await wait(100);
    for (const client of clients) client[Symbol.dispose]();
    expect(server.isAlive).toBe(true);
    expect(peakBytes(server) - start).toBeLessThan(GARBAGE);
  });
});
