import { type CloseEvent, type Connection, defineEndpoint, type EndpointOptions, HoldfastError } from 'holdfast';
import { describe, expect, test } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { gate, Journal } from './journal.ts';
import { BINARY, CLOSE, CONTINUATION, closeFrame, frame, PING, PONG, RawClient, TEXT } from './raw-client.ts';
import { serve, serveAttached } from './serve.ts';

/** An endpoint that writes everything it hears into the journal. */
function recording(journal: Journal, more: Partial<EndpointOptions> = {}) {
  return defineEndpoint({
    path: '/',
    onOpen: () => journal.add('open'),
    onMessage: (_, data) => journal.add(`message ${data}`),
    onPing: (_, data) => journal.add(`ping ${data}`),
    onPong: (_, data) => journal.add(`pong ${data}`),
    onTimeout: () => journal.add('timeout'),
    onError: (_, error) => journal.add(`error ${(error as HoldfastError).code}`),
    onClose: (_, { code }) => journal.add(`close ${code}`),
    ...more,
  });
}

describe('the callbacks of one connection', () => {
  test('run one at a time and in order, also when they are asynchronous', async () => {
    const journal = new Journal();
    const endpoint = recording(journal, {
      async onMessage(_, data) {
        journal.add(`begin ${data}`);
        // The first takes the most turns, so that a later one would end before it.
        for (let turns = 3 - Number(data); turns > 0; turns--) await new Promise(resolve => setImmediate(resolve));
        journal.add(`end ${data}`);
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, '1'), frame(TEXT, '2'), frame(TEXT, '3'), closeFrame(1000));
    client.socket.end();
    await journal.until('close 1000');
    expect(journal.entries).toEqual(['open', 'begin 1', 'end 1', 'begin 2', 'end 2', 'begin 3', 'end 3', 'close 1000']);
  });

  test('begin with onOpen: what came with the handshake waits for it', async () => {
    const journal = new Journal();
    const opening = gate();
    const endpoint = recording(journal, {
      async onOpen() {
        journal.add('opening');
        await opening.promise;
        journal.add('open');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url, {
      early: Buffer.concat([frame(TEXT, 'early'), frame(PING, 'are you there')]),
    });
    client.send(frame(TEXT, 'later'));
    // The pong shows that the frames were read while onOpen was pending.
    expect(await client.next()).toMatchObject({ opcode: PONG });
    expect(journal.entries).toEqual(['opening']);
    opening.resolve();
    await journal.until('message later');
    expect(journal.entries).toEqual(['opening', 'open', 'message early', 'ping are you there', 'message later']);
  });

  test('end with onClose, once, and after a handler that was pending when the peer left', async () => {
    const journal = new Journal();
    const working = gate();
    const endpoint = recording(journal, {
      async onMessage(connection) {
        journal.add('begin');
        await working.promise;
        journal.add(`end, sent ${connection.send('too late')}`);
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), frame(TEXT));
    await journal.until('begin');
    client.reset();
    await expect.poll(() => endpoint.connections.size).toBe(0);
    working.resolve();
    await journal.until('close 1006');
    expect(journal.entries).toEqual([
      'open',
      'begin',
      'end, sent false',
      'begin',
      'end, sent false',
      'error ERR_WS_CONNECTION_LOST',
      'close 1006',
    ]);
  });

  test('do not run inside each other: an error found inside a send is told after the handler that sent', async () => {
    const journal = new Journal();
    const endpoint = recording(journal, {
      maxBufferedAmount: '64KiB',
      slowReader: 'close',
      onMessage(connection) {
        const chunk = new Uint8Array(64 * 1024);
        while (connection.isOpen) connection.send(chunk);
        journal.add('handler returns');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.socket.pause();
    client.send(frame(TEXT));
    await journal.until('error ERR_WS_SLOW_READER');
    expect(journal.entries).toEqual(['open', 'handler returns', 'error ERR_WS_SLOW_READER']);
  });

  test('leave pings and the close to be answered at once while one is pending', async () => {
    const journal = new Journal();
    const working = gate();
    const endpoint = recording(journal, {
      async onMessage() {
        journal.add('begin');
        await working.promise;
        journal.add('end');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), frame(PING, 'p'), closeFrame(4000, 'bye'));
    expect(await client.next()).toMatchObject({ opcode: PONG, payload: Buffer.from('p') });
    expect(await client.next()).toMatchObject({ opcode: CLOSE, payload: Buffer.from('\x0f\xa0bye', 'latin1') });
    expect(journal.entries).toEqual(['open', 'begin']);
    working.resolve();
    client.socket.end();
    await journal.until('close 4000');
    expect(journal.entries).toEqual(['open', 'begin', 'end', 'ping p', 'close 4000']);
  });

  test('see the signal aborted as soon as the connection closes, while a handler is still running', async () => {
    const journal = new Journal();
    const endpoint = recording(journal, {
      async onMessage({ signal }) {
        journal.add('begin');
        await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
        journal.add('aborted');
      },
      onClose: ({ signal }) => journal.add(`close, aborted ${signal.aborted}`),
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await journal.until('begin');
    client.send(closeFrame(1000));
    client.socket.end();
    await journal.until('close, aborted true');
    expect(journal.entries).toEqual(['open', 'begin', 'aborted', 'close, aborted true']);
  });
});

describe('the queue of callbacks', () => {
  /** Counts messages; each handler waits for the gate. */
  function counting() {
    const working = gate();
    const journal = new Journal();
    let handled = 0;
    const endpoint = recording(journal, {
      maxMessageSize: '1MiB',
      async onMessage() {
        if (handled++ === 0) journal.add('begin');
        await working.promise;
      },
      onPing: undefined,
    });
    return { endpoint, journal, working, handled: () => handled };
  }

  test('holds 64 messages, then the connection is not read until half of them are gone', async () => {
    const { endpoint, journal, working, handled } = counting();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    // One is running and 63 wait: there is room for one more, and a ping is still answered.
    for (let i = 0; i < 64; i++) client.send(frame(TEXT, 'x'));
    client.send(frame(PING, 'with room'));
    expect((await client.next())?.payload.toString()).toBe('with room');
    client.send(frame(TEXT, 'x'), frame(PING, 'full'));
    client.send(frame(PING, 'still full'));
    await journal.until('begin');
    // Whatever the server reads in these turns it would answer.
    for (let turns = 0; turns < 50; turns++) await new Promise(resolve => setImmediate(resolve));
    expect(client.frames).toEqual([]);
    expect(handled()).toBe(1);
    working.resolve();
    expect((await client.next())?.payload.toString()).toBe('full');
    expect((await client.next())?.payload.toString()).toBe('still full');
    await expect.poll(handled).toBe(65);
  });

  test('stops in the middle of a piece of the stream, and loses and reorders nothing', async () => {
    const seen: number[] = [];
    const working = gate();
    const endpoint = defineEndpoint({
      path: '/',
      async onMessage(_, data) {
        await working.promise;
        seen.push(Number(data));
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    const all = Array.from({ length: 1000 }, (_, i) => i);
    client.send(...all.map(i => frame(TEXT, String(i))), closeFrame(1000));
    for (let turns = 0; turns < 20; turns++) await new Promise(resolve => setImmediate(resolve));
    expect(client.frames).toEqual([]);
    working.resolve();
    expect(await client.closeCode()).toBe(1000);
    await expect.poll(() => seen.length).toBe(1000);
    expect(seen).toEqual(all);
  });

  test('holds 256 KiB, then the connection is not read', async () => {
    const { endpoint, journal, working, handled } = counting();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    const quarter = new Uint8Array(64 * 1024);
    client.send(frame(TEXT, 'runs'), frame(BINARY, quarter), frame(BINARY, quarter), frame(BINARY, quarter));
    client.send(frame(PING, 'with room'));
    expect((await client.next())?.payload.toString()).toBe('with room');
    await journal.until('begin');
    client.send(frame(BINARY, quarter), frame(PING, 'full'));
    for (let turns = 0; turns < 50; turns++) await new Promise(resolve => setImmediate(resolve));
    expect(client.frames).toEqual([]);
    working.resolve();
    expect((await client.next())?.payload.toString()).toBe('full');
    await expect.poll(handled).toBe(5);
  });

  test('hands out a copy of binary data that had to wait', async () => {
    const working = gate();
    const seen: string[] = [];
    const endpoint = defineEndpoint({
      path: '/',
      async onMessage(_, data) {
        seen.push(data.toString());
        await working.promise;
      },
    });
    await using served = await serveAttached(endpoint);
    using client = await RawClient.connect(served.url);
    // Whatever the bytes came in is overwritten: by us, and by what is read next.
    served.lastSocket().on('data', (chunk: Buffer) => chunk.fill('-'));
    client.send(frame(BINARY, 'first'), frame(BINARY, 'second'), frame(PING));
    await client.next();
    client.send(frame(PING, '-'.repeat(100)));
    await client.next();
    working.resolve();
    await expect.poll(() => seen).toEqual(['first', 'second']);
  });
});

describe('a handler that fails', () => {
  const failures: [string, () => unknown][] = [
    [
      'throws',
      () => {
        throw new Error('boom');
      },
    ],
    ['rejects', () => Promise.reject(new Error('boom'))],
    ['rejects with what is no error', () => Promise.reject('boom')],
    [
      'returns a promise of another kind, whose then throws',
      () => ({
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested.
        then() {
          throw new Error('boom');
        },
      }),
    ],
  ];

  test.each(failures)('%s: onError, 1011 without details, and the server lives on', async (_, fail) => {
    const journal = new Journal();
    let told: unknown;
    const endpoint = recording(journal, {
      onMessage: (connection, data) => (data === 'fail' ? (fail() as Promise<void>) : void connection.send('fine')),
      onError(_, error) {
        told = error;
        journal.add('error');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'fail'), frame(TEXT, 'after'));
    expect(await client.next()).toMatchObject({ opcode: CLOSE, payload: Buffer.from([1011 >> 8, 1011 & 0xff]) });
    client.send(closeFrame(1011));
    client.socket.end();
    await journal.until('close 1011');
    expect(journal.entries).toEqual(['open', 'error', 'close 1011']);
    expect(told).toMatchObject({ code: 'ERR_WS_HANDLER_FAILED', cause: { message: 'boom' } });
    await using next = await testClient(served.url);
    next.send('works');
    expect(await next.receive()).toBe('fine');
  });

  test.each(['onOpen', 'onPing', 'onPong'] as const)('closes with 1011 also when it is %s', async name => {
    const journal = new Journal();
    const endpoint = recording(journal, { [name]: () => Promise.reject(new Error('boom')) });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(PING), frame(PONG));
    expect(await client.eventualCloseCode()).toBe(1011);
    client.socket.end();
    await journal.until('close 1011');
    expect(journal.entries).toContain('error ERR_WS_HANDLER_FAILED');
  });

  test.each(['onError', 'onClose'] as const)(
    'is only logged when it is %s, and the end comes all the same',
    async name => {
      const journal = new Journal();
      const logger: Logger = {
        debug() {},
        info() {},
        warn() {},
        error: (_, message) => journal.add(`log ${message}`),
      };
      const endpoint = recording(journal, {
        onMessage: () => Promise.reject(new Error('boom')),
        [name]: () => {
          journal.add(name);
          throw new Error('another');
        },
        destroy: () => journal.add('destroy'),
      });
      const served = await serve(endpoint, {}, { logger });
      using client = await RawClient.connect(served.url);
      client.send(frame(TEXT));
      expect(await client.closeCode()).toBe(1011);
      client.socket.end();
      await served.server.stop();
      const told = name === 'onError' ? ['onError', 'close 1011'] : ['error ERR_WS_HANDLER_FAILED', 'onClose'];
      expect(journal.entries.filter(entry => !entry.startsWith('log'))).toEqual(['open', ...told, 'destroy']);
      expect(journal.entries.filter(entry => entry === 'log a WebSocket callback failed')).toHaveLength(2);
    },
  );

  test('is told of also when the peer has gone meanwhile, and onClose still comes last', async () => {
    const journal = new Journal();
    const working = gate();
    const endpoint = recording(journal, {
      async onMessage() {
        journal.add('begin');
        await working.promise;
        throw new Error('boom');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), frame(TEXT, 'never handled'), closeFrame(1000));
    await journal.until('begin');
    expect(await client.closeCode()).toBe(1000);
    client.socket.end();
    await expect.poll(() => served.server && endpoint.connections.size).toBe(0);
    working.resolve();
    await journal.until('close 1000');
    expect(journal.entries).toEqual(['open', 'begin', 'error ERR_WS_HANDLER_FAILED', 'close 1000']);
  });
});

describe('a handler that does not settle', () => {
  test('fails the connection with 1011 when the handler timeout is over, and what it does later is ignored', async () => {
    const clock = new FakeClock();
    const journal = new Journal();
    const working = gate();
    const endpoint = recording(journal, {
      handlerTimeout: '5s',
      async onMessage(connection) {
        journal.add('begin');
        await working.promise;
        journal.add(`end, sent ${connection.send('late')}`);
        throw new Error('late failure');
      },
    });
    await using served = await serve(endpoint, {}, { clock });
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), frame(TEXT, 'never handled'));
    await journal.until('begin');
    await clock.advance(4_900);
    expect(client.frames).toEqual([]);
    await clock.advance(500);
    expect(await client.closeCode()).toBe(1011);
    client.socket.end();
    await journal.until('close 1011');
    working.resolve();
    await journal.until('end, sent false');
    expect(journal.entries).toEqual(['open', 'begin', 'error ERR_WS_HANDLER_TIMEOUT', 'close 1011', 'end, sent false']);
  });

  test('does not hold up onClose for ever when the peer has gone meanwhile', async () => {
    const clock = new FakeClock();
    const journal = new Journal();
    const endpoint = recording(journal, {
      onMessage() {
        journal.add('begin');
        return new Promise(() => {});
      },
    });
    await using served = await serve(endpoint, {}, { clock });
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT), closeFrame(1000));
    await journal.until('begin');
    client.socket.end();
    await expect.poll(() => endpoint.connections.size).toBe(0);
    await clock.advance(59_000);
    expect(journal.entries).toEqual(['open', 'begin']);
    await clock.advance(2_000);
    expect(journal.entries).toEqual(['open', 'begin', 'error ERR_WS_HANDLER_TIMEOUT', 'close 1000']);
  });

  test.each(['onError', 'onClose'] as const)('is given up also when it is %s', async name => {
    const clock = new FakeClock();
    const journal = new Journal();
    const endpoint = recording(journal, {
      onMessage: () => Promise.reject(new Error('boom')),
      [name]: () => {
        journal.add(name);
        return new Promise(() => {});
      },
      destroy: () => journal.add('destroy'),
    });
    const served = await serve(endpoint, {}, { clock });
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await client.closeCode();
    client.socket.end();
    await journal.until(name);
    const stopping = served.server.stop({ drain: 0 });
    await clock.advance(61_000);
    await stopping;
    expect(journal.entries).toEqual(
      name === 'onError'
        ? ['open', 'onError', 'close 1011', 'destroy']
        : ['open', 'error ERR_WS_HANDLER_FAILED', 'onClose', 'destroy'],
    );
  });

  test('may take as long as it likes with handlerTimeout -1', async () => {
    const clock = new FakeClock();
    const journal = new Journal();
    const working = gate();
    const endpoint = recording(journal, {
      handlerTimeout: -1,
      idleTimeout: -1,
      async onMessage(connection) {
        journal.add('begin');
        await working.promise;
        connection.send('done');
      },
    });
    await using served = await serve(endpoint, {}, { clock });
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT));
    await journal.until('begin');
    await clock.advance(600_000);
    working.resolve();
    while ((await client.next())?.payload.toString() !== 'done') expect(client.socket.destroyed).toBe(false);
  });
});

describe('what callbacks are given', () => {
  test('pings and pongs come with their payloads, and the pong has been sent', async () => {
    const journal = new Journal();
    await using served = await serve(recording(journal));
    using client = await RawClient.connect(served.url);
    client.send(frame(PING, 'hello'), frame(PONG, 'unasked'), frame(PING), closeFrame());
    expect(await client.next()).toMatchObject({ opcode: PONG, payload: Buffer.from('hello') });
    expect(await client.next()).toMatchObject({ opcode: PONG, payload: Buffer.alloc(0) });
    client.socket.end();
    await journal.until('close 1005');
    expect(journal.entries).toEqual(['open', 'ping hello', 'pong unasked', 'ping ', 'close 1005']);
  });

  test('a ping of ours reaches the peer, and its pong comes back to onPong', async () => {
    const journal = new Journal();
    const endpoint = recording(journal, { onOpen: connection => void connection.ping('are you there') });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    await journal.until('pong are you there');
    expect(client.isOpen).toBe(true);
  });

  test('an unasked pong of ours reaches the peer', async () => {
    const endpoint = defineEndpoint({ path: '/', onOpen: connection => void connection.pong(Uint8Array.of(1, 2)) });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    expect(await client.next()).toMatchObject({ opcode: PONG, payload: Buffer.from([1, 2]) });
  });

  test('more than 125 bytes in a ping or pong are a RangeError, also when they are many only as UTF-8', async () => {
    const errors = Promise.withResolvers<unknown[]>();
    const endpoint = defineEndpoint({
      path: '/',
      onOpen(connection) {
        const attempts = [
          () => connection.ping('x'.repeat(125)),
          () => connection.ping('x'.repeat(126)),
          () => connection.pong('€'.repeat(42)),
        ];
        errors.resolve(
          attempts.map(attempt => {
            try {
              return attempt();
            } catch (error) {
              return (error as Error).name;
            }
          }),
        );
      },
    });
    await using served = await serve(endpoint);
    using _client = await RawClient.connect(served.url);
    expect(await errors.promise).toEqual([true, 'RangeError', 'RangeError']);
  });

  test('messages are text as string and binary as Uint8Array', async () => {
    const seen: unknown[] = [];
    const endpoint = defineEndpoint({
      path: '/',
      onMessage(connection, data) {
        seen.push(typeof data === 'string' ? data : { binary: [...data] });
        connection.send('seen');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'grüß €𝄞'), frame(BINARY, Uint8Array.of(0, 255)), frame(TEXT), frame(BINARY));
    for (let i = 0; i < 4; i++) await client.next();
    expect(seen).toEqual(['grüß €𝄞', { binary: [0, 255] }, '', { binary: [] }]);
  });

  test('fragments are put together for onMessage when there is no onFragment', async () => {
    const journal = new Journal();
    await using served = await serve(recording(journal));
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'a', { fin: false }), frame(PING, 'between'), frame(CONTINUATION, 'b', { fin: false }));
    client.send(frame(CONTINUATION, 'c'));
    await journal.until('message abc');
    expect(journal.entries).toEqual(['open', 'ping between', 'message abc']);
  });

  test('with onFragment, fragments come one by one, text cut at code points, and whole messages to onMessage', async () => {
    const journal = new Journal();
    const endpoint = recording(journal, {
      onFragment: (_, data, last) =>
        journal.add(`fragment ${typeof data === 'string' ? data : Buffer.from(data).toString('hex')} ${last}`),
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    const clef = Buffer.from('𝄞');
    client.send(frame(TEXT, Buffer.concat([Buffer.from('a'), clef.subarray(0, 1)]), { fin: false }));
    client.send(frame(CONTINUATION, clef.subarray(1, 3), { fin: false }));
    client.send(frame(CONTINUATION, Buffer.concat([clef.subarray(3), Buffer.from('b')])));
    client.send(frame(TEXT, 'whole'));
    client.send(frame(BINARY, clef.subarray(0, 2), { fin: false }), frame(CONTINUATION, clef.subarray(2)));
    await journal.until('fragment 849e true');
    expect(journal.entries).toEqual([
      'open',
      'fragment a false',
      'fragment  false',
      'fragment 𝄞b true',
      'message whole',
      'fragment f09d false',
      'fragment 849e true',
    ]);
  });

  test('a fragmented text that ends inside a code point is refused with 1007, by either way', async () => {
    const journal = new Journal();
    await using served = await serve([
      recording(journal, { path: '/whole' }),
      recording(journal, { path: '/pieces', onFragment: () => {} }),
    ]);
    for (const path of ['/whole', '/pieces']) {
      using client = await RawClient.connect(served.url + path);
      client.send(frame(TEXT, 'a', { fin: false }), frame(CONTINUATION, Uint8Array.of(0xf0, 0x9d)));
      expect(await client.closeCode()).toBe(1007);
    }
  });

  test('a reset of the connection is onError, then onClose with 1006', async () => {
    const journal = new Journal();
    let told: [unknown, CloseEvent] | undefined;
    let lost: unknown;
    const endpoint = recording(journal, {
      onError: (_, error) => {
        lost = error;
        journal.add('error');
      },
      onClose: (connection: Connection, event) => {
        told = [connection.isOpen, event];
        journal.add('close');
      },
    });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    await journal.until('open');
    client.reset();
    await journal.until('close');
    expect(journal.entries).toEqual(['open', 'error', 'close']);
    expect(lost).toBeInstanceOf(HoldfastError);
    expect(lost).toMatchObject({ code: 'ERR_WS_CONNECTION_LOST', cause: { code: 'ECONNRESET' } });
    expect(told).toEqual([false, { code: 1006, reason: '', clean: false }]);
  });

  test('a write that fails is onError, then onClose with 1006', async () => {
    const journal = new Journal();
    await using served = await serveAttached(recording(journal));
    using client = await RawClient.connect(served.url);
    await journal.until('open');
    const socket = served.lastSocket();
    socket._write = (_chunk, _encoding, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    socket._writev = (_chunks, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    client.send(frame(PING, 'answer me'));
    await journal.until('close 1006');
    expect(journal.entries.filter(entry => !entry.startsWith('ping'))).toEqual([
      'open',
      'error ERR_WS_CONNECTION_LOST',
      'close 1006',
    ]);
  });

  test('a protocol error of the peer is onError with its code, after what was sent before it', async () => {
    const journal = new Journal();
    await using served = await serve(recording(journal));
    using client = await RawClient.connect(served.url);
    client.send(frame(TEXT, 'good'), frame(TEXT, Uint8Array.of(0xff)), frame(TEXT, 'ignored'));
    expect(await client.closeCode()).toBe(1007);
    client.socket.end();
    await journal.until('close 1007');
    expect(journal.entries).toEqual(['open', 'message good', 'error ERR_WS_INVALID_UTF8', 'close 1007']);
  });
});
