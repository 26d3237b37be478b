import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { doctorOf } from './doctor-of.ts';
import { rawServer } from './doctor-servers.ts';

const TIMEOUT_MS = 200;
const upgrade = (request: string, more = '') => {
  const key = /Sec-WebSocket-Key: (\S+)/.exec(request)?.[1];
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${more}\r\n`;
};

/** Writes the same again and again for as long as the connection is there. What is read between is in the same process. */
function flood(socket: Socket, part: Buffer | string): void {
  const bytes = Buffer.from(part);
  const chunk = Buffer.concat(Array.from({ length: Math.ceil(65_536 / bytes.length) }, () => bytes));
  const write = () => void (socket.destroyed || socket.write(chunk, () => setImmediate(write)));
  write();
}

const drip = (socket: Socket, text: string) => {
  const timer = setInterval(() => socket.write(text), 20);
  socket.on('close', () => clearInterval(timer));
};

/** After a good handshake. */
const afterUpgrade = (then: (socket: Socket) => void) => (socket: Socket) =>
  void socket.once('data', request => {
    socket.write(upgrade(String(request)));
    if (String(request).includes('Upgrade')) then(socket);
  });
const onRequest = (then: (socket: Socket) => void) => (socket: Socket) => void socket.once('data', () => then(socket));

const frame = (first: number, payload: Buffer) => Buffer.concat([Buffer.from([first, payload.length]), payload]);

describe('the doctor ends, and keeps little, when a server', () => {
  test.each<[string, (socket: Socket) => void, string]>([
    ['says nothing', () => {}, 'no-answer'],
    ['sends a head byte by byte', onRequest(socket => drip(socket, 'H')), 'not-http'],
    [
      'never ends its head',
      onRequest(socket => {
        socket.write('HTTP/1.1 200 OK\r\n');
        drip(socket, 'X-Filler: y\r\n');
      }),
      'no-answer',
    ],
    [
      'sends headers without end',
      onRequest(socket => {
        socket.write('HTTP/1.1 200 OK\r\n');
        flood(socket, `X-Filler: ${'y'.repeat(8_000)}\r\n`);
      }),
      'not-http',
    ],
    [
      'sends interim answers without end',
      onRequest(socket => flood(socket, 'HTTP/1.1 100 Continue\r\n\r\n')),
      'not-http',
    ],
    ['sends bytes at random', onRequest(socket => flood(socket, Buffer.alloc(65_536, 0xa7))), 'not-http'],
    [
      'sends a body without end',
      onRequest(socket => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        flood(socket, Buffer.alloc(65_536, 'x'));
      }),
      'upgrade-lost',
    ],
    [
      'sends two thousand cookies',
      onRequest(socket => void socket.end(`HTTP/1.1 200 OK\r\n${'Set-Cookie: sid=1\r\n'.repeat(2_000)}\r\n`)),
      'not-http',
    ],
    ['closes at once', socket => void socket.end(), 'cut-before-answer'],
    ['resets the connection', socket => void socket.resetAndDestroy(), 'cut-before-answer'],
    [
      'sends a frame that no server may',
      afterUpgrade(socket => void socket.write(Buffer.from([0xff, 0]))),
      'protocol-broken',
    ],
    [
      'sends masked frames',
      afterUpgrade(socket => void socket.write(Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5]))),
      'protocol-broken',
    ],
    [
      'sends a close frame that cannot be read',
      afterUpgrade(socket => void socket.write(Buffer.from([0x88, 1, 1]))),
      'protocol-broken',
    ],
    [
      'announces a frame of exabytes and sends',
      afterUpgrade(socket => {
        socket.write(Buffer.from([0x82, 127, 0, 0x10, 0, 0, 0, 0, 0, 0]));
        flood(socket, Buffer.alloc(65_536, 'x'));
      }),
      'no-pong',
    ],
    [
      'sends messages without end',
      afterUpgrade(socket => flood(socket, frame(0x81, Buffer.alloc(100, 'x')))),
      'no-pong',
    ],
    [
      'sends fragments without end',
      afterUpgrade(socket => {
        socket.write(frame(0x01, Buffer.alloc(0)));
        flood(socket, frame(0x00, Buffer.alloc(1, 'x')));
      }),
      'no-pong',
    ],
    [
      'sends pings without end and reads nothing',
      afterUpgrade(socket => {
        socket.pause();
        flood(socket, frame(0x89, Buffer.alloc(100, 'x')));
      }),
      'no-pong',
    ],
    ['reads nothing any more', afterUpgrade(socket => void socket.pause()), 'no-pong'],
  ])(
    '%s',
    async (_, onConnection, code) => {
      await using server = await rawServer(onConnection);
      const before = process.memoryUsage().rss;
      const startedAt = performance.now();
      const { codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`, {
        timeoutMs: TIMEOUT_MS,
        idleMs: 300,
        sendsMessages: true,
      });
      expect(performance.now() - startedAt).toBeLessThan(12_000);
      expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024);
      expect(codes).toContain(code);
      server.resume();
      await expect.poll(() => server.connections, { timeout: 3_000 }).toBe(0);
    },
    20_000,
  );

  test('does so with TLS', async () => {
    await using silent = await rawServer(() => {});
    const mute = await doctorOf(`wss://127.0.0.1:${silent.port}/`, { timeoutMs: TIMEOUT_MS });
    expect(mute.codes).toEqual(['tls-failed']);
    await using noisy = await rawServer(socket => flood(socket, Buffer.alloc(65_536, 0x16)));
    const garbage = await doctorOf(`wss://127.0.0.1:${noisy.port}/`, { timeoutMs: TIMEOUT_MS });
    expect(garbage.codes).toHaveLength(1);
  });

  test('does so with a DNS that never answers', async () => {
    const lookup = () => new Promise<string[]>(() => {});
    const { codes } = await doctorOf('ws://example.com/', { timeoutMs: TIMEOUT_MS, lookup });
    expect(codes).toEqual(['name-unanswered']);
  });
});

describe('what a server sends cannot steer the terminal', () => {
  test('in headers and redirects', async () => {
    const evil = '\u009b2J\u0085\u009d';
    await using server = await rawServer(
      onRequest(
        socket =>
          void socket.end(
            Buffer.from(
              `HTTP/1.1 302 Found\r\nServer: ${evil}${'x'.repeat(5_000)}\r\nLocation: http://${evil}/\r\nContent-Length: 0\r\n\r\n`,
              'latin1',
            ),
          ),
      ),
    );
    const { chart, codes } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(codes).toEqual(['redirected']);
    const printed = chart.steps.map(({ text }) => text).join('');
    expect(printed).not.toMatch(/[\p{C}]/u);
    expect(printed.length).toBeLessThan(600);
  });

  test('in the reason of a close frame and in the name of a subprotocol', async () => {
    await using server = await rawServer(
      afterUpgrade(
        socket => void socket.write(frame(0x88, Buffer.from([0x03, 0xe8, ...Buffer.from('\u001b]0;x\u0007\u202e')]))),
      ),
    );
    const { said } = await doctorOf(`ws://127.0.0.1:${server.port}/`);
    expect(said('handshake')).toContain('"?]0;x??"');
  });
});
