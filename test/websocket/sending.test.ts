import { type Connection, defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { testClient } from '../../src/testing/test-client.ts';
import { Journal } from './journal.ts';
import { BINARY, CONTINUATION, closeFrame, type Frame, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';
import { type ServedByHttp, serve, serveAttached } from './serve.ts';

/** Runs `act` for each message it gets. */
const acting = (act: (connection: Connection, data: string) => unknown) =>
  defineEndpoint({ path: '/', onMessage: act as (connection: Connection, data: string | Uint8Array) => void });

const brief = ({ opcode, fin, payload }: Frame) => [opcode, fin, payload.toString()];

async function take(client: RawClient, count: number): Promise<unknown[]> {
  const frames = [];
  for (let i = 0; i < count; i++) frames.push(brief((await client.next())!));
  return frames;
}

/** Counts what the server's socket is asked to write to the system. */
function countWrites(served: ServedByHttp): { writes: number } {
  const socket = served.lastSocket();
  const counter = { writes: 0 };
  const { _write, _writev } = socket;
  socket._write = function (...args) {
    counter.writes++;
    return _write.apply(this, args);
  };
  socket._writev = function (...args) {
    counter.writes++;
    return _writev!.apply(this, args);
  };
  return counter;
}

describe('messages', () => {
  test('are atomic and keep their order, from wherever they are sent', async () => {
    const endpoint = acting(async connection => {
      const write = async (name: string) => {
        for (let i = 0; i < 50; i++) {
          connection.send(`${name}${i} ${'x'.repeat(i * 100)}`);
          await new Promise(resolve => setImmediate(resolve));
        }
      };
      await Promise.all([write('a'), write('b'), write('c')]);
      connection.send('done');
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    const seen: Record<string, number[]> = { a: [], b: [], c: [] };
    for await (const message of client) {
      if (message === 'done') break;
      const [, name, number, rest] = /^([abc])(\d+) (x*)$/.exec(message as string)!;
      expect(rest).toHaveLength(Number(number) * 100);
      seen[name!]!.push(Number(number));
    }
    const inOrder = Array.from({ length: 50 }, (_, i) => i);
    expect(seen).toEqual({ a: inOrder, b: inOrder, c: inOrder });
  });

  test.each([0, 1, 125, 126, 127, 16_384, 65_535, 65_536, 300_000])(
    'of %i bytes arrive as they were sent, as text and as binary',
    async length => {
      const text = 'é€𝄞x'.repeat(length).slice(0, length).toWellFormed();
      const bytes = Buffer.alloc(length, 'abc');
      const endpoint = acting(connection => {
        connection.send(text);
        connection.send(bytes);
      });
      await using served = await serve(endpoint);
      const socket = new WebSocket(served.url);
      const received: unknown[] = [];
      await new Promise<void>(resolve => {
        socket.on('open', () => socket.send('go'));
        socket.on('message', (data: Buffer, isBinary) => {
          received.push(isBinary ? data : data.toString());
          if (received.length === 2) resolve();
        });
      });
      socket.terminate();
      expect(received[0] === text).toBe(true);
      expect(bytes.equals(received[1] as Buffer)).toBe(true);
    },
  );

  test('are copied: the buffer may be changed after send', async () => {
    const endpoint = acting(connection => {
      for (const size of [10, 100_000]) {
        const bytes = new Uint8Array(size).fill(1);
        connection.send(bytes);
        bytes.fill(2);
        const fragment = new Uint8Array(size).fill(3);
        connection.stream(fragment, true);
        fragment.fill(4);
      }
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    for (const value of [1, 3, 1, 3]) {
      const received = (await client.receive()) as Buffer;
      expect(received.every(byte => byte === value)).toBe(true);
    }
  });

  test('replace half a surrogate pair, as every encoder of UTF-8', async () => {
    await using served = await serve(acting(connection => connection.send('a\ud834b')));
    await using client = await testClient(served.url);
    client.send('go');
    expect(await client.receive()).toBe('a\ufffdb');
  });
});

describe('after the close', () => {
  test('every send answers false and none throws', async () => {
    const journal = new Journal();
    const attempts = (connection: Connection) =>
      journal.add(
        [
          connection.send('x'),
          connection.send(new Uint8Array(1)),
          connection.stream('x', true),
          connection.stream('x', false),
          connection.stream(new Uint8Array(1), true),
          connection.ping(),
          connection.pong(),
          connection.close(),
          connection.subscribe('t'),
          connection.unsubscribe('t'),
          connection.terminate(),
        ].join(),
      );
    const all = 'false,false,false,false,false,false,false,,,,';
    const endpoint = defineEndpoint({
      path: '/',
      onMessage(connection) {
        connection.close(4000);
        attempts(connection);
      },
      async onClose(connection) {
        attempts(connection);
        await connection.drained();
        journal.add('drained');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await journal.until('drained');
    expect(journal.entries).toEqual([all, all, 'drained']);
  });

  test('nothing is written behind the close frame', async () => {
    const endpoint = acting(connection => {
      connection.send('last');
      connection.stream('never ended', false);
      connection.send('held');
      connection.close(4000);
      connection.send('too late');
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), frame(PING, 'too late for a pong'), closeFrame(4000));
    await client.ended();
    expect(client.frames.map(({ opcode }) => opcode)).toEqual([TEXT, TEXT, 8]);
  });
});

describe('stream', () => {
  test('sends a message piece by piece; messages sent meanwhile wait for its last fragment, control frames do not', async () => {
    const endpoint = acting((connection, data) => {
      if (data === 'begin') {
        connection.stream('one', false);
        connection.send('first after');
        connection.send(Uint8Array.of(0x62));
        connection.ping('between');
      } else {
        connection.stream('two', false);
        connection.stream('three', true);
        connection.send('second after');
      }
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'begin'));
    expect(await take(client, 2)).toEqual([
      [TEXT, false, 'one'],
      [PING, true, 'between'],
    ]);
    client.send(frame(TEXT, 'end'));
    expect(await take(client, 5)).toEqual([
      [CONTINUATION, false, 'two'],
      [CONTINUATION, true, 'three'],
      [TEXT, true, 'first after'],
      [BINARY, true, 'b'],
      [TEXT, true, 'second after'],
    ]);
  });

  test('sends a part of a buffer by its subarray', async () => {
    const bytes = Uint8Array.of(0, 1, 2, 3, 4, 5);
    const part = (offset: number, length: number) => bytes.subarray(offset, offset + length);
    const endpoint = acting(connection => {
      connection.stream(part(1, 2), false);
      connection.stream(part(4, 1), true);
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    expect(await client.receive()).toEqual(Buffer.from([1, 2, 4]));
  });

  test('holds back publications too', async () => {
    const endpoint = defineEndpoint({
      path: '/',
      onOpen: connection => connection.subscribe('t'),
      onMessage: (connection, data) => void connection.stream(data, data === 'end'),
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'begin'));
    expect(await take(client, 1)).toEqual([[TEXT, false, 'begin']]);
    expect(served.server.publish('t', 'news')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    client.send(frame(PING), frame(TEXT, 'end'));
    expect(await take(client, 3)).toEqual([
      [PONG, true, ''],
      [CONTINUATION, true, 'end'],
      [TEXT, true, 'news'],
    ]);
  });

  test('of text and binary mixed is a TypeError, and the message can be ended all the same', async () => {
    const errors: unknown[] = [];
    const endpoint = acting(connection => {
      for (const [begin, other] of [
        ['text', Uint8Array.of(1)],
        [Uint8Array.of(2), 'text'],
      ] as const) {
        connection.stream(begin, false);
        try {
          connection.stream(other, true);
        } catch (error) {
          errors.push(error);
        }
        connection.stream(begin, true);
      }
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    expect(await client.receive()).toBe('texttext');
    expect(await client.receive()).toEqual(Buffer.from([2, 2]));
    expect(errors).toEqual([expect.any(TypeError), expect.any(TypeError)]);
  });

  test('may cut text between the halves of a surrogate pair', async () => {
    const endpoint = acting(connection => {
      connection.stream('a\ud834', false);
      connection.stream('\udd1eb\ud834', false);
      connection.stream('', false);
      connection.stream('\udd1e', true);
      // The end of a message ends the pair.
      connection.stream('c\ud834', true);
      connection.stream('\udd1e', true);
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    expect(await client.receive()).toBe('a𝄞b𝄞');
    expect(await client.receive()).toBe('c\ufffd');
    expect(await client.receive()).toBe('\ufffd');
  });
});

describe('writes', () => {
  test('are one for each data event, however many messages it answers', async () => {
    await using served = await serveAttached(acting((connection, data) => connection.send(data)));
    using client = await RawClient.connect(served.url);
    client.send(frame(PING));
    await client.next();
    const counter = countWrites(served);
    client.send(...Array.from({ length: 60 }, (_, i) => frame(i % 10 === 0 ? PING : TEXT, `${i}`)));
    expect((await take(client, 60)).at(-1)).toEqual([TEXT, true, '59']);
    expect(counter.writes).toBe(1);
    expect(client.chunks).toBe(2);
  });

  test('are one for all that asynchronous callbacks send in one turn', async () => {
    const release = Promise.withResolvers<void>();
    const endpoint = defineEndpoint({
      path: '/',
      async onOpen(connection) {
        await release.promise;
        for (let i = 0; i < 20; i++) connection.send(`${i}`);
        await Promise.resolve();
        connection.stream('end', true);
      },
    });
    await using served = await serveAttached(endpoint);
    using client = await RawClient.connect(served.url);
    const counter = countWrites(served);
    release.resolve();
    expect((await take(client, 21)).at(-1)).toEqual([TEXT, true, 'end']);
    expect(counter.writes).toBeLessThanOrEqual(2);
  });
});

describe('drained', () => {
  test.each([
    ['in the middle of a data event', false],
    ['later', true],
  ])('resolves when all that was sent has left the process, asked %s', async (_, later) => {
    const buffered = Promise.withResolvers<number[]>();
    const endpoint = defineEndpoint({
      path: '/',
      maxBufferedAmount: '64MiB',
      async onMessage(connection) {
        if (later) await new Promise(resolve => setImmediate(resolve));
        connection.send(new Uint8Array(16 * 1024 * 1024));
        const before = connection.bufferedAmount;
        await connection.drained();
        buffered.resolve([before, connection.bufferedAmount]);
      },
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    expect((await client.receive()) as Buffer).toHaveLength(16 * 1024 * 1024);
    const [before, after] = await buffered.promise;
    expect(before).toBeGreaterThan(8 * 1024 * 1024);
    expect(after).toBe(0);
  });

  test('resolves also when the connection ends before', async () => {
    const journal = new Journal();
    const endpoint = defineEndpoint({
      path: '/',
      maxBufferedAmount: '64MiB',
      async onMessage(connection) {
        connection.send(new Uint8Array(16 * 1024 * 1024));
        journal.add('sent');
        await connection.drained();
        journal.add(`drained, open ${connection.isOpen}`);
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.socket.pause();
    client.send(frame(TEXT));
    await journal.until('sent');
    client.reset();
    await journal.until('drained, open false');
  });

  test('resolves at once when nothing waits', async () => {
    await using served = await serve(
      acting(async connection => {
        await connection.drained();
        connection.send('done');
      }),
    );
    await using client = await testClient(served.url);
    client.send('go');
    expect(await client.receive()).toBe('done');
  });
});
