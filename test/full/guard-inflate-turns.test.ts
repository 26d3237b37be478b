import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { deflateRawSync, constants as zlib } from 'node:zlib';
import { type Connection, defineEndpoint, type EndpointOptions, type HoldfastError } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { emptyBlocks } from '../guard/empty-blocks.ts';
import { Journal } from '../websocket/journal.ts';
import { seededRandom } from '../websocket/protocol/seeded-random.ts';
import {
  BINARY,
  closeFrame,
  frame,
  PING,
  PONG,
  RawClient,
  type RawClientOptions,
  TEXT,
} from '../websocket/raw-client.ts';
import { type Served, serve } from '../websocket/serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** What may be inflated in a turn of the event loop, over all connections. */
const BUDGET = 2 * MIB;
const EXTENSION = { headers: ['Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover'] };

function shrink(payload: string | Buffer): Buffer {
  return deflateRawSync(payload, { finishFlush: zlib.Z_SYNC_FLUSH }).subarray(0, -4);
}

function compressed(payload: string | Buffer, opcode = BINARY): Buffer {
  return frame(opcode, shrink(payload), { rsv1: true });
}

/** Ends its side when the server has ended its own. */
async function connect(url: string, options: RawClientOptions = EXTENSION): Promise<RawClient> {
  const client = await RawClient.connect(url, options);
  client.socket.on('end', () => client.socket.end());
  return client;
}

/** Counts what is delivered in each turn of the event loop. */
class Turns {
  readonly #bytes = new Map<number, number>();

  add(bytes: number): void {
    const { loopCount } = performance.nodeTiming.uvMetricsInfo;
    this.#bytes.set(loopCount, (this.#bytes.get(loopCount) ?? 0) + bytes);
  }

  get count(): number {
    return this.#bytes.size;
  }

  get most(): number {
    return Math.max(...this.#bytes.values());
  }

  get total(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }
}

/** An endpoint that keeps whose messages came, in their order. Each client has a path of its own. */
function recorder() {
  const order: string[] = [];
  const endpoint = defineEndpoint({
    path: '/:name',
    compression: true,
    onMessage: ({ params }) => void order.push(params.name!),
  });
  return { order, endpoint };
}

describe('messages that inflate to much more than they are', () => {
  test.each([1, 20])('are inflated within a budget per turn over all of %i connections', async count => {
    const turns = new Turns();
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      onMessage: (_, data) => turns.add(data.length),
    });
    await using served = await serve(endpoint);
    const clients = await Promise.all(Array.from({ length: count }, () => connect(served.url)));
    const messages = Math.ceil(400 / count);
    const burst = Buffer.concat(Array<Buffer>(messages).fill(compressed(Buffer.alloc(64 * KIB))));
    for (const client of clients) client.send(burst);
    const total = count * messages * 64 * KIB;
    await expect.poll(() => turns.total).toBe(total);
    expect(turns.most).toBeLessThanOrEqual(BUDGET + 64 * KIB);
    // And it is used: waiting for its turn alone makes nothing slower.
    expect(turns.count).toBeLessThan(messages * count);
    for (const client of clients) client[Symbol.dispose]();
  });

  test('are delivered in rotation: whoever has had less comes first', async () => {
    const order: string[] = [];
    const endpoint = defineEndpoint({
      path: '/:name',
      compression: true,
      onMessage({ params }) {
        order.push(params.name!);
        if (order.length === 30) modest.send(compressed('hello', TEXT));
      },
    });
    await using served = await serve(endpoint);
    const greedy = await connect(`${served.url}/greedy`);
    const modest = await connect(`${served.url}/modest`);
    greedy.send(Buffer.concat(Array<Buffer>(600).fill(compressed(Buffer.alloc(64 * KIB)))));
    await expect.poll(() => order.length, { interval: 5 }).toBe(601);
    expect(order.indexOf('modest')).toBeLessThan(200);
    greedy[Symbol.dispose]();
    modest[Symbol.dispose]();
  });

  test('are in rotation by what they cost, not by what comes out of them', async () => {
    const { order, endpoint } = recorder();
    await using served = await serve(endpoint);
    const slow = await Promise.all(Array.from({ length: 20 }, () => connect(`${served.url}/slow`)));
    const modest = await connect(`${served.url}/modest`);
    const burst = Buffer.concat(Array<Buffer>(20).fill(frame(BINARY, emptyBlocks(60 * KIB), { rsv1: true })));
    for (const client of slow) client.send(burst);
    await expect.poll(() => order.length, { interval: 5 }).toBeGreaterThan(20);
    const before = order.length;
    modest.send(Buffer.concat(Array<Buffer>(100).fill(compressed('hello', TEXT))));
    await expect.poll(() => order.filter(name => name === 'modest').length, { interval: 5 }).toBe(100);
    // By what comes out, each of the others would have had a turn with every message of this one.
    expect(order.slice(before, order.lastIndexOf('modest')).filter(name => name === 'slow').length).toBeLessThan(80);
    for (const client of [...slow, modest]) client[Symbol.dispose]();
  });

