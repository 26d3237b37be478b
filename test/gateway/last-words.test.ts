import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';
import { type Wire, wires } from '../guard/served.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { CLIENT_KEY, closeOf, RawPeer } from './raw-peer.ts';

// A server that does not want the rest says why, and closes without having read it: the kernel resets the connection.
// What it has said is there by then, but the first thing that is noticed may be that nothing can be written any more.

const TIMES = 10;
const MIB = 1024 * 1024;

const folder = mkdtempSync(join(tmpdir(), 'last-words-'));
const files = writeSelfSignedCertificate(folder);
const pem = { key: readFileSync(files.key), cert: readFileSync(files.certificate) };
afterAll(() => rmSync(folder, { recursive: true }));

/** Lets the client go on just before the backend is gone, so that this is there to be passed on first. */
let sendMore = () => {};
/** What the backend does when the begin of a request has come. */
let act: (backend: Socket, raw: Socket, head: string) => void = () => {};

type Upstream = 'http' | 'https';
const upstreams: readonly Upstream[] = ['http', 'https'];
let server: Server;
/** Messages of its log from `warn` on. */
const complaints: string[] = [];
let backends: net.Server[];

const complain = (_: object, message: string) => void complaints.push(message);

async function startBackend(kind: Upstream): Promise<string> {
  const raws = new Map<number | undefined, Socket>();
  const onSocket = (socket: Socket) => {
    socket.on('error', () => {});
    let seen = '';
    socket.on('data', chunk => {
      if (seen.includes('\r\n\r\n')) return;
      seen += chunk.toString('latin1');
      if (seen.includes('\r\n\r\n')) act(socket, raws.get(socket.remotePort) ?? socket, seen);
    });
  };
  const backend = kind === 'https' ? tls.createServer(pem, onSocket) : net.createServer(onSocket);
  if (kind === 'https') backend.on('connection', socket => raws.set(socket.remotePort, socket));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  backends.push(backend);
  return `${kind}://127.0.0.1:${(backend.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  backends = [];
  const upstream = async (kind: Upstream) => ({
    servers: [await startBackend(kind)],
    // The first failure would count.
    ejection: { failures: 1 },
    ...(kind === 'https' && { tls: { verify: false } }),
  });
  server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: files },
      ],
      session: false,
      upstreams: { http: await upstream('http'), https: await upstream('https') },
      routes: upstreams.map(kind => ({
        path: `/${kind}/*`,
        upstream: kind,
        policy: { origins: 'any' as const },
        websocket: { maxMessageSize: '16MiB' },
      })),
      log: { access: 'off' },
    },
    { logger: { ...silentLogger, warn: complain, error: complain } },
  );
  await server.start();
});
afterAll(async () => {
  await server.stop({ drain: 0 });
  for (const backend of backends) backend.close();
});

function dial(wire: Wire): Socket {
  const port = Number(new URL(server.urls[wire === 'http/1' ? 0 : 1]!).port);
  const options = { port, host: '127.0.0.1', allowHalfOpen: true };
  const socket = wire === 'http/1' ? net.connect(options) : tls.connect({ ...options, rejectUnauthorized: false });
  return socket.on('error', () => {});
}

interface Heard {
  readonly status: number;
  readonly body: string;
}

/** Begins an upload of 8 MiB, and goes on with it whenever it is told to. */
async function upload(wire: Wire, path: string, framing = `Content-Length: ${8 * MIB}`): Promise<Heard> {
  const part = Buffer.alloc(16 * 1024);
  if (wire === 'http/2') {
    using client = await Http2Client.connect(server.urls[1]!);
    const stream = client.session.request({ ':method': 'POST', ':path': path, 'content-length': 8 * MIB });
    stream.on('error', () => {});
    sendMore = () => void stream.write(part);
    stream.write(part);
    const [headers] = await once(stream, 'response');
    let body = '';
    for await (const chunk of stream) body += chunk;
    return { status: headers[':status'], body };
  }
  const socket = dial(wire);
  await once(socket, wire === 'tls' ? 'secureConnect' : 'connect');
  sendMore = () => void socket.write(part);
  socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\n${framing}\r\n\r\n`);
  if (/chunked/.test(framing)) socket.write('800000\r\n');
  if (!/Expect/.test(framing)) socket.write(part);
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (/\r\n\r\n[\s\S]*(?:too large|0\r\n\r\n)$/.test(text)) break;
  }
  socket.destroy();
  return { status: Number(text.split(' ')[1]), body: text.slice(text.indexOf('\r\n\r\n') + 4) };
}

/** What the backend says, as a whole, before it is gone: all in one turn of the event loop. */
const sayAndReset = (bytes: string | Buffer) => (socket: Socket, raw: Socket) => {
  socket.pause();
  sendMore();
  socket.write(bytes);
  raw.resetAndDestroy();
};

const ANSWERS: readonly (readonly [what: string, answer: string])[] = [
  ['of a length', 'HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large'],
  ['that says it closes', 'HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large'],
  ['in chunks', 'HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ntoo large\r\n0\r\n\r\n'],
];

describe.each(upstreams)('an early answer to an upload from a server of %s that resets the connection', kind => {
  describe.each(wires)('reaches a client of %s', wire => {
    test.each(ANSWERS)('%s', async (_, answer) => {
      act = sayAndReset(answer);
      const heard: Heard[] = [];
      for (let i = 0; i < TIMES; i++) heard.push(await upload(wire, `/${kind}/upload`));
      const status = Number(answer.split(' ')[1]);
      expect(new Set(heard.map(({ status }) => status))).toEqual(new Set([status]));
      for (const { body } of heard) expect(body).toContain('too large');
      expect(server.upstreams.get(kind)!.status.servers[0]).toMatchObject({ failures: 0, state: 'in-service' });
    });
  });
});

test.each([
  ['in chunks', 'Transfer-Encoding: chunked'],
  ['that waits for 100 Continue', `Expect: 100-continue\r\nContent-Length: ${8 * MIB}`],
])('an early answer to an upload %s is passed on', async (_, framing) => {
  act = sayAndReset(`HTTP/1.1 100 Continue\r\n\r\n${ANSWERS[0]![1]}`);
  for (let i = 0; i < TIMES; i++) {
    const { status, body } = await upload('http/1', '/http/upload', framing);
    expect(`${status} ${body}`).toMatch(/^(?:413|100 HTTP\/1\.1 413) [\s\S]*too large$/);
  }
});

test('an answer that ends with its connection is whole when the server has ended its side before the reset, and else cut', async () => {
  const answer = 'HTTP/1.1 413 Too Large\r\n\r\ntoo large';
  act = (socket, raw) => {
    socket.pause();
    sendMore();
    socket.end(answer, () => raw.resetAndDestroy());
  };
  expect(await upload('http/1', '/http/upload')).toEqual({ status: 413, body: '9\r\ntoo large\r\n0\r\n\r\n' });
  act = sayAndReset(answer);
  expect(await upload('http/1', '/http/upload')).toEqual({ status: 413, body: '9\r\ntoo large\r\n' });
});

test('a POST on a kept connection that is answered early is not sent to another server, and no failure', async () => {
  let requests = 0;
  act = socket => {
    requests++;
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    socket.once('data', () => {
      requests++;
      sayAndReset(ANSWERS[0]![1])(socket, socket);
    });
  };
  sendMore = () => {};
  await (await fetch(`${server.urls[0]}/http/first`)).text();
  expect((await upload('http/1', '/http/upload')).status).toBe(413);
  expect(requests).toBe(2);
  expect(server.upstreams.get('http')!.status.servers[0]!.failures).toBe(0);
});

test('a client of HTTP/1 is told to stop when the server wants no more', async () => {
  act = socket => void socket.write(ANSWERS[1]![1]);
  const socket = dial('http/1');
  socket.write(`POST /http/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${8 * MIB}\r\n\r\nbegin`);
  let text = '';
  for await (const chunk of socket) text += chunk;
  expect(text).toMatch(/^HTTP\/1\.1 401 [\s\S]*\r\nConnection: close\r\n[\s\S]*too large$/);
  socket.destroy();
});

/** An open WebSocket, byte by byte, over any wire. */
async function openSocket(wire: Wire, path: string): Promise<RawPeer & Disposable> {
  if (wire === 'http/2') {
    const client = await Http2Client.connect(server.urls[1]!);
    const { stream } = await client.knock(path);
    const peer = new RawPeer(stream as unknown as Socket, true);
    peer.head = 'HTTP/1.1 101';
    return Object.assign(peer, { [Symbol.dispose]: () => client[Symbol.dispose]() });
  }
  const socket = dial(wire);
  await once(socket, wire === 'tls' ? 'secureConnect' : 'connect');
  const peer = new RawPeer(socket, true);
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${CLIENT_KEY}\r\n\r\n`,
  );
  await peer.until(() => peer.head !== '');
  return Object.assign(peer, { [Symbol.dispose]: () => void socket.destroy() });
}

