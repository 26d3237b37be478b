import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { clientHelloIn } from '../../src/server/listen/client-hello.ts';
import { Turnstile } from '../../src/server/listen/turnstile.ts';
import { closing } from '../services/closing.ts';
import { ask, WiredServer } from './wires.ts';

const open = closing();

async function serve(): Promise<WiredServer> {
  const server = await WiredServer.start({ routes: [{ path: '/', fetch: () => new Response('page') }] });
  open.push(server);
  return server;
}

/** A client of TLS whose bytes pass through `cut` on their way to the server. */
async function connectThrough(port: number, cut: (bytes: Buffer) => Iterable<Buffer>): Promise<TLSSocket> {
  const raw = connect({ host: '127.0.0.1', port, noDelay: true }).on('error', () => {});
  await once(raw, 'connect');
  const wire = new Duplex({
    read() {},
    async write(bytes: Buffer, _encoding, done) {
      for (const piece of cut(bytes)) {
        raw.write(piece);
        // The other side reads it before the next one comes.
        await new Promise(resolve => setTimeout(resolve, 1));
      }
      done();
    },
  });
  raw.on('data', bytes => wire.push(bytes)).on('close', () => wire.push(null));
  const socket = connectTls({ socket: wire, rejectUnauthorized: false, servername: 'localhost' });
  socket.on('error', () => {});
  open.push({ close: () => void socket.destroy(raw.destroy() && undefined) });
  return socket;
}

/** The same message in records of so many bytes each. */
function* records(bytes: Buffer, size: number): Iterable<Buffer> {
  if (bytes[0] !== 22) return yield bytes;
  const length = bytes.readUInt16BE(3);
  for (let at = 0; at < length; at += size) {
    const part = bytes.subarray(5 + at, 5 + Math.min(at + size, length));
    yield Buffer.concat([bytes.subarray(0, 3), Buffer.from([part.length >> 8, part.length & 255]), part]);
  }
  if (bytes.length > 5 + length) yield bytes.subarray(5 + length);
}

const pieces = (size: number) =>
  function* (bytes: Buffer) {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  };

describe('a TLS handshake', () => {
  test.each([
    ['whole', (bytes: Buffer) => [bytes]],
    ['in pieces of 40 bytes', pieces(40)],
    ['in records of 200 bytes', (bytes: Buffer) => records(bytes, 200)],
  ])('that comes %s is done', async (_, cut) => {
    const server = await serve();
    const socket = await connectThrough(server.port('tls'), cut);
    await once(socket, 'secureConnect');
    socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text).toMatch(/^HTTP\/1\.1 200 [\s\S]*page$/);
  });

  test.each([
    ['is none', 'GET / HTTP/1.1\r\n\r\n'],
    ['begins with another message', '\x16\x03\x01\x00\x04\x02\x00\x00\x00'],
    ['is longer than any', '\x16\x03\x01\x40\x00\x01\x00\xff\xff'],
    ['comes in more records than any', `\x16\x03\x01\x00\x01\x01${'\x16\x03\x01\x00\x01\x00'.repeat(16)}`],
    ['ends before it is whole', undefined],
  ])('that %s ends its connection, and others are served', async (_, bytes) => {
    const server = await serve();
    const socket = connect(server.port('tls'), '127.0.0.1').on('error', () => {});
    if (bytes === undefined) socket.end('\x16\x03\x01');
    else socket.write(bytes, 'latin1');
    await once(socket.resume(), 'close');
    expect((await ask(server, 'tls')).body).toBe('page');
  });

  test('is answered while many begin one at once', async () => {
    const server = await serve();
    const sockets: Socket[] = [];
    const all = Array.from({ length: 50 }, async () => {
      const socket = connectTls({ host: '127.0.0.1', port: server.port('tls'), rejectUnauthorized: false });
      sockets.push(socket.on('error', () => {}));
      await once(socket, 'secureConnect');
    });
    open.push({ close: () => sockets.forEach(socket => void socket.destroy()) });
    expect((await ask(server, 'tls')).body).toBe('page');
    await Promise.all(all);
  });
});

describe('a client hello', () => {
  test('is whole with its last byte', () => {
    const hello = Buffer.from('\x16\x03\x01\x00\x06\x01\x00\x00\x02ab', 'latin1');
    const found = Array.from({ length: hello.length + 1 }, (_, end) => clientHelloIn(hello.subarray(0, end)));
    expect(found).toEqual([...Array<string>(hello.length).fill('incomplete'), 'whole']);
  });

  test('may be followed by more, and be in records of one byte', () => {
    const bytes = [1, 0, 0, 2, 97, 98].map(byte => Buffer.from([22, 3, 1, 0, 1, byte]));
    expect(clientHelloIn(Buffer.concat(bytes.slice(0, 5)))).toBe('incomplete');
    expect(clientHelloIn(Buffer.concat([...bytes, Buffer.from('x')]))).toBe('whole');
  });
});

describe('a turnstile', () => {
  const turn = () => new Promise(resolve => setImmediate(resolve));

  test('lets four begin at once, and four in each turn after that, in their order', async () => {
    const turnstile = new Turnstile();
    const begun: number[] = [];
    const enter = (i: number) => turnstile.enter(() => begun.push(i) > 0);
    for (let i = 0; i < 10; i++) enter(i);
    expect(begun).toEqual([0, 1, 2, 3]);
    await turn();
    enter(10);
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await turn();
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await turn();
    for (let i = 11; i < 16; i++) enter(i);
    expect(begun.slice(11)).toEqual([11, 12, 13, 14]);
  });

  test('forgets those that leave', async () => {
    const turnstile = new Turnstile();
    const begun: string[] = [];
    const late = () => begun.push('late') > 0;
    for (let i = 0; i < 4; i++) turnstile.enter(() => true);
    turnstile.enter(late);
    turnstile.leave(late);
    await turn();
    expect([begun, turnstile.size]).toEqual([[], 0]);
  });

  test('spends no place on those that are gone when their turn comes', async () => {
    const turnstile = new Turnstile();
    const begun: number[] = [];
    for (let i = 0; i < 4; i++) turnstile.enter(() => true);
    for (let i = 0; i < 100; i++) turnstile.enter(() => i % 20 === 19 && begun.push(i) > 0);
    await turn();
    expect(begun).toEqual([19, 39, 59, 79]);
    await turn();
    expect([begun.at(-1), turnstile.size]).toEqual([99, 0]);
  });
});
