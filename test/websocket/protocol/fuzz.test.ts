import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { ServedEndpoint } from '../../../src/websocket/endpoint.ts';
import { MessageAssembler } from '../../../src/websocket/protocol/message-assembler.ts';
import { type DeflateParams, PerMessageDeflate } from '../../../src/websocket/protocol/permessage-deflate.ts';
import { TimerWheel } from '../../../src/websocket/timer-wheel.ts';
import { Topics } from '../../../src/websocket/topics.ts';
import { type Found, readSlowly } from './reference-reader.ts';
import { seededRandom } from './seeded-random.ts';

// FUZZ_SECONDS=60 looks longer; FUZZ_SEED=<number from a failure> repeats that one round.
const SECONDS = Number(process.env.FUZZ_SECONDS ?? 2);
const ONLY_SEED = process.env.FUZZ_SEED === undefined ? undefined : Number(process.env.FUZZ_SEED);
const SHARE_MS = (SECONDS * 1000) / 3;
const TIMEOUT_MS = SECONDS * 1000 + 20_000;

const LIMITS = { maxMessageBytes: 20_000, maxFragments: 12, maxInflatedBytes: 30_000 };
const LEGAL_ERROR_CODES = [1002, 1007, 1008, 1009];
const AGREED: DeflateParams = {
  serverNoContextTakeover: false,
  clientNoContextTakeover: false,
  serverMaxWindowBits: 15,
  clientMaxWindowBits: 12,
};

type Random = (below: number) => number;
type Role = 'server' | 'client';

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)]!;
const bytesOf = (random: Random, length: number) => Buffer.from(Array.from({ length }, () => random(256)));

function textOf(random: Random, length: number): string {
  let text = '';
  while (text.length < length) text += pick(random, ['a', 'hello ', 'é', '€', '𝄞', '\0', '\uffff']);
  return text;
}

/** Written from RFC 6455 §5.2 without the code under test. */
function frame(
  random: Random,
  fields: { opcode: number; fin?: boolean; rsv?: number; payload?: Buffer; masked: boolean; lengthForm?: number },
): Buffer {
  const { opcode, fin = true, rsv = 0, payload = Buffer.alloc(0), masked } = fields;
  const form = fields.lengthForm ?? (payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const maskBit = masked ? 0x80 : 0;
  if (form === 0) head.push(maskBit | Math.min(payload.length, 125));
  else if (form === 2) head.push(maskBit | 126, payload.length >> 8, payload.length & 255);
  else head.push(maskBit | 127, 0, 0, 0, 0, 0, payload.length >> 16, (payload.length >> 8) & 255, payload.length & 255);
  if (!masked) return Buffer.concat([Buffer.from(head), payload]);
  const key = bytesOf(random, 4);
  return Buffer.concat([Buffer.from(head), key, payload.map((byte, i) => byte ^ key[i % 4]!)]);
}

/** Legal traffic and what a reader must find in it. */
function legalTraffic(random: Random, role: Role, deflate: boolean): { bytes: Buffer; expected: Found[] } {
  const masked = role === 'server';
  const parts: Buffer[] = [];
  const expected: Found[] = [];
  const control = () => {
    const opcode = pick(random, [0x9, 0xa]);
    const payload = bytesOf(random, random(126));
    parts.push(frame(random, { opcode, payload, masked }));
    expected.push([opcode === 0x9 ? 'ping' : 'pong', payload.toString('hex')]);
  };
  for (let messages = random(6); messages > 0; messages--) {
    const length = pick(random, [0, 1, 5, 125, 126, 200, 4_000]);
    const isText = random(2) === 0;
    const text = textOf(random, length);
    const plain = isText ? Buffer.from(text) : bytesOf(random, length);
    const compressed = deflate && random(2) === 0;
    const payload = compressed
      ? zlib.deflateRawSync(plain, { finishFlush: zlib.constants.Z_SYNC_FLUSH, windowBits: 12 }).subarray(0, -4)
      : plain;
    const cuts = Array.from({ length: random(4) }, () => random(payload.length + 1)).sort((a, b) => a - b);
    const edges = [0, ...cuts, payload.length];
    for (let i = 1; i < edges.length; i++) {
      const opcode = i > 1 ? 0 : isText ? 1 : 2;
      const rsv = compressed && i === 1 ? 4 : 0;
      const piece = payload.subarray(edges[i - 1], edges[i]);
      parts.push(frame(random, { opcode, rsv, fin: i === edges.length - 1, payload: piece, masked }));
      if (i < edges.length - 1 && random(3) === 0) control();
    }
    expected.push(['message', isText ? text : plain.toString('hex')]);
    if (random(3) === 0) control();
  }
  if (random(2) === 0) {
    const code = pick(random, [1000, 1001, 1011, 3000, 4999]);
    const reason = textOf(random, random(30));
    const body = Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]);
    parts.push(frame(random, { opcode: 0x8, payload: body, masked }));
    expected.push(['close', code, reason]);
  }
  return { bytes: Buffer.concat(parts), expected };
}

