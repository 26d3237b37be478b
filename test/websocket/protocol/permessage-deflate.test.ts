import { randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import * as ws from 'ws';
import {
  acceptDeflate,
  checkDeflateOptions,
  type DeflateOptions,
  type DeflateParams,
  InflatingMessage,
  negotiateDeflate,
  offerDeflate,
  PerMessageDeflate,
} from '../../../src/websocket/protocol/permessage-deflate.ts';

const NO_LIMIT = Number.POSITIVE_INFINITY;
const independent: DeflateParams = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 15,
  clientMaxWindowBits: 15,
};
const takeover: DeflateParams = { ...independent, serverNoContextTakeover: false, clientNoContextTakeover: false };

// What `ws` exports and its types leave out.
type Callback = (error: Error | null, data: Buffer) => void;
interface WsDeflate {
  offer(): Record<string, unknown>;
  accept(configurations: unknown[]): Record<string, unknown>;
  compress(data: Uint8Array, fin: boolean, callback: Callback): void;
  decompress(data: Uint8Array, fin: boolean, callback: Callback): void;
  cleanup(): void;
}
const { PerMessageDeflate: WsDeflate, extension } = ws as unknown as {
  PerMessageDeflate: new (options: Record<string, unknown>) => WsDeflate;
  extension: {
    parse(header: string): Record<string, unknown[]>;
    format(extensions: Record<string, unknown>): string;
  };
};
const wsCompress = (peer: WsDeflate, data: Uint8Array) =>
  new Promise<Buffer>((resolve, reject) =>
    peer.compress(data, true, (error, out) => (error ? reject(error) : resolve(Buffer.from(out)))),
  );
const wsDecompress = (peer: WsDeflate, data: Uint8Array) =>
  new Promise<Buffer>((resolve, reject) =>
    peer.decompress(data, true, (error, out) => (error ? reject(error) : resolve(Buffer.from(out)))),
  );

/** Messages of many sizes that resemble each other, so that windows matter; some do not shrink at all. */
function messages(): Buffer[] {
  const list: Buffer[] = [];
  for (const length of [1, 2, 5, 60, 255, 256, 1024, 5_000, 40_000, 70_000, 3, 16_384, 32_768, 300]) {
    list.push(Buffer.from(`{"user":"alice","text":"${'the quick brown fox '.repeat(4_000)}"}`).subarray(0, length));
    list.push(randomBytes(length % 2_000));
  }
  return list;
}

const errorOf = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    return error as { code: string; closeCode: number; message: string };
  }
  throw new Error('nothing was thrown');
};

