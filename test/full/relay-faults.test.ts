import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type net from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';
import { listenTcp, unusedServer } from '../gateway/gateway-server.ts';
import { closeOf, RawPeer, rawClient, switching } from '../gateway/raw-peer.ts';

/** What a backend does with a connection once it has read the handshake. */
type Fault = (peer: RawPeer) => void | Promise<void>;

/** Clients that meet each fault, at once. */
const CLIENTS = 50;

/** A gateway in a process of its own, in front of `backend`. */
async function startGateway(backend: string) {
  const path = fileURLToPath(new URL('relay-server.ts', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', '-C', 'holdfast-source', path, backend], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = await once(child.stdout!, 'data');
  return {
    port: Number(line),
    descriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    async residentBytes() {
      child.stdin!.write('collect\n');
      await wait(300);
      return Number(/^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/smaps_rollup`, 'latin1'))![1]) * 1024;
    },
    get isRunning() {
      return child.exitCode === null && child.signalCode === null;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return;
      child.stdin!.end();
      await once(child, 'exit');
    },
  };
}

async function startBackend(fault: Fault) {
  const { url, close } = await listenTcp(async socket => {
    const peer = new RawPeer(socket, false);
    await peer.until(() => peer.head !== '' || peer.isClosed);
    if (!peer.isClosed) await fault(peer);
  });
  return { url, [Symbol.asyncDispose]: close };
}

/** A handshake that was taken, and what follows it. */
const takenThen =
  (next: (peer: RawPeer) => void): Fault =>
  peer => {
    peer.socket.write(switching(peer));
    next(peer);
  };

const badAccept = (accept: string) => (peer: RawPeer) =>
  void peer.socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${accept}\r\n`,
  );

test.each<[string, Fault, number | 'cut', string?]>([
  ['never answers', () => {}, 504],
  ['closes without an answer', peer => void peer.socket.end(), 502],
  ['resets without an answer', peer => void peer.socket.resetAndDestroy(), 502],
  ['sends its 101 byte by byte', drip(1), 1000],
  ['sends its 101 too slowly', drip(60), 504],
  ['answers garbage', peer => void peer.socket.write(Buffer.alloc(4096, 0xfe)), 502],
  ['answers half a head and stops', peer => void peer.socket.write('HTTP/1.1 101 Switching Proto'), 504],
  ['answers half a head and resets', halfHeadThenReset, 502],
  ['answers 101 without accept', badAccept(''), 502],
  ['answers 101 with a wrong accept', badAccept('Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n'), 502],
  ['resets in the middle of a frame', takenThen(peer => resetAfter(peer, Buffer.from([0x82, 100, 1, 2, 3]))), 'cut'],
  ['closes in the middle of a message', takenThen(peer => peer.socket.end(Buffer.from([0x01, 1, 97]))), 1014],
  ['sends garbage instead of frames', takenThen(peer => peer.socket.write(Buffer.alloc(999, 0xff))), 1014],
  ['sends masked frames', takenThen(peer => peer.socket.write(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 97]))), 1014],
  ['sends a message over the limit', takenThen(peer => peer.socket.write(hugeHead())), 1009],
  ['sends a close code that must not be on the wire', takenThen(peer => peer.sendClose(1006)), 1014],
  ['closes as it should', takenThen(peer => peer.sendClose(1000)), 1000],
])('a backend that %s: every client is told, nothing stays open', async (_, fault, expected) => {
  await using backend = await startBackend(fault);
  await using gateway = await startGateway(backend.url);
  // What is opened once, stays: measure after the first.
  await outcome(gateway.port);
  await settledAt(gateway.descriptors);
  const before = gateway.descriptors();
  const outcomes = await Promise.all(Array.from({ length: CLIENTS }, () => outcome(gateway.port)));
  expect(new Set(outcomes)).toEqual(new Set([expected]));
  await expect.poll(gateway.descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  expect(gateway.isRunning).toBe(true);
});

test('a backend that refuses connections: 503 for every client', async () => {
  await using gateway = await startGateway(await unusedServer());
  await outcome(gateway.port);
  const before = await settledAt(gateway.descriptors);
  const outcomes = await Promise.all(Array.from({ length: CLIENTS }, () => outcome(gateway.port)));
  expect(new Set(outcomes)).toEqual(new Set([503]));
  await expect.poll(gateway.descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before);
});

test('200 clients that never read cost a bounded amount of memory, and the others nothing', async () => {
  const frame = Buffer.concat([Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Buffer.alloc(65_536, 7)]);
  let floods = 0;
  await using backend = await startBackend(
    takenThen(peer => {
      if (floods++ < 200) flood(peer.socket, frame);
      else peer.until(() => peer.frames.length > 0).then(() => peer.send(Opcode.text, 'answer'));
    }),
  );
  await using gateway = await startGateway(backend.url);
  const before = await gateway.residentBytes();
  const readers = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const client = await rawClient(gateway.port);
      client.socket.pause();
      return client;
    }),
  );
  await expect.poll(() => floods, { timeout: 10_000 }).toBe(200);
  await wait(2_000);
  const grown = (await gateway.residentBytes()) - before;
  // One chunk read and one high-water mark each, 64 KiB both, and what the process itself takes to grow.
  expect(grown).toBeLessThan(200 * 2 * 65_536 + 40 * 1024 * 1024);
  const start = performance.now();
  const other = await rawClient(gateway.port);
  await other.until(() => other.head !== '');
  other.send(Opcode.text, 'question');
  expect((await other.frame(0)).payload.toString()).toBe('answer');
  expect(performance.now() - start).toBeLessThan(2_000);
  console.log(`200 clients that never read: ${Math.round(grown / 200 / 1024)} KiB each`);
  for (const reader of [...readers, other]) reader.socket.destroy();
});

test('200 backends that never read cost a bounded amount of memory', async () => {
  await using backend = await startBackend(takenThen(peer => void peer.socket.pause()));
  await using gateway = await startGateway(backend.url);
  const before = await gateway.residentBytes();
  const clients = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const client = await rawClient(gateway.port);
      await client.until(() => client.head !== '');
      flood(client.socket, client.encode(Opcode.binary, Buffer.alloc(65_536, 7)));
      return client;
    }),
  );
  await wait(2_000);
  const grown = (await gateway.residentBytes()) - before;
  expect(grown).toBeLessThan(200 * 2 * 65_536 + 40 * 1024 * 1024);
  for (const client of clients) client.socket.destroy();
});

