import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type { RouteConfig } from '../../src/config/config.ts';
import { createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { closing } from '../services/closing.ts';

const open = closing();

/** A backend that takes a WebSocket at any path, as most do. */
async function backend(): Promise<{ url: string; paths: string[] }> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  const paths: string[] = [];
  server.on('connection', (_, request) => paths.push(request.url!));
  await once(server, 'listening');
  open.push({
    close: () => {
      for (const client of server.clients) client.terminate();
      return new Promise(resolve => server.close(resolve));
    },
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, paths };
}

async function serve(routes: RouteConfig[], upstreams: Record<string, string> = {}): Promise<Server> {
  const server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: Object.fromEntries(Object.entries(upstreams).map(([name, url]) => [name, { servers: [url] }])),
    routes,
    log: { level: 'silent' },
  });
  await server.start();
  open.push({ close: () => server.stop() });
  return server;
}

const HANDSHAKE = [
  'Upgrade: websocket',
  'Connection: Upgrade',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version: 13',
];

/** What is answered, up to its end or, for a 101, to the end of its head. */
async function ask(
  server: Server,
  path: string,
  headers: readonly string[] = HANDSHAKE,
  version = '1.1',
): Promise<{ status: number; text: string }> {
  const socket = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  socket.write(`GET ${path} HTTP/${version}\r\nHost: example.com\r\n${headers.join('\r\n')}\r\n\r\n`);
  let text = '';
  for await (const chunk of socket) {
    text += chunk.toString('latin1');
    if (/^HTTP\/1.1 101 [\s\S]*\r\n\r\n/.test(text)) break;
  }
  socket.destroy();
  return { status: Number(text.split(' ')[1]), text };
}

describe('a route that leads round the stricter WebSocket policy of another', () => {
  const strict: RouteConfig = { path: '/socket', upstream: 'app', policy: { transport: 'confidential' } };
  const rest: RouteConfig = { path: '/*', upstream: 'app' };

  test.each(['/other', '/', '/socket/..', '/socket/', '/socket/more', '/Socket', '/%2fsocket'])(
    'refuses an upgrade of %s with 403; the backend sees nothing of it',
    async path => {
      const app = await backend();
      const server = await serve([strict, rest], { app: app.url });
      expect((await ask(server, path)).status).toBe(403);
      expect(app.paths).toEqual([]);
    },
  );

  test.each(['/socket', '//socket', '/%73ocket', '/other/../socket', '/./socket', '/socket?x=1'])(
    'is not what takes %s: that is the other route, however it is written',
    async path => {
      const app = await backend();
      // Only the policy of `/socket` refuses here.
      const server = await serve([strict, { ...rest, websocket: true }], { app: app.url });
      expect((await ask(server, path)).status).toBe(403);
      expect((await ask(server, '/other')).status).toBe(101);
      expect(app.paths).toEqual(['/other']);
    },
  );

  test('still forwards requests that are no upgrades', async () => {
    const server = await serve([strict, rest], { app: (await backend()).url });
    // `ws` has no pages, and says so.
    expect((await ask(server, '/other', ['Connection: close'])).status).toBe(426);
  });

  test.each<[string, RouteConfig, RouteConfig, number]>([
    ['other origins', { ...strict, policy: { origins: ['https://a.test'] } }, rest, 403],
    ['the same origins', { ...strict, policy: { origins: ['https://a.test', 'self'] } }, rest, 101],
    ['any origin', { ...strict, policy: { origins: 'any' } }, rest, 101],
    [
      'the same policy',
      { ...strict, policy: { origins: [/^https:\/\/a$/] } },
      { ...rest, policy: { origins: [/^https:\/\/a$/] } },
      101,
    ],
    ['smaller messages', { path: '/socket', upstream: 'app', websocket: { maxMessageSize: '1KiB' } }, rest, 403],
    ['larger messages', { path: '/socket', upstream: 'app', websocket: { maxMessageSize: '1MiB' } }, rest, 101],
    ['a shorter life', { path: '/socket', upstream: 'app', websocket: { maxLifetime: '1h' } }, rest, 403],
    ['no WebSockets at all', { ...strict, websocket: false }, rest, 101],
    ['a path beside it', { ...strict, path: '/chat' }, { ...rest, path: '/other/*' }, 101],
    ['a template under it', { ...strict, path: '/other/:room' }, rest, 403],
    ['a path that a template takes', strict, { ...rest, path: '/:name' }, 403],
    ['another host', { ...strict, host: 'admin.test' }, { ...rest, host: 'example.com' }, 101],
    ['another server', { ...strict, upstream: 'second' }, rest, 101],
    ['the same server by another name', { ...strict, upstream: 'alias' }, rest, 403],
    ['the same server by another name of the machine', { ...strict, upstream: 'local' }, rest, 403],
    ['another server of the machine', { ...strict, upstream: 'secondLocal' }, rest, 101],
    ['limits of its own, told to take them', strict, { ...rest, websocket: { maxMessageSize: '1KiB' } }, 101],
    ['a mount', { mount: '/socket', application: { routes: [{ ...strict, path: '/in' }] } }, rest, 403],
  ])('is judged by what the other asks for: %s', async (_, first, second, status) => {
    const app = await backend();
    const apart = (await backend()).url;
    const local = (url: string) => url.replace('127.0.0.1', 'LOCALHOST');
    const upstreams = {
      ...{ app: app.url, second: apart, alias: `${app.url}/` },
      ...{ local: local(app.url), secondLocal: local(apart) },
    };
    const server = await serve([first, second], upstreams);
    expect((await ask(server, '/other')).status).toBe(status);
  });
});

