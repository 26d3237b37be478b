import { constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { defineEndpoint, type EndpointOptions } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { testClient } from '../../src/testing/test-client.ts';
import { BINARY, CONTINUATION, frame, RawClient, TEXT } from './raw-client.ts';
import { serve } from './serve.ts';

const echoing = (more: Partial<EndpointOptions>) =>
  defineEndpoint({ path: '/', onMessage: (connection, data) => void connection.send(data), ...more });

const offer = (value: string) => ({ headers: [`Sec-WebSocket-Extensions: ${value}`] });

function deflate(data: string | Uint8Array): Buffer {
  return deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
}

function inflate(data: Buffer): Buffer {
  return inflateRawSync(Buffer.concat([data, Buffer.from('0000ffff', 'hex')]), { finishFlush: constants.Z_SYNC_FLUSH });
}

describe('permessage-deflate', () => {
  test('is off unless asked for: the offer is not answered, and RSV1 is 1002', async () => {
    await using served = await serve(echoing({}));
    using client = await RawClient.connect(served.url, offer('permessage-deflate'));
    expect(client.header('Sec-WebSocket-Extensions')).toEqual([]);
    client.send(frame(TEXT, deflate('hello'), { rsv1: true }));
    expect(await client.closeCode()).toBe(1002);
  });

  test('is agreed on when the client offers it, without context takeover', async () => {
    await using served = await serve(echoing({ compression: true }));
    using client = await RawClient.connect(served.url, offer('permessage-deflate; client_max_window_bits'));
    expect(client.header('Sec-WebSocket-Extensions')).toEqual([
      'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
    ]);
    using none = await RawClient.connect(served.url);
    expect(none.header('Sec-WebSocket-Extensions')).toEqual([]);
  });

  test('leaves messages under the threshold of 1 KiB as they are, and compresses others', async () => {
    await using served = await serve(echoing({ compression: true }));
    using client = await RawClient.connect(served.url, offer('permessage-deflate'));
    client.send(frame(TEXT, 'x'.repeat(1023)), frame(TEXT, 'x'.repeat(1024)));
    const small = await client.next();
    const large = await client.next();
    expect([small?.rsv1, small?.payload.length]).toEqual([false, 1023]);
    expect(large?.rsv1).toBe(true);
    expect(large!.payload.length).toBeLessThan(50);
    expect(inflate(large!.payload).toString()).toBe('x'.repeat(1024));
  });

  test.each([
    ['without context takeover', false],
    ['with context takeover', true],
  ])('echoes text and binary of all sizes to ws, %s', async (_, contextTakeover) => {
    await using served = await serve(
      echoing({ compression: { threshold: 0, contextTakeover }, maxMessageSize: '1MiB' }),
    );
    const client = new WebSocket(served.url, { perMessageDeflate: { threshold: 0 } });
    const messages = [1, 5, 1000, 70_000, 300_000].flatMap(length => [
      'grüß 𝄞 '.repeat(length).slice(0, length).toWellFormed(),
      Buffer.alloc(length, 'binary '),
    ]);
    const received: unknown[] = [];
    await new Promise<void>((resolve, reject) => {
      client.on('error', reject);
      client.on('open', () => {
        for (const message of messages) client.send(message);
      });
      client.on('message', (data: Buffer, isBinary) => {
        received.push(isBinary ? data : data.toString());
        if (received.length === messages.length) resolve();
      });
    });
    expect(client.extensions).toContain('permessage-deflate');
    client.terminate();
    for (const [i, message] of messages.entries())
      expect(Buffer.from(received[i] as string).equals(Buffer.from(message as string))).toBe(true);
  });

  test('is understood by our own client', async () => {
    await using served = await serve(echoing({ compression: { threshold: 0 } }));
    await using client = await testClient(served.url, { compression: { threshold: 0 } });
    expect(client.isCompressed).toBe(true);
    client.send('x'.repeat(50_000));
    expect(await client.receive()).toBe('x'.repeat(50_000));
  });

  test('takes a compressed message in several fragments: put together, or as one fragment for onFragment', async () => {
    const fragments: unknown[] = [];
    await using served = await serve([
      echoing({ path: '/whole', compression: true }),
      echoing({
        path: '/pieces',
        compression: true,
        onFragment(connection, data, last) {
          fragments.push([data, last]);
          connection.send('seen');
        },
      }),
    ]);
    const compressed = deflate('hello €');
    const pieces = [
      frame(TEXT, compressed.subarray(0, 3), { fin: false, rsv1: true }),
      frame(CONTINUATION, compressed.subarray(3)),
    ];
    using whole = await RawClient.connect(`${served.url}/whole`, offer('permessage-deflate'));
    whole.send(...pieces);
    expect(await whole.text()).toBe('hello €');
    using cut = await RawClient.connect(`${served.url}/pieces`, offer('permessage-deflate'));
    cut.send(...pieces);
    expect(await cut.text()).toBe('seen');
    expect(fragments).toEqual([['hello €', true]]);
  });

  test('checks that inflated text is UTF-8, and that what came can be inflated: 1007', async () => {
    await using served = await serve(echoing({ compression: true }));
    for (const payload of [deflate(Uint8Array.of(0xc3, 0x28)), Buffer.from('not deflated')]) {
      using client = await RawClient.connect(served.url, offer('permessage-deflate'));
      client.send(frame(TEXT, payload, { rsv1: true }));
      expect(await client.closeCode()).toBe(1007);
    }
  });
});

describe('maxInflatedSize', () => {
  test('is maxMessageSize unless told otherwise: larger is 1009', async () => {
    await using served = await serve(echoing({ compression: true }));
    using client = await RawClient.connect(served.url, offer('permessage-deflate'));
    client.send(frame(BINARY, deflate(new Uint8Array(65_536)), { rsv1: true }));
    const answer = await client.next();
    expect(inflate(answer!.payload)).toHaveLength(65_536);
    client.send(frame(BINARY, deflate(new Uint8Array(65_537)), { rsv1: true }));
    expect(await client.closeCode()).toBe(1009);
  });

  test('is its own limit, changeable while connections are open', async () => {
    const endpoint = echoing({ compression: true, maxInflatedSize: '1MiB' });
    await using served = await serve(endpoint);
    using client = await RawClient.connect(served.url, offer('permessage-deflate'));
    const message = frame(BINARY, deflate(new Uint8Array(1024 * 1024)), { rsv1: true });
    client.send(message);
    expect(inflate((await client.next())!.payload)).toHaveLength(1024 * 1024);
    endpoint.limits.maxInflatedBytes = 1000;
    client.send(message);
    expect(await client.closeCode()).toBe(1009);
  });

  test('stops a bomb while it inflates: a gigabyte in a megabyte never comes into being', async () => {
    await using served = await serve(echoing({ compression: true, maxMessageSize: '2MiB' }));
    using client = await RawClient.connect(served.url, offer('permessage-deflate'));
    // One mebibyte of zeros, a thousand times: a deflate stream may be repeated as a whole.
    const once = deflateRawSync(new Uint8Array(1024 * 1024), { finishFlush: constants.Z_FULL_FLUSH });
    const bomb = Buffer.concat(Array.from({ length: 1024 }, () => once)).subarray(0, -4);
    expect(bomb.length).toBeLessThan(2 * 1024 * 1024);
    const before = process.memoryUsage().rss;
    client.send(frame(BINARY, bomb, { rsv1: true }));
    expect(await client.closeCode()).toBe(1009);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });
});
