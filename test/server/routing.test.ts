import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Config, createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { checkConfig } from '../../src/config/check.ts';
import { loadConfig } from '../config/load-config.ts';
import { closing } from '../services/closing.ts';

// Which backend a request and a handshake reach, on real connections. The rules themselves: gateway/router.test.ts.

const folder = mkdtempSync(join(tmpdir(), 'holdfast-routing-'));
const names = ['exact', 'template', 'prefix', 'deeper', 'host', 'wildcard', 'rest'];
const urls: Record<string, string> = {};
const backends: http.Server[] = [];
const open = closing();

/** Says its name, and greets every WebSocket with it. */
async function backend(name: string, listenOn: number | string): Promise<http.Server> {
  const server = http.createServer((_, response) => response.end(name));
  new WebSocketServer({ server }).on('connection', socket => socket.send(name));
  if (typeof listenOn === 'string') server.listen(listenOn);
  else server.listen(listenOn, '127.0.0.1');
  await once(server, 'listening');
  backends.push(server);
  return server;
}

beforeAll(async () => {
  for (const name of names) {
    const { port } = (await backend(name, 0)).address() as AddressInfo;
    urls[name] = `http://127.0.0.1:${port}`;
  }
});
afterAll(() => {
  for (const server of backends) server.closeAllConnections();
  for (const server of backends) server.close();
  rmSync(folder, { recursive: true });
});

async function start(config: Config): Promise<Server> {
  const server = createServer(
    { ...config, listen: [{ port: 0, host: '127.0.0.1' }], dataFolder: folder },
    { logger: silentLogger },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

async function overHttp(server: Server, path: string, host: string, method = 'GET'): Promise<string | number> {
  const request = http.request(server.urls[0]! + path, { agent: false, method, headers: { Host: host } }).end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const body = await text(response);
  return response.statusCode === 200 ? body : response.statusCode!;
}

async function overWebSocket(server: Server, path: string, host: string): Promise<string | number> {
  const socket = new WebSocket(server.urls[0]!.replace('http', 'ws') + path, { headers: { Host: host } });
  const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode as number);
  socket.on('error', () => {});
  const name = await Promise.race([once(socket, 'message').then(([data]) => String(data)), refused]);
  socket.terminate();
  return name;
}

describe('requests and WebSockets reach the backend of the most specific route', () => {
  const config = (): Config => ({
    upstreams: Object.fromEntries(names.map(name => [name, { servers: [urls[name]!] }])),
    routes: [
      { path: '/*', upstream: 'rest' },
      { path: '/chat/*', upstream: 'prefix' },
      { path: '/chat/room/*', upstream: 'deeper' },
      { path: '/chat/:room', upstream: 'template' },
      { path: '/chat/lobby', upstream: 'exact' },
      { path: '/chat/*', host: 'www.example.com', upstream: 'host' },
      { path: '/*', host: '*.example.com', upstream: 'wildcard' },
    ],
  });

  test.each([
    ['/chat/lobby', 'a', 'exact'],
    ['/chat/lobby/', 'a', 'prefix'],
    ['/chat/l%6fbby?x', 'a', 'exact'],
    ['/chat/1', 'a', 'template'],
    ['/chat/room', 'a', 'template'],
    ['/chat/room/1', 'a', 'deeper'],
    ['/chat/1/2', 'a', 'prefix'],
    ['/chat', 'a', 'prefix'],
    ['/chatter', 'a', 'rest'],
    ['/CHAT/lobby', 'a', 'rest'],
    ['/chat/../x', 'a', 'rest'],
    // A server that decodes it would take it for the exact route's.
    ['/chat%2Flobby', 'a', 400],
    ['/chat/lobby;x', 'a', 'exact'],
    ['/chat/lobby', 'www.example.com', 'host'],
    ['/chat/lobby', 'WWW.Example.com:81', 'host'],
    ['/x', 'www.example.com', 'wildcard'],
    ['/chat/lobby', 'api.example.com', 'wildcard'],
    ['/chat/lobby', 'a.b.example.com', 'wildcard'],
    ['/chat/lobby', 'example.com', 'exact'],
  ])('%s at %s: %s', async (path, host, name) => {
    const server = await start(config());
    expect([await overHttp(server, path, host), await overWebSocket(server, path, host)]).toEqual([name, name]);
  });
});

test('what no route is declared for does not exist, and methods that are not are not allowed', async () => {
  const server = await start({
    upstreams: { rest: { servers: [urls.rest!] } },
    routes: [{ path: '/a/*', host: 'a', methods: ['GET'], upstream: 'rest' }],
  });
  const both = async (path: string, host: string) => [
    await overHttp(server, path, host),
    await overWebSocket(server, path, host),
  ];
  expect(await both('/a/b', 'a')).toEqual(['rest', 'rest']);
  expect(await both('/b', 'a')).toEqual([404, 404]);
  expect(await both('/a/b', 'b')).toEqual([404, 404]);
  expect(await overHttp(server, '/a/b', 'a', 'POST')).toBe(405);
});

test('a gateway with one route and nothing else is three lines, for requests and WebSockets', async () => {
  const file = join(folder, 'holdfast.yaml');
  const lines = ['upstreams:', `  app: { servers: [${urls.rest}] }`, 'routes: [{ path: /*, upstream: app }]'];
  writeFileSync(file, lines.join('\n'));
  const config = await loadConfig(file);
  expect(checkConfig(config)).toEqual([]);
  const server = await start(config);
  expect([await overHttp(server, '/any', 'a'), await overWebSocket(server, '/where', 'a')]).toEqual(['rest', 'rest']);
});

test.each(['http:', 'ws:', 'unix:'])('a server may be written %s, for requests and WebSockets', async scheme => {
  const path = join(folder, 'app.sock');
  if (scheme === 'unix:') await backend('rest', path);
  const url = scheme === 'unix:' ? `unix:${path}` : urls.rest!.replace('http:', scheme);
  const server = await start({ upstreams: { app: { servers: [url] } }, routes: [{ path: '/*', upstream: 'app' }] });
  expect([await overHttp(server, '/', 'a'), await overWebSocket(server, '/', 'a')]).toEqual(['rest', 'rest']);
});
