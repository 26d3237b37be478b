import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { deflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { RelayDirection } from '../../src/gateway/relay/direction.ts';
import { relayLimits } from '../../src/gateway/relay/limits.ts';
import { openRelay } from '../../src/gateway/relay/opening.ts';
import { Upstream } from '../../src/gateway/upstream/upstream.ts';
import { isRefusal } from '../../src/http/refusal.ts';
import { parseUpgrade } from '../../src/http/upgrade-request.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { acceptKey } from '../../src/websocket/protocol/handshake.ts';
import { Opcode } from '../../src/websocket/protocol/opcodes.ts';
import { TimerWheel } from '../../src/websocket/timer-wheel.ts';
import { receiveGoodHead } from '../http/receive-head.ts';
import { closing } from '../services/closing.ts';
import { type GatewayOptions, listenTcp, TestGateway, unusedServer } from './gateway-server.ts';
import { CLIENT_KEY, closeOf, type Frame, RawPeer, rawClient, switching } from './raw-peer.ts';
import { settled } from './settled.ts';

/** The relay's timers are up to two ticks of the timer wheel late. */
const LATE = 200;

const open = closing();

async function gateway(servers: string | string[], options?: GatewayOptions): Promise<TestGateway> {
  const one = await new TestGateway([servers].flat(), options).listen();
  open.push(one);
  return one;
}

async function tcp(onSocket: (socket: net.Socket) => void): Promise<string> {
  const server = await listenTcp(onSocket);
  open.push(server);
  return server.url;
}

async function wsBackend(
  onConnection: (socket: WebSocket, request: http.IncomingMessage) => void,
  options: ConstructorParameters<typeof WebSocketServer>[0] = {},
): Promise<string> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options });
  server.on('connection', (socket, request) => {
    socket.on('error', () => {});
    onConnection(socket, request);
  });
  await once(server, 'listening');
  open.push({
    close: () => {
      for (const client of server.clients) client.terminate();
      return new Promise(resolve => server.close(resolve));
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function wsClient(to: TestGateway, options: WebSocket.ClientOptions = {}, protocols: string[] = []): WebSocket {
  const client = new WebSocket(`ws://127.0.0.1:${to.port}/socket?x=1`, protocols, {
    perMessageDeflate: false,
    ...options,
  });
  client.on('error', () => {});
  open.push({
    async close() {
      client.terminate();
    },
  });
  return client;
}

const echo = (socket: WebSocket) => socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));

/** A client and a backend of raw bytes with a relay between them. */
async function rawPair(options?: GatewayOptions & { headers?: string[]; answer?: string[] }) {
  const accepted = Promise.withResolvers<RawPeer>();
  const to = await gateway(await tcp(socket => accepted.resolve(new RawPeer(socket, false))), options);
  const client = await rawClient(to.port, options?.headers);
  open.push({
    async close() {
      client.socket.destroy();
    },
  });
  const backend = await accepted.promise;
  await backend.until(() => backend.head !== '');
  backend.socket.write(switching(backend, options?.answer));
  await client.until(() => client.head !== '');
  return { client, backend, relay: await to.relay(), to };
}

async function wsClosed(socket: WebSocket): Promise<[code: number, reason: string]> {
  const [code, reason] = await once(socket, 'close');
  return [code, String(reason)];
}

describe('a relayed WebSocket', () => {
  test('carries text and binary messages both ways, unchanged', async () => {
    const to = await gateway(await wsBackend(echo));
    const client = wsClient(to);
    await once(client, 'open');
    for (const message of ['hello', '', 'ü€😀', 'x'.repeat(60_000)]) {
      client.send(message);
      const [data, isBinary] = await once(client, 'message');
      expect([String(data), isBinary]).toEqual([message, false]);
    }
    const bytes = Buffer.from(Array.from({ length: 300 }, (_, i) => i & 255));
    client.send(bytes);
    const [data, isBinary] = await once(client, 'message');
    expect([data, isBinary]).toEqual([bytes, true]);
  });

  test('carries a message of 16 MiB', async () => {
    const to = await gateway(await wsBackend(echo), {
      limits: relayLimits({ maxMessageSize: '16MiB' }),
    });
    const client = wsClient(to);
    await once(client, 'open');
    const message = Buffer.alloc(16 * 1024 * 1024);
    for (let i = 0; i < message.length; i += 997) message[i] = i;
    client.send(message);
    const [data] = (await once(client, 'message')) as [Buffer];
    expect(data.equals(message)).toBe(true);
    const relay = await to.relay();
    expect(relay.sent).toEqual({ messages: 1, bytes: message.length + 14 });
    expect(relay.received).toEqual({ messages: 1, bytes: message.length + 10 });
  });

  test('carries many messages that arrive at once, in order', async () => {
    const to = await gateway(await wsBackend(echo));
    const client = wsClient(to);
    await once(client, 'open');
    const got: string[] = [];
    const all = Promise.withResolvers<void>();
    client.on('message', data => {
      if (got.push(String(data)) === 5000) all.resolve();
    });
    const sent = Array.from({ length: 5000 }, (_, i) => `${i}:${'x'.repeat(i % 300)}`);
    for (const message of sent) client.send(message);
    await all.promise;
    expect(got).toEqual(sent);
    expect((await to.relay()).sent.messages).toBe(5000);
  });

  test('carries every byte as it was, however the bytes are cut into packets', async () => {
    const { client, backend } = await rawPair();
    const frames = [
      client.encode(Opcode.text, 'a', { fin: false }),
      client.encode(Opcode.ping, 'p'),
      client.encode(Opcode.continuation, Buffer.alloc(200, 'b'), { fin: false }),
      client.encode(Opcode.pong, 'unasked'),
      client.encode(Opcode.continuation, ''),
      client.encode(Opcode.binary, Buffer.alloc(300, 'c')),
    ];
    const bytes = Buffer.concat(frames);
    for (const size of [1, 2, 3, 7, 64]) {
      const before = backend.frames.length;
      for (let at = 0; at < bytes.length; at += size) {
        client.socket.write(bytes.subarray(at, at + size));
        await new Promise(resolve => setImmediate(resolve));
      }
      await backend.frame(before + frames.length - 1);
      const got = backend.frames.slice(before);
      expect(got.map(frame => [frame.opcode, frame.fin, frame.masked, frame.payload.toString()])).toEqual([
        [Opcode.text, false, true, 'a'],
        [Opcode.ping, true, true, 'p'],
        [Opcode.continuation, false, true, 'b'.repeat(200)],
        [Opcode.pong, true, true, 'unasked'],
        [Opcode.continuation, true, true, ''],
        [Opcode.binary, true, true, 'c'.repeat(300)],
      ]);
    }
  });

  test('carries control frames between fragments from the backend, too', async () => {
    const { client, backend } = await rawPair();
    backend.send(Opcode.text, 'one ', { fin: false });
    backend.send(Opcode.ping, 'now');
    backend.send(Opcode.continuation, 'two');
    await client.frame(2);
    expect(client.frames.map(frame => [frame.opcode, frame.fin, frame.payload.toString()])).toEqual([
      [Opcode.text, false, 'one '],
      [Opcode.ping, true, 'now'],
      [Opcode.continuation, true, 'two'],
    ]);
    client.send(Opcode.pong, 'now');
    expect(await backend.frame(0)).toMatchObject({ opcode: Opcode.pong, payload: Buffer.from('now') });
  });

  test('carries what either side sent before it could know that the other is there', async () => {
    const accepted = Promise.withResolvers<RawPeer>();
    const to = await gateway(await tcp(socket => accepted.resolve(new RawPeer(socket, false))));
    const writer = new RawPeer(new net.Socket(), true);
    const client = await rawClient(to.port, [], writer.encode(Opcode.text, 'with the head'));
    const backend = await accepted.promise;
    await backend.until(() => backend.head !== '');
    client.send(Opcode.text, 'while dialling');
    await new Promise(resolve => setImmediate(resolve));
    backend.socket.write(Buffer.concat([Buffer.from(switching(backend)), backend.encode(Opcode.text, 'with the 101')]));
    expect((await client.frame(0)).payload.toString()).toBe('with the 101');
    await backend.frame(1);
    expect(backend.frames.map(frame => frame.payload.toString())).toEqual(['with the head', 'while dialling']);
    client.socket.destroy();
  });

  test('negotiates subprotocol and permessage-deflate end to end', async () => {
    const to = await gateway(
      await wsBackend(echo, { perMessageDeflate: { threshold: 0 }, handleProtocols: () => 'b' }),
    );
    const client = wsClient(to, { perMessageDeflate: { threshold: 0 } }, ['a', 'b']);
    await once(client, 'open');
    expect(client.protocol).toBe('b');
    expect(client.extensions).toContain('permessage-deflate');
    const message = 'compress me '.repeat(5000);
    client.send(message);
    const [data] = await once(client, 'message');
    expect(String(data)).toBe(message);
    expect((await to.relay()).sent.bytes).toBeLessThan(2000);
  });

  test('does not offer the backend an extension that might change the framing', async () => {
    const { backend } = await rawPair({
      headers: ['Sec-WebSocket-Extensions: x-mux; a=1, permessage-deflate; client_max_window_bits'],
    });
    expect(backend.head).toMatch(/^Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits$/m);
  });

  test('with compression refused does not offer the backend any, and the frames are plain', async () => {
    const extensions: (string | undefined)[] = [];
    const url = await wsBackend(
      (socket, request) => {
        extensions.push(request.headers['sec-websocket-extensions']);
        echo(socket);
      },
      { perMessageDeflate: { threshold: 0 } },
    );
    const client = wsClient(await gateway(url, { limits: { compression: 'refuse' } }), { perMessageDeflate: true });
    await once(client, 'open');
    expect([client.extensions, extensions]).toEqual(['', [undefined]]);
    client.send('plain '.repeat(100));
    expect(String((await once(client, 'message'))[0])).toBe('plain '.repeat(100));
  });

  test('refuses a compressed frame with 1002 when no compression was agreed', async () => {
    const { client, backend } = await rawPair();
    client.send(Opcode.text, deflateRawSync('hi'), { rsv1: true });
    expect(closeOf(await backend.frame(0))[0]).toBe(1001);
    backend.sendClose(1001);
    expect(closeOf(await client.frame(0))[0]).toBe(1002);
  });

  test('hands the 101 headers of the backend on, without those of the hop and without our cookie', async () => {
    const { client } = await rawPair({
      sessionCookieName: 'holdfast',
      answer: [
        'Set-Cookie: a=1',
        'Set-Cookie: holdfast=evil',
        'Set-Cookie: b=2',
        'X-Node: 7',
        'Keep-Alive: timeout=5',
        'Sec-WebSocket-Version: 13',
      ],
    });
    const lines = client.head.split('\r\n').slice(1);
    expect(lines.sort()).toEqual(
      [
        'Connection: Upgrade',
        `Sec-WebSocket-Accept: ${acceptKey(CLIENT_KEY)}`,
        'Set-Cookie: a=1',
        'Set-Cookie: b=2',
        'Upgrade: websocket',
        'X-Node: 7',
      ].sort(),
    );
  });
});

describe('the handshake that a backend gets', () => {
  test('is one, for the path asked for, with the sid and without any client copy of it', async () => {
    const { backend } = await rawPair({
      sid: 'the-sid',
      sessionCookieName: 'holdfast',
      headers: [
        'X-Session-ID: stolen',
        'X_Session_ID: stolen',
        'Connection: X-Session-ID, Sec-WebSocket-Key',
        'Cookie: a=1; holdfast=v1.secret',
        'Origin: http://example.com',
        'Content-Length: 0',
        'X-Forwarded-For: 6.6.6.6',
        'Sec-WebSocket-Protocol: chat',
      ],
    });
    const [requestLine, ...lines] = backend.head.split('\r\n');
    expect(requestLine).toBe('GET /socket?x=1 HTTP/1.1');
    expect(lines.map(line => line.replace(/^[^:]*/, name => name.toLowerCase())).sort()).toEqual(
      [
        'host: example.com',
        'upgrade: websocket',
        'connection: Upgrade',
        `sec-websocket-key: ${CLIENT_KEY}`,
        'sec-websocket-version: 13',
        'sec-websocket-protocol: chat',
        'x-session-id: the-sid',
        'cookie: a=1',
        'origin: http://example.com',
        'x-forwarded-for: 127.0.0.1',
        'x-forwarded-proto: http',
        'x-forwarded-host: example.com',
        'x-forwarded-port: 80',
        'forwarded: for=127.0.0.1;host=example.com;proto=http',
      ].sort(),
    );
  });

  test('has no session header when there is no session', async () => {
    const { backend } = await rawPair({ headers: ['X-Session-ID: stolen'] });
    expect(backend.head).not.toMatch(/session/i);
  });
});

describe('a backend that does not take the WebSocket', () => {
  async function refused(onSocket: (socket: net.Socket) => void, options?: GatewayOptions) {
    const to = await gateway(await tcp(onSocket), options);
    const client = await rawClient(to.port);
    await client.closed();
    return { client, outcome: await to.outcome(), status: Number(client.head.split(' ')[1]) };
  }

  test.each([
    ['401', 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nlogin', 401, 'login'],
    ['403', 'HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n', 403, 'no'],
    ['404', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 404, ''],
    [
      '426',
      'HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 14\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n',
      426,
      '',
    ],
    ['302', 'HTTP/1.1 302 Found\r\nLocation: /login\r\nConnection: close\r\n\r\nby the end', 302, 'by the end'],
    ['200', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', 200, 'hi'],
  ])(
    'but answers %s: the answer is passed on with its body, and the connection closes',
    async (_, answer, status, body) => {
      const { client, outcome } = await refused(socket => socket.once('data', () => socket.end(answer)));
      expect(client.head).toContain(`HTTP/1.1 ${status} `);
      expect(client.head).toMatch(/^Connection: close/m);
      expect(client.head).not.toMatch(/^Transfer-Encoding/m);
      expect(client.rest.toString()).toBe(body);
      expect(outcome).toMatchObject({ status, complete: true });
    },
  );

  test('keeps the headers that explain the answer', async () => {
    const { client } = await refused(socket =>
      socket.once('data', () =>
        socket.end(
          'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n',
        ),
      ),
    );
    expect(client.head).toContain('WWW-Authenticate: Basic realm="x"');
    expect(client.head).toContain('Set-Cookie: a=1');
  });

  test.each([
    ['closes without an answer', ''],
    ['answers something that is not HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['answers a status that is none', 'HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n'],
    [
      'answers 101 without an accept',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    ],
    [
      'answers 101 with a wrong accept',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n',
    ],
    [
      'answers 101 with another protocol',
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptKey(CLIENT_KEY)}\r\n\r\n`,
    ],
    [
      'chooses a subprotocol nobody offered',
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Accept: ${acceptKey(CLIENT_KEY)}\r\n\r\n`,
    ],
  ])('but %s: 502', async (_, answer) => {
    const closed = Promise.withResolvers<void>();
    const { status } = await refused(socket => {
      socket.once('data', () => (answer === '' ? socket.end() : socket.write(answer)));
      socket.on('close', () => closed.resolve());
    });
    expect(status).toBe(502);
    await closed.promise;
  });

  test('because nobody listens: 503, and the next server is tried first', async () => {
    const down = await unusedServer();
    const to = await gateway(down);
    const client = await rawClient(to.port);
    await client.closed();
    expect(client.head).toMatch(/^HTTP\/1.1 503 [\s\S]*Retry-After: 5/);

    const second = await gateway([down, await wsBackend(echo)]);
    const socket = wsClient(second);
    await once(socket, 'open');
    socket.send('there');
    expect(String((await once(socket, 'message'))[0])).toBe('there');
  });

  test('because it never answers: 504 after the handshake timeout', async () => {
    const clock = new FakeClock();
    const accepted = Promise.withResolvers<RawPeer>();
    const to = await gateway(await tcp(socket => accepted.resolve(new RawPeer(socket, false))), { clock });
    const client = await rawClient(to.port);
    const backend = await accepted.promise;
    await backend.until(() => backend.head !== '');
    await clock.advance(9_999);
    expect(to.outcomes).toEqual([]);
    await clock.advance(1);
    await client.closed();
    expect(client.head).toContain('HTTP/1.1 504 ');
    await backend.closed();
  });

  test('in time for the client, who is gone: 499, and the backend connection is cut', async () => {
    const accepted = Promise.withResolvers<RawPeer>();
    const to = await gateway(await tcp(socket => accepted.resolve(new RawPeer(socket, false))));
    const client = await rawClient(to.port);
    const backend = await accepted.promise;
    await backend.until(() => backend.head !== '');
    client.socket.destroy();
    await backend.closed();
    expect(await to.outcome()).toMatchObject({ status: 499 });
  });
});

describe('closing', () => {
  test.each([
    [1000, 'done'],
    [1001, ''],
    [1008, 'ü'],
    [1011, 'x'.repeat(123)],
    [1012, ''],
    [1013, ''],
    [3000, 'a'],
    [4999, 'z'],
  ])('by the client with %i %j reaches the backend, and its answer the client', async (code, reason) => {
    const { client, backend, relay } = await rawPair();
    client.sendClose(code, reason);
    expect(closeOf(await backend.frame(0))).toEqual([code, reason]);
    backend.sendClose(code, reason);
    expect(closeOf(await client.frame(0))).toEqual([code, reason]);
    // The server ends the TCP connection first, on either side of us.
    await client.until(() => client.isEnded);
    backend.socket.end();
    expect(await relay.closed).toEqual({ code, reason, by: 'client' });
    await backend.closed();
  });

  test('by the backend reaches the client, and its answer the backend', async () => {
    const { client, backend, relay } = await rawPair();
    backend.sendClose(4001, 'signed out');
    expect(closeOf(await client.frame(0))).toEqual([4001, 'signed out']);
    client.sendClose(4001);
    expect(closeOf(await backend.frame(0))).toEqual([4001, '']);
    backend.socket.end();
    expect(await relay.closed).toEqual({ code: 4001, reason: 'signed out', by: 'backend' });
  });

  test('without a code stays without a code', async () => {
    const { client, backend, relay } = await rawPair();
    client.sendClose();
    expect(closeOf(await backend.frame(0))).toEqual([undefined, '']);
    backend.sendClose();
    expect(closeOf(await client.frame(0))).toEqual([undefined, '']);
    backend.socket.end();
    expect(await relay.closed).toEqual({ code: 1005, reason: '', by: 'client' });
  });

  test('lets the other side finish what it was sending', async () => {
    const { client, backend } = await rawPair();
    backend.send(Opcode.text, 'a', { fin: false });
    client.sendClose(1000);
    await backend.frame(0);
    backend.send(Opcode.continuation, 'b');
    backend.sendClose(1000);
    expect((await client.frame(1)).payload.toString()).toBe('b');
    expect(closeOf(await client.frame(2))[0]).toBe(1000);
  });

  test('with the end of the TCP connection right behind it still gets its answer', async () => {
    const { client, backend } = await rawPair();
    client.socket.end(client.encode(Opcode.close, Buffer.from([3, 232])));
    expect(closeOf(await backend.frame(0))[0]).toBe(1000);
    backend.sendClose(1000);
    expect(closeOf(await client.frame(0))[0]).toBe(1000);
    await client.closed();
  });

  // Together, because each waits two seconds for a backend that does not answer.
  test('with a code that must not be on the wire is a protocol error', async () => {
    const check = async (code: number) => {
      const first = await rawPair();
      first.client.sendClose(code);
      expect(closeOf(await first.backend.frame(0))[0], `${code} of the client`).toBe(1001);
      first.backend.sendClose(1001);
      expect(closeOf(await first.client.frame(0))[0], `${code} of the client`).toBe(1002);
      const second = await rawPair();
      second.backend.sendClose(code);
      expect(closeOf(await second.backend.frame(0))[0], `${code} of the backend`).toBe(1002);
      expect(closeOf(await second.client.frame(0))[0], `${code} of the backend`).toBe(1014);
    };
    await Promise.all([0, 999, 1004, 1005, 1006, 1015, 2999, 5000].map(check));
  });

  test('with a body of one byte is 1002, with a reason that is not UTF-8 1007', async () => {
    const one = await rawPair();
    one.client.send(Opcode.close, Buffer.from([3]));
    await one.backend.frame(0);
    one.backend.sendClose(1001);
    expect(closeOf(await one.client.frame(0))[0]).toBe(1002);
    const two = await rawPair();
    two.client.send(Opcode.close, Buffer.from([3, 232, 0xff]));
    await two.backend.frame(0);
    two.backend.sendClose(1001);
    expect(closeOf(await two.client.frame(0))[0]).toBe(1007);
  });

  test('from outside reaches both sides with its code and reason', async () => {
    const { client, backend, relay } = await rawPair();
    relay.close(1008, 'session ended');
    expect(closeOf(await client.frame(0))).toEqual([1008, 'session ended']);
    expect(closeOf(await backend.frame(0))).toEqual([1008, 'session ended']);
    expect(backend.frames[0]!.masked).toBe(true);
    client.sendClose(1008);
    backend.sendClose(1008);
    backend.socket.end();
    expect(await relay.closed).toEqual({ code: 1008, reason: 'session ended', by: 'gateway' });
    expect([client.frames.length, backend.frames.length]).toEqual([1, 1]);
  });

  test('from outside waits for the end of the frame that is passing, and drops what follows', async () => {
    const { client, backend, relay } = await rawPair();
    const frame = backend.encode(Opcode.text, 'begun and finished');
    backend.socket.write(frame.subarray(0, 10));
    await client.until(() => client.rest.length === 10);
    relay.close(1001, 'drain');
    expect(closeOf(await backend.frame(0))[0]).toBe(1001);
    expect(client.frames).toEqual([]);
    backend.socket.write(Buffer.concat([frame.subarray(10), backend.encode(Opcode.text, 'too late')]));
    expect((await client.frame(0)).payload.toString()).toBe('begun and finished');
    expect(closeOf(await client.frame(1))).toEqual([1001, 'drain']);
    client.sendClose(1001);
    await client.closed();
    expect(client.frames.length).toBe(2);
  });

  test('from outside cuts both connections when they do not answer within two seconds', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    relay.close(1001);
    await client.frame(0);
    await clock.advance(1_999);
    expect([client.isClosed, backend.isClosed]).toEqual([false, false]);
    await clock.advance(LATE);
    await client.closed();
    await backend.closed();
    expect(await relay.closed).toMatchObject({ code: 1001, by: 'gateway' });
    expect(clock.pending).toBe(0);
  });

  test('twice is closing once', async () => {
    const { client, relay } = await rawPair();
    relay.close(1008, 'first');
    relay.close(1001, 'second');
    expect(closeOf(await client.frame(0))).toEqual([1008, 'first']);
    client.sendClose(1008);
    await client.closed();
    expect(client.frames.length).toBe(1);
  });

  test('with a code or reason that cannot be sent is a TypeError', async () => {
    const { relay } = await rawPair();
    expect(() => relay.close(1006)).toThrow(RangeError);
    expect(() => relay.close(1000, 'x'.repeat(124))).toThrow(RangeError);
  });

  test('by a client whose backend never answers ends after thirty seconds', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    client.sendClose(1000);
    await backend.frame(0);
    await clock.advance(29_999);
    expect(client.frames).toEqual([]);
    await clock.advance(LATE);
    expect(closeOf(await client.frame(0))).toEqual([1000, '']);
    await client.closed();
    await backend.closed();
    expect(await relay.closed).toMatchObject({ code: 1000, by: 'client' });
  });
});

describe('a side that is lost', () => {
  test.each([
    ['ends', (peer: RawPeer) => peer.socket.end()],
    ['is reset', (peer: RawPeer) => peer.socket.resetAndDestroy()],
  ])('the backend %s: the client is closed with 1014', async (_, lose) => {
    const { client, backend, relay } = await rawPair();
    backend.send(Opcode.text, 'last words');
    await client.frame(0);
    lose(backend);
    expect(closeOf(await client.frame(1))[0]).toBe(1014);
    client.sendClose(1014);
    await client.closed();
    expect(await relay.closed).toMatchObject({ code: 1006, by: 'backend' });
  });

  test.each([
    ['ends', (peer: RawPeer) => peer.socket.end()],
    ['is reset', (peer: RawPeer) => peer.socket.resetAndDestroy()],
  ])('the client %s: the backend is closed with 1001', async (_, lose) => {
    const { client, backend, relay } = await rawPair();
    client.send(Opcode.text, 'last words');
    await backend.frame(0);
    lose(client);
    expect(closeOf(await backend.frame(1))[0]).toBe(1001);
    backend.sendClose(1001);
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1006, by: 'client' });
  });

  test('between two fragments: the close frame stands between them', async () => {
    const { client, backend } = await rawPair();
    backend.send(Opcode.text, 'half', { fin: false });
    await client.frame(0);
    backend.socket.resetAndDestroy();
    expect(closeOf(await client.frame(1))[0]).toBe(1014);
  });

  test('in the middle of a header: the client does not see the piece of it', async () => {
    const { client, backend } = await rawPair();
    backend.socket.write(Buffer.concat([backend.encode(Opcode.text, 'a'), Buffer.from([0x81, 126, 1])]));
    await client.frame(0);
    backend.socket.resetAndDestroy();
    expect(closeOf(await client.frame(1))[0]).toBe(1014);
  });

  test('in the middle of a frame: the connection of the other is cut, because nothing can be said there', async () => {
    const { client, backend, relay } = await rawPair({ clock: new FakeClock() });
    backend.socket.write(backend.encode(Opcode.text, 'never finished').subarray(0, 8));
    await client.until(() => client.rest.length === 8);
    backend.socket.resetAndDestroy();
    await client.closed();
    expect(client.frames).toEqual([]);
    expect(await relay.closed).toMatchObject({ code: 1006, by: 'backend' });
  });

  test('after the other said goodbye: that hears its own code, as if it had been answered', async () => {
    const { client, backend } = await rawPair();
    client.sendClose(1000, 'bye');
    await backend.frame(0);
    backend.socket.resetAndDestroy();
    expect(closeOf(await client.frame(0))).toEqual([1000, 'bye']);
    await client.closed();
  });
});