describe('negotiateDeflate', () => {
  const plain = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';

  test.each<[string, string, DeflateOptions, string, Partial<DeflateParams>]>([
    ['a bare offer', 'permessage-deflate', {}, plain, {}],
    ['what Chrome offers', 'permessage-deflate; client_max_window_bits', {}, plain, {}],
    [
      'a bare offer with takeover wanted',
      'permessage-deflate',
      { contextTakeover: true },
      'permessage-deflate',
      { serverNoContextTakeover: false, clientNoContextTakeover: false },
    ],
    [
      'a client that wants no server takeover',
      'permessage-deflate; server_no_context_takeover',
      { contextTakeover: true },
      'permessage-deflate; server_no_context_takeover',
      { clientNoContextTakeover: false },
    ],
    [
      'a client that will not take over',
      'permessage-deflate; client_no_context_takeover',
      { contextTakeover: true },
      'permessage-deflate; client_no_context_takeover',
      { serverNoContextTakeover: false },
    ],
    [
      'a server window that binds us',
      'permessage-deflate; server_max_window_bits=10',
      {},
      `${plain}; server_max_window_bits=10`,
      { serverMaxWindowBits: 10 },
    ],
    [
      'a server window larger than ours',
      'permessage-deflate; server_max_window_bits=14',
      { serverMaxWindowBits: 12 },
      `${plain}; server_max_window_bits=12`,
      { serverMaxWindowBits: 12 },
    ],
    [
      'a server window of 15, which must be answered too',
      'permessage-deflate; server_max_window_bits=15',
      {},
      `${plain}; server_max_window_bits=15`,
      {},
    ],
    [
      'our own smaller window, which needs no word',
      'permessage-deflate',
      { serverMaxWindowBits: 9 },
      plain,
      { serverMaxWindowBits: 9 },
    ],
    [
      'a client window asked for where it is offered',
      'permessage-deflate; client_max_window_bits',
      { clientMaxWindowBits: 11 },
      `${plain}; client_max_window_bits=11`,
      { clientMaxWindowBits: 11 },
    ],
    [
      'a client window that is not offered and so not asked for',
      'permessage-deflate',
      { clientMaxWindowBits: 11 },
      plain,
      { clientMaxWindowBits: 15 },
    ],
    [
      'a client window smaller than ours',
      'permessage-deflate; client_max_window_bits=8',
      { clientMaxWindowBits: 11 },
      `${plain}; client_max_window_bits=8`,
      { clientMaxWindowBits: 8 },
    ],
    [
      'quoted values',
      'permessage-deflate; server_max_window_bits="9"',
      {},
      `${plain}; server_max_window_bits=9`,
      { serverMaxWindowBits: 9 },
    ],
    [
      'the second offer when the first cannot be kept',
      'permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9',
      {},
      `${plain}; server_max_window_bits=9`,
      { serverMaxWindowBits: 9 },
    ],
    [
      'the first of two acceptable offers',
      'permessage-deflate; server_max_window_bits=12, permessage-deflate',
      {},
      `${plain}; server_max_window_bits=12`,
      { serverMaxWindowBits: 12 },
    ],
    ['an offer behind unknown extensions', 'x-webkit-deflate-frame, mux; a=b, permessage-deflate', {}, plain, {}],
    ['an offer behind a malformed one', 'permessage-deflate; ;, =, permessage-deflate', {}, plain, {}],
    ['an offer behind one with an unknown parameter', 'permessage-deflate; fast, permessage-deflate', {}, plain, {}],
  ])('takes %s', (_what, offer, options, response, params) => {
    expect(negotiateDeflate(offer, options)).toEqual({ response, params: { ...independent, ...params } });
  });

  test.each([
    ['no header', undefined],
    ['an empty header', ''],
    ['another extension', 'permessage-bzip2'],
    ['another case, which is another name', 'Permessage-Deflate'],
    ['a window of 8 for us', 'permessage-deflate; server_max_window_bits=8'],
    ['a window of 7', 'permessage-deflate; server_max_window_bits=7'],
    ['a window of 16', 'permessage-deflate; server_max_window_bits=16'],
    ['a client window of 7', 'permessage-deflate; client_max_window_bits=7'],
    ['a client window of 16', 'permessage-deflate; client_max_window_bits=16'],
    ['a window with a leading zero', 'permessage-deflate; server_max_window_bits=09'],
    ['a window that is not a number', 'permessage-deflate; server_max_window_bits=1e1'],
    ['a server window without a value', 'permessage-deflate; server_max_window_bits'],
    ['a value where none belongs', 'permessage-deflate; server_no_context_takeover=1'],
    ['a value where none belongs, client', 'permessage-deflate; client_no_context_takeover=true'],
    ['an unknown parameter', 'permessage-deflate; foo'],
    ['a repeated parameter', 'permessage-deflate; client_max_window_bits; client_max_window_bits=10'],
    ['a repeated flag', 'permessage-deflate; server_no_context_takeover; server_no_context_takeover'],
    ['an unclosed quote', 'permessage-deflate; server_max_window_bits="10, permessage-deflate'],
    ['nothing but punctuation', ';=",\\,;'],
  ])('agrees on nothing for %s', (_what, offer) => {
    expect(negotiateDeflate(offer, {})).toBeUndefined();
    expect(negotiateDeflate(offer, { contextTakeover: true })).toBeUndefined();
  });
});