/** Takes the handshake, and acts when something of the client has come. */
const takenThen =
  (next: (socket: Socket, raw: Socket) => void): typeof act =>
  (socket, raw, head) => {
    const [, key] = /^sec-websocket-key: (.*)$/im.exec(head)!;
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(key!)}\r\n\r\n`,
    );
    socket.once('data', () => next(socket, raw));
  };

const closeFrame = (code: number, reason = '') =>
  Buffer.concat([Buffer.from([0x88, 2 + reason.length, code >> 8, code & 0xff]), Buffer.from(reason)]);

/** A message of 1 MiB, of which a part was sent. */
function beginMessage(client: RawPeer) {
  const frame = client.encode(Opcode.binary, Buffer.alloc(MIB));
  let sent = 0;
  const send = (bytes: number) => {
    client.socket.write(frame.subarray(sent, sent + bytes));
    sent += bytes;
  };
  send(16 * 1024);
  return { more: () => send(16 * 1024), rest: () => send(frame.length) };
}

describe.each(upstreams)('a server of %s that closes in the middle of a message', kind => {
  const path = `/${kind}/socket`;

  test.each(wires)('and resets: its code and reason reach a client of %s, who need not be cut', async wire => {
    complaints.length = 0;
    for (let i = 0; i < TIMES; i++) {
      act = takenThen(sayAndReset(closeFrame(1009, 'too big')));
      using client = await openSocket(wire, path);
      const message = beginMessage(client);
      sendMore = message.more;
      expect(closeOf(await client.frame(0))).toEqual([1009, 'too big']);
      message.rest();
      client.sendClose(1009);
      await client.until(() => client.isEnded || client.isClosed);
      expect(client.frames.length).toBe(1);
    }
    expect(complaints).toEqual([]);
  });

  test.each(wires.flatMap(wire => [[wire, 'ends'] as const, [wire, 'resets'] as const]))(
    'a client of %s is not kept waiting for the end of the connection when the server %s it',
    async (wire, how) => {
      act = takenThen((socket, raw) => {
        socket.write(closeFrame(1001), () => {
          if (how === 'ends') socket.end();
          else setTimeout(() => raw.resetAndDestroy(), 20);
        });
      });
      using client = await openSocket(wire, path);
      beginMessage(client);
      expect(closeOf(await client.frame(0))).toEqual([1001, '']);
      const start = performance.now();
      await client.until(() => client.isEnded || client.isClosed);
      expect(performance.now() - start).toBeLessThan(1_500);
    },
  );
});

test.each(['http/1', 'tls'] as const)(
  'a client of %s that closes and resets: its code reaches the server that is sending',
  async wire => {
    const heard = Promise.withResolvers<Buffer>();
    let peer: RawPeer | undefined;
    act = takenThen(socket => {
      socket.on('data', heard.resolve);
      socket.write(Buffer.concat([Buffer.from([0x82, 126, 0x40, 0]), Buffer.alloc(0x4000)]));
      peer!.sendClose(4001, 'enough');
      if (wire === 'http/1') peer!.socket.resetAndDestroy();
      else (peer!.socket as Socket & { _parent: Socket })._parent?.resetAndDestroy();
    });
    using client = await openSocket(wire, '/http/socket');
    peer = client;
    client.send(Opcode.text, 'begin');
    const frame = await heard.promise;
    const mask = frame.subarray(2, 6);
    expect((frame[6]! ^ mask[0]!) * 256 + (frame[7]! ^ mask[1]!)).toBe(4001);
  },
);

const GARBAGE: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['garbage', Buffer.alloc(99, 0xff)],
  ['a code that cannot be sent', closeFrame(1006)],
  ['a reason that is no text', Buffer.concat([closeFrame(1000, '\0'), Buffer.alloc(0)]).fill(0xff, 4)],
  ['a message that is too big', Buffer.from([0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0])],
  ['a masked frame', Buffer.from([0x88, 0x80, 0, 0, 0, 0])],
];

describe.each(wires)('who says goodbye over %s hears the own code', wire => {
  test.each([
    ...GARBAGE.map(
      ([what, bytes]) => [`is answered with ${what}`, (socket: Socket) => void socket.write(bytes)] as const,
    ),
    ['is answered with the end of the connection', (socket: Socket) => void socket.end()] as const,
    ['is answered with a reset', (_: Socket, raw: Socket) => void raw.resetAndDestroy()] as const,
  ])('when it %s', async (_, answer) => {
    complaints.length = 0;
    act = takenThen(answer);
    using client = await openSocket(wire, '/http/socket');
    client.sendClose(4001, 'bye');
    expect(closeOf(await client.frame(0))).toEqual([4001, 'bye']);
    await client.until(() => client.isEnded || client.isClosed);
    expect(complaints).toEqual([]);
  });
});

test.each(upstreams)('a server of %s that says goodbye hears its own code, whatever its client answers', async kind => {
  // Of a client, what the last of them has is right.
  for (const [, bytes] of GARBAGE.slice(0, -1)) {
    const heard = Promise.withResolvers<Buffer>();
    act = takenThen(socket => {
      socket.write(closeFrame(4001, 'bye'));
      socket.once('data', heard.resolve);
    });
    using client = await openSocket('http/1', `/${kind}/socket`);
    client.send(Opcode.text, 'begin');
    await client.frame(0);
    client.socket.write(bytes);
    const frame = await heard.promise;
    const mask = frame.subarray(2, 6);
    expect((frame[6]! ^ mask[0]!) * 256 + (frame[7]! ^ mask[1]!)).toBe(4001);
  }
});