describe('a client that breaks the rules', () => {
  test('still gets what the backend answers to what came before, and then the code', async () => {
    const { client, backend, relay } = await rawPair();
    client.socket.write(Buffer.concat([client.encode(Opcode.text, 'good'), Buffer.from([0x83, 0x80, 0, 0, 0, 0])]));
    expect((await backend.frame(0)).payload.toString()).toBe('good');
    expect(closeOf(await backend.frame(1))[0]).toBe(1001);
    backend.send(Opcode.text, 'answer');
    backend.sendClose(1001);
    expect((await client.frame(0)).payload.toString()).toBe('answer');
    expect(closeOf(await client.frame(1))).toEqual([1002, '']);
    await client.until(() => client.isEnded);
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1002, by: 'client' });
    expect(client.frames.length).toBe(2);
  });

  test.each([
    ['is lost', (backend: RawPeer) => backend.socket.resetAndDestroy()],
    ['has said goodbye before', (backend: RawPeer) => backend.sendClose(1000)],
  ])('hears the code at once from a relay whose backend %s', async (_, act) => {
    const { client, backend } = await rawPair();
    client.socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
    await backend.frame(0);
    act(backend);
    expect(closeOf(await client.frame(0))[0]).toBe(1002);
  });

  test('hears the code after two seconds when the backend says nothing', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    client.socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
    expect(closeOf(await backend.frame(0))[0]).toBe(1001);
    await clock.advance(1_900);
    expect(client.frames).toEqual([]);
    await clock.advance(100 + LATE);
    expect(closeOf(await client.frame(0))[0]).toBe(1002);
    await clock.advance(2_000 + LATE);
    expect(await relay.closed).toMatchObject({ code: 1002 });
    expect(clock.pending).toBe(0);
  });
});

