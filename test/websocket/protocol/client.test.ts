import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type ServerOptions, WebSocketServer, type WebSocket as WsSocket } from 'ws';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { testClient } from '../../../src/testing/test-client.ts';
import { type ConnectOptions, connectWebSocket } from '../../../src/websocket/protocol/client.ts';
import { upgradeResponse } from '../../../src/websocket/protocol/handshake.ts';
import { closing } from '../../services/closing.ts';

const open = closing();

/** A server of `ws` that hands each connection to `serve`. */
async function serveWs(serve: (socket: WsSocket) => void, options: ServerOptions = {}): Promise<string> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options });
  server.on('connection', serve);
  await once(server, 'listening');
  open.push({
    close: () => {
      for (const client of server.clients) client.terminate();
      server.close();
    },
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const echo = (socket: WsSocket) => socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));

/** A TCP server; `serve` gets the request head as text and the socket. */
async function serveRaw(serve: (socket: Socket, head: string) => void): Promise<string> {
  const server = createServer(socket => {
    socket.on('error', () => {});
    socket.once('data', head => serve(socket, head.toString('latin1')));
    open.push({ close: () => socket.destroy() });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(server);
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const good = (head: string) => upgradeResponse({ key: /Sec-WebSocket-Key: (\S+)/.exec(head)![1]! });

/** A server that opens the connection and then sends these bytes. */
const serveBytes = (hex: string) =>
  serveRaw((socket, head) => socket.write(Buffer.concat([Buffer.from(good(head)), Buffer.from(hex, 'hex')])));

describe('connectWebSocket', () => {
  test('echoes text and binary of all lengths, in order', async () => {
    const client = await testClient(await serveWs(echo));
    expect(client.isOpen).toBe(true);
    const messages = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000].flatMap(length => [
      'é€𝄞x'.repeat(length).slice(0, length),
      randomBytes(length),
    ]);
    for (const message of messages) expect(client.send(message)).toBe(true);
    // A cut surrogate pair is replaced when it is encoded, as everywhere.
    for (const message of messages)
      expect(await client.receive()).toEqual(typeof message === 'string' ? message.toWellFormed() : message);
    client.close(4001, 'bye ✋');
    expect(client.isOpen).toBe(false);
    expect(client.send('too late')).toBe(false);
    expect(await client.closed).toEqual({ code: 4001, reason: 'bye ✋', clean: true });
    expect(await client.receive()).toBeUndefined();
  });

  test('yields messages until the server closes', async () => {
    const url = await serveWs(socket => {
      for (const text of ['a', 'b', 'c']) socket.send(text);
      socket.close(4002, 'enough');
    });
    const client = await testClient(url);
    const received: unknown[] = [];
    for await (const message of client) received.push(message);
    expect(received).toEqual(['a', 'b', 'c']);
    expect(await client.closed).toEqual({ code: 4002, reason: 'enough', clean: true });
  });

  test('serves receivers that wait in their order, and ends them when the connection ends', async () => {
    const url = await serveWs(socket => {
      socket.on('message', data => {
        socket.send(data.toString());
        socket.send('2');
        socket.close();
      });
    });
    const client = await testClient(url);
    const waiting = Promise.all([client.receive(), client.receive(), client.receive()]);
    client.send('1');
    expect(await waiting).toEqual(['1', '2', undefined]);
    expect(await client.closed).toEqual({ code: 1005, reason: '', clean: true });
  });

  test('sends subprotocols, headers and origin, and tells what was agreed', async () => {
    const url = await serveWs(() => {}, { handleProtocols: offered => [...offered][1]! });
    const seen: Record<string, unknown>[] = [];
    const server = await serveRaw((socket, head) => {
      seen.push({ head });
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    const options: ConnectOptions = {
      subprotocols: ['one', 'two'],
      headers: { Cookie: 'a=b', 'X-Two': ['1', '2'] },
      origin: 'https://example.com',
    };
    expect((await testClient(url, options)).subprotocol).toBe('two');
    expect((await testClient(url)).subprotocol).toBe('');
    await expect(testClient(`${server}/a%20b?c=d#e`, options)).rejects.toMatchObject({ status: 400 });
    const { head } = seen[0] as { head: string };
    expect(head).toMatch(/^GET \/a%20b\?c=d HTTP\/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\n/);
    for (const line of ['Cookie: a=b', 'X-Two: 1', 'X-Two: 2', 'Origin: https://example.com'])
      expect(head).toContain(`\r\n${line}\r\n`);
  });

  test.each([false, true])('compresses both ways, context takeover %s', async contextTakeover => {
    const url = await serveWs(echo, { perMessageDeflate: { threshold: 0 } });
    const client = await testClient(url, { compression: { contextTakeover, threshold: 1 } });
    expect(client.isCompressed).toBe(true);
    for (const message of ['x', 'hello '.repeat(1_000), 'hello '.repeat(1_000), randomBytes(3_000), Buffer.alloc(0)]) {
      client.send(message);
      expect(await client.receive()).toEqual(message);
    }
    expect((await testClient(url)).isCompressed).toBe(false);
    expect((await testClient(await serveWs(echo), { compression: true })).isCompressed).toBe(false);
  });

  test('answers pings, and tells when its own was answered', async () => {
    const pongs: string[] = [];
    const url = await serveWs(socket => {
      socket.on('pong', data => {
        pongs.push(data.toString());
        socket.send('pong seen');
      });
      socket.on('message', () => socket.ping('are you there'));
    });
    const client = await testClient(url);
    client.send('go');
    expect(await client.receive()).toBe('pong seen');
    expect(pongs).toEqual(['are you there']);
    expect(await Promise.all([client.ping('1'), client.ping(), client.ping(Buffer.from('2'))])).toEqual([
      true,
      true,
      true,
    ]);
    expect(() => client.ping('x'.repeat(126))).toThrow(RangeError);
    client.close();
    expect(await client.ping()).toBe(false);
  });

  test('takes the pong of a later ping for earlier ones too, and none that it did not ask for', async () => {
    // An unsolicited pong "x", then, after the request, a pong "2".
    const url = await serveRaw((socket, head) => {
      socket.write(Buffer.concat([Buffer.from(good(head)), Buffer.from('8a0178', 'hex')]));
      socket.once('data', () => socket.write(Buffer.from('8a0132', 'hex')));
    });
    const client = await testClient(url);
    const pings = [client.ping('1'), client.ping('2'), client.ping('3')];
    expect(await Promise.all(pings.slice(0, 2))).toEqual([true, true]);
    client.terminate();
    expect(await pings[2]).toBe(false);
  });

  test('reads frames that come in one piece with the answer', async () => {
    const client = await testClient(await serveBytes('810161820162880203e8'));
    expect(await client.receive()).toBe('a');
    expect(await client.receive()).toEqual(Buffer.from('b'));
    expect(client.isOpen).toBe(false);
  });

  test('reads an answer that comes byte by byte, after interim ones', async () => {
    const url = await serveRaw(async (socket, head) => {
      socket.setNoDelay(true);
      const bytes = Buffer.from(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${good(head)}\x81\x01a`, 'latin1');
      for (const byte of bytes) {
        socket.write(Buffer.of(byte));
        await new Promise(resolve => setImmediate(resolve));
      }
    });
    expect(await (await testClient(url)).receive()).toBe('a');
  });

  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['HTTP/1.0', 'HTTP/1.0 101 Switching Protocols\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status out of range', 'HTTP/1.1 600 No\r\n\r\n'],
    ['a line without a colon', 'HTTP/1.1 101 OK\r\nUpgrade\r\n\r\n'],
    ['a space before the colon', 'HTTP/1.1 101 OK\r\nUpgrade : websocket\r\n\r\n'],
    ['a folded line', 'HTTP/1.1 101 OK\r\nUpgrade: web\r\n socket\r\n\r\n'],
    ['an empty name', 'HTTP/1.1 101 OK\r\n: x\r\n\r\n'],
    ['a bare line feed', 'HTTP/1.1 101 OK\r\nA: b\nC: d\r\n\r\n'],
    ['a bare carriage return', 'HTTP/1.1 101 OK\r\nA: b\rC: d\r\n\r\n'],
    ['NUL', 'HTTP/1.1 101 OK\r\nA: b\0\r\n\r\n'],
    ['a head without end', `HTTP/1.1 101 OK\r\nA: ${'b'.repeat(70_000)}`],
    ['a head that is too long', `HTTP/1.1 101 OK\r\nA: ${'b'.repeat(70_000)}\r\n\r\n`],
  ])('refuses an answer with %s', async (_what, text) => {
    const url = await serveRaw(socket => socket.write(text, 'latin1'));
    await expect(connectWebSocket(url)).rejects.toMatchObject({ code: 'ERR_WS_BAD_HANDSHAKE' });
  });

  test('reports 1006 when the server breaks off', async () => {
    const client = await testClient(await serveRaw((socket, head) => socket.end(good(head))));
    expect(await client.closed).toEqual({ code: 1006, reason: '', clean: false });
    const reset = await testClient(await serveWs(socket => socket.on('message', () => socket.terminate())));
    reset.send('x');
    expect(await reset.closed).toEqual({ code: 1006, reason: '', clean: false });
  });

  test.each([
    ['a masked frame', '818100000000 61', 1002],
    ['a reserved bit', 'c10161', 1002],
    ['a reserved opcode', '8300', 1002],
    ['text that is not UTF-8', '8101ff', 1007],
    ['a message that is too big', '827f 0000000100000000', 1009],
    ['a close code that must not be sent', '880203ed', 1002],
  ])('closes when the server sends %s', async (_what, hex, code) => {
    const closeFrames: number[] = [];
    const url = await serveRaw((socket, head) => {
      socket.on('data', (frame: Buffer) => {
        // Masked, two bytes of payload at least.
        if (frame[0] === 0x88) closeFrames.push(((frame[6]! ^ frame[2]!) << 8) | (frame[7]! ^ frame[3]!));
      });
      socket.write(Buffer.concat([Buffer.from(good(head)), Buffer.from(hex.replace(/ /g, ''), 'hex')]));
    });
    const client = await testClient(url);
    expect(await client.closed).toEqual({ code, reason: '', clean: false });
    expect(closeFrames).toEqual([code]);
  });

  test('limits messages to maxMessageSize, also after inflating', async () => {
    const url = await serveWs(socket => socket.send('a'.repeat(2_000)), { perMessageDeflate: { threshold: 0 } });
    for (const compression of [true, false]) {
      const client = await testClient(url, { compression, maxMessageSize: 1_999 });
      expect(await client.closed).toMatchObject({ code: 1009 });
      const roomy = await testClient(url, { compression, maxMessageSize: 2_000 });
      expect(await roomy.receive()).toHaveLength(2_000);
    }
  });

  test('stops reading when nobody takes the messages, and loses none', async () => {
    const sent = 600;
    let serverSocket: WsSocket | undefined;
    const url = await serveWs(socket => {
      serverSocket = socket;
      for (let i = 0; i < sent; i++) socket.send(Buffer.alloc(64 * 1024, i));
    });
    const client = await testClient(url);
    // Both ends live in this process, so when many turns of the event loop move nothing, nothing will.
    for (let turns = 0, before = -1; turns < 100; turns++) {
      await new Promise(resolve => setImmediate(resolve));
      if (serverSocket?.bufferedAmount !== before) turns = 0;
      before = serverSocket?.bufferedAmount ?? -1;
    }
    // 37.5 MiB were sent; 16 MiB wait here, some in the kernel, the rest is still with the server.
    expect(serverSocket!.bufferedAmount).toBeGreaterThan(1024 * 1024);
    for (let i = 0; i < sent; i++) {
      const message = (await client.receive()) as Buffer;
      if (message[0] !== i % 256 || message.length !== 64 * 1024) expect.fail(`message ${i}`);
    }
  });

  test('cuts the connection when the server does not answer the close frame', async () => {
    const clock = new FakeClock();
    const client = await testClient(await serveBytes(''), { clock });
    let isClosed = false;
    void client.closed.then(() => {
      isClosed = true;
    });
    client.close();
    await clock.advance(1_999);
    expect(isClosed).toBe(false);
    await clock.advance(1);
    expect(await client.closed).toEqual({ code: 1006, reason: '', clean: false });
    expect(clock.pending).toBe(0);
  });

  test('cuts the connection when the server answers the close frame and does not hang up', async () => {
    const clock = new FakeClock();
    const client = await testClient(await serveBytes('880203e8'), { clock });
    expect(client.isOpen).toBe(false);
    await clock.advance(2_000);
    expect(await client.closed).toEqual({ code: 1000, reason: '', clean: true });
  });

  test('checks what it is told to close with', async () => {
    const client = await testClient(await serveWs(echo));
    expect(() => client.close(1005)).toThrow(RangeError);
    expect(() => client.close(999)).toThrow(RangeError);
    expect(() => client.close(1000, 'é'.repeat(62))).toThrow(RangeError);
    expect(client.isOpen).toBe(true);
  });

  test('closes when it is disposed', async () => {
    let closed: Promise<unknown[]> | undefined;
    const url = await serveWs(socket => {
      closed = once(socket, 'close');
    });
    {
      await using client = await testClient(url);
      expect(client.isOpen).toBe(true);
    }
    expect((await closed!)[0]).toBe(1000);
  });
});

describe('connectWebSocket fails', () => {
  test.each([
    [
      'a refusal',
      'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno',
      { code: 'ERR_WS_BAD_HANDSHAKE', status: 403 },
    ],
    ['a plain answer', 'HTTP/1.1 200 OK\r\n\r\n', { code: 'ERR_WS_BAD_HANDSHAKE', status: 200 }],
    ['something that is not HTTP', 'SSH-2.0-OpenSSH_9\r\n\r\n', { code: 'ERR_WS_BAD_HANDSHAKE' }],
    ['a 101 for somebody else', upgradeResponse({ key: 'x' }), { code: 'ERR_WS_BAD_HANDSHAKE' }],
    ['nothing', '', { code: 'ERR_WS_CONNECTION_LOST' }],
    ['half an answer', 'HTTP/1.1 101 Switching', { code: 'ERR_WS_CONNECTION_LOST' }],
  ])('on %s', async (_what, answer, error) => {
    const url = await serveRaw(socket => socket.end(answer));
    await expect(testClient(url)).rejects.toMatchObject(error);
  });

  test('when the server agrees to compression nobody offered, or to more than was offered', async () => {
    const url = await serveRaw((socket, head) => {
      const key = /Sec-WebSocket-Key: (\S+)/.exec(head)![1]!;
      socket.write(upgradeResponse({ key, extensions: 'permessage-deflate; server_max_window_bits=15' }));
    });
    for (const compression of [false, { contextTakeover: true, serverMaxWindowBits: 10 }])
      await expect(testClient(url, { compression })).rejects.toMatchObject({ code: 'ERR_WS_BAD_HANDSHAKE' });
  });

  test('when nobody listens', async () => {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    await expect(testClient(`ws://127.0.0.1:${port}`)).rejects.toMatchObject({ code: 'ERR_WS_CONNECTION_LOST' });
  });

  test('with the reason of its signal, before and while it connects', async () => {
    const url = await serveRaw(() => {});
    await expect(connectWebSocket(url, { signal: AbortSignal.abort('early') })).rejects.toBe('early');
    const controller = new AbortController();
    const attempt = connectWebSocket(url, { signal: controller.signal });
    controller.abort('late');
    await expect(attempt).rejects.toBe('late');
  });

  test.each<[string, string, ConnectOptions]>([
    ['another scheme', 'ftp://127.0.0.1', {}],
    ['no URL', 'chat', {}],
    ['credentials in the URL', 'ws://alice:secret@127.0.0.1', {}],
    ['a bad subprotocol', 'ws://127.0.0.1', { subprotocols: ['a b'] }],
    ['a bad header', 'ws://127.0.0.1', { headers: { a: '\n' } }],
    ['bad compression options', 'ws://127.0.0.1', { compression: { level: 11 } }],
    ['a bad size', 'ws://127.0.0.1', { maxMessageSize: 'much' }],
  ])('with a TypeError for %s', async (_what, url, options) => {
    await expect(connectWebSocket(url, options)).rejects.toThrow(TypeError);
  });
});
