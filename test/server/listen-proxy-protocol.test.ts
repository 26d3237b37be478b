import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { afterAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

const folder = mkdtempSync(join(tmpdir(), 'listen-proxy-'));
afterAll(() => rmSync(folder, { recursive: true }));

const HEADER = 'PROXY TCP4 192.0.2.7 198.51.100.2 3000 443\r\n';
const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
/** Version 2, the same addresses, and a client that speaks TLS to the proxy. */
const SECURE_HEADER = Buffer.from(
  '0d0a0d0a000d0a515549540a2111001' + '4c0000207c63364020bb801bb200005010000' + '0000',
  'hex',
);

async function serve(listen: Partial<NonNullable<Config['listen']>[number]>, config: Config = {}) {
  const cuts: string[] = [];
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required', ...listen }],
      session: false,
      trustedProxies: ['127.0.0.1'],
      ...config,
      routes: [
        {
          endpoint: defineEndpoint({
            path: '/socket',
            onOpen: connection => void connection.send(connection.remoteAddress),
          }),
        },
        { path: '/*', fetch: (_, { clientAddress, isSecure }) => new Response(`${clientAddress} ${isSecure}`) },
      ],
    },
    { logger: { ...silentLogger, warn: (_, message) => cuts.push(message) } },
  );
  await server.start();
  const port = Number(new URL(server.urls[0]!).port);
  return {
    cuts,
    async dial(): Promise<Socket> {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      return socket;
    },
    [Symbol.asyncDispose]: () => server.stop({ drain: 0 }),
  };
}

describe('a listener that requires the PROXY protocol', () => {
  test('takes the client from the header', async () => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.write(HEADER + GET);
    expect(await text(socket)).toMatch(/192\.0\.2\.7 false$/);
  });

  test('takes a header that comes byte by byte, and what follows', async () => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.setNoDelay(true);
    for (const byte of HEADER + GET) {
      socket.write(byte);
      await new Promise(resolve => setImmediate(resolve));
    }
    expect(await text(socket)).toMatch(/192\.0\.2\.7 false$/);
  });

  test('believes version 2 that the client speaks TLS', async () => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.write(SECURE_HEADER);
    socket.write(GET);
    expect(await text(socket)).toMatch(/192\.0\.2\.7 true$/);
  });

  test('takes the header before TLS', async () => {
    const { certificate, key } = writeSelfSignedCertificate(folder);
    await using served = await serve({ tls: { certificate, key } });
    const raw = await served.dial();
    raw.write(HEADER);
    const socket = connectTls({ socket: raw, rejectUnauthorized: false });
    socket.write(GET);
    expect(await text(socket)).toMatch(/192\.0\.2\.7 true$/);
  });

  test('gives WebSockets the address of the client', async () => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.write(
      `${HEADER}GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    );
    let answer = '';
    for await (const chunk of socket) {
      answer += chunk;
      if (answer.includes('192.0.2.7')) break;
    }
    expect(answer).toMatch(/^HTTP\/1\.1 101 /);
  });

  test.each([
    ['begins with a request', GET, 'it does not begin with a PROXY header'],
    ['has a malformed header', 'PROXY TCP4 client 1 2 3\r\n', /^connection cut: malformed PROXY header/],
  ])('cuts a connection that %s, and says so in the log', async (_, bytes, reason) => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.write(bytes);
    expect(await text(socket)).toBe('');
    expect(served.cuts).toEqual([expect.stringMatching(reason)]);
  });

  test.each([
    ['nothing', ''],
    ['half a header', HEADER.slice(0, 20)],
  ])('cuts a connection that sends %s, when the time of a head is over', async (_, bytes) => {
    await using served = await serve({}, { headerTimeout: '50ms' });
    const socket = await served.dial();
    socket.write(bytes);
    expect(await text(socket)).toBe('');
    expect(served.cuts).toEqual(['connection cut: no whole PROXY header within 50 ms']);
  });

  test('ends slow heads behind the header', async () => {
    await using served = await serve({}, { headerTimeout: '50ms' });
    const socket = await served.dial();
    socket.write(`${HEADER}GET / HTTP/1.1\r\nHo`);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('cuts peers that are not trusted', async () => {
    await using served = await serve({}, { trustedProxies: ['10.0.0.1'] });
    const socket = await served.dial();
    socket.write(HEADER + GET);
    expect(await text(socket).catch(() => '')).toBe('');
    expect(served.cuts).toEqual([expect.stringContaining('not one of the trusted proxies')]);
  });

  test('says nothing about a proxy that only looks whether somebody listens', async () => {
    await using served = await serve({});
    const socket = await served.dial();
    socket.end();
    await once(socket.resume(), 'close');
    expect(served.cuts).toEqual([]);
  });
});

describe('a listener with the optional PROXY protocol', () => {
  test.each([
    ['with', HEADER, '192.0.2.7'],
    ['without', '', '127.0.0.1'],
  ])('takes connections %s it from a trusted proxy', async (_, header, address) => {
    await using served = await serve({ proxyProtocol: 'optional' });
    const socket = await served.dial();
    socket.write(header + GET);
    expect(await text(socket)).toMatch(new RegExp(`${address} false$`));
  });

  test('takes it for a bad request from anybody else', async () => {
    await using served = await serve({ proxyProtocol: 'optional' }, { trustedProxies: ['10.0.0.1'] });
    const socket = await served.dial();
    socket.write(HEADER + GET);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('serves anybody else without it', async () => {
    await using served = await serve({ proxyProtocol: 'optional' }, { trustedProxies: ['10.0.0.1'] });
    const socket = await served.dial();
    socket.write(GET);
    expect(await text(socket)).toMatch(/127\.0\.0\.1 false$/);
  });
});

test('the headers of a client that a PROXY header names are believed only when it is a trusted proxy itself', async () => {
  const request = GET.replace('Host: a', 'Host: a\r\nX-Forwarded-For: 203.0.113.9');
  for (const [trusted, expected] of [
    [['127.0.0.1'], '192.0.2.7'],
    [['127.0.0.1', '192.0.2.7'], '203.0.113.9'],
  ] as const) {
    await using served = await serve({}, { trustedProxies: trusted });
    const socket = await served.dial();
    socket.write(HEADER + request);
    expect(await text(socket)).toMatch(new RegExp(`${expected} false$`));
  }
});