test('a backend that closes without waiting for the answer: the client is not kept waiting for its end either', async () => {
  const { client, backend } = await rawPair();
  client.socket.write(client.encode(Opcode.text, 'half of it').subarray(0, 9));
  await backend.until(() => backend.rest.length > 0);
  backend.sendClose(1007);
  backend.socket.end();
  expect(closeOf(await client.frame(0))[0]).toBe(1007);
  await client.until(() => client.isEnded);
});

test('a backend that says goodbye and takes nothing any more: the rest of its client is thrown away after two seconds', async () => {
  const clock = new FakeClock();
  const { client, backend, relay } = await rawPair({ clock, limits: { maxMessageBytes: 1e9 } });
  backend.socket.pause();
  client.send(Opcode.binary, Buffer.alloc(30_000_000));
  await settled(() => relay.sent.bytes);
  backend.sendClose(1009, 'too big');
  expect(closeOf(await client.frame(0))).toEqual([1009, 'too big']);
  client.sendClose(1009);
  await clock.advance(2_000 + LATE);
  await clock.advance(2_000 + LATE);
  await client.closed();
  await clock.advance(10_000 + LATE);
  expect(await relay.closed).toMatchObject({ code: 1009, by: 'backend' });
});

test('a client that goes on and on after its backend has said goodbye is cut', async () => {
  const { client, backend } = await rawPair();
  client.socket.write(client.encode(Opcode.text, 'half of it').subarray(0, 9));
  await backend.until(() => backend.rest.length > 0);
  backend.sendClose(1000);
  backend.socket.resetAndDestroy();
  await client.frame(0);
  const part = Buffer.concat(Array.from({ length: 16 }, () => client.encode(Opcode.binary, Buffer.alloc(60_000))));
  client.socket.write(client.encode(Opcode.text, 'half of it').subarray(9));
  let sent = 0;
  while (!client.isClosed && sent < 100_000_000) {
    sent += part.length;
    if (!client.socket.write(part)) await Promise.race([once(client.socket, 'drain'), client.closed()]);
  }
  expect(sent).toBeLessThan(50_000_000);
});

