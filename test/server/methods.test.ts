import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { METHODS } from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { describe, expect, test } from 'vitest';
import { createServer } from '../../src/index.ts';
import { closing } from '../services/closing.ts';
import { ask, RawBackend, WiredServer, wires } from './wires.ts';

const open = closing();

const unknown = [
  ...['LIST', 'RDG_OUT_DATA', 'RDG_IN_DATA', 'VERSION-CONTROL', 'BASELINE-CONTROL', 'ORDERPATCH', 'X-FOO', 'BREW'],
  // Methods have an upper and a lower case (RFC 9110 §9.1).
  ...['get', 'Get', 'GETT', 'G', "!#$%&'*+-.^_`|~", 'UPDATEREDIRECTREF'],
  // Of RTSP: Node's parser knows them.
  ...['DESCRIBE', 'PLAY', 'REDIRECT', 'SET_PARAMETER'],
];

async function serve(): Promise<{ backend: RawBackend; server: WiredServer }> {
  const backend = await RawBackend.listen();
  open.push(backend);
  const server = await WiredServer.start({
    upstreams: { app: { servers: [backend.url] } },
    routes: [
      { path: '/upstream', upstream: 'app' },
      { path: '/fetch', fetch: request => new Response(request.method) },
      { path: '/redirect', redirect: '/fetch' },
    ],
  });
  open.push(server);
  return { backend, server };
}

/** All that comes back for these parts, each of which the server reads by itself. */
async function sent(server: WiredServer, wire: 'http/1' | 'tls', parts: readonly string[]): Promise<string> {
  const options = { host: '127.0.0.1', port: server.port(wire) };
  const socket = wire === 'tls' ? tls.connect({ ...options, rejectUnauthorized: false }) : net.connect(options);
  socket.setNoDelay(true).on('error', () => {});
  await once(socket, wire === 'tls' ? 'secureConnect' : 'connect');
  let text = '';
  socket.on('data', chunk => {
    text += chunk.toString('latin1');
  });
  const closed = once(socket, 'end');
  for (const part of parts) {
    socket.write(part, 'latin1');
    if (parts.length > 1) await new Promise(resolve => setTimeout(resolve, 10));
  }
  await closed;
  socket.destroy();
  return text;
}

const rest = ' /fetch HTTP/1.1\r\nHost: public.example\r\n\r\n';

describe.each(wires)('over %s', wire => {
  test('a method that HTTP/1 has no parser for is a 501, whatever takes the request', async () => {
    const { backend, server } = await serve();
    // Node's own client writes upper case only.
    const written = unknown.filter(method => wire === 'http/2' || method === method.toUpperCase());
    for (const path of ['/upstream', '/fetch', '/redirect', '/nowhere'])
      for (const method of path === '/upstream' ? written : written.slice(0, 3))
        expect([path, method, (await ask(server, wire, { path, method })).status]).toEqual([path, method, 501]);
    expect(backend.requests).toEqual([]);
  });

  test('every other one is passed on', async () => {
    const { backend, server } = await serve();
    const methods = METHODS.filter(method => method !== 'CONNECT' && method !== 'TRACE');
    for (const method of methods)
      expect([method, (await ask(server, wire, { path: '/upstream', method })).status]).toEqual([method, 200]);
    expect(backend.requests.map(request => request.split(' ')[0])).toEqual(methods);
  });
});

describe.each(['http/1', 'tls'] as const)('over %s', wire => {
  test('it is a 501 in however many pieces it comes, and the connection ends', async () => {
    const { server } = await serve();
    for (const method of ['LIST', 'GETX', 'PLAY', 'get', 'Post'])
      for (const parts of [[method + rest], [...method, rest], [method, rest]]) {
        const answer = await sent(server, wire, parts);
        expect([parts, answer]).toEqual([parts, expect.stringMatching(/^HTTP\/1\.1 501 Not Implemented\r\n/)]);
        expect(answer).toMatch(/\r\nConnection: close\r\n/);
      }
  });

  test('what came whole before it is answered first', async () => {
    const { server } = await serve();
    const answer = await sent(server, wire, [`GET${rest}LIST${rest}GET${rest}`]);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 501']);
  });

  test.each([
    ['\x16\x03\x01\x02\x00\x01'],
    ['SSH-2.0-OpenSSH_9.2\r\n'],
    ['EHLO mail.example\r\n'],
    ['GET\t/fetch HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GET\x01 /fetch HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['GE(T /fetch HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['LIST /a b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['LIST / XTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('what is not a request stays a 400: %j', async bytes => {
    const { server } = await serve();
    expect(await sent(server, wire, [bytes])).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('a request of RTSP is not taken for one of HTTP', async () => {
    const { server } = await serve();
    expect(await sent(server, wire, ['PLAY /fetch RTSP/1.0\r\nHost: a\r\n\r\n'])).toMatch(/^HTTP\/1\.1 501 /);
  });
});

test('a listener that redirects answers in the same way', async () => {
  const server = await WiredServer.start({
    listen: [
      { port: 0, host: '127.0.0.1', redirect: 'https' },
      { port: 0, host: '127.0.0.1', tls: 'self-signed' },
    ],
    routes: [{ path: '/*', fetch: () => new Response('') }],
  });
  open.push(server);
  for (const wire of wires) expect((await ask(server, wire, { method: 'LIST' })).status).toBe(501);
});

test('the reference lists every method that is taken', async () => {
  const page = await readFile(new URL('../../docs/reference/errors.md', import.meta.url), 'utf8');
  const [entry] = page.split('### ERR_HTTP_METHOD_UNKNOWN')[1]!.split('###');
  expect(/reads: ([A-Z, -]+)\./.exec(entry!)![1]!.split(', ')).toEqual(METHODS.filter(method => method !== 'CONNECT'));
});

describe('a route', () => {
  const serverFor = (methods: string[]) =>
    createServer({ listen: [{ port: 8080 }], routes: [{ path: '/a', methods, redirect: '/b' }] });

  test('may name every method that can come', () => {
    expect(() => serverFor(['GET', 'M-SEARCH', 'QUERY', 'PROPFIND'])).not.toThrow();
  });

  test.each(['LIST', 'VERSION-CONTROL', 'RDG_OUT_DATA', 'get', 'CONNECT', ''])(
    'that names %j is refused, as no request has it',
    method => {
      expect(() => serverFor([method])).toThrow(/methods/);
    },
  );
});
