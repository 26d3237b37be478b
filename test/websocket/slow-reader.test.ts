import { type Connection, defineEndpoint, type SlowReaderPolicy } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { Journal } from './journal.ts';
import { CLOSE, CONTINUATION, frame, PING, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

const KIB = 1024;
const LIMIT = 256 * KIB;

/** A connection whose peer does not read, and what the kernel takes is filled up: what is sent now waits. */
async function stalled(slowReader: SlowReaderPolicy) {
  const journal = new Journal();
  const opened = Promise.withResolvers<Connection>();
  const endpoint = defineEndpoint({
    path: '/',
    slowReader,
    maxBufferedAmount: LIMIT,
    idleTimeout: -1,
    onOpen: connection => opened.resolve(connection),
    onError: (_, error) => journal.add(`error ${(error as Error & { code: string }).code}`),
    onClose: (_, { code }) => journal.add(`close ${code}`),
  });
  // A clock that stands still: nobody is cut off for being late with the close.
  const served = await serve(endpoint, {}, { clock: new FakeClock() });
  const client = await RawClient.connect(served.url);
  client.socket.pause();
  const connection = await opened.promise;
  let sent = 0;
  while (connection.bufferedAmount === 0 && sent < 1_000) {
    connection.send(`fill ${sent++} ${'x'.repeat(16 * KIB)}`);
    // Also when the kernel takes a while to see that it is full.
    await new Promise(resolve => setImmediate(resolve));
  }
  expect(connection.isOpen).toBe(true);
  return {
    served,
    client,
    connection,
    journal,
    filled: sent,
    /** Reads on, and gives back what else comes than filling. */
    async rest(last: string): Promise<string[]> {
      client.socket.resume();
      const rest: string[] = [];
      for (let next = await client.next(); next !== undefined; next = await client.next()) {
        const text = next.opcode === CLOSE ? `close ${next.payload.readUInt16BE(0)}` : next.payload.toString();
        if (!text.startsWith('fill')) rest.push(text.slice(0, 20).trim());
        if (text.startsWith(last)) break;
      }
      return rest;
    },
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await served[Symbol.asyncDispose]();
    },
  };
}

const half = (name: string) => `${name} ${'x'.repeat(LIMIT / 2)}`;
const big = (name: string) => `${name} ${'x'.repeat(LIMIT)}`;