test('an empty close frame whose answer never comes is answered by an empty one', async () => {
  const { client, backend } = await rawPair();
  client.sendClose();
  await backend.frame(0);
  backend.socket.resetAndDestroy();
  expect((await client.frame(0)).payload.length).toBe(0);
});

describe('a side that ends only its half of the TCP connection', () => {
  test.each(['client', 'backend'] as const)('the %s still gets what was on its way to it', async half => {
    const pair = await rawPair();
    const [ender, other] = half === 'client' ? [pair.client, pair.backend] : [pair.backend, pair.client];
    ender.socket.end(ender.encode(Opcode.text, 'last words'));
    expect((await other.frame(0)).payload.toString()).toBe('last words');
    expect(closeOf(await other.frame(1))[0]).toBe(half === 'client' ? 1001 : 1014);
    other.send(Opcode.text, 'was on its way');
    other.sendClose(1001);
    expect((await ender.frame(0)).payload.toString()).toBe('was on its way');
    expect(closeOf(await ender.frame(1))[0]).toBe(1001);
    await ender.closed();
    other.socket.end();
    expect(await pair.relay.closed).toMatchObject({ code: 1006, reason: 'ended without a close frame', by: half });
  });

  test('is cut when the other does not answer within two seconds', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    client.socket.end();
    expect(closeOf(await backend.frame(0))[0]).toBe(1001);
    await clock.advance(2_000 + LATE);
    expect(await relay.closed).toMatchObject({ by: 'client' });
    expect(clock.pending).toBe(0);
  });
});