  test('let a small message pass large ones that have as much right', async () => {
    const { order, endpoint } = recorder();
    await using served = await serve(endpoint);
    const slow = await Promise.all(Array.from({ length: 40 }, () => connect(`${served.url}/slow`)));
    const modest = await connect(`${served.url}/modest`);
    const one = frame(BINARY, emptyBlocks(60 * KIB), { rsv1: true });
    for (const client of slow) client.send(one);
    modest.send(compressed('hello', TEXT));
    await expect.poll(() => order.length, { interval: 5 }).toBe(41);
    expect(order.indexOf('modest')).toBeLessThan(25);
    for (const client of [...slow, modest]) client[Symbol.dispose]();
  });

  test('do not block the event loop, however large they are and however little comes out of them', async () => {
    let received = 0;
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      maxMessageSize: '8MiB',
      onMessage: () => void received++,
    });
    await using served = await serve(endpoint);
    const client = await connect(served.url);
    client.send(frame(BINARY, emptyBlocks(3 * MIB), { rsv1: true }));
    let longest = 0;
    for (let last = process.threadCpuUsage(); received === 0; last = process.threadCpuUsage()) {
      await nextTurn();
      const { user, system } = process.threadCpuUsage(last);
      longest = Math.max(longest, (user + system) / 1000);
    }
    // It takes some 200 ms.
    expect(longest).toBeLessThan(60);
    client[Symbol.dispose]();
  });

  test('count also when they are nothing but the beginnings of streams', async () => {
    const turns = new Turns();
    const endpoint = defineEndpoint({ path: '/', compression: true, onMessage: () => turns.add(1) });
    await using served = await serve(endpoint);
    const client = await connect(served.url);
    // Empty final blocks: each is a stream that zlib is set up for, and none gives a byte.
    const empty = Buffer.alloc(2 * 250, Buffer.from([0x03, 0x00]));
    client.send(Buffer.concat(Array<Buffer>(60).fill(frame(BINARY, empty, { rsv1: true }))));
    await expect.poll(() => turns.total).toBe(60);
    expect(turns.most).toBeLessThanOrEqual(2);
    client[Symbol.dispose]();
  });

  test('keep the order of everything behind them: messages, fragments, pings and the close', async () => {
    const seen: string[] = [];
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      maxMessageSize: '1MiB',
      onMessage: (_, data) => void seen.push(typeof data === 'string' ? data : `${data.length} bytes`),
      onPing: (_, data) => void seen.push(`ping ${Buffer.from(data)}`),
      onClose: (_, { code, clean }) => void seen.push(`close ${code} ${clean}`),
    });
    await using served = await serve(endpoint);
    const client = await connect(served.url);
    const large = compressed(Buffer.alloc(MIB));
    const half = deflateRawSync('in two fragments', { finishFlush: zlib.Z_SYNC_FLUSH }).subarray(0, -4);
    client.send(
      Buffer.concat(
        Array.from({ length: 6 }, (_, i) => [
          large,
          frame(TEXT, `plain ${i}`),
          frame(PING, `${i}`),
          frame(TEXT, half.subarray(0, 5), { rsv1: true, fin: false }),
          frame(PING, 'between'),
          frame(0, half.subarray(5)),
        ]).flat(),
      ),
      closeFrame(1000),
    );
    const one = (i: number) => ['1048576 bytes', `plain ${i}`, `ping ${i}`, 'ping between', 'in two fragments'];
    await expect.poll(() => seen.at(-1)).toMatch(/^close/);
    expect(seen).toEqual([...Array.from({ length: 6 }, (_, i) => one(i)).flat(), 'close 1000 true']);
    expect(client.frames.filter(({ opcode }) => opcode === PONG)).toHaveLength(12);
    expect(await client.eventualCloseCode()).toBe(1000);
  });

  test.each(['close', 'terminate'] as const)('are not delivered behind `%s`, and hold nothing up', async how => {
    let received = 0;
    let ended = 0;
    const open: Connection[] = [];
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      maxMessageSize: '1MiB',
      onOpen: connection => void open.push(connection),
      onMessage(connection) {
        received++;
        if (received === 1) setImmediate(() => (how === 'close' ? connection.close(4000) : connection.terminate()));
      },
      onClose: () => void ended++,
    });
    await using served = await serve(endpoint);
    const client = await connect(served.url);
    client.send(Buffer.concat(Array<Buffer>(50).fill(compressed(Buffer.alloc(MIB)))), closeFrame(1000));
    await expect.poll(() => ended).toBe(1);
    expect(received).toBeLessThan(15);
    // The budget is not lost with the connection.
    const next = await connect(served.url);
    next.send(compressed('hello', TEXT));
    await expect.poll(() => received).toBeGreaterThan(1);
    next[Symbol.dispose]();
  });
});