describe('wait', () => {
  test('keeps everything, and send answers false above the limit', async () => {
    await using slow = await stalled('wait');
    const { connection } = slow;
    expect(connection.send(big('one'))).toBe(false);
    expect(connection.send('two')).toBe(false);
    expect(connection.bufferedAmount).toBeGreaterThan(LIMIT);
    expect(await slow.rest('two')).toEqual(['one xxxxxxxxxxxxxxxx', 'two']);
    expect(connection.droppedMessages).toBe(0);
    expect(connection.send('three')).toBe(true);
    expect(slow.journal.entries).toEqual([]);
  });

  test('closes with 1013 at one and a quarter of the limit, behind all that was sent before', async () => {
    await using slow = await stalled('wait');
    const { connection } = slow;
    let sent = 0;
    for (; connection.isOpen && sent < 100; sent++) connection.send(half(`${sent}`));
    // 3 of them are above one and a quarter of the limit with the filling, and the next one finds that.
    expect(sent).toBeGreaterThanOrEqual(3);
    expect(sent).toBeLessThanOrEqual(4);
    await slow.journal.until('error ERR_WS_SLOW_READER');
    const rest = await slow.rest('close');
    expect(rest).toHaveLength(sent + 1);
    expect(rest.at(-1)).toBe('close 1013');
    slow.client.socket.end();
    await slow.journal.until('close 1013');
  });

  test('does not take one message for a slow reader, however large it is', async () => {
    const endpoint = defineEndpoint({
      path: '/',
      maxBufferedAmount: LIMIT,
      onMessage(connection) {
        connection.send(new Uint8Array(LIMIT * 40));
      },
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    client.send('go');
    expect((await client.receive()) as Buffer).toHaveLength(LIMIT * 40);
    expect(client.isOpen).toBe(true);
  });
});

describe('drop', () => {
  test('does not send what is above the limit, counts it, and goes on when the peer reads again', async () => {
    await using slow = await stalled('drop');
    const { connection } = slow;
    expect(connection.send(big('one'))).toBe(false);
    expect(connection.droppedMessages).toBe(0);
    expect(connection.send('two')).toBe(false);
    expect(connection.send('three')).toBe(false);
    expect(connection.droppedMessages).toBe(2);
    expect(slow.served.server.publish('t', 'nobody')).toEqual({ sent: 0, skipped: 0, failed: 0 });
    connection.subscribe('t');
    expect(slow.served.server.publish('t', 'four')).toEqual({ sent: 0, skipped: 1, failed: 0 });
    expect(connection.droppedMessages).toBe(3);
    slow.client.socket.resume();
    await connection.drained();
    expect(connection.send('five')).toBe(true);
    expect(await slow.rest('five')).toEqual(['one xxxxxxxxxxxxxxxx', 'five']);
  });

  test('never drops a piece of a streamed message', async () => {
    await using slow = await stalled('drop');
    const { connection } = slow;
    expect(connection.stream(big('one'), false)).toBe(false);
    expect(connection.stream('two', false)).toBe(false);
    expect(connection.stream('end', true)).toBe(false);
    expect(await slow.rest('end')).toEqual(['one xxxxxxxxxxxxxxxx', 'two', 'end']);
    expect(connection.droppedMessages).toBe(0);
  });
});

describe('conflate', () => {
  test('keeps only the latest of what waits, and counts what it replaced', async () => {
    await using slow = await stalled('conflate');
    const { connection } = slow;
    connection.send(big('one'));
    for (let i = 0; i < 10; i++) expect(connection.send(`price ${i}`)).toBe(false);
    expect(connection.droppedMessages).toBe(9);
    connection.subscribe('t');
    expect(slow.served.server.publish('t', 'price 10')).toEqual({ sent: 1, skipped: 0, failed: 0 });
    expect(connection.droppedMessages).toBe(10);
    slow.client.socket.resume();
    await connection.drained();
    expect(connection.send('price 11')).toBe(true);
    expect(await slow.rest('price 11')).toEqual(['one xxxxxxxxxxxxxxxx', 'price 10', 'price 11']);
  });

  test('takes nothing for waiting that the peer reads as fast as it is sent', async () => {
    const endpoint = defineEndpoint({
      path: '/',
      slowReader: 'conflate',
      maxBufferedAmount: '1KiB',
      onMessage(connection, data) {
        // All in one data event, each above the limit.
        for (let i = 0; i < 5; i++) connection.send(`${data} ${i} ${'x'.repeat(2 * KIB)}`);
      },
    });
    await using served = await serve(endpoint);
    await using client = await testClient(served.url);
    for (const name of ['a', 'b']) {
      client.send(name);
      for (let i = 0; i < 5; i++) expect((await client.receive()) as string).toMatch(`${name} ${i}`);
    }
  });

  test('sends the latest before the close frame', async () => {
    await using slow = await stalled('conflate');
    slow.connection.send(big('one'));
    slow.connection.send('two');
    slow.connection.send('three');
    slow.connection.close(4000);
    expect(await slow.rest('close')).toEqual(['one xxxxxxxxxxxxxxxx', 'three', 'close 4000']);
  });

  test('does not put the latest into the middle of a streamed message', async () => {
    await using slow = await stalled('conflate');
    const { connection } = slow;
    connection.send(big('one'));
    connection.send('before');
    connection.stream('begin', false);
    connection.send('meanwhile');
    slow.client.socket.resume();
    await connection.drained();
    connection.ping('drained');
    connection.stream('end', true);
    connection.send('after');
    const frames: [number, string][] = [];
    for (let next = await slow.client.next(); next; next = await slow.client.next()) {
      const text = next.payload.toString();
      if (!/^(fill|one)/.test(text)) frames.push([next.opcode, text]);
      if (text === 'after') break;
    }
    expect(frames).toEqual([
      [TEXT, 'before'],
      [TEXT, 'begin'],
      [PING, 'drained'],
      [CONTINUATION, 'end'],
      [TEXT, 'meanwhile'],
      [TEXT, 'after'],
    ]);
  });
});

describe('close', () => {
  test('closes with 1013 as soon as the limit is passed', async () => {
    await using slow = await stalled('close');
    const { connection } = slow;
    connection.send(big('one'));
    expect(connection.isOpen).toBe(true);
    connection.subscribe('t');
    expect(slow.served.server.publish('t', 'two')).toEqual({ sent: 0, skipped: 0, failed: 1 });
    expect(connection.isOpen).toBe(false);
    expect(connection.send('three')).toBe(false);
    await slow.journal.until('error ERR_WS_SLOW_READER');
    expect(await slow.rest('close')).toEqual(['one xxxxxxxxxxxxxxxx', 'close 1013']);
  });
});

describe('whatever the policy', () => {
  test.each(['wait', 'drop', 'conflate', 'close'] as const)(
    'with %s a peer that sends pings and does not read gets a pong for the latest, and none is kept for the others',
    async slowReader => {
      let most = 0;
      let pings = 0;
      const endpoint = defineEndpoint({
        path: '/',
        slowReader,
        maxBufferedAmount: '16KiB',
        onPing: connection => {
          pings++;
          most = Math.max(most, connection.bufferedAmount);
        },
      });
      await using served = await serve(endpoint);
      using client = await RawClient.connect(served.url);
      client.socket.pause();
      const many = Buffer.concat(Array.from({ length: 500 }, () => frame(PING, 'x'.repeat(125))));
      const flood = () => {
        while (pings < 50_000 && client.socket.write(many));
      };
      client.socket.on('drain', flood);
      flood();
      await expect.poll(() => pings, { timeout: 10_000 }).toBeGreaterThan(50_000);
      // The limit, and one pong.
      expect(most).toBeLessThan(17 * KIB);
      client.send(frame(PING, 'last'));
      client.socket.resume();
      let last = '';
      while (last !== 'last') last = (await client.next())!.payload.toString();
      expect(endpoint.connections.size).toBe(1);
    },
  );

  test('the limit can be changed while the connection is open', async () => {
    await using slow = await stalled('wait');
    expect(slow.connection.send(big('one'))).toBe(false);
    slow.connection.endpoint.limits.maxBufferedBytes = 10 * LIMIT;
    expect(slow.connection.send('two')).toBe(true);
    slow.connection.endpoint.limits.slowReader = 'drop';
    slow.connection.endpoint.limits.maxBufferedBytes = LIMIT;
    expect(slow.connection.send('three')).toBe(false);
    expect(slow.connection.droppedMessages).toBe(1);
  });
});