describe('traffic', () => {
  test.each([
    ['message', 1],
    ['any', 3],
    ['never', 0],
  ] as const)(
    'of the client is reported by the policy %s, that of the backend never',
    async (touchOnTraffic, expected) => {
      let calls = 0;
      const { client, backend } = await rawPair({ sid: 'the-sid', touchOnTraffic, onTraffic: () => calls++ });
      backend.send(Opcode.text, 'news');
      await client.frame(0);
      client.send(Opcode.ping, '');
      await backend.frame(0);
      client.send(Opcode.text, 'half', { fin: false });
      await backend.frame(1);
      client.send(Opcode.continuation, 'whole');
      await backend.frame(2);
      expect(calls).toBe(expected);
    },
  );

  test('that arrives together leaves with one write', () => {
    const written: Buffer[][] = [];
    const target = new Duplex({
      read() {},
      write(chunk, _, done) {
        written.push([chunk]);
        done();
      },
      writev(chunks, done) {
        written.push(chunks.map(({ chunk }) => chunk));
        done();
      },
    });
    const owner = { onPassed() {}, onPingSent() {}, onPong() {}, onSourceDone() {}, onTargetDone() {} };
    const direction = new RelayDirection(owner, {
      from: 'client',
      source: new PassThrough(),
      target,
      maxMessageBytes: 1000,
      allowRsv1: false,
      wheel: new TimerWheel(new FakeClock()),
    });
    const peer = new RawPeer(new net.Socket(), true);
    const frames = [
      peer.encode(Opcode.text, 'a'),
      peer.encode(Opcode.pong, 'b'),
      peer.encode(Opcode.binary, 'c'),
      peer.encode(Opcode.text, 'd'),
    ];
    const plain = Buffer.concat([frames[0]!, frames[2]!, frames[3]!]);
    direction.push(plain);
    expect(written).toEqual([[plain]]);
    direction.push(Buffer.concat(frames));
    expect(written.length).toBe(2);
    expect(Buffer.concat(written[1]!)).toEqual(Buffer.concat(frames));
  });
});

