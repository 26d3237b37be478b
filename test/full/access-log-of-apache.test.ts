import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { createServer, type Server } from '../../src/index.ts';
import { missing } from '../services/proxies.ts';
import { until } from '../services/until.ts';
import { APACHE_MODULES, type Side, startApache } from './apache/comparison.ts';

/** Each directive on its own, so that a difference names its directive. What depends on times and processes is apart. */
const SAME = [
  ...['%h', '%a', '%{c}a', '%A', '%l', '%u', '%m', '%U', '%q', '%r', '%H', '%s', '%>s', '%b', '%B', '%k', '%X'],
  ...['%{Referer}i', '%{X-None}i', '%!200,304{Referer}i', '%404,405{Referer}i', '%{theme}C', '%{none}C'],
  ...['%{Content-Type}o', '%{X-Two}o', '%v', '%V', '%R', '%f', '%I', '%T', '%{s}T', '%{bogus}T', '%L', '%%'],
];
const SHAPES: readonly (readonly [string, RegExp])[] = [
  ['%t', /^\[\d\d\/[A-Z][a-z]{2}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]$/],
  ['%{%s}t', /^\d{10}$/],
  ['%{sec}t', /^\d{10}$/],
  ['%{msec}t', /^\d{13}$/],
  ['%{usec}t', /^\d{16}$/],
  ['%{msec_frac}t', /^\d{3}$/],
  ['%{usec_frac}t', /^\d{6}$/],
  ['%{end:%Y-%m-%d}t', /^\d{4}-\d\d-\d\d$/],
  ['%D', /^\d+$/],
  ['%{ms}T', /^\d+$/],
  ['%{us}T', /^\d+$/],
  ['%P', /^\d+$/],
  ['%{local}p', /^\d+$/],
  ['%{remote}p', /^\d+$/],
  ['%O', /^\d+$/],
  ['%S', /^\d+$/],
];
const FORMAT = [...SAME, ...SHAPES.map(([directive]) => directive)].join('|');

const REQUESTS: readonly (readonly [string, string])[] = [
  ['a page', 'GET /page HTTP/1.1\r\nHost: localhost\r\nReferer: http://a.example/x\r\n'],
  ['a query', 'GET /page?page=2&x=%20y HTTP/1.1\r\nHost: localhost\r\n'],
  ['an escaped path', 'GET /a%20b%0Ac/%C3%BC HTTP/1.1\r\nHost: localhost\r\n'],
  ['quotes and control bytes in a header', 'GET /page HTTP/1.1\r\nHost: localhost\r\nReferer: a"b\\c\td\r\n'],
  ['letters beyond ASCII in a header', 'GET /page HTTP/1.1\r\nHost: localhost\r\nReferer: b\u00fccher\r\n'],
  ['no body', 'GET /empty HTTP/1.1\r\nHost: localhost\r\n'],
  ['HEAD', 'HEAD /page HTTP/1.1\r\nHost: localhost\r\n'],
  ['not found', 'GET /missing HTTP/1.1\r\nHost: localhost\r\nReferer: http://a.example/x\r\n'],
  ['a cookie twice', 'GET /page HTTP/1.1\r\nHost: localhost\r\nCookie: theme=dark; x=1; theme=light\r\n'],
  ['HTTP/1.0', 'GET /page HTTP/1.0\r\nHost: localhost\r\n'],
  ['POST with a body', 'POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n'],
];

const why = missing('apache');

