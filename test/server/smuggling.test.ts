import net, { type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { listenTcp } from '../gateway/gateway-server.ts';
import { closing } from '../services/closing.ts';

// What one side could read as one message and the other as two, on raw sockets: nothing of it may reach the other side.

/** Behind every request: must not be answered, nor reach the backend, when the one before it is refused. */
const NEXT = 'GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

describe('a request that is refused, and everything behind it', () => {
  let server: Server;
  let backend: { url: string; close(): Promise<void> };
  let seen = '';

  beforeAll(async () => {
    backend = await listenTcp(socket =>
      socket.on('data', data => {
        seen += data.toString('latin1');
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }),
    );
    server = await serve(backend.url);
  });
  afterAll(async () => {
    await server.stop({ drain: 0 });
    await backend.close();
  });
  beforeEach(() => {
    seen = '';
  });

  const chunked = 'Transfer-Encoding: chunked';
  const upgrade =
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13';

  test.each([
    // Lengths that contradict each other, or are none.
    ['Content-Length: 3\r\nContent-Length: 4', 'abc'],
    ['Content-Length: 3\r\nContent-Length: 3', 'abc'],
    ['Content-Length: 3, 3', 'abc'],
    ['Content-Length: +3', 'abc'],
    ['Content-Length: -3', 'abc'],
    ['Content-Length: 0x3', 'abc'],
    ['Content-Length: 3 3', 'abc'],
    ['Content-Length: ', ''],
    ['Content-Length: 18446744073709551617', 'a'],
    // A length and chunks.
    ['Content-Length: 3\r\nTransfer-Encoding: chunked', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked\r\nContent-Length: 3', '0\r\n\r\n'],
    // Codings that one side might not take for chunked.
    ['Transfer-Encoding: xchunked', '0\r\n\r\n'],
    ['Transfer-Encoding: identity', ''],
    ['Transfer-Encoding: gzip, chunked', '0\r\n\r\n', 501],
    ['Transfer-Encoding: ,chunked', '0\r\n\r\n', 501],
    ['Transfer-Encoding: chunked, gzip', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked, chunked', '0\r\n\r\n'],
    [`${chunked}\r\n${chunked}`, '0\r\n\r\n'],
    [`${chunked}\r\nTransfer-Encoding: identity`, '0\r\n\r\n'],
    ['Transfer-Encoding: chunked\t', '0\r\n\r\n'],
    ['Transfer-Encoding: \x0bchunked', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked\x0c', '0\r\n\r\n'],
    ['Transfer-Encoding: "chunked"', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked;a=b', '0\r\n\r\n'],
    ['Transfer-Encoding: ', ''],
    // Headers that one side might not see, or see as two.
    ['Transfer-Encoding:\r\n chunked', '0\r\n\r\n'],
    ['X: a\r\n b\r\nContent-Length: 0', ''],
    ['X: a\r\n\tTransfer-Encoding: chunked', ''],
    ['Content-Length : 0', ''],
    ['Transfer-Encoding : chunked', '0\r\n\r\n'],
    ['Transfer-Encoding\t: chunked', '0\r\n\r\n'],
    ['X: a\nContent-Length: 0', ''],
    ['X: a\rContent-Length: 0', ''],
    ['X: a\r\r', ''],
    ['X: a\0b', ''],
    ['X: a\x01b', ''],
    ['X\0: a', ''],
    ['X Y: a', ''],
    [': a', ''],
    ['Transfer-Encoding chunked', ''],
    ['X\xe9: a', ''],
    // Chunks.
    [chunked, '3;a\nabc\r\n0\r\n\r\n'],
    [chunked, '3;a\rb\r\nabc\r\n0\r\n\r\n'],
    [chunked, '3;a="\r\n"\r\nabc\r\n0\r\n\r\n'],
    [chunked, '3 \r\nabc\r\n0\r\n\r\n'],
    [chunked, '+3\r\nabc\r\n0\r\n\r\n'],
    [chunked, '-3\r\nabc\r\n0\r\n\r\n'],
    [chunked, '0x3\r\nabc\r\n0\r\n\r\n'],
    [chunked, '\r\nabc\r\n0\r\n\r\n'],
    [chunked, '10000000000000003\r\nabc\r\n0\r\n\r\n'],
    [chunked, '3\nabc\r\n0\r\n\r\n'],
    [chunked, '3\r\nabc\n0\r\n\r\n'],
    [chunked, '2\r\nabc\r\n0\r\n\r\n'],
    [chunked, '4\r\nabc\r\n0\r\n\r\n'],
    [chunked, '0\n\n'],
    // A WebSocket begins where a body would.
    [`${upgrade}\r\nContent-Length: 3`, 'abc'],
    [`${upgrade}\r\n${chunked}`, '0\r\n\r\n'],
  ])('%j %j', async (headers, body, status = 400) => {
    await expectRefused(
      `${headers.startsWith('Upgrade') ? 'GET' : 'POST'} /first HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n${body}`,
      status,
    );
  });

  test.each<[bytes: string, status?: number]>([
    // Line ends and versions.
    ['GET /first HTTP/1.1\nHost: a\n\n'],
    ['GET /first HTTP/1.1\r\nHost: a\r\n\n'],
    ['GET /first HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n'],
    ['GET /first\r\n'],
    ['GET /first HTTP/0.9\r\nHost: a\r\n\r\n', 505],
    ['GET /first HTTP/1.2\r\nHost: a\r\n\r\n', 505],
    ['GET /first HTTP/2.0\r\nHost: a\r\n\r\n', 505],
    ['POST /first HTTP/2.0\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc', 505],
    ['POST /first HTTP/2.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 505],
    ['GET /first HTTP/3.0\r\nHost: a\r\n\r\n', 505],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
    ['GET /first HTTP/2\r\nHost: a\r\n\r\n'],
    ['GET /first HTTP/1.10\r\nHost: a\r\n\r\n'],
    ['GET /first HTTP/x.1\r\nHost: a\r\n\r\n'],
    ['GET /first http/1.1\r\nHost: a\r\n\r\n'],
    [`GET /first HTTP/2.0\r\nHost: a\r\n${upgrade}\r\n\r\n`, 505],
    ['GET\t/first\tHTTP/1.1\r\nHost: a\r\n\r\n'],
    [' GET /first HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['POST /first HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['POST /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    // Which host is asked for.
    ['GET /first HTTP/1.1\r\n\r\n'],
    ['GET /first HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n'],
    ['GET /first HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
    ['GET /first HTTP/1.1\r\nHost: a, b\r\n\r\n'],
    ['GET /first HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['GET /first HTTP/1.1\r\nHost: user@a\r\n\r\n'],
    // A forward proxy is asked for.
    ['GET http://b/first HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET http://b/first HTTP/1.1\r\nHost: b:81\r\n\r\n'],
    ['GET http://user@a/first HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET ftp://a/first HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n'],
    ['CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n'],
    ['CONNECT /first HTTP/1.1\r\nHost: a\r\n\r\n'],
    // Which path.
    ['GET /first\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET /first%00 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET /first# HTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('%j', async (bytes, status = 400) => {
    await expectRefused(bytes, status);
  });

  /**
   * Nothing of it may come from what stands behind: it is refused also when nothing does, and when that comes later.
   */
  async function expectRefused(bytes: string, status: number): Promise<void> {
    const [together, alone, apart] = await Promise.all([
      exchange(server, bytes + NEXT),
      exchange(server, bytes, ''),
      exchange(server, bytes, NEXT),
    ]);
    expect([together, alone, apart].map(statusesOf)).toEqual([[status], [status], [status]]);
    expect(seen).toBe('');
  }

  function statusesOf(answer: string): number[] {
    return [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, code]) => Number(code));
  }
});

describe('a request that is passed on', () => {
  const open = closing();

  /** What the backend got for these bytes, each request with what stands behind its head. */
  async function received(bytes: string, count: number): Promise<string[]> {
    const requests: string[] = [];
    const backend = await listenTcp(socket => {
      let waiting = '';
      socket.on('data', data => {
        waiting += data.toString('latin1');
        // Both kinds of bodies in this test end with what they begin with: a line of its own.
        if (!/\r\n\r\n$/.test(waiting)) return;
        requests.push(waiting.replace(/^(?:x-forwarded|forwarded|host|connection).*\r\n/gim, ''));
        waiting = '';
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
    });
    open.push(backend);
    const server = await serve(backend.url);
    open.push({ close: () => server.stop({ drain: 0 }) });
    const answer = await exchange(server, bytes);
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, code]) => code)).toEqual(Array(count).fill('200'));
    return requests;
  }

  test('has framing that we made, whatever was written around it', async () => {
    const odd =
      'POST /first HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING:\tChunKed\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Session-ID: forged\r\n\r\n';
    expect(await received(odd + NEXT, 2)).toEqual([
      'POST /first HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
      'GET /next HTTP/1.1\r\n\r\n',
    ]);
  });

  test('keeps a body in which another request is written', async () => {
    const inner = 'GET /inner HTTP/1.1\r\nX: a\r\n\r\n';
    const get = `GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`;
    expect(await received(get + NEXT, 2)).toEqual([
      `GET /first HTTP/1.1\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
      'GET /next HTTP/1.1\r\n\r\n',
    ]);
  });

  test('cannot have its framing removed by naming it in Connection', async () => {
    const post =
      'POST /first HTTP/1.1\r\nHost: a\r\nConnection: content-length, host\r\nContent-Length: 4\r\n\r\n\r\n\r\n';
    expect(await received(post + NEXT, 2)).toEqual([
      'POST /first HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n',
      'GET /next HTTP/1.1\r\n\r\n',
    ]);
  });

  test('with an Upgrade that is ignored is the last of its connection', async () => {
    const h2c =
      'GET /first HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n';
    expect(await received(h2c + NEXT, 1)).toEqual(['GET /first HTTP/1.1\r\n\r\n']);
  });

  test('is done before the next one of its connection is begun', async () => {
    const asked: string[] = [];
    let underWay = 0;
    let most = 0;
    const backend = await listenTcp(socket =>
      socket.on('data', data => {
        asked.push(String(data).split(' ')[1]!);
        most = Math.max(most, ++underWay);
        setImmediate(() => {
          underWay--;
          socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        });
      }),
    );
    open.push(backend);
    const server = await serve(backend.url);
    open.push({ close: () => server.stop({ drain: 0 }) });
    // More than a connection is read ahead.
    const count = 100;
    const pipelined = Array.from({ length: count }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join('');
    const answer = await exchange(server, pipelined + NEXT);
    expect(answer.match(/HTTP\/1\.1 200/g)!.length).toBe(count + 1);
    expect(most).toBe(1);
    expect(asked).toEqual([...Array.from({ length: count }, (_, i) => `/${i}`), '/next']);
  });
});

describe('an answer of a backend', () => {
  const open = closing();

  /** A backend that answers the first request of each connection with these bytes, and every other as it should. */
  async function serveAnswer(bytes: string): Promise<{ server: Server; first: Promise<Socket> }> {
    const first = Promise.withResolvers<Socket>();
    let isFirst = true;
    const backend = await listenTcp(socket => {
      first.resolve(socket);
      socket.on('data', () => {
        socket.write(isFirst ? Buffer.from(bytes, 'latin1') : 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
        isFirst = false;
      });
    });
    open.push(backend);
    const server = await serve(backend.url);
    open.push({ close: () => server.stop({ drain: 0 }) });
    return { server, first: first.promise };
  }

  const SECOND = 'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled';

  test.each([
    ['Content-Length: 2\r\nContent-Length: 5', 'ok'],
    ['Content-Length: 2\r\nContent-Length: 2', 'ok'],
    ['Content-Length: 2, 2', 'ok'],
    ['Content-Length: +2', 'ok'],
    ['Content-Length: -2', 'ok'],
    ['Content-Length: 2\r\nTransfer-Encoding: chunked', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked\r\nContent-Length: 2', '0\r\n\r\n'],
    ['Transfer-Encoding: chunked, identity', '0\r\n\r\n'],
    ['Transfer-Encoding: gzip, chunked', '0\r\n\r\n'],
    ['Transfer-Encoding: identity', 'ok'],
    ['Content-Length : 2', 'ok'],
    ['X: a\r\n Content-Length: 2', 'ok'],
    ['X: a\nContent-Length: 2', 'ok'],
    ['X: a\rContent-Length: 2', 'ok'],
    ['X: a\0b\r\nContent-Length: 2', 'ok'],
    ['X Y: a\r\nContent-Length: 2', 'ok'],
  ])('with %j is a 502, and nothing of it is left for the next client', async (headers, body) => {
    const { server } = await serveAnswer(`HTTP/1.1 200 OK\r\n${headers}\r\n\r\n${body}${SECOND}`);
    expect(await exchange(server, NEXT)).toMatch(/^HTTP\/1\.1 502 /);
    expect(await exchange(server, NEXT)).toMatch(/\r\n\r\ngood$/);
  });

  const OK = 'HTTP/1.1 200 OK\r\n';

  test.each([
    ['an answer', `${OK}Content-Length: 2\r\n\r\nok`, 'GET'],
    ['an answer in chunks', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 'GET'],
    ['a 204', 'HTTP/1.1 204 No Content\r\n\r\n', 'GET'],
    ['a 304', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n', 'GET'],
    ['an answer to HEAD', `${OK}Content-Length: 60\r\n\r\n`, 'HEAD'],
  ])('behind %s is no answer for the next client, whether it comes with it or later', async (_, bytes, method) => {
    const together = await serveAnswer(bytes + SECOND);
    const answer = await exchange(together.server, NEXT.replace('GET', method));
    expect(answer).not.toContain('smuggled');
    expect(await exchange(together.server, NEXT)).toMatch(/\r\n\r\ngood$/);

    const apart = await serveAnswer(bytes);
    expect(await exchange(apart.server, NEXT.replace('GET', method))).toMatch(/^HTTP\/1\.1 (?:200|204|304) /);
    const connection = await apart.first;
    const closed = new Promise(resolve => connection.once('close', resolve));
    connection.write(SECOND);
    // What nobody asked for ends a connection that is kept.
    await closed;
    expect(await exchange(apart.server, NEXT)).toMatch(/\r\n\r\ngood$/);
  });

  test('to a request whose body was not taken is the last of its connection', async () => {
    let connections = 0;
    const backend = await listenTcp(socket => {
      connections++;
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood'));
    });
    open.push(backend);
    const server = await serve(backend.url);
    open.push({ close: () => server.stop({ drain: 0 }) });
    const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
    socket.write('POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nGET /smuggled HTTP/1.1\r\n');
    await new Promise(resolve => socket.once('data', resolve));
    expect(await exchange(server, NEXT)).toMatch(/\r\n\r\ngood$/);
    expect(connections).toBe(2);
    socket.destroy();
  });
});

async function serve(url: string): Promise<Server> {
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      // Heads are compared byte by byte.
      requestId: false,
      upstreams: { app: { servers: [url], ejection: false, answerTimeout: '2s' } },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
    },
    { logger: silentLogger },
  );
  await server.start();
  return server;
}

/**
 * Everything that is answered until the server ends the connection.
 *
 * @param later Sent a moment after the rest, with the end of this side.
 */
async function exchange(server: Server, bytes: string, later?: string): Promise<string> {
  const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  socket.write(Buffer.from(bytes, 'latin1'));
  if (later !== undefined) setTimeout(() => socket.end(later), 10);
  return text(socket);
}