/** Frames of which any field may be wrong. */
function wildTraffic(random: Random, role: Role): Buffer {
  const parts: Buffer[] = [];
  for (let frames = 1 + random(8); frames > 0; frames--) {
    const opcode = random(4) === 0 ? random(16) : pick(random, [0, 0, 1, 1, 2, 8, 9, 10]);
    const length = pick(random, [0, 1, 2, 3, 20, 125, 126, 127, 1_000, 6_000]);
    const close = Buffer.from([random(24), random(256), ...Buffer.from(textOf(random, 5))]);
    const payload =
      opcode === 8 ? close : random(2) === 0 ? Buffer.from(textOf(random, length)) : bytesOf(random, length);
    const lengthForm = random(12) === 0 ? pick(random, [0, 2, 8]) : undefined;
    parts.push(
      frame(random, {
        opcode,
        fin: random(3) > 0,
        rsv: random(8) === 0 ? random(8) : 0,
        payload,
        masked: (random(20) === 0) !== (role === 'server'),
        ...(lengthForm !== undefined && { lengthForm }),
      }),
    );
  }
  return Buffer.concat(parts);
}

function mutate(random: Random, bytes: Buffer): Buffer {
  let changed = Buffer.from(bytes);
  for (let times = 1 + random(4); times > 0 && changed.length > 0; times--) {
    const at = random(changed.length);
    const length = random(12);
    switch (random(5)) {
      case 0:
        changed[at] = changed[at]! ^ (1 << random(8));
        break;
      case 1:
        changed[at] = random(256);
        break;
      case 2:
        changed = Buffer.concat([changed.subarray(0, at), bytesOf(random, length), changed.subarray(at)]);
        break;
      case 3:
        changed = Buffer.concat([changed.subarray(0, at), changed.subarray(at + length)]);
        break;
      default:
        changed = changed.subarray(0, at);
    }
  }
  return changed;
}

/** Cuts into pieces in memory of their own, since readers may change what they are given. */
function cut(random: Random, bytes: Buffer): Buffer[] {
  const size = pick(random, [1, 3, 20, 500, 70_000]);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + random(size);
    pieces.push(Buffer.from(bytes.subarray(at, end)));
    at = end;
  }
  return pieces;
}

/** Everything a reader reports for these pieces. Throws when a report breaks its contract. */
function read(pieces: readonly Buffer[], role: Role, deflate: boolean, wantsFragments: boolean): Found[] {
  const found: Found[] = [];
  let over = false;
  const report = (kind: string, ...values: unknown[]) => {
    if (over) throw new Error(`${kind} after the end`);
    found.push([kind, ...values]);
  };
  const value = (data: string | Buffer) => {
    const size = Buffer.byteLength(data);
    if (size > LIMITS.maxInflatedBytes) throw new Error(`${size} bytes were handed out`);
    if (typeof data === 'string' && !data.isWellFormed()) throw new Error('text with half a surrogate pair');
    return typeof data === 'string' ? data : data.toString('hex');
  };
  const assembler = new MessageAssembler(
    {
      wantsFragments,
      onMessage: data => report('message', value(data)),
      onFragment: (data, last) => report('fragment', value(data), last),
      onPing: payload => report('ping', payload.toString('hex')),
      onPong: payload => report('pong', payload.toString('hex')),
      onCloseFrame: (code, reason) => {
        const legal =
          (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1006) || (code >= 3000 && code <= 4999);
        if (!legal) throw new Error(`close code ${code}`);
        report('close', code, reason);
        over = true;
      },
      onProtocolError: error => {
        if (error.name !== 'HoldfastError' || !LEGAL_ERROR_CODES.includes(error.closeCode!)) throw error;
        report('error', error.closeCode);
        over = true;
      },
    },
    { role, limits: LIMITS, deflate: deflate ? new PerMessageDeflate(AGREED, role, {}) : undefined },
  );
  for (const piece of pieces) assembler.reader.push(piece);
  return found;
}

/** Runs rounds, each with a seed of its own, until the time is up. The seed stands in the message of a failure. */
async function rounds(run: (random: Random) => void | Promise<void>): Promise<number> {
  const first = ONLY_SEED ?? Date.now() % 2 ** 31;
  const started = performance.now();
  let seed = first;
  do {
    const began = performance.now();
    try {
      await run(seededRandom(seed));
    } catch (cause) {
      throw new Error(`repeat with FUZZ_SEED=${seed}: ${(cause as Error).message}`, { cause });
    }
    if (performance.now() - began > 5_000) throw new Error(`repeat with FUZZ_SEED=${seed}: one round took over 5 s`);
    seed++;
  } while (ONLY_SEED === undefined && performance.now() - started < SHARE_MS);
  return seed - first;
}

