import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import tls from 'node:tls';
import { createServer, defineEndpoint } from 'holdfast';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import type { Config, PolicyConfig } from '../../src/config/config.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { Http2Client } from './http2-client.ts';
import { ask, Lines, RawBackend, type Wire, WiredServer, wires } from './wires.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(config: Config): Promise<{ server: WiredServer; logger: Lines }> {
  const logger = new Lines();
  const server = await WiredServer.start(config, logger);
  closing.push(() => server.close());
  return { server, logger };
}

const fetch = () => new Response('in');
const endpoint = defineEndpoint({ path: '/socket', onOpen: connection => void connection.send('in') });

/** Its status, or what it was sent. */
async function open(server: WiredServer, wire: Wire, path: string, headers: Record<string, string> = {}) {
  if (wire === 'http/2') {
    const client = await Http2Client.connect(server.url(wire));
    closing.push(() => client[Symbol.dispose]());
    const { status } = await client.knock(path, headers);
    if (status !== 200) return status;
    const socket = await client.webSocket(path, headers);
    return socket.receive();
  }
  const url = server.url(wire).replace('http', 'ws') + path;
  const opened = testClient(url, { headers, tls: { rejectUnauthorized: false } });
  const client = await opened.catch((error: { status?: number }) => error);
  if (!('receive' in client)) return client.status;
  closing.push(() => client[Symbol.asyncDispose]());
  return client.receive();
}

const from = (address: string) => ({ 'X-Forwarded-For': address });