describe('limits', () => {
  test('a message of the client over the limit: 1009 to it, 1001 to the backend, which sees nothing of it', async () => {
    const { client, backend, relay } = await rawPair({ limits: { maxMessageBytes: 1000 } });
    client.send(Opcode.binary, Buffer.alloc(1000));
    client.send(Opcode.binary, Buffer.alloc(1001));
    await backend.frame(1);
    expect(backend.frames.map(frame => frame.opcode)).toEqual([Opcode.binary, Opcode.close]);
    expect(closeOf(backend.frames[1]!)[0]).toBe(1001);
    backend.sendClose(1001);
    expect(closeOf(await client.frame(0))[0]).toBe(1009);
    backend.socket.end();
    client.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1009, by: 'client' });
  });

  test('a message of the backend over the limit: 1009 to both', async () => {
    const { client, backend } = await rawPair({ limits: { maxBackendMessageBytes: 1000 } });
    backend.send(Opcode.binary, Buffer.alloc(1001));
    expect(closeOf(await backend.frame(0))[0]).toBe(1009);
    expect(closeOf(await client.frame(0))[0]).toBe(1009);
  });

  test('count the fragments of one message together', async () => {
    const { client, backend } = await rawPair({ limits: { maxMessageBytes: 1000 } });
    client.send(Opcode.binary, Buffer.alloc(600), { fin: false });
    client.send(Opcode.continuation, Buffer.alloc(600), { fin: false });
    expect(closeOf(await backend.frame(1))[0]).toBe(1001);
    backend.sendClose(1001);
    expect(closeOf(await client.frame(0))[0]).toBe(1009);
  });

  test.each([
    ['is not masked', Buffer.from([0x81, 1, 0x61])],
    ['has a reserved opcode', Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ['is a control frame in fragments', Buffer.from([0x09, 0x80, 0, 0, 0, 0])],
    ['continues nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
  ])('a frame of the client that %s: 1002, and the backend sees nothing of it', async (_, bytes) => {
    const { client, backend, relay } = await rawPair();
    client.socket.write(bytes);
    expect(closeOf(await backend.frame(0))[0]).toBe(1001);
    backend.sendClose(1001);
    expect(closeOf(await client.frame(0))[0]).toBe(1002);
    await client.until(() => client.isEnded);
    client.socket.end();
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1002, by: 'client' });
  });

  test('a masked frame of the backend: 1002 to it, 1014 to the client', async () => {
    const { client, backend } = await rawPair();
    backend.socket.write(client.encode(Opcode.text, 'masked'));
    expect(closeOf(await backend.frame(0))[0]).toBe(1002);
    expect(closeOf(await client.frame(0))[0]).toBe(1014);
  });
});