test('hands out legal traffic exactly, however it is cut', { timeout: TIMEOUT_MS }, async () => {
  const count = await rounds(random => {
    const role = pick<Role>(random, ['server', 'client']);
    const deflate = random(2) === 0;
    const { bytes, expected } = legalTraffic(random, role, deflate);
    expect(read(cut(random, bytes), role, deflate, false)).toEqual(expected);
  });
  expect(count).toBeGreaterThan(ONLY_SEED === undefined ? 20 : 0);
});

test('ends illegal traffic with the right close code, alike for every cut, within its memory', {
  timeout: TIMEOUT_MS,
}, async () => {
  const before = process.memoryUsage().arrayBuffers;
  let peak = before;
  let ended = 0;
  const count = await rounds(random => {
    const role = pick<Role>(random, ['server', 'client']);
    const deflate = random(2) === 0;
    const wantsFragments = random(2) === 0;
    const legal = legalTraffic(random, role, deflate).bytes;
    const bytes = pick(random, [
      () => wildTraffic(random, role),
      () => mutate(random, legal),
      () => Buffer.concat([legal, wildTraffic(random, role)]),
      () => mutate(random, wildTraffic(random, role)),
      () => bytesOf(random, random(300)),
    ])();
    const whole = read([Buffer.from(bytes)], role, deflate, wantsFragments);
    expect(read(cut(random, bytes), role, deflate, wantsFragments)).toEqual(whole);
    if (!deflate && !wantsFragments) expect(whole).toEqual(readSlowly(bytes, role, LIMITS));
    if (whole.at(-1)?.[0] === 'error') ended++;
    peak = Math.max(peak, process.memoryUsage().arrayBuffers);
  });
  // The generators must reach the interesting part.
  if (ONLY_SEED === undefined) expect(ended).toBeGreaterThan(count / 10);
  // A reader may hold its limit and what inflates at once; the rest is garbage that was not collected yet.
  expect(peak - before).toBeLessThan(256 * 1024 * 1024);
});

/**
 * Reads what a server wrote: every frame unmasked and legal, nothing behind a close frame. Returns the close code, if
 * any.
 */
function checkServerFrames(bytes: Buffer): number | undefined {
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at]!;
    const second = bytes[at + 1]!;
    if ((second & 0x80) !== 0) throw new Error('the server masked a frame');
    let length = second;
    at += 2;
    if (second === 126) {
      length = bytes.readUInt16BE(at);
      at += 2;
    } else if (second === 127) {
      length = Number(bytes.readBigUInt64BE(at));
      at += 8;
    }
    if (at + length > bytes.length) throw new Error('the server broke off inside a frame');
    if (first === 0x88) {
      if (at + length !== bytes.length) throw new Error('the server sent something behind its close frame');
      return length === 0 ? 1005 : bytes.readUInt16BE(at);
    }
    if (![0x81, 0x82, 0x8a].includes(first)) throw new Error(`the server sent a frame that begins with ${first}`);
    at += length;
  }
  return undefined;
}

test('closes a connection that sends garbage, with a legal close frame and without delay', {
  timeout: TIMEOUT_MS,
}, async () => {
  const endpoint = new ServedEndpoint({
    path: '/',
    maxMessageSize: LIMITS.maxMessageBytes,
    maxFragments: LIMITS.maxFragments,
    onMessage: (connection, data) => void connection.send(data),
  });
  const host = { wheel: new TimerWheel(systemClock), topics: new Topics(), logger: silentLogger };
  const facts = {
    host: 'localhost',
    path: '/',
    query: '',
    params: {},
    subprotocol: '',
    isSecure: false,
    remoteAddress: '127.0.0.1',
    remotePort: 1,
    user: undefined,
    session: undefined,
    touchOnTraffic: 'never',
    onGone: () => {},
    deflate: undefined,
  } as const;
  const server = createServer({ allowHalfOpen: true }, socket => {
    endpoint.open(socket, Buffer.alloc(0), host, facts, undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    await rounds(async random => {
      const legal = legalTraffic(random, 'server', false).bytes;
      const bytes = pick(random, [
        () => legal,
        () => Buffer.concat([legal, wildTraffic(random, 'server')]),
        () => mutate(random, legal),
        () => wildTraffic(random, 'server'),
      ])();
      const [kind, lastCode] = readSlowly(bytes, 'server', LIMITS).at(-1) ?? [];

      const socket = connect(port, '127.0.0.1');
      const received: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => received.push(chunk));
      const gone = once(socket, 'close');
      for (const piece of cut(random, bytes)) socket.write(piece);
      socket.end();
      await gone;
      const code = checkServerFrames(Buffer.concat(received));
      if (kind === 'error' || kind === 'close') expect(code).toBe(lastCode);
      else expect(code).toBeUndefined();
    });
    expect(endpoint.connections.size).toBe(0);
  } finally {
    server.close();
  }
});