describe('whatever connections send at the same time', () => {
  /** Frames of one message, and what the application sees of them. */
  function anything(random: (below: number) => number, name: string): { frames: Buffer[]; seen: string } {
    const kind = random(10);
    if (kind === 0) return { frames: [frame(PING, name)], seen: `ping ${name}` };
    if (kind <= 2) return { frames: [frame(TEXT, name)], seen: name };
    // Small ones, those that fill a turn, and those for the thread pool.
    const size = [10, 1_000, 64 * KIB, 600 * KIB, 1_500 * KIB][random(kind === 9 ? 5 : 3)]!;
    const text = name.padEnd(size, '.');
    const bytes = shrink(text);
    const seen = `${name} ${text.length}`;
    if (kind <= 6) return { frames: [frame(TEXT, bytes, { rsv1: true })], seen };
    const cut = random(bytes.length);
    return {
      frames: [frame(TEXT, bytes.subarray(0, cut), { rsv1: true, fin: false }), frame(0, bytes.subarray(cut))],
      seen,
    };
  }

  test.each([1, 2])('each of them is served in its own order (seed %i)', async seed => {
    const random = seededRandom(seed);
    const seen = new Map<string, string[]>();
    const isSlow = (name: string) => Number(name) % 3 === 0;
    const endpoint = defineEndpoint<string[]>({
      path: '/:name',
      compression: true,
      maxMessageSize: '2MiB',
      accept: ({ params }) => {
        const data: string[] = [];
        seen.set(params.name!, data);
        return { data };
      },
      async onMessage({ data, params }, message) {
        if (isSlow(params.name!)) await nextTurn();
        const text = String(message);
        const name = text.replace(/\.+$/, '');
        data.push(name === text ? text : `${name} ${text.length}`);
      },
      onPing: ({ data }, payload) => void data.push(`ping ${Buffer.from(payload)}`),
      onClose: ({ data }, { code, clean }) => void data.push(`close ${code} ${clean}`),
    });
    await using served = await serve(endpoint);
    const clients = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => {
        const items = Array.from({ length: 60 }, (_, i) => anything(random, `m${i}`));
        const client = await connect(`${served.url}/${index}`);
        return {
          client,
          bytes: Buffer.concat([...items.flatMap(({ frames }) => frames), closeFrame(1000)]),
          wanted: [...items.map(item => item.seen), 'close 1000 true'],
        };
      }),
    );
    for (let isLeft = true; isLeft; ) {
      isLeft = false;
      for (const one of clients) {
        const length = random(4_000);
        one.client.send(one.bytes.subarray(0, length));
        one.bytes = one.bytes.subarray(length);
        isLeft ||= one.bytes.length > 0;
      }
      await nextTurn();
    }
    for (const [index, { wanted }] of clients.entries()) {
      await expect.poll(() => seen.get(`${index}`)!.length, { interval: 5 }).toBe(wanted.length);
      expect(seen.get(`${index}`)).toEqual(wanted);
    }
  });
});

/** How a compressed message comes to be inflated: where it stands, what it may come to, and what it comes to. */
const ways = [
  { way: 'at once', before: 0, limit: '64KiB', bytes: 64 * KIB },
  { way: 'in its turn', before: 200, limit: '64KiB', bytes: 64 * KIB },
  { way: 'in the thread pool', before: 0, limit: '4MiB', bytes: 4 * MIB },
  { way: 'in the thread pool, in its turn', before: 200, limit: '4MiB', bytes: 4 * MIB },
] as const;