test.each(['http/1', 'tls'] as const)(
  'over %s a client that resets its connection behind its request keeps its address',
  async wire => {
    const seen: string[] = [];
    const note = (request: Request, { clientAddress }: { clientAddress: string }) => {
      seen.push(`${new URL(request.url).pathname} of ${clientAddress}`);
      return new Response();
    };
    const policy = { addresses: { deny: ['127.0.0.1'] } };
    const { server } = await start({
      routes: [
        { path: '/denied', fetch: note, policy },
        { path: '/*', fetch: note },
      ],
    });
    const port = Number(new URL(server.url(wire)).port);
    const knock = async (path: string) => {
      const raw = connect(port, '127.0.0.1').on('error', () => {});
      const socket =
        wire === 'tls' ? tls.connect({ socket: raw, rejectUnauthorized: false }).on('error', () => {}) : raw;
      await once(socket, wire === 'tls' ? 'secureConnect' : 'connect');
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`, () => setImmediate(() => raw.resetAndDestroy()));
      await once(raw, 'close');
    };
    for (const path of ['/denied', '/in']) await Promise.all(Array.from({ length: 50 }, () => knock(path)));
    await ask(server, wire, { path: '/in' });
    expect(new Set(seen)).toEqual(new Set(['/in of 127.0.0.1']));
  },
);

test('a handshake of an attached server whose client has reset its connection reaches nobody without its address', async () => {
  const seen: string[] = [];
  const accept = ({ remoteAddress }: { remoteAddress: string }) => {
    seen.push(remoteAddress);
    return true;
  };
  const http = createHttpServer();
  const server = createServer({ session: false, routes: [{ endpoint: defineEndpoint({ path: '/socket', accept }) }] });
  await server.attach(http);
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  closing.push(
    () => http.close(),
    () => server.stop(),
  );
  const { port } = http.address() as AddressInfo;
  const upgrade = `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==`;
  const knock = async () => {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    await once(socket, 'connect');
    socket.write(`GET /socket HTTP/1.1\r\nHost: localhost\r\n${upgrade}\r\n\r\n`, () => socket.resetAndDestroy());
    await once(socket, 'close');
  };
  await Promise.all(Array.from({ length: 50 }, knock));
  const last = await testClient(`ws://127.0.0.1:${port}/socket`);
  await last[Symbol.asyncDispose]();
  expect(new Set(seen)).toEqual(new Set(['127.0.0.1']));
});

describe.each(wires)('over %s', wire => {
  test.each<[where: string, config: (policy: PolicyConfig) => Config]>([
    ['the server', policy => ({ policy, routes: [{ path: '/*', fetch }, { endpoint }] })],
    [
      'a route',
      policy => ({
        routes: [
          { path: '/*', fetch, policy },
          { endpoint, policy },
        ],
      }),
    ],
    [
      'a mounted application',
      policy => ({
        routes: [{ mount: '/in', policy, application: { routes: [{ path: '/*', fetch }, { endpoint }] } }],
      }),
    ],
  ])('the lists of %s let in by the address that a trusted proxy says', async (where, config) => {
    const addresses = { allow: ['192.0.2.0/24', '2001:db8::/32'], deny: ['192.0.2.66'] };
    const { server, logger } = await start({ trustedProxies: ['127.0.0.1'], ...config({ addresses }) });
    const prefix = where === 'a mounted application' ? '/in' : '';
    for (const address of ['192.0.2.1', '2001:db8::1', '::ffff:192.0.2.9'])
      expect([address, (await ask(server, wire, { path: `${prefix}/`, headers: from(address) })).status]).toEqual([
        address,
        200,
      ]);
    for (const address of ['192.0.2.66', '198.51.100.1', '2001:db9::1', 'unknown', '192.0.2.1, 198.51.100.1'])
      expect(await ask(server, wire, { path: `${prefix}/`, headers: from(address) })).toMatchObject({
        status: 403,
        body: 'This address is not allowed.\n',
      });
    // The proxy itself is not on the list.
    expect((await ask(server, wire, { path: `${prefix}/` })).status).toBe(403);
    expect(await open(server, wire, `${prefix}/socket`, from('192.0.2.66'))).toBe(403);
    expect(await open(server, wire, `${prefix}/socket`, from('192.0.2.5'))).toBe('in');
    expect(logger.all.map(({ fields }) => fields.code)).toContain('ERR_POLICY_ADDRESS');
  });

  test('a client that nobody vouches for has the address of its connection, whatever it says', async () => {
    const { server } = await start({
      policy: { addresses: { allow: ['192.0.2.0/24'] } },
      routes: [{ path: '/*', fetch }],
    });
    for (const name of ['X-Forwarded-For', 'X-Real-IP', 'X-Client-IP', 'CF-Connecting-IP'])
      expect((await ask(server, wire, { headers: { [name]: '192.0.2.1' } })).status).toBe(403);
    expect((await ask(server, wire, { headers: { Forwarded: 'for=192.0.2.1' } })).status).toBe(403);
  });

  test('who may not come in is not told which paths there are', async () => {
    const { server } = await start({
      policy: { addresses: { deny: ['127.0.0.0/8'] } },
      routes: [{ path: '/a', fetch }],
    });
    for (const path of ['/a', '/b']) expect((await ask(server, wire, { path })).status).toBe(403);
  });

  test('a relayed WebSocket is judged, and a backend never sees who may not come in', async () => {
    const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    closing.push(() => sockets.close());
    await once(sockets, 'listening');
    const seen: unknown[] = [];
    sockets.on('connection', (socket, { headers }) => {
      seen.push(headers['x-forwarded-for']);
      socket.send('in');
    });
    const { server } = await start({
      trustedProxies: ['127.0.0.1'],
      upstreams: { app: { servers: [`http://127.0.0.1:${(sockets.address() as { port: number }).port}`] } },
      routes: [{ path: '/*', upstream: 'app', policy: { addresses: { deny: ['198.51.100.0/24'] } } }],
    });
    expect(await open(server, wire, '/', from('198.51.100.7'))).toBe(403);
    expect(await open(server, wire, '/', from('198.51.101.7'))).toBe('in');
    expect(seen.map(String).filter(address => !address.startsWith('198.51.101.7,'))).toEqual([]);
  });
});

test('the list of a route lifts no list of the server or the application that it is in', async () => {
  const allow = (...addresses: string[]) => ({ addresses: { allow: addresses } });
  const { server } = await start({
    trustedProxies: ['127.0.0.1'],
    policy: { addresses: { deny: ['192.0.2.1'] } },
    routes: [
      {
        mount: '/in',
        policy: allow('192.0.2.0/24'),
        application: { routes: [{ path: '/all', fetch, policy: allow('0.0.0.0/0') }] },
      },
    ],
  });
  const statusOf = async (address: string) =>
    (await ask(server, 'http/1', { path: '/in/all', headers: from(address) })).status;
  expect(await statusOf('192.0.2.1')).toBe(403);
  expect(await statusOf('192.0.2.2')).toBe(200);
  expect(await statusOf('192.0.3.2')).toBe(403);
});

test('the PROXY protocol says the address, too', async () => {
  const { server } = await start({
    listen: [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required' }],
    trustedProxies: ['127.0.0.1'],
    policy: { addresses: { deny: ['192.0.2.7'] } },
    routes: [{ path: '/*', fetch }],
  });
  const statusFrom = async (address: string) => {
    const socket = connect(server.port('http/1'), '127.0.0.1');
    socket.end(`PROXY TCP4 ${address} 198.51.100.2 3000 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    let text = '';
    for await (const chunk of socket) text += chunk;
    return text.slice(9, 12);
  };
  expect(await statusFrom('192.0.2.7')).toBe('403');
  expect(await statusFrom('192.0.2.8')).toBe('200');
});

test('a handshake for a route of an attached server is refused, and others are left to who else listens', async () => {
  const http = createHttpServer();
  const attached = createServer({
    policy: { addresses: { deny: ['127.0.0.0/8'] } },
    session: false,
    routes: [{ endpoint }],
    log: { level: 'silent' },
  });
  await attached.attach(http);
  closing.push(
    () => http.close(),
    () => attached.stop({ drain: 0 }),
  );
  http.on('upgrade', ({ url }, socket) => {
    if (url === '/theirs') socket.end('HTTP/1.1 418 Theirs\r\nConnection: close\r\n\r\n');
  });
  await once(http.listen(0, '127.0.0.1'), 'listening');
  const url = `ws://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const statusOf = (path: string) =>
    testClient(url + path).then(
      () => 101,
      (error: { status?: number }) => error.status,
    );
  expect(await statusOf('/socket')).toBe(403);
  expect(await statusOf('/theirs')).toBe(418);
});

describe('what the server or a mounted application asks for', () => {
  test('holds for each route that says nothing else, also for its files, handler and endpoints', async () => {
    const { server } = await start({
      policy: { transport: 'confidential' },
      routes: [
        { path: '/health', fetch, policy: { transport: 'any' } },
        { path: '/page', fetch },
        { mount: '/shop', application: { fetch, routes: [{ endpoint }] } },
        { mount: '/open', policy: { transport: 'any' }, application: { fetch } },
      ],
    });
    const statusOf = async (path: string, wire: Wire = 'http/1') => (await ask(server, wire, { path })).status;
    expect(await statusOf('/health')).toBe(200);
    expect(await statusOf('/open/x')).toBe(200);
    for (const path of ['/page', '/shop/x']) expect([path, await statusOf(path)]).toEqual([path, 403]);
    for (const path of ['/page', '/shop/x']) expect([path, await statusOf(path, 'tls')]).toEqual([path, 200]);
    expect(await open(server, 'http/1', '/shop/socket')).toBe(403);
    expect(await open(server, 'tls', '/shop/socket')).toBe('in');
  });

  test('is the origins of each socket that has none of its own', async () => {
    const own = defineEndpoint({ path: '/own', origins: ['https://own.example'], onOpen: c => void c.send('in') });
    const { server } = await start({
      policy: { origins: ['https://all.example'] },
      routes: [
        { endpoint },
        { endpoint: own },
        { mount: '/m', policy: { origins: ['https://mount.example'] }, application: { routes: [{ endpoint }] } },
      ],
    });
    const opens = (path: string, origin: string) =>
      open(server, 'http/1', path, { Origin: `https://${origin}.example` });
    for (const [path, origin] of [
      ['/socket', 'all'],
      ['/own', 'own'],
      ['/m/socket', 'mount'],
    ] as const)
      for (const each of ['all', 'own', 'mount'])
        expect([path, each, await opens(path, each)]).toEqual([path, each, each === origin ? 'in' : 403]);
  });
});

test('a laxer route to the server of a list is not a way round it', async () => {
  const backend = await RawBackend.listen();
  closing.push(() => backend.close());
  const { server } = await start({
    upstreams: { app: { servers: [backend.url] } },
    routes: [
      { path: '/admin/*', upstream: 'app', policy: { addresses: { deny: ['127.0.0.1'] } } },
      { path: '/*', upstream: 'app' },
    ],
  });
  for (const path of ['/admin/x', '/x/..%2fadmin/x', '/x/..;/admin/x', '/x/%2e%2e/admin/x', '/ADMIN/x'])
    expect([path, (await ask(server, 'http/1', { path })).status >= 400]).toEqual([path, true]);
  expect((await ask(server, 'http/1', { path: '/x' })).status).toBe(200);
});