describe('offerDeflate and acceptDeflate', () => {
  const optionSets: DeflateOptions[] = [true, false].flatMap(contextTakeover =>
    [undefined, 9, 15].flatMap(serverMaxWindowBits =>
      [undefined, 10].map(clientMaxWindowBits => ({ contextTakeover, serverMaxWindowBits, clientMaxWindowBits })),
    ),
  );

  test('come to the same parameters as our server, whatever both sides want', () => {
    for (const client of optionSets) {
      for (const server of optionSets) {
        const answer = negotiateDeflate(offerDeflate(client), server)!;
        const params = acceptDeflate(answer.response, client)!;
        const where = `${offerDeflate(client)} -> ${answer.response}`;
        // A window that the server narrows without a word is known to the server alone.
        expect({ ...params, serverMaxWindowBits: 0 }, where).toEqual({ ...answer.params, serverMaxWindowBits: 0 });
        expect(params.serverMaxWindowBits, where).toBeGreaterThanOrEqual(answer.params.serverMaxWindowBits);
      }
    }
  });

  test('takes the absence of an answer as a no', () => {
    expect(acceptDeflate(undefined, {})).toBeUndefined();
  });

  test.each<[string, string, DeflateOptions]>([
    ['another extension', 'permessage-bzip2', { contextTakeover: true }],
    ['two extensions', 'permessage-deflate, permessage-deflate', { contextTakeover: true }],
    ['nothing', '', { contextTakeover: true }],
    ['an unknown parameter', 'permessage-deflate; foo', { contextTakeover: true }],
    [
      'a repeated parameter',
      'permessage-deflate; client_max_window_bits=9; client_max_window_bits=9',
      { contextTakeover: true },
    ],
    ['server takeover that we did not offer', 'permessage-deflate', {}],
    [
      'no word on the server window we asked for',
      'permessage-deflate',
      { contextTakeover: true, serverMaxWindowBits: 10 },
    ],
    [
      'a larger server window than we asked for',
      'permessage-deflate; server_max_window_bits=11',
      { contextTakeover: true, serverMaxWindowBits: 10 },
    ],
    ['a server window without value', 'permessage-deflate; server_max_window_bits', { contextTakeover: true }],
    ['a client window without value', 'permessage-deflate; client_max_window_bits', { contextTakeover: true }],
    ['a client window that zlib cannot do', 'permessage-deflate; client_max_window_bits=8', { contextTakeover: true }],
    [
      'a larger client window than we offered',
      'permessage-deflate; client_max_window_bits=12',
      { contextTakeover: true, clientMaxWindowBits: 10 },
    ],
  ])('refuse %s', (_what, answer, options) => {
    expect(errorOf(() => acceptDeflate(answer, options)).code).toBe('ERR_WS_BAD_HANDSHAKE');
  });
});

describe('checkDeflateOptions', () => {
  test('takes what zlib can do', () => {
    for (const bits of [9, 15]) checkDeflateOptions({ serverMaxWindowBits: bits, clientMaxWindowBits: bits });
    for (const level of [0, 9]) checkDeflateOptions({ level, threshold: '0B' });
  });

  test.each<[string, DeflateOptions]>([
    ['serverMaxWindowBits', { serverMaxWindowBits: 8 }],
    ['serverMaxWindowBits', { serverMaxWindowBits: 9.5 }],
    ['clientMaxWindowBits', { clientMaxWindowBits: 16 }],
    ['level', { level: 10 }],
    ['level', { level: -1 }],
    ['not a size', { threshold: 'much' }],
  ])('names %s when it is out of range', (name, options) => {
    expect(() => checkDeflateOptions(options)).toThrow(TypeError);
    expect(() => checkDeflateOptions(options)).toThrow(name);
  });
});

