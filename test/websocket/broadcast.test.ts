import { type Connection, defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { PerMessageDeflate } from '../../src/websocket/protocol/permessage-deflate.ts';
import { CONTINUATION, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

/** An endpoint and its connections in the order in which they came. */
function listening(options: Partial<EndpointOptions> = {}) {
  const connections: Connection[] = [];
  const endpoint = defineEndpoint({ path: '/', ...options, onOpen: connection => void connections.push(connection) });
  return { endpoint, connections };
}

async function crowd(url: string, size: number): Promise<RawClient[]> {
  return Promise.all(Array.from({ length: size }, () => RawClient.connect(url)));
}

async function texts(client: RawClient, count: number): Promise<(string | undefined)[]> {
  const seen = [];
  for (let i = 0; i < count; i++) seen.push(await client.text());
  return seen;
}

describe('broadcast', () => {
  test('reaches every connection, text and binary', async () => {
    const { endpoint } = listening();
    await using served = await serve(endpoint);
    await using a = await testClient(served.url);
    await using b = await testClient(served.url);
    await expect.poll(() => endpoint.connections.size).toBe(2);
    expect(endpoint.broadcast('news €')).toEqual({ sent: 2, skipped: 0, failed: 0 });
    expect(endpoint.broadcast(Uint8Array.of(1, 2))).toEqual({ sent: 2, skipped: 0, failed: 0 });
    for (const client of [a, b])
      expect([await client.receive(), await client.receive()]).toEqual(['news €', Buffer.from([1, 2])]);
  });

  test('is seen by all in one order, also among their own messages', async () => {
    const { endpoint, connections } = listening();
    await using served = await serve(endpoint);
    const clients = await crowd(served.url, 20);
    await expect.poll(() => connections.length).toBe(20);
    const order: string[] = [];
    for (let i = 0; i < 100; i++) {
      endpoint.broadcast(`${i}`);
      order.push(`${i}`);
      if (i % 10 === 5) {
        for (const connection of connections) connection.send(`own ${i}`);
        order.push(`own ${i}`);
      }
      if (i % 7 === 0) await new Promise(resolve => setImmediate(resolve));
    }
    for (const client of clients) {
      expect(await texts(client, order.length)).toEqual(order);
      client[Symbol.dispose]();
    }
  });

  test('keeps one order also when a callback broadcasts because of a broadcast', async () => {
    const { endpoint } = listening({
      slowReader: 'close',
      maxBufferedAmount: '64KiB',
      onError: () => void endpoint.broadcast('somebody left'),
    });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using slow = await RawClient.connect(served.url);
    using last = await RawClient.connect(served.url);
    slow.socket.pause();
    const chunk = 'x'.repeat(64 * 1024);
    let count = 0;
    for (; endpoint.connections.size === 3; count++) {
      endpoint.broadcast(`${count} ${chunk}`);
      await new Promise(resolve => setImmediate(resolve));
    }
    for (const client of [first, last]) {
      const seen = await texts(client, count + 1);
      expect(seen.map(text => text!.slice(0, 13).replace(/ x+$/, ''))).toEqual([
        ...Array.from({ length: count }, (_, i) => `${i}`),
        'somebody left',
      ]);
    }
  });

  test('leaves out one connection, or several', async () => {
    const { endpoint, connections } = listening();
    await using served = await serve(endpoint);
    const clients: RawClient[] = [];
    for (let i = 0; i < 3; i++) {
      clients.push(await RawClient.connect(served.url));
      await expect.poll(() => connections.length).toBe(i + 1);
    }
    expect(endpoint.broadcast('not 0', { except: connections[0]! })).toEqual({ sent: 2, skipped: 1, failed: 0 });
    const others = new Set([connections[1]!, connections[2]!]);
    expect(endpoint.broadcast('only 0', { except: others })).toEqual({ sent: 1, skipped: 2, failed: 0 });
    for (const connection of connections) connection.subscribe('t');
    const topic = served.server.publish('t', 'topic, not 1', { except: connections[1]! });
    expect(topic).toEqual({ sent: 2, skipped: 1, failed: 0 });
    expect(endpoint.broadcast('all')).toEqual({ sent: 3, skipped: 0, failed: 0 });
    expect(await texts(clients[0]!, 3)).toEqual(['only 0', 'topic, not 1', 'all']);
    expect(await texts(clients[1]!, 2)).toEqual(['not 0', 'all']);
    expect(await texts(clients[2]!, 3)).toEqual(['not 0', 'topic, not 1', 'all']);
    for (const client of clients) client[Symbol.dispose]();
  });

  test('goes to nobody who has begun to close', async () => {
    const { endpoint, connections } = listening();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    await expect.poll(() => connections.length).toBe(1);
    expect(endpoint.connections).toEqual(new Set(connections));
    connections[0]!.close();
    expect(endpoint.connections.size).toBe(0);
    expect(endpoint.broadcast('x')).toEqual({ sent: 0, skipped: 0, failed: 0 });
    expect(await client.closeCode()).toBe(1000);
  });

  test('waits where a streamed message is open, and only there', async () => {
    const { endpoint, connections } = listening();
    await using served = await serve(endpoint);
    using streaming = await RawClient.connect(served.url);
    await expect.poll(() => connections.length).toBe(1);
    using other = await RawClient.connect(served.url);
    await expect.poll(() => connections.length).toBe(2);
    connections[0]!.stream('begin', false);
    endpoint.broadcast('news');
    expect(await other.text()).toBe('news');
    connections[0]!.stream('end', true);
    for (const expected of [
      [TEXT, 'begin'],
      [CONTINUATION, 'end'],
      [TEXT, 'news'],
    ]) {
      const next = await streaming.next();
      expect([next?.opcode, next?.payload.toString()]).toEqual(expected);
    }
  });

  test('is compressed once for all who agreed on the same, and not for those who did not agree', async () => {
    const { endpoint } = listening({ compression: { threshold: 0 } });
    await using served = await serve(endpoint);
    const offer = (params: string) => ({ headers: [`Sec-WebSocket-Extensions: permessage-deflate${params}`] });
    const clients = [
      ...(await Promise.all([1, 2, 3].map(() => RawClient.connect(served.url, offer(''))))),
      ...(await Promise.all([1, 2].map(() => RawClient.connect(served.url, offer('; server_max_window_bits=9'))))),
      await RawClient.connect(served.url),
    ];
    await expect.poll(() => endpoint.connections.size).toBe(6);
    const { compress } = PerMessageDeflate.prototype;
    let compressions = 0;
    PerMessageDeflate.prototype.compress = function (payload) {
      compressions++;
      return compress.call(this, payload);
    };
    try {
      expect(endpoint.broadcast('x'.repeat(1000)).sent).toBe(6);
    } finally {
      PerMessageDeflate.prototype.compress = compress;
    }
    // One for each window size that was agreed.
    expect(compressions).toBe(2);
    const received = await Promise.all(clients.map(client => client.next()));
    expect(received.map(next => [next!.rsv1, next!.payload.length < 100])).toEqual([
      ...Array.from({ length: 5 }, () => [true, true]),
      [false, false],
    ]);
    for (const client of clients) client[Symbol.dispose]();
  });

  test('is right for connections that keep their window between messages too', async () => {
    const { endpoint } = listening({ compression: { threshold: 0, contextTakeover: true } });
    await using served = await serve(endpoint);
    const clients = await Promise.all(
      [1, 2].map(() => testClient(served.url, { compression: { contextTakeover: true } })),
    );
    await expect.poll(() => endpoint.connections.size).toBe(2);
    for (let i = 0; i < 5; i++) endpoint.broadcast(`the same again and again ${i}`);
    for (const client of clients) {
      for (let i = 0; i < 5; i++) expect(await client.receive()).toBe(`the same again and again ${i}`);
      client.terminate();
    }
  });

  test('is not delayed by somebody who does not read', async () => {
    const { endpoint, connections } = listening({ maxBufferedAmount: '64KiB', slowReader: 'drop' });
    await using served = await serve(endpoint);
    using stalled = await RawClient.connect(served.url);
    await expect.poll(() => connections.length).toBe(1);
    stalled.socket.pause();
    const readers = await crowd(served.url, 10);
    await expect.poll(() => connections.length).toBe(11);
    const chunk = 'x'.repeat(64 * 1024);
    let dropped = 0;
    for (let i = 0; dropped < 5; i++) {
      const { sent, skipped } = endpoint.broadcast(`${i} ${chunk}`);
      expect(sent + skipped).toBe(11);
      dropped += skipped;
      // Every reader has it before the next one is sent.
      const seen = await Promise.all(readers.map(reader => reader.text()));
      for (const text of seen) expect(text!.startsWith(`${i} `)).toBe(true);
    }
    expect(connections[0]!.droppedMessages).toBe(5);
    for (const reader of readers) reader[Symbol.dispose]();
  });

  test('to very many is written in groups, beginning elsewhere each time, and the event loop turns in between', async () => {
    const { endpoint, connections } = listening();
    await using served = await serve(endpoint);
    const clients = await crowd(served.url, 600);
    await expect.poll(() => connections.length).toBe(600);
    const firsts = new Set<Connection | undefined>();
    for (let round = 0; round < 4; round++) {
      endpoint.broadcast(`round ${round}`);
      const waiting = () => connections.filter(connection => connection.bufferedAmount > 0).length;
      expect(waiting()).toBe(600);
      await new Promise(resolve => setImmediate(resolve));
      // One group is written, the others are not.
      expect(waiting()).toBe(600 - 256);
      const isWritten = (i: number) => connections.at(i % 600)!.bufferedAmount === 0;
      firsts.add(connections.find((_, i) => isWritten(i) && !isWritten(i + 599)));
      while (waiting() > 0) await new Promise(resolve => setImmediate(resolve));
    }
    expect(firsts.size).toBe(4);
    for (const client of clients) {
      expect(await texts(client, 4)).toEqual(['round 0', 'round 1', 'round 2', 'round 3']);
      client[Symbol.dispose]();
    }
  });

  test('encodes again nothing for each connection: the payload is shared', async () => {
    const { endpoint } = listening({ maxBufferedAmount: '64MiB' });
    await using served = await serve(endpoint);
    const clients = await crowd(served.url, 50);
    for (const client of clients) client.socket.pause();
    await expect.poll(() => endpoint.connections.size).toBe(50);
    const before = process.memoryUsage().arrayBuffers;
    endpoint.broadcast(new Uint8Array(16 * 1024 * 1024));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
    for (const client of clients) client[Symbol.dispose]();
  });
});