/** A handshake and its end: the status, the close code, or `cut` when the connection ended without one. */
async function outcome(port: number): Promise<number | 'cut'> {
  const client = await rawClient(port);
  await client.until(() => client.head !== '' || client.isClosed);
  const status = Number(client.head.split(' ')[1]);
  if (status !== 101) {
    await client.closed();
    return status;
  }
  await client.until(() => client.frames.some(({ opcode }) => opcode === Opcode.close) || client.isClosed);
  const close = client.frames.find(({ opcode }) => opcode === Opcode.close);
  if (close) {
    client.socket.end(client.encode(Opcode.close, close.payload.subarray(0, 2)));
    await client.closed();
  }
  return close ? (closeOf(close)[0] ?? 1005) : 'cut';
}

/** The right answer in pieces, with `ms` between them, and then a close frame. */
function drip(ms: number): Fault {
  return async peer => {
    for (const byte of switching(peer)) {
      if (peer.isClosed) return;
      peer.socket.write(byte);
      await wait(ms);
    }
    peer.sendClose(1000);
  };
}

async function halfHeadThenReset(peer: RawPeer): Promise<void> {
  peer.socket.write('HTTP/1.1 101 Switching Proto');
  await wait(50);
  peer.socket.resetAndDestroy();
}

async function resetAfter(peer: RawPeer, bytes: Buffer): Promise<void> {
  peer.socket.write(bytes);
  await wait(50);
  peer.socket.resetAndDestroy();
}

function hugeHead(): Buffer {
  return Buffer.from([0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]);
}

/** Writes for ever, as fast as the other end takes it. */
function flood(socket: net.Socket, bytes: Buffer): void {
  const pump = () => {
    while (!socket.destroyed && socket.write(bytes));
  };
  socket.on('drain', pump);
  pump();
}

async function settledAt(value: () => number): Promise<number> {
  for (let last = -1; ; ) {
    const now = value();
    if (now === last) return now;
    last = now;
    await wait(100);
  }
}