describe('PerMessageDeflate with ws as the peer', () => {
  const cases = [true, false].flatMap(contextTakeover => [9, 11, 15].map(bits => ({ contextTakeover, bits })));

  test.each(cases)('talks with its client, takeover $contextTakeover, windows of $bits bits', async variant => {
    const { contextTakeover, bits } = variant;
    const peer = new WsDeflate({ serverMaxWindowBits: bits, clientMaxWindowBits: bits, threshold: 0 });
    const options = { contextTakeover, serverMaxWindowBits: bits, clientMaxWindowBits: bits };
    const answer = negotiateDeflate(extension.format({ 'permessage-deflate': peer.offer() }), options)!;
    peer.accept(extension.parse(answer.response)['permessage-deflate']!);
    const ours = new PerMessageDeflate(answer.params, 'server', options);
    for (const message of messages()) {
      expect(await wsDecompress(peer, ours.compress(message))).toEqual(message);
      expect(ours.decompress(await wsCompress(peer, message), message.length)).toEqual(message);
    }
    peer.cleanup();
  });

  test.each(cases)('talks with its server, takeover $contextTakeover, windows of $bits bits', async variant => {
    const { contextTakeover, bits } = variant;
    const options = { contextTakeover, serverMaxWindowBits: bits, clientMaxWindowBits: bits };
    const peer = new WsDeflate({ isServer: true, threshold: 0 });
    const agreed = peer.accept(extension.parse(offerDeflate(options))['permessage-deflate']!);
    const params = acceptDeflate(extension.format({ 'permessage-deflate': agreed }), options)!;
    const ours = new PerMessageDeflate(params, 'client', options);
    for (const message of messages()) {
      expect(await wsDecompress(peer, ours.compress(message))).toEqual(message);
      expect(ours.decompress(await wsCompress(peer, message), message.length)).toEqual(message);
    }
    peer.cleanup();
  });
});

describe('PerMessageDeflate with a zlib stream as the peer', () => {
  /** Inflates messages in one stream that lives on, as a peer with context takeover does. */
  async function inflateAll(payloads: readonly Uint8Array[], windowBits: number): Promise<Buffer> {
    const stream = zlib.createInflateRaw({ windowBits });
    const out: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => out.push(chunk));
    const ended = new Promise<void>((resolve, reject) => stream.on('end', resolve).on('error', reject));
    for (const payload of payloads) stream.write(Buffer.concat([payload, Buffer.from('0000ffff', 'hex')]));
    stream.end(Buffer.from('0300', 'hex'));
    await ended;
    return Buffer.concat(out);
  }

  async function deflateAll(list: readonly Uint8Array[], windowBits: number): Promise<Buffer[]> {
    const stream = zlib.createDeflateRaw({ windowBits });
    const payloads: Buffer[] = [];
    let out: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => out.push(chunk));
    for (const message of list) {
      stream.write(message);
      await new Promise<void>(resolve => stream.flush(zlib.constants.Z_SYNC_FLUSH, resolve));
      payloads.push(Buffer.concat(out).subarray(0, -4));
      out = [];
    }
    stream.close();
    return payloads;
  }

  test.each([9, 10, 12, 15])('compresses what one stream with %i bits inflates', async bits => {
    const ours = new PerMessageDeflate({ ...takeover, serverMaxWindowBits: bits }, 'server', {});
    const list = messages();
    const payloads = list.map(message => ours.compress(message));
    expect(await inflateAll(payloads, bits)).toEqual(Buffer.concat(list));
  });

  test.each([9, 10, 12, 15])('inflates what one stream with %i bits compresses', async bits => {
    const ours = new PerMessageDeflate({ ...takeover, clientMaxWindowBits: bits }, 'server', {});
    const list = messages().filter(message => message.length > 0);
    const payloads = await deflateAll(list, bits);
    for (const [index, payload] of payloads.entries()) expect(ours.decompress(payload, NO_LIMIT)).toEqual(list[index]);
  });

  test('makes use of earlier messages: a repeated one costs a few bytes', () => {
    const message = randomBytes(2_000);
    const ours = new PerMessageDeflate(takeover, 'server', {});
    expect(ours.compress(message).length).toBeGreaterThan(2_000);
    expect(ours.compress(message).length).toBeLessThan(40);
    const without = new PerMessageDeflate(independent, 'server', {});
    without.compress(message);
    expect(without.compress(message).length).toBeGreaterThan(2_000);
  });

  test('uses earlier messages across small ones until they leave the window', () => {
    const message = randomBytes(200);
    const ours = new PerMessageDeflate({ ...takeover, serverMaxWindowBits: 10 }, 'server', {});
    ours.compress(message);
    for (let i = 0; i < 20; i++) ours.compress(randomBytes(20));
    expect(ours.compress(message).length).toBeLessThan(40);
    for (let i = 0; i < 50; i++) ours.compress(randomBytes(20));
    expect(ours.compress(message).length).toBeGreaterThan(200);
  });
});

