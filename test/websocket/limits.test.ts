import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { testClient } from '../../src/testing/test-client.ts';
import { Journal } from './journal.ts';
import { BINARY, CONTINUATION, closeFrame, frame, PING, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

function echoing(more: Partial<EndpointOptions> = {}) {
  const journal = new Journal();
  const endpoint = defineEndpoint({
    path: '/',
    onMessage: (connection, data) => void connection.send(data),
    onError: (_, error) => journal.add((error as Error & { code: string }).code),
    ...more,
  });
  return { endpoint, journal, limits: endpoint.limits };
}

const pieces = (count: number, piece = 'x') => [
  frame(TEXT, piece, { fin: false }),
  ...Array.from({ length: count - 2 }, () => frame(CONTINUATION, piece, { fin: false })),
  frame(CONTINUATION, piece),
];

describe('maxMessageSize', () => {
  test('is 64 KiB: a message of that size is taken, one byte more is 1009', async () => {
    const { endpoint, journal } = echoing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(frame(BINARY, new Uint8Array(65_536)));
    expect((await client.next())?.payload).toHaveLength(65_536);
    client.send(frame(BINARY, new Uint8Array(65_537)));
    expect(await client.closeCode()).toBe(1009);
    await journal.until('ERR_WS_MESSAGE_TOO_BIG');
  });

  test('is judged by the header, before the payload comes', async () => {
    const { endpoint } = echoing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    // It announces 2^62 bytes and sends none.
    client.send(Buffer.from('82ff400000000000000000000000', 'hex'));
    expect(await client.closeCode()).toBe(1009);
  });

  test('counts all fragments of a message, and begins anew with the next', async () => {
    const { endpoint } = echoing({ maxMessageSize: '1KiB' });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    for (let i = 0; i < 3; i++) {
      client.send(...pieces(2, 'x'.repeat(512)));
      expect((await client.next())?.payload).toHaveLength(1024);
    }
    client.send(...pieces(3, 'x'.repeat(400)));
    expect(await client.closeCode()).toBe(1009);
  });

  test('holds for fragments that are handed out as they come, too', async () => {
    const { endpoint } = echoing({ maxMessageSize: '1KiB', onFragment: () => {} });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(...pieces(3, 'x'.repeat(400)));
    expect(await client.closeCode()).toBe(1009);
  });

  test('can be changed while connections are open', async () => {
    const { endpoint, limits } = echoing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    limits.maxMessageBytes = 100_000;
    client.send(frame(BINARY, new Uint8Array(100_000)));
    expect((await client.next())?.payload).toHaveLength(100_000);
    limits.maxMessageBytes = 10;
    client.send(frame(BINARY, new Uint8Array(11)));
    expect(await client.closeCode()).toBe(1009);
  });
});

describe('maxFragments', () => {
  test('is 1024: one more is 1008', async () => {
    const { endpoint, journal } = echoing();
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(...pieces(1024));
    expect(await client.text()).toBe('x'.repeat(1024));
    client.send(...pieces(1025));
    expect(await client.closeCode()).toBe(1008);
    await journal.until('ERR_WS_TOO_MANY_FRAGMENTS');
  });

  test('counts empty fragments too, and control frames in between do not count', async () => {
    const { endpoint } = echoing({ maxFragments: 3 });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    const [first, second, third] = pieces(3, '');
    client.send(first!, frame(PING), second!, frame(PING), third!);
    for (let i = 0; i < 2; i++) await client.next();
    expect(await client.text()).toBe('');
    client.send(...pieces(4, ''));
    expect(await client.closeCode()).toBe(1008);
  });

  test('can be changed while connections are open', async () => {
    const { endpoint, limits } = echoing({ maxFragments: -1 });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url);
    client.send(...pieces(3_000));
    expect(await client.text()).toHaveLength(3_000);
    limits.maxFragments = 2;
    client.send(...pieces(3));
    expect(await client.closeCode()).toBe(1008);
  });
});

describe('maxConnections', () => {
  test('answers one more with 503 and Retry-After, and has a place again when one has gone', async () => {
    const { endpoint } = echoing({ maxConnections: 2 });
    await using served = await serve(endpoint);
    using first = await RawClient.connect(served.url);
    using _second = await RawClient.connect(served.url);
    using third = await RawClient.connect(served.url);
    expect(third.status).toBe(503);
    expect(Number(third.header('Retry-After')[0])).toBeGreaterThan(0);
    first.send(closeFrame(1000));
    await first.ended();
    first.socket.end();
    await expect
      .poll(async () => {
        using next = await RawClient.connect(served.url);
        return next.status;
      })
      .toBe(101);
  });

  test('gives the place back however a handshake fails', async () => {
    let answer = (): unknown => true;
    const { endpoint } = echoing({ maxConnections: 1, accept: () => answer() as boolean });
    await using served = await serve(endpoint);
    const failures = [false, { status: 401 }, { subprotocol: 'not offered' }].map(value => () => value);
    for (answer of [...failures, () => Promise.reject(new Error('boom'))]) {
      using refused = await RawClient.connect(served.url);
      expect(refused.status).toBeGreaterThan(400);
      expect(refused.status).not.toBe(503);
    }
    answer = () => true;
    await using client = await testClient(served.url);
    client.send('works');
    expect(await client.receive()).toBe('works');
  });

  test('is the endpoint’s own, whatever pattern is used', async () => {
    const { endpoint } = echoing({ path: ['/a', '/b'], maxConnections: 1 });
    await using served = await serve([endpoint, echoing({ path: '/other' }).endpoint]);
    using _first = await RawClient.connect(`${served.url}/a`);
    using second = await RawClient.connect(`${served.url}/b`);
    using other = await RawClient.connect(`${served.url}/other`);
    expect([second.status, other.status]).toEqual([503, 101]);
  });

  test('can be changed while the endpoint runs', async () => {
    const { endpoint, limits } = echoing({ maxConnections: 0 });
    await using served = await serve(endpoint);
    using none = await RawClient.connect(served.url);
    limits.maxConnections = 1;
    using one = await RawClient.connect(served.url);
    limits.maxConnections = Number.POSITIVE_INFINITY;
    using two = await RawClient.connect(served.url);
    expect([none.status, one.status, two.status]).toEqual([503, 101, 101]);
  });
});