describe.each(ways)('a compressed message that is inflated $way', ({ before, limit, bytes }) => {
  const filler = Buffer.concat(Array<Buffer>(before).fill(compressed(Buffer.alloc(64 * KIB))));

  async function opened(more: Partial<EndpointOptions> = {}, extension = EXTENSION) {
    const stack = new AsyncDisposableStack();
    const journal = new Journal();
    const clock = new FakeClock();
    let received = 0;
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      maxMessageSize: limit,
      onMessage(_, data) {
        if (received++ >= before) journal.add(`${typeof data} ${data.length}`);
      },
      onPing: (_, data) => journal.add(`ping ${Buffer.from(data)}`),
      onError: (_, error) => journal.add((error as HoldfastError).code),
      onClose: (_, { code, clean }) => journal.add(`close ${code} ${clean}`),
      ...more,
    });
    const served = stack.use(await serve(endpoint, {}, { clock }));
    const client = stack.use(await connect(served.url, extension));
    return { client, journal, clock, served, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
  }

  test('comes before the close frame behind it, and the handshake of closing is whole', async () => {
    await using parts = await opened();
    const { client, journal } = parts;
    client.send(filler, compressed(Buffer.alloc(bytes)), frame(PING, 'p'), frame(TEXT, 'plain'), closeFrame(1000));
    expect(await client.eventualCloseCode()).toBe(1000);
    await journal.until('close 1000 true');
    expect(journal.entries).toEqual([`object ${bytes}`, 'ping p', 'string 5', 'close 1000 true']);
  });

  test('comes before the end of a connection without a close frame', async () => {
    await using parts = await opened();
    const { client, journal } = parts;
    client.send(filler, compressed(Buffer.alloc(bytes)));
    client.socket.end();
    await journal.until('close 1006 false');
    expect(journal.entries).toEqual([`object ${bytes}`, 'close 1006 false']);
  });

  test('holds nothing up when the connection is reset', async () => {
    await using parts = await opened();
    const { client, journal, served } = parts;
    client.send(filler, compressed(Buffer.alloc(bytes)));
    await nextTurn();
    client.reset();
    await journal.until('close 1006 false');
    using next = await connect(served.url);
    next.send(filler, compressed(Buffer.alloc(bytes)));
    await journal.until(`object ${bytes}`);
  });

  test('may come in fragments, with pings between them', async () => {
    await using parts = await opened({ onFragment: (_, data, last) => journal.add(`fragment ${data.length} ${last}`) });
    const { client, journal } = parts;
    const whole = shrink('x'.repeat(bytes));
    client.send(
      filler,
      frame(TEXT, whole.subarray(0, 5), { rsv1: true, fin: false }),
      frame(PING, 'between'),
      frame(0, whole.subarray(5)),
      closeFrame(1000),
    );
    await journal.until('close 1000 true');
    expect(journal.entries).toEqual(['ping between', `fragment ${bytes} true`, 'close 1000 true']);
  });

  test('is what it was compressed from, also with context takeover', async () => {
    let text = '';
    await using parts = await opened(
      { compression: { contextTakeover: true }, onMessage: (_, data) => void (text = String(data)) },
      { headers: ['Sec-WebSocket-Extensions: permessage-deflate'] },
    );
    const { client, journal } = parts;
    const first = `${'a'.repeat(bytes - 26)}abcdefghijklmnopqrstuvwxyz`;
    const dictionary = Buffer.from(first);
    const second = deflateRawSync('uvwxyzabcdefghij', { finishFlush: zlib.Z_SYNC_FLUSH, dictionary }).subarray(0, -4);
    client.send(filler, compressed(first, TEXT), frame(TEXT, second, { rsv1: true }), closeFrame(1000));
    await journal.until('close 1000 true');
    expect(text).toBe('uvwxyzabcdefghij');
  });

  test.each([
    ['ERR_WS_MESSAGE_TOO_BIG', 1009, 'comes to more than the limit', () => compressed(Buffer.alloc(bytes + 1))],
    [
      'ERR_WS_INVALID_DEFLATE',
      1007,
      'does not inflate',
      () =>
        frame(BINARY, Buffer.concat([shrink(Buffer.alloc(bytes - KIB)), Buffer.from('ffff', 'hex')]), { rsv1: true }),
    ],
    ['ERR_WS_INVALID_UTF8', 1007, 'is not UTF-8', () => compressed(Buffer.alloc(bytes, 0xff), TEXT)],
  ])('and %s: ends the connection with %i when it %s', async (error, code, _, bad) => {
    await using parts = await opened();
    const { client, journal } = parts;
    client.send(filler, bad(), compressed('not seen'), frame(TEXT, 'not seen either'));
    expect(await client.eventualCloseCode()).toBe(code);
    await journal.until(`close ${code} false`);
    expect(journal.entries).toEqual([error, `close ${code} false`]);
  });

  test('waits behind callbacks that have not settled, in order', async () => {
    let running = 0;
    await using parts = await opened({
      async onMessage(_, data) {
        expect(++running).toBe(1);
        await nextTurn();
        running--;
        journal.add(typeof data === 'string' ? data : `${data.length} bytes`);
      },
    });
    const { client, journal } = parts;
    const rounds = 3;
    const round = (i: number) => [
      compressed(Buffer.alloc(bytes)),
      compressed(`compressed ${i}`, TEXT),
      frame(TEXT, `${i}`),
    ];
    client.send(filler, ...Array.from({ length: rounds }, (_, i) => round(i)).flat(), closeFrame(1000));
    await journal.until('close 1000 true');
    expect(journal.entries.slice(before)).toEqual([
      ...Array.from({ length: rounds }, (_, i) => [`${bytes} bytes`, `compressed ${i}`, `${i}`]).flat(),
      'close 1000 true',
    ]);
  });
});