async function lastFrame(peer: RawPeer): Promise<Frame> {
  await peer.until(() => peer.frames.at(-1)?.opcode === Opcode.close || peer.isClosed);
  return peer.frames.at(-1)!;
}

describe('time', () => {
  test('after 25 s of silence both sides are pinged; their pongs are not passed on, other pongs are', async () => {
    const clock = new FakeClock();
    const { client, backend } = await rawPair({ clock });
    await clock.advance(24_999);
    expect([client.frames, backend.frames]).toEqual([[], []]);
    await clock.advance(LATE);
    const clientPing = await client.frame(0);
    const backendPing = await backend.frame(0);
    expect([clientPing.opcode, backendPing.opcode]).toEqual([Opcode.ping, Opcode.ping]);
    expect([clientPing.masked, backendPing.masked]).toEqual([false, true]);
    client.send(Opcode.pong, clientPing.payload);
    client.send(Opcode.pong, 'mine');
    backend.send(Opcode.pong, backendPing.payload);
    backend.send(Opcode.pong, 'yours');
    expect((await backend.frame(1)).payload.toString()).toBe('mine');
    expect((await client.frame(1)).payload.toString()).toBe('yours');
  });

  test('a side that talks is not pinged', async () => {
    const clock = new FakeClock();
    const { client, backend } = await rawPair({ clock });
    await clock.advance(5_000);
    client.send(Opcode.text, 'I live');
    await backend.frame(0);
    await clock.advance(20_000 + LATE);
    await client.until(() => true);
    expect((await backend.frame(1)).opcode).toBe(Opcode.ping);
    expect(client.frames).toEqual([]);
  });

  test('our ping waits for the end of the frame that is passing', async () => {
    const clock = new FakeClock();
    const { client, backend } = await rawPair({ clock });
    const frame = backend.encode(Opcode.text, 'in two pieces');
    backend.socket.write(frame.subarray(0, 5));
    await client.until(() => client.rest.length === 5);
    await clock.advance(25_000 + LATE);
    backend.socket.write(frame.subarray(5));
    expect((await client.frame(0)).payload.toString()).toBe('in two pieces');
    expect((await client.frame(1)).opcode).toBe(Opcode.ping);
  });

  test('a side that does not answer a ping within ten seconds is lost', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    await clock.advance(25_000 + LATE);
    backend.send(Opcode.pong, (await backend.frame(0)).payload);
    backend.send(Opcode.text, 'seen');
    await client.frame(1);
    await clock.advance(10_000 - 2 * LATE);
    expect(backend.frames.length).toBe(1);
    await clock.advance(2 * LATE);
    expect(closeOf(await backend.frame(1))[0]).toBe(1001);
    await client.closed();
    backend.sendClose(1001);
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1006, reason: 'no sign of life', by: 'client' });
  });

  test('a side that was being sent something has a minute to answer, because our ping may stand behind it', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    await clock.advance(5_000);
    backend.send(Opcode.text, 'something long');
    await client.frame(0);
    await clock.advance(20_000 + LATE);
    expect((await client.frame(1)).opcode).toBe(Opcode.ping);
    for (let i = 0; i < 5; i++) {
      backend.send(Opcode.text, 'the backend lives');
      await client.frame(2 + i);
      await clock.advance(11_500);
    }
    expect(client.isClosed).toBe(false);
    await clock.advance(5_000);
    await client.closed();
    expect(closeOf(await lastFrame(backend))[0]).toBe(1001);
    backend.sendClose(1001);
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1006, by: 'client' });
  });

  test('the round trip to each side is measured by the latest ping', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock });
    expect(relay.roundTripMs).toEqual({ client: undefined, backend: undefined });
    await clock.advance(25_000 + LATE);
    const first = await client.frame(0);
    await backend.frame(0);
    await clock.advance(30);
    client.send(Opcode.pong, first.payload);
    await clock.advance(20);
    backend.send(Opcode.pong, backend.frames[0]!.payload);
    await expect.poll(() => relay.roundTripMs.backend).toBeDefined();
    await expect.poll(() => relay.roundTripMs.client).toBeDefined();
    expect(relay.roundTripMs.client).toBeLessThanOrEqual(30 + LATE);
    expect(relay.roundTripMs.backend).toBeGreaterThanOrEqual(50);
    const before = relay.roundTripMs;
    // The line is silent for another heartbeat: asked anew, it answers the old question.
    await clock.advance(25_000 + 2 * LATE);
    expect((await client.frame(1)).payload).not.toEqual(first.payload);
    await clock.advance(1_000);
    client.send(Opcode.pong, first.payload);
    client.send(Opcode.pong, 'passed on');
    await backend.until(() => backend.frames.some(frame => frame.payload.toString() === 'passed on'));
    expect(relay.roundTripMs.client).toBe(before.client);
  });

  test('without a heartbeat nobody is pinged', async () => {
    const clock = new FakeClock();
    const { client, backend } = await rawPair({ clock, limits: { heartbeatMs: Number.POSITIVE_INFINITY } });
    await clock.advance(599_000);
    expect([client.frames, backend.frames]).toEqual([[], []]);
    await clock.advance(1_000 + LATE);
    expect(closeOf(await client.frame(0))).toEqual([1001, 'idle']);
  });

  test('a relay that has reached its greatest age is closed with 1001 in the middle of its traffic', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock, limits: { maxLifetimeMs: 60_000 } });
    for (let i = 0; i < 5; i++) {
      await clock.advance(11_900);
      client.send(Opcode.text, 'busy');
      await backend.frame(i);
    }
    await clock.advance(500 + LATE);
    expect(closeOf(await lastFrame(client))).toEqual([1001, 'maximum lifetime reached']);
    expect(closeOf(await lastFrame(backend))).toEqual([1001, 'maximum lifetime reached']);
    client.sendClose(1001);
    backend.sendClose(1001);
    backend.socket.end();
    expect(await relay.closed).toMatchObject({ code: 1001, by: 'gateway' });
  });

  test('without a relayed frame for the idle time both sides are closed with 1001, though they answer pings', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock, limits: { idleTimeoutMs: 60_000 } });
    for (const _ of [1, 2]) {
      const [c, b] = [client.frames.length, backend.frames.length];
      await clock.advance(25_000 + LATE);
      client.send(Opcode.pong, (await client.frame(c)).payload);
      backend.send(Opcode.pong, (await backend.frame(b)).payload);
      await expect.poll(() => relay.roundTripMs.client !== undefined && relay.roundTripMs.backend).toBeDefined();
    }
    await clock.advance(9_999 - 2 * LATE);
    expect(client.frames.length).toBe(2);
    await clock.advance(2 * LATE);
    expect(closeOf(await client.frame(2))).toEqual([1001, 'idle']);
    expect(closeOf(await backend.frame(2))).toEqual([1001, 'idle']);
    expect(relay.sent.messages).toBe(0);
  });

  test('a relayed frame begins the idle time anew', async () => {
    const clock = new FakeClock();
    const { client, backend } = await rawPair({ clock, limits: { idleTimeoutMs: 10_000 } });
    await clock.advance(9_000);
    backend.send(Opcode.ping, 'any frame counts');
    await client.frame(0);
    await clock.advance(9_000);
    expect(client.frames.length).toBe(1);
    await clock.advance(1_000 + LATE);
    expect(closeOf(await client.frame(1))).toEqual([1001, 'idle']);
  });
});