test('a server that is added to another upstream at run time has no way round either', async () => {
  const [app, other] = [await backend(), await backend()];
  const server = await serve(
    [
      { path: '/socket', upstream: 'app', policy: { transport: 'confidential' } },
      { path: '/*', upstream: 'other' },
    ],
    { app: app.url, other: other.url },
  );
  expect((await ask(server, '/x')).status).toBe(101);
  server.upstreams.get('other')!.add(app.url.replace('127.0.0.1', 'localhost'));
  expect((await ask(server, '/x')).status).toBe(403);
  await server.upstreams.get('other')!.remove(app.url.replace('127.0.0.1', 'localhost'), { over: 0 });
  expect((await ask(server, '/x')).status).toBe(101);
});

describe('websocket', () => {
  test('false: the route is not upgraded', async () => {
    const app = await backend();
    const server = await serve([{ path: '/*', upstream: 'app', websocket: false }], { app: app.url });
    expect((await ask(server, '/')).status).toBe(400);
    expect(app.paths).toEqual([]);
  });

  test('takes its limits from the configuration', async () => {
    const app = await backend();
    const websocket = { idleTimeout: '300ms', heartbeat: '100ms', maxLifetime: '1h', compression: 'refuse' } as const;
    const server = await serve([{ path: '/*', upstream: 'app', websocket }], { app: app.url });
    const { text } = await ask(server, '/', [...HANDSHAKE, 'Sec-WebSocket-Extensions: permessage-deflate']);
    expect(text).toMatch(/^HTTP\/1.1 101 /);
    expect(text).not.toMatch(/extensions/i);
  });
});

describe('a handshake whose request to upgrade was dropped on its way', () => {
  const KEY = HANDSHAKE.slice(2);
  const endpoint = defineEndpoint({ path: '/endpoint' });

  test.each([
    ['without Upgrade', ['Connection: close', ...KEY], '1.1', 'without its Upgrade header'],
    ['as nginx sends it by default', ['Connection: close', ...KEY], '1.0', 'without its Upgrade header'],
    ['with Upgrade, but not in Connection', ['Connection: close', 'Upgrade: websocket', ...KEY], '1.1', 'Connection'],
    ['as HTTP/1.0', ['Connection: Upgrade', 'Upgrade: websocket', ...KEY], '1.0', 'HTTP/1.0'],
  ])('%s: 426, and the reason says what the proxy must pass on', async (_, headers, version, what) => {
    const server = await serve([{ endpoint }, { path: '/*', upstream: 'app' }], { app: (await backend()).url });
    for (const path of ['/endpoint', '/relayed']) {
      const { status, text } = await ask(server, path, headers, version);
      expect([path, status]).toEqual([path, 426]);
      expect(text).toMatch(/^upgrade: websocket\r$/im);
      expect(text).toMatch(/^connection: upgrade, close\r$/im);
      expect(text).toContain(what);
      expect(text).toContain('a proxy in front does not pass it on');
    }
  });

  test('where no WebSockets are taken it is an ordinary request', async () => {
    const server = await serve([{ path: '/*', fetch: () => new Response('hello') }]);
    expect((await ask(server, '/', ['Connection: close', ...KEY])).status).toBe(200);
  });
});
