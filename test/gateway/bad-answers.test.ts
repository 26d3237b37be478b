import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { until } from '../services/until.ts';
import { rawClient } from './raw-peer.ts';

// Each of these servers answers, and keeps the connection open: nothing more comes that would tell that it is wrong.

const folder = mkdtempSync(join(tmpdir(), 'bad-answers-'));
const files = writeSelfSignedCertificate(folder);
afterAll(() => rmSync(folder, { recursive: true }));

let answer = '';
/** All at once, or byte by byte. */
let isDripping = false;
const sockets = new Set<Socket>();

async function startBackend(isTls: boolean): Promise<net.Server> {
  const onSocket = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.once('data', async () => {
      if (!isDripping) return void socket.write(answer, 'latin1');
      for (const byte of answer) {
        socket.write(byte, 'latin1');
        await new Promise(resolve => setImmediate(resolve));
      }
    });
  };
  const pem = { key: readFileSync(files.key), cert: readFileSync(files.certificate) };
  const backend = isTls ? tls.createServer(pem, onSocket) : net.createServer({ noDelay: true }, onSocket);
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  return backend;
}

const urlOf = (backend: net.Server, scheme: string) =>
  `${scheme}://127.0.0.1:${(backend.address() as AddressInfo).port}`;

let server: Server;
let backends: net.Server[];

beforeAll(async () => {
  const [plain, secure] = (backends = [await startBackend(false), await startBackend(true)]);
  server = createServer(
    {
      listen: [
        { port: 0, host: '127.0.0.1' },
        { port: 0, host: '127.0.0.1', tls: files },
      ],
      session: false,
      upstreams: {
        http: { servers: [urlOf(plain!, 'http')], ejection: false },
        https: { servers: [urlOf(secure!, 'https')], ejection: false, tls: { verify: false } },
      },
      routes: [
        { path: '/https/*', upstream: 'https', policy: { origins: 'any' } },
        { path: '/*', upstream: 'http', policy: { origins: 'any' } },
      ],
      exposeReason: true,
      log: { access: 'off' },
    },
    { logger: silentLogger },
  );
  await server.start();
});
afterAll(async () => {
  await server.stop({ drain: 0 });
  for (const socket of sockets) socket.destroy();
  for (const backend of backends) backend.close();
});

const HEADS: readonly (readonly [what: string, answer: string])[] = [
  ['lines that end with a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok'],
  ['one line that ends with a bare LF', 'HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n'],
  ['an empty line of a bare LF', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n'],
  ['lines that end with a bare CR', 'HTTP/1.1 200 OK\rContent-Length: 2\r\rok'],
  ['a CR too many', 'HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\r\n\r\r\nok'],
  [
    'a head between that ends lines with LF',
    'HTTP/1.1 103 Early\nLink: <a>\n\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
  ],
  ['a 101 whose lines end with LF', 'HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n'],
  ['no head, as HTTP/0.9 has it', '<p>hello</p>\n'],
  ['the banner of SSH', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['the banner of SMTP', '220 mail.example.com ESMTP\r\n'],
  ['the answer of Shoutcast', 'ICY 200 OK\r\nicy-name: x\r\n\r\n'],
  ['an alert of TLS', '\x15\x03\x01\x00\x02\x02\x46'],
  ['HTTP/2', '\0\0\x12\x04\0\0\0\0\0'],
  ['another version', 'HTTP/2.0 200 OK\r\nContent-Length: 0\r\n'],
  ['a status that is none', 'HTTP/1.1 OK\r\n'],
  ['no status', 'HTTP/1.1\r\n'],
  ['empty lines before the head', '\r\n\r\nHTTP/1.1 200 OK\r\n'],
];

const AT_ONCE_MS = 2_000;

describe.each([false, true])('a server that answers and stays (byte by byte: %s) is a 502 at once', dripping => {
  test.each(HEADS)('with %s', async (_, bytes) => {
    answer = bytes;
    isDripping = dripping;
    for (const path of ['/a', '/https/a']) {
      const response = await fetch(`${server.urls[0]}${path}`, { signal: AbortSignal.timeout(AT_ONCE_MS) });
      expect([response.status, response.headers.get('holdfast-reason')]).toEqual([502, 'invalid']);
    }
    const { port } = new URL(server.urls[0]!);
    const client = await rawClient(Number(port));
    await until(() => client.isClosed, AT_ONCE_MS);
    expect(client.head).toMatch(/^HTTP\/1\.1 502 /);
    using secure = await Http2Client.connect(server.urls[1]!);
    expect((await secure.get('/a')).status).toBe(502);
    expect((await secure.knock('/socket')).status).toBe(502);
  });
});

test.each([
  ['a size that ends with a bare LF', '2\nok'],
  ['a size that is none', 'zz'],
  ['a size that ends with a bare CR', '2\rok'],
  ['a chunk that ends with a bare LF', '2\r\nok\n'],
  ['a chunk that is longer than its size', '2\r\nokX'],
  ['trailers that end with a bare LF', '2\r\nok\r\n0\r\nA: b\n'],
  ['an end of a bare LF', '2\r\nok\r\n0\r\n\n'],
])('an answer in chunks is cut at once where it has %s', async (_, body) => {
  answer = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body}`;
  for (const dripping of [false, true]) {
    isDripping = dripping;
    const cut = async () => (await fetch(server.urls[0]!, { signal: AbortSignal.timeout(AT_ONCE_MS) })).text();
    await expect(cut()).rejects.toThrow(/terminated|fetch failed/);
  }
});