describe('a side that does not read', () => {
  test.each(['client', 'backend'] as const)(
    'the %s: the other is stopped, little is held, and all arrives in the end',
    async slow => {
      const pair = await rawPair({ limits: { maxMessageBytes: 1_000_000 } });
      const reader = pair[slow];
      const writer = pair[slow === 'client' ? 'backend' : 'client'];
      reader.socket.pause();
      const frame = writer.encode(Opcode.binary, Buffer.alloc(100_000));
      const total = 1_000;
      let written = 0;
      const pump = () => {
        while (written < total) {
          written++;
          if (!writer.socket.write(frame)) return;
        }
      };
      writer.socket.on('drain', pump);
      pump();
      const before = process.memoryUsage().arrayBuffers;
      await settled(() => written);
      expect(written).toBeLessThan(total / 2);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024);
      let bytes = 0;
      reader.socket.removeAllListeners('data');
      const all = Promise.withResolvers<void>();
      reader.socket.on('data', chunk => {
        bytes += chunk.length;
        if (bytes === total * frame.length) all.resolve();
      });
      reader.socket.resume();
      await all.promise;
    },
  );

  test('is cut two seconds after a close from outside', async () => {
    const clock = new FakeClock();
    const { client, backend, relay } = await rawPair({ clock, limits: { maxBackendMessageBytes: 1e9 } });
    client.socket.pause();
    backend.send(Opcode.binary, Buffer.alloc(30_000_000));
    await settled(() => relay.received.bytes);
    relay.close(1001);
    await clock.advance(2_000 + LATE);
    expect(await relay.closed).toMatchObject({ code: 1001 });
  });
});

describe('many connections', () => {
  test('survive the death of their backend: every client is told, nothing crashes, no descriptor is left', async () => {
    const sockets = new Set<net.Socket>();
    const server = http.createServer();
    const wss = new WebSocketServer({ server });
    wss.on('connection', socket => socket.on('error', () => {}));
    server.on('connection', socket => {
      sockets.add(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const to = await gateway(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const before = descriptors();

    const clients: WebSocket[] = [];
    for (let i = 0; i < 10; i++) {
      const batch = Array.from(
        { length: 100 },
        () => new WebSocket(`ws://127.0.0.1:${to.port}/`, { perMessageDeflate: false }),
      );
      await Promise.all(batch.map(client => once(client, 'open')));
      clients.push(...batch);
    }
    expect(descriptors() - before).toBeGreaterThanOrEqual(3_000);
    const codes = Promise.all(clients.map(wsClosed));
    for (const socket of sockets) socket.resetAndDestroy();
    await new Promise(resolve => server.close(resolve));
    expect(new Set((await codes).map(([code]) => code))).toEqual(new Set([1014]));
    await Promise.all(to.relays.map(relay => relay.closed));

    // The gateway lives on: there is no backend, and it says so.
    const answer = await fetchStatus(to.port);
    expect(answer).toBe(503);
    await settled(descriptors);
    expect(descriptors() - before).toBeLessThanOrEqual(2);
  });
});

async function fetchStatus(port: number): Promise<number> {
  const request = http.get({ port, host: '127.0.0.1', agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  await text(response);
  return response.statusCode!;
}

test('a client that reads nothing of a refusal is cut when the answer time is over, although the backend has sent all of it', async () => {
  const backend = http.createServer((_, response) => response.writeHead(403).end('no'));
  await new Promise<void>(resolve => backend.listen(0, '127.0.0.1', resolve));
  const clock = new FakeClock();
  const { port } = backend.address() as AddressInfo;
  const upstream = new Upstream('app', { servers: [`http://127.0.0.1:${port}`] }, clock);
  const head = await receiveGoodHead([
    'GET / HTTP/1.1',
    'Host: a',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
  ]);
  const handshake = parseUpgrade(head);
  if (isRefusal(handshake)) throw new Error(handshake.reason);
  const begun = Promise.withResolvers<void>();
  // Takes the first bytes and is never done with them.
  const socket = new Duplex({ read() {}, write: () => begun.resolve() });
  const outcome = openRelay({
    head,
    handshake,
    socket,
    early: Buffer.alloc(0),
    upstream,
    limits: relayLimits({ maxMessageSize: 1000, idleTimeout: '1s' }),
    wheel: new TimerWheel(clock),
  });
  await begun.promise;
  await expect.poll(() => socket.writableEnded).toBe(true);
  await clock.advance(60_000);
  expect(socket.destroyed).toBe(true);
  expect(await outcome).toMatchObject({ status: 403 });
  backend.closeAllConnections();
  backend.close();
});