describe.skipIf(why !== undefined)('a LogFormat writes what Apache 2.4 writes', () => {
  let folder: string;
  let backend: http.Server;
  let server: Server;
  let apache: Awaited<ReturnType<typeof startApache>>;
  const sockets = new WebSocketServer({ noServer: true });
  const sides: Side[] = [];
  const file = (side: Side) => join(folder, `${side.name}.log`);
  const lines = (side: Side) => readFileSync(file(side), 'utf8').split('\n').slice(0, -1);

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-log-format-'));
    backend = http.createServer((request, response) => {
      request.resume();
      const status = request.url === '/missing' ? 404 : request.url === '/empty' ? 204 : 200;
      response.writeHead(status, { 'Content-Type': 'text/plain', 'X-Two': ['one', 'two'] });
      response.end(status === 204 ? undefined : 'hello');
    });
    backend.on('upgrade', (request, socket, head) =>
      sockets.handleUpgrade(request, socket, head, peer => peer.on('message', data => peer.send(data))),
    );
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    const at = `127.0.0.1:${(backend.address() as AddressInfo).port}`;
    apache = await startApache({
      modules: APACHE_MODULES,
      vhost: `ServerName localhost
UseCanonicalName Off
LogFormat "${FORMAT.replaceAll('"', '\\"')}" tested
CustomLog ${join(folder, 'apache.log')} tested
ProxyPass /ws ws://${at}/ws
ProxyPass / http://${at}/`,
    });
    server = createServer({
      ...{ session: false, listen: [{ port: 0, host: '127.0.0.1' }], dataFolder: folder },
      upstreams: { app: { servers: [`http://${at}`] } },
      routes: [{ path: '/*', upstream: 'app', websocket: true, policy: { origins: 'any' } }],
      log: { level: 'silent', access: { format: FORMAT, file: join(folder, 'holdfast.log') } },
    });
    await server.start();
    sides.push(
      { name: 'apache', port: apache.port },
      { name: 'holdfast', port: Number(new URL(server.urls[0]!).port) },
    );
  }, 30_000);
  afterAll(async () => {
    await server?.stop({ drain: 0 });
    await apache?.[Symbol.asyncDispose]();
    backend?.closeAllConnections();
    backend?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function lineOf(side: Side, head: string, after = ''): Promise<readonly string[]> {
    const before = lines(side).length;
    const socket = connect(side.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(Buffer.from(`${head}\r\n${after}`, 'latin1'));
    socket.resume();
    await once(socket, 'close');
    await until(() => lines(side).length > before);
    return lines(side).at(-1)!.split('|');
  }

  test.each(REQUESTS)('of %s', async (_, head) => {
    const written = [];
    for (const side of sides)
      written.push(await lineOf(side, `${head}Connection: close\r\n`, head.startsWith('POST') ? 'hello' : ''));
    const [ofApache, ours] = written.map(values => Object.fromEntries(SAME.map((name, i) => [name, values[i]])));
    expect(ours).toEqual(ofApache);
    for (const values of written)
      for (const [i, [directive, shape]] of SHAPES.entries())
        expect([directive, values[SAME.length + i]]).toEqual([directive, expect.stringMatching(shape)]);
  });

  test('of several requests on a connection', async () => {
    const written = [];
    for (const side of sides) {
      const before = lines(side).length;
      const socket = connect(side.port, '127.0.0.1');
      for (const end of ['', '', 'Connection: close\r\n']) {
        socket.write(`GET /page HTTP/1.1\r\nHost: localhost\r\n${end}\r\n`);
        await once(socket, 'data');
      }
      socket.destroy();
      await until(() => lines(side).length === before + 3);
      const pick = (line: string) => ['%k', '%X', '%I'].map(name => line.split('|')[SAME.indexOf(name)]);
      written.push(lines(side).slice(before).map(pick));
    }
    const [ofApache, ours] = written;
    expect(ours!.slice(0, 2)).toEqual(ofApache!.slice(0, 2));
    // Apache does not count the request after which it closes; ours are numbered throughout.
    expect([ofApache![2]![0], ours![2]![0]]).toEqual(['1', '2']);
    expect(ours![2]!.slice(1)).toEqual(ofApache![2]!.slice(1));
  });

  test('of a WebSocket: one line at its end, with status 101, its life and no body', async () => {
    const written = [];
    for (const side of sides) {
      const before = lines(side).length;
      const socket = new WebSocket(`ws://localhost:${side.port}/ws`);
      await once(socket, 'open');
      socket.send('hello');
      await once(socket, 'message');
      socket.close(1000);
      await once(socket, 'close');
      await until(() => lines(side).length === before + 1);
      const values = lines(side).at(-1)!.split('|');
      const names = ['%m', '%r', '%s', '%>s', '%b', '%B', '%U', '%R', '%f', '%I'];
      written.push(Object.fromEntries(names.map(name => [name, values[SAME.indexOf(name)]])));
    }
    expect(written[1]).toEqual(written[0]);
  });
});