describe('PerMessageDeflate', () => {
  const decompressor = (params = independent) => new PerMessageDeflate(params, 'server', {});
  const sync = (text: string | Buffer) =>
    zlib.deflateRawSync(text, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);

  test('writes the examples of RFC 7692 §7.2.3 and reads them', () => {
    const ours = decompressor(takeover);
    expect(ours.compress(Buffer.from('Hello')).toString('hex')).toBe('f248cdc9c90700');
    expect(ours.compress(Buffer.from('Hello')).toString('hex')).toBe('f200110000');
    const read = (hex: string) => decompressor().decompress(Buffer.from(hex, 'hex'), 5).toString();
    expect(read('f248cdc9c90700')).toBe('Hello');
    expect(read('000500faff48656c6c6f00')).toBe('Hello');
    expect(read('f348cdc9c9070000')).toBe('Hello');
    expect(read('f24805000000ffffcac9c90700')).toBe('Hello');
  });

  test('sends an empty message as one zero byte, with and without takeover, and reads it', () => {
    for (const params of [independent, takeover]) {
      const ours = decompressor(params);
      ours.compress(Buffer.from('before'));
      expect([...ours.compress(Buffer.alloc(0))]).toEqual([0]);
      expect(ours.decompress(Buffer.from([0]), 0)).toHaveLength(0);
      expect(ours.decompress(Buffer.alloc(0), 0)).toHaveLength(0);
    }
  });

  test('takes a message of exactly the limit and refuses one byte more with 1009', () => {
    for (const length of [1, 100, 16_384, 65_536, 1_000_000]) {
      const payload = sync(Buffer.alloc(length, 'a'));
      expect(decompressor().decompress(payload, length)).toHaveLength(length);
      const error = errorOf(() => decompressor().decompress(payload, length - 1));
      expect([error.code, error.closeCode]).toEqual(['ERR_WS_MESSAGE_TOO_BIG', 1009]);
    }
  });

  test('stops a bomb while inflating: memory stays near the limit', () => {
    const bomb = sync(Buffer.alloc(64 * 1024 * 1024));
    const before = process.memoryUsage();
    expect(errorOf(() => decompressor().decompress(bomb, 64 * 1024)).code).toBe('ERR_WS_MESSAGE_TOO_BIG');
    // All of it would be 64 MiB. The input, 64 KiB, is copied once.
    expect(process.memoryUsage().arrayBuffers - before.arrayBuffers).toBeLessThan(2 * 1024 * 1024);
  });

  test('reads final blocks, followed by other blocks or not', () => {
    const final = zlib.deflateRawSync('first ');
    const zero = Buffer.from([0]);
    for (const params of [independent, takeover]) {
      const read = (...parts: Buffer[]) => decompressor(params).decompress(Buffer.concat(parts), 100).toString();
      expect(read(final, zero)).toBe('first ');
      expect(read(final)).toBe('first ');
      expect(read(final, sync('second'))).toBe('first second');
      expect(read(final, final, final, zero)).toBe('first first first ');
    }
  });

  test('reads a final block of more than 4096 bytes, and one whose output comes in many chunks', () => {
    for (const text of [randomBytes(5_000), Buffer.alloc(1_000_000, 'ab')]) {
      const payload = Buffer.concat([zlib.deflateRawSync(text), Buffer.from([0])]);
      expect(decompressor().decompress(payload, text.length)).toEqual(text);
    }
  });

  test('reads a message whose closing empty block is itself the final one', () => {
    const flushed = zlib.deflateRawSync('Hello', { finishFlush: zlib.constants.Z_SYNC_FLUSH });
    // 01 begins a final block without compression; its lengths 00 00 FF FF are what every sender takes off.
    expect(
      decompressor()
        .decompress(Buffer.concat([flushed, Buffer.from([1])]), 5)
        .toString(),
    ).toBe('Hello');
    expect(decompressor().decompress(Buffer.from([1]), 0)).toHaveLength(0);
  });

  test('keeps the window across a final block', () => {
    const ours = decompressor(takeover);
    ours.decompress(Buffer.concat([zlib.deflateRawSync('some words to remember'), Buffer.from([0])]), 100);
    const next = zlib
      .deflateRawSync('some words to remember', {
        dictionary: Buffer.from('some words to remember'),
        finishFlush: zlib.constants.Z_SYNC_FLUSH,
      })
      .subarray(0, -4);
    expect(next.length).toBeLessThan(12);
    expect(ours.decompress(next, 100).toString()).toBe('some words to remember');
  });

  test('counts all streams of a message against the limit', () => {
    const final = zlib.deflateRawSync(Buffer.alloc(40));
    const payload = Buffer.concat([final, final, final, Buffer.from([0])]);
    expect(decompressor().decompress(payload, 120)).toHaveLength(120);
    expect(errorOf(() => decompressor().decompress(payload, 119)).code).toBe('ERR_WS_MESSAGE_TOO_BIG');
    expect(errorOf(() => decompressor().decompress(payload, 80)).code).toBe('ERR_WS_MESSAGE_TOO_BIG');
  });

  test.each([
    ['without', independent],
    ['with', takeover],
  ])(
    'begins anew in the thread pool where more came out than was allowed at once, %s context takeover',
    async (_, params) => {
      const final = zlib.deflateRawSync(Buffer.alloc(40, 'x'));
      const flushed = zlib.deflateRawSync(Buffer.alloc(100, 'y'), { finishFlush: 2 }).subarray(0, -4);
      const payload = Buffer.concat([final, final, flushed]);
      for (let most = 0; most <= 180; most++) {
        const ours = decompressor(params);
        const message = new InflatingMessage(payload, 180);
        expect(ours.inflate(message, most)).toBe(most === 180);
        // A message waits compressed: a stream of a kilobyte may come to a mebibyte.
        if (most < 180) expect(message.inflatedBytes).toBe(0);
        await ours.inflateAside(message);
        expect(message.bytes.toString()).toBe('x'.repeat(80) + 'y'.repeat(100));
        expect(ours.decompress(flushed, 100)).toHaveLength(100);
        const tooBig = new InflatingMessage(payload, 179);
        if (most < 179) expect(decompressor(params).inflate(tooBig, most)).toBe(false);
        await expect(decompressor(params).inflateAside(tooBig)).rejects.toMatchObject({
          code: 'ERR_WS_MESSAGE_TOO_BIG',
        });
      }
      const cut = new InflatingMessage(payload.subarray(0, -1), 180);
      await expect(decompressor(params).inflateAside(cut)).rejects.toMatchObject({ code: 'ERR_WS_INVALID_DEFLATE' });
    },
  );

  test('counts what is spent on a message: what came out of it, and the beginning of each stream', () => {
    const payload = zlib.deflateRawSync(Buffer.alloc(10_000), { finishFlush: 2 }).subarray(0, -4);
    const message = new InflatingMessage(payload, 10_000);
    decompressor().inflate(message);
    const ofOne = message.cost - 10_000;
    expect(ofOne).toBeGreaterThan(0);
    const empty = new InflatingMessage(Buffer.alloc(2 * 100, Buffer.from('0300', 'hex')), 10_000);
    decompressor().inflate(empty);
    expect(empty.cost).toBe(100 * ofOne);
    // Of one that fails, what it could have come to.
    const bad = new InflatingMessage(Buffer.from('07', 'hex'), 1_000);
    expect(errorOf(() => decompressor().inflate(bad)).code).toBe('ERR_WS_INVALID_DEFLATE');
    expect(bad.cost).toBe(1_000 + ofOne);
  });

  test('refuses a flood of empty final blocks, each of which costs time', () => {
    const flood = Buffer.alloc(64 * 1024, Buffer.from('0300', 'hex'));
    const error = errorOf(() => decompressor().decompress(flood, 100));
    expect([error.code, error.closeCode]).toEqual(['ERR_WS_INVALID_DEFLATE', 1007]);
  });

  test.each([
    ['a reserved block type', Buffer.from('07', 'hex')],
    ['a stored block whose lengths disagree', Buffer.from('0005000000', 'hex')],
    ['a distance beyond the beginning', Buffer.from('f200110000', 'hex')],
    ['noise', Buffer.from('ffffffffffff', 'hex')],
    ['the four bytes that should have been taken off', zlib.deflateRawSync('x', { finishFlush: 2 })],
    ['half of a final block, which the tail would complete', Buffer.from('03', 'hex')],
    ['a block of which the tail would become data', Buffer.from('cbf3', 'hex')],
    ['rubbish behind a final block', Buffer.concat([zlib.deflateRawSync('x'), Buffer.from([7])])],
  ])('refuses %s with 1007', (_what, payload) => {
    const error = errorOf(() => decompressor().decompress(payload, 1_000));
    expect([error.code, error.closeCode]).toEqual(['ERR_WS_INVALID_DEFLATE', 1007]);
  });

  test('refuses a message that is cut off, instead of delivering its beginning', () => {
    const text = Buffer.from('a message of which every byte matters; a message of which every byte matters');
    const payload = sync(text);
    for (let length = 1; length < payload.length; length++) {
      let read: Buffer | undefined;
      try {
        read = decompressor().decompress(payload.subarray(0, length), 1_000);
      } catch (error) {
        expect((error as { code: string }).code).toBe('ERR_WS_INVALID_DEFLATE');
      }
      expect(read, `cut at ${length}`).toBeUndefined();
    }
  });

  test('never throws anything but its own errors, and never exceeds the limit, on mutated input', () => {
    const seeds = [sync(Buffer.from('hello '.repeat(50))), sync(randomBytes(300)), zlib.deflateRawSync('hello hello')];
    for (let round = 0; round < 3_000; round++) {
      const payload = Buffer.from(seeds[round % seeds.length]!);
      payload[Math.floor(Math.random() * payload.length)] = Math.floor(Math.random() * 256);
      try {
        expect(decompressor(round % 2 ? takeover : independent).decompress(payload, 400).length).toBeLessThanOrEqual(
          400,
        );
      } catch (error) {
        expect((error as Error).name, payload.toString('hex')).toBe('HoldfastError');
      }
    }
  });

  test('gives connections that compress alike the same broadcast key, and none with takeover', () => {
    const key = (params: Partial<DeflateParams>, options: DeflateOptions = {}) =>
      new PerMessageDeflate({ ...independent, ...params }, 'server', options).broadcastKey;
    expect(key({})).toBe(key({ clientMaxWindowBits: 9, clientNoContextTakeover: false }, { threshold: 1 }));
    expect(
      new Set([key({}), key({ serverMaxWindowBits: 14 }), key({}, { level: 9 }), key({}, { level: 0 })]).size,
    ).toBe(4);
    expect(key({ serverNoContextTakeover: false })).toBeUndefined();
  });

  test('compresses to the same bytes on connections with the same key, whatever they sent before', () => {
    const message = Buffer.from('for everybody '.repeat(100));
    const used = decompressor();
    used.compress(message);
    const shared = used.compress(message);
    expect(decompressor({ ...independent, clientNoContextTakeover: false }).compress(message)).toEqual(shared);
    expect(new PerMessageDeflate(independent, 'client', {}).decompress(shared, message.length)).toEqual(message);
  });

  test('reads the threshold as a size', () => {
    expect(new PerMessageDeflate(independent, 'server', {}).threshold).toBe(1024);
    expect(new PerMessageDeflate(independent, 'server', { threshold: '2KiB' }).threshold).toBe(2048);
  });
});