describe('while a compressed message waits', () => {
  const LARGE = 64 * MIB;

  /** Calls `meanwhile` in a turn of the event loop in which a message of 64 MiB is being inflated. */
  async function waiting(meanwhile: (connection: Connection, clock: FakeClock, served: Served) => unknown) {
    const stack = new AsyncDisposableStack();
    const journal = new Journal();
    const clock = new FakeClock();
    const endpoint = defineEndpoint({
      path: '/',
      compression: true,
      maxMessageSize: LARGE,
      onMessage(connection, data) {
        journal.add(`${data.length}`);
        if (data === 'now')
          setImmediate(async () => {
            await meanwhile(connection, clock, served);
            journal.add('meanwhile');
          });
      },
      onClose: (_, { code }) => journal.add(`close ${code}`),
    });
    const served = stack.use(await serve(endpoint, {}, { clock }));
    const client = stack.use(await connect(served.url));
    client.send(frame(TEXT, 'now'), compressed(Buffer.alloc(LARGE)), compressed('after', TEXT), closeFrame(1000));
    return { journal, client, served, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
  }

  test('the event loop goes on', async () => {
    let turns = 0;
    await using parts = await waiting(async () => {
      for (; turns < 20; turns++) await nextTurn();
    });
    await parts.journal.until('close 1000');
    expect(parts.journal.entries).toEqual(['3', 'meanwhile', `${LARGE}`, '5', 'close 1000']);
  });

  test('the peer is not taken for dead, however long that is', async () => {
    await using parts = await waiting((_, clock) => clock.advance(120_000));
    await parts.journal.until('close 1000');
    expect(parts.journal.entries).toEqual(['3', 'meanwhile', `${LARGE}`, '5', 'close 1000']);
    expect(parts.client.frames.filter(({ opcode }) => opcode === PING)).toEqual([]);
  });

  test.each([
    ['the application closes', 4000, (connection: Connection) => connection.close(4000)],
    [
      'the server stops',
      1001,
      async (_: Connection, clock: FakeClock, served: Served) => {
        const stopped = served.server.stop({ drain: '5s' });
        for (let i = 0; i < 100; i++) await clock.advance(10);
        await stopped;
      },
    ],
  ])('and %s, the connection closes with %i and without the message', async (_, code, end) => {
    await using parts = await waiting(end);
    expect(await parts.client.closeCode()).toBe(code);
    await parts.journal.until(`close ${code}`);
    expect(parts.journal.entries.filter(entry => entry !== 'meanwhile')).toEqual(['3', `close ${code}`]);
  });

  test('and the connection is cut, `onClose` runs, and the next message is inflated', async () => {
    await using parts = await waiting(connection => connection.terminate());
    await parts.journal.until('close 1006');
    using next = await connect(parts.served.url);
    next.send(compressed(Buffer.alloc(LARGE)));
    await parts.journal.until(`${LARGE}`);
    expect(parts.journal.entries).toEqual(['3', 'meanwhile', 'close 1006', `${LARGE}`]);
  });

  test('those that come to less do not wait for it', async () => {
    let answered = 0;
    await using parts = await waiting(async (_, __, served) => {
      using other = await connect(served.url);
      const large = Buffer.concat([frame(TEXT, 'x'), compressed('y', TEXT), compressed(Buffer.alloc(MIB))]);
      other.send(large, closeFrame(1000));
      await other.eventualCloseCode();
      answered++;
    });
    await parts.journal.until(`${LARGE}`);
    expect(parts.journal.entries.slice(0, 4)).toEqual(['3', '1', '1', `${MIB}`]);
    expect(answered).toBe(1);
  });
});
