import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { listenTcp } from '../gateway/gateway-server.ts';
import { type Fields, Flag, FrameType, Http2Wire } from '../guard/http2-wire.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';

// What HTTP/2 can carry and HTTP/1.1 cannot must not become a part of a request of HTTP/1.1. Frames are made by hand:
// no client sends these.

const folder = mkdtempSync(join(tmpdir(), 'http2-smuggling-'));
let server: Server;
let backend: { url: string; close(): Promise<void> };
let seen = '';
let backendSocket: Socket | undefined;

beforeAll(async () => {
  backend = await listenTcp(socket => {
    backendSocket = socket;
    socket.on('data', data => {
      seen += data.toString('latin1');
      if (/\r\n\r\n$/.test(seen)) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1', tls: writeSelfSignedCertificate(folder) }],
      session: false,
      // Heads are compared byte by byte.
      requestId: false,
      upstreams: { app: { servers: [backend.url], ejection: false } },
      routes: [{ path: '/*', upstream: 'app' }],
    },
    { logger: silentLogger },
  );
  await server.start();
});
afterAll(async () => {
  await server.stop({ drain: 0 });
  await backend.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  seen = '';
});

/** @returns the frame that ends the stream: an answer, a reset, or the end of the connection. */
async function send(fields: Fields, body?: string): Promise<{ type: number; payload: Buffer }> {
  using wire = await Http2Wire.dial(Number(new URL(server.urls[0]!).port));
  const stream = wire.begin(fields, Flag.endHeaders | (body === undefined ? Flag.endStream : 0));
  if (body !== undefined) wire.data(stream, body, true);
  const ending = [FrameType.headers, FrameType.reset, FrameType.goAway];
  return await wire.seen(
    () =>
      wire.frames.find(({ type }) => ending.includes(type)) ??
      (wire.isClosed ? { type: FrameType.goAway, payload: Buffer.alloc(0) } : undefined),
  );
}

const PSEUDO: Fields = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'a'],
  [':path', '/first'],
];

/** The pseudo-header replaced, or the header added. */
function withField(name: string, value: string): Fields {
  return PSEUDO.some(([known]) => known === name)
    ? PSEUDO.map(([known, usual]) => [known, known === name ? value : usual] as const)
    : [...PSEUDO, [name, value]];
}

/** Of an answer: the first byte is `:status`, of the static table (RFC 7541, appendix A) or as a literal. */
function isRefusal({ type, payload }: { type: number; payload: Buffer }): boolean {
  if (type !== FrameType.headers) return true;
  const BAD_REQUEST = 0x80 | 12;
  return payload[0] === BAD_REQUEST;
}

test('frames made by hand are a request when nothing is wrong with them', async () => {
  expect((await send(withField('x', 'y'))).payload[0]).toBe(0x80 | 8);
  expect(seen).toMatch(/^GET \/first HTTP\/1\.1\r\nHost: a\r\nx: y\r\n/);
});

test.each([
  [':path', '/first HTTP/1.1\r\nX: y\r\n\r\nGET /smuggled'],
  [':path', '/first\nX: y'],
  [':path', '/first second'],
  [':path', 'http://b/first'],
  [':path', 'first'],
  [':path', ''],
  [':method', 'GET /smuggled HTTP/1.1\r\nX: y\r\n\r\nGET'],
  [':method', 'GET /smuggled'],
  [':method', ''],
  [':authority', 'a\r\nX: y'],
  [':authority', 'user@a'],
  [':authority', 'a/b'],
  [':authority', ''],
  [':protocol', 'websocket'],
  [':unknown', 'x'],
  ['X', 'a'],
  ['host', 'b'],
  ['connection', 'x-session-id'],
  ['connection', 'upgrade'],
  ['keep-alive', 'a'],
  ['proxy-connection', 'a'],
  ['transfer-encoding', 'chunked'],
  ['upgrade', 'websocket'],
  ['te', 'gzip'],
  ['content-length', '5'],
  ['content-length', '-1'],
  ['content-length', '1, 1'],
  ['content-length', 'x'],
])('%j: %j is refused, and no backend hears of it', async (name, value) => {
  expect(isRefusal(await send(withField(name, value)))).toBe(true);
  expect(seen).toBe('');
});

test.each([
  ['x', 'a\r\nX-Session-ID: forged'],
  ['x', 'a\nb'],
  ['x', 'a\rb'],
  ['x', 'a\0b'],
  ['x\r\ny', 'a'],
  ['x: a\r\ny', 'a'],
  ['x y', 'a'],
  ['', 'a'],
])('%j: %j is left out of the request', async (name, value) => {
  const plain = await send(PSEUDO);
  expect(plain.type).toBe(FrameType.headers);
  const usual = seen;
  seen = '';
  expect((await send(withField(name, value))).payload[0]).toBe(plain.payload[0]);
  expect(seen).toBe(usual);
});

test.each<[string, Fields]>([
  ['a pseudo-header twice', [...PSEUDO, [':path', '/second']]],
  ['a pseudo-header behind others', [['x', 'y'], ...PSEUDO]],
  ['no path', PSEUDO.filter(([name]) => name !== ':path')],
  ['no host', PSEUDO.filter(([name]) => name !== ':authority')],
  ['two lengths', [...PSEUDO, ['content-length', '0'], ['content-length', '1']]],
])('%s is refused, and no backend hears of it', async (_, fields) => {
  expect(isRefusal(await send(fields))).toBe(true);
  expect(seen).toBe('');
});

test('a body that is longer than its length does not become a second request', async () => {
  const smuggled = 'abcGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
  const post = withField(':method', 'POST');
  expect(isRefusal(await send([...post, ['content-length', '3']], smuggled))).toBe(true);
  expect(seen).not.toContain('smuggled');
});

test('a body that is shorter than its length ends the connection to the backend', async () => {
  backendSocket = undefined;
  const post = withField(':method', 'POST');
  expect(isRefusal(await send([...post, ['content-length', '99']], 'abc'))).toBe(true);
  await expect.poll(() => seen === '' || backendSocket?.destroyed).toBe(true);
});
