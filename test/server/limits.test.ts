import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer, defineEndpoint } from 'holdfast';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { Config, LimitsConfig, RouteConfig } from '../../src/config/config.ts';
import { createAddressList } from '../../src/http/address-list.ts';
import { isRefusal } from '../../src/http/refusal.ts';
import type { Limits } from '../../src/policy/limits/limits.ts';
import { Seat } from '../../src/policy/limits/seat.ts';
import { serverLimits } from '../../src/server/assembly/limits.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { ServletBackend } from '../gateway/servlet-backend.ts';
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
const from = (address: string) => ({ 'X-Forwarded-For': address });
const echo = (path = '/socket') =>
  defineEndpoint({ path, onMessage: (connection, data) => void connection.send(data) });

/** The WebSocket, or the status. */
async function open(
  server: WiredServer,
  wire: Wire,
  path: string,
  headers: Record<string, string> = {},
): Promise<WebSocketClient | number | undefined> {
  if (wire === 'http/2') {
    const client = await Http2Client.connect(server.url(wire));
    closing.push(() => client[Symbol.dispose]());
    return client.webSocket(path, headers).catch(error => Number(/\d+$/.exec(error.message)?.[0]));
  }
  const url = server.url(wire).replace('http', 'ws') + path;
  try {
    const client = await testClient(url, { headers, tls: { rejectUnauthorized: false } });
    closing.push(() => client[Symbol.asyncDispose]());
    return client;
  } catch (error) {
    return (error as { status?: number }).status;
  }
}

async function opened(...[server, wire, path, headers]: Parameters<typeof open>): Promise<WebSocketClient> {
  const client = await open(server, wire, path, headers);
  if (typeof client !== 'object') throw new Error(`the server answered ${client}`);
  return client;
}

/** A backend that sends back what it gets, and counts it. */
async function echoBackend() {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  const received: string[] = [];
  sockets.on('connection', socket =>
    socket.on('message', (data, isBinary) => {
      received.push(data.toString());
      socket.send(data, { binary: isBinary });
    }),
  );
  closing.push(() => {
    for (const client of sockets.clients) client.terminate();
    sockets.close();
  });
  await once(sockets, 'listening');
  return { url: `http://127.0.0.1:${(sockets.address() as AddressInfo).port}`, received };
}

/** An endpoint, and a relay to one. */
async function bothKinds(limits: LimitsConfig, where: 'route' | 'server' = 'route'): Promise<Config> {
  const { url } = await echoBackend();
  const policy = where === 'route' ? { policy: { limits } } : {};
  return {
    ...(where === 'server' && { policy: { limits } }),
    upstreams: { app: { servers: [url] } },
    routes: [
      { endpoint: echo('/endpoint'), ...policy },
      { path: '/relay', upstream: 'app', ...policy },
      { path: '/page', fetch },
    ],
  };
}

const until = async (isSo: () => boolean) => {
  for (let i = 0; i < 200 && !isSo(); i++) await sleep(10);
};

describe.each(wires)('over %s', wire => {
  test.each<[string, (limits: LimitsConfig) => Config]>([
    ['the server', limits => ({ policy: { limits }, routes: [{ path: '/in/*', fetch }] })],
    ['a route', limits => ({ routes: [{ path: '/in/*', fetch, policy: { limits } }] })],
    [
      'a mounted application',
      limits => ({ routes: [{ mount: '/in', policy: { limits }, application: { routes: [{ path: '/*', fetch }] } }] }),
    ],
  ])('more requests of an address than %s allows are 429, with when to come again', async (_, config) => {
    const { server, logger } = await start({
      trustedProxies: ['127.0.0.1'],
      ...config({ requestsPerAddress: '2/h' }),
    });
    const asked = (address: string) => ask(server, wire, { path: '/in/x', headers: from(address) });
    expect((await asked('2001:db8::1')).status).toBe(200);
    expect((await asked('2001:db8::2')).status).toBe(200);
    const refused = await asked('2001:db8::3');
    expect(refused).toMatchObject({
      status: 429,
      body: 'Too many requests. Please try again later.\n',
      headers: { 'ratelimit-policy': '"requestsPerAddress";q=2;w=3600', 'retry-after': refused.headers['retry-after'] },
    });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(1790);
    expect(refused.headers.ratelimit).toBe(`"requestsPerAddress";r=0;t=${refused.headers['retry-after']}`);
    expect((await asked('2001:db8:0:1::1')).status).toBe(200);
    expect(logger.all.map(({ fields }) => fields.code)).toContain('ERR_POLICY_RATE');
  });

  test.each(['/endpoint', '/relay'])(
    'handshakes at %s beyond the connections are 503 while HTTP goes on',
    async path => {
      const { server } = await start(await bothKinds({ connections: 2 }, 'server'));
      const [first] = [await opened(server, wire, path), await opened(server, wire, '/endpoint')];
      expect(await open(server, wire, path)).toBe(503);
      expect((await ask(server, wire, { path: '/page' })).status).toBe(200);
      first!.close();
      await first!.closed;
      let next: Awaited<ReturnType<typeof open>> = 503;
      for (let i = 0; i < 100 && next === 503; i++) {
        await sleep(5);
        next = await open(server, wire, path);
      }
      expect(next).toBeTypeOf('object');
      expect(await open(server, wire, path)).toBe(503);
    },
  );

  test.each(['/endpoint', '/relay'])('an address has so many connections at %s and no more: 429', async path => {
    const { server } = await start({
      trustedProxies: ['127.0.0.1'],
      ...(await bothKinds({ connectionsPerAddress: 1 })),
    });
    await opened(server, wire, path, from('192.0.2.1'));
    expect(await open(server, wire, path, from('192.0.2.1'))).toBe(429);
    await opened(server, wire, path, from('192.0.2.2'));
  });

  test.each(['/endpoint', '/relay'])('close: a flood at %s ends with 1008 and says why', async path => {
    const { server, logger } = await start(await bothKinds({ messages: '5/m', whenExceeded: 'close' }));
    const client = await opened(server, wire, path);
    for (let i = 0; i < 6; i++) client.send(`${i}`);
    expect(await client.closed).toMatchObject({ code: 1008, reason: 'too many messages' });
    for (let i = 0; i < 5; i++) expect(await client.receive()).toBe(`${i}`);
    expect(await client.receive()).toBeUndefined();
    expect(logger.all.map(({ fields }) => fields).find(({ event }) => event === 'client-violation')).toMatchObject({
      ...{ address: '127.0.0.1', code: 'ERR_POLICY_RATE', closeCode: 1008 },
    });
  });

  test.each(['/endpoint', '/relay'])('drop: of a flood at %s what is within the rate arrives, whole', async path => {
    const { server } = await start(await bothKinds({ messages: '3/m', whenExceeded: 'drop' }));
    const client = await opened(server, wire, path);
    for (let i = 0; i < 500; i++) client.send(`${i} ${'x'.repeat(i)}`);
    for (let i = 0; i < 3; i++) expect(await client.receive()).toBe(`${i} ${'x'.repeat(i)}`);
    client.close();
    expect(await client.closed).toMatchObject({ code: 1000 });
    expect(await client.receive()).toBeUndefined();
  });
});

test.each(['/endpoint', '/relay'])(
  'pings at %s count, each of them is answered, and so do fragments of a byte',
  async path => {
    const { server } = await start(await bothKinds({ messages: '10/m', whenExceeded: 'close' }));
    const client = await opened(server, 'http/1', path);
    for (let i = 0; i < 10; i++) expect(await client.ping('p')).toBe(true);
    await client.ping('p');
    expect(await client.closed).toMatchObject({ code: 1008 });
    const socket = net.connect(server.port('http/1'), '127.0.0.1');
    closing.push(() => socket.destroy());
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
    );
    await once(socket, 'data');
    const fragment = (first: number) => Buffer.from([first, 0x81, 0, 0, 0, 0, 0x61]);
    socket.write(Buffer.concat([fragment(0x01), ...Array.from({ length: 20 }, () => fragment(0x00))]));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect([...answer.subarray(-21, -17), answer.subarray(-17).toString()].slice(0, 1)).toEqual([0x88]);
    expect(answer.toString('latin1')).toContain('too many messages');
  },
);

test('messages that a backend sends are its own affair, and so is what answers its pings', async () => {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  closing.push(() => sockets.close());
  await once(sockets, 'listening');
  let pongs = 0;
  sockets.on('connection', socket => {
    socket.on('pong', () => pongs++);
    for (let i = 0; i < 50; i++) socket.send(`${i}`);
    for (let i = 0; i < 50; i++) socket.ping();
  });
  const { server } = await start({
    upstreams: { app: { servers: [`http://127.0.0.1:${(sockets.address() as AddressInfo).port}`] } },
    routes: [{ path: '/', upstream: 'app', policy: { limits: { messages: '1/h', whenExceeded: 'close' } } }],
  });
  const client = await opened(server, 'http/1', '/');
  for (let i = 0; i < 50; i++) expect(await client.receive()).toBe(`${i}`);
  await until(() => pongs === 50);
  expect([pongs, client.isOpen]).toEqual([50, true]);
});

test('an endpoint that pings by itself is answered, whatever the rate', async () => {
  const endpoint = defineEndpoint({
    path: '/',
    onOpen: connection => {
      for (let i = 0; i < 20; i++) connection.ping(`${i}`);
      connection.send('done');
    },
    onPong: () => void pongs++,
  });
  let pongs = 0;
  const { server } = await start({
    routes: [{ endpoint, policy: { limits: { messages: '1/h', whenExceeded: 'close' } } }],
  });
  const client = await opened(server, 'http/1', '/');
  expect(await client.receive()).toBe('done');
  await until(() => pongs === 20);
  expect([pongs, client.isOpen]).toEqual([20, true]);
});

test.each(['/endpoint', '/relay'])('wait: at %s everything arrives, in its time', async path => {
  const { server } = await start(await bothKinds({ messages: '20/s' }));
  const client = await opened(server, 'http/1', path);
  const begin = performance.now();
  for (let i = 0; i < 25; i++) client.send(`${i} ${'y'.repeat(i * 20)}`);
  for (let i = 0; i < 25; i++) expect(await client.receive()).toBe(`${i} ${'y'.repeat(i * 20)}`);
  expect(performance.now() - begin).toBeGreaterThan(150);
  client.close();
  expect(await client.closed).toMatchObject({ code: 1000 });
});

test('of limits of the server, an application and a route all hold', async () => {
  const { server } = await start({
    trustedProxies: ['127.0.0.1'],
    policy: { limits: { requestsPerAddress: '6/h' } },
    routes: [
      {
        mount: '/m',
        policy: { limits: { requestsPerAddress: '3/h' } },
        application: {
          routes: [
            { path: '/a', fetch, policy: { limits: { requestsPerAddress: '1/h' } } },
            { path: '/b', fetch },
          ],
        },
      },
      { path: '/c', fetch, policy: { limits: { requestsPerAddress: '100/h' } } },
    ],
  });
  const paths = ['/m/a', '/m/a', '/m/b', '/m/b', '/c', '/c', '/nowhere'];
  const statuses: number[] = [];
  for (const path of paths) statuses.push((await ask(server, 'http/1', { path, headers: from('192.0.2.1') })).status);
  // The one that the route refused has used up nothing of the route, and one of the application, which was asked first.
  expect(statuses).toEqual([200, 429, 200, 429, 200, 200, 429]);
});

test('paths of one route, and all routes of an application, count together', async () => {
  const limits = { connections: 1 };
  const { server } = await start({
    routes: [
      { endpoint: defineEndpoint({ path: ['/one', '/two'] }), policy: { limits } },
      {
        mount: '/m',
        policy: { limits },
        application: { routes: [{ endpoint: echo('/a') }, { endpoint: echo('/b') }] },
      },
    ],
  });
  await opened(server, 'http/1', '/one');
  expect(await open(server, 'http/1', '/two')).toBe(503);
  await opened(server, 'http/1', '/m/a');
  expect(await open(server, 'http/1', '/m/b')).toBe(503);
});

test('a place is free again when the handshake has led to nothing', async () => {
  const backend = await RawBackend.listen();
  closing.push(() => backend.close());
  backend.answer = () => 'HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n';
  const limits = { connections: 1 };
  let accept: () => unknown = () => false;
  const { server } = await start({
    upstreams: {
      app: { servers: [backend.url] },
      gone: { servers: ['http://127.0.0.1:9'] },
    },
    routes: [
      { endpoint: defineEndpoint({ path: '/endpoint', accept: () => accept() as boolean }), policy: { limits } },
      { path: '/declined', upstream: 'app', policy: { limits } },
      { path: '/gone', upstream: 'gone', policy: { limits } },
    ],
  });
  for (let i = 0; i < 3; i++) {
    expect(await open(server, 'http/1', '/endpoint')).toBe(403);
    expect(await open(server, 'http/1', '/declined')).toBe(403);
    expect(await open(server, 'http/1', '/gone')).toBe(503);
  }
  accept = () => {
    throw new Error('accept fails');
  };
  for (let i = 0; i < 3; i++) expect(await open(server, 'http/1', '/endpoint')).toBe(500);
  accept = () => new Promise(() => {});
  const socket = net.connect(server.port('http/1'), '127.0.0.1');
  socket.write(
    'GET /endpoint HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  await sleep(50);
  expect(await open(server, 'http/1', '/endpoint')).toBe(503);
  socket.destroy();
  accept = () => true;
  let next: unknown = 503;
  for (let i = 0; i < 100 && next === 503; i++) {
    await sleep(5);
    next = await open(server, 'http/1', '/endpoint');
  }
  expect(next).toBeTypeOf('object');
});

describe.each(wires)('over %s', wire => {
  test.each(['/endpoint', '/relay'])(
    'nothing waits for a client of %s that has gone before its time was over',
    async path => {
      const { url } = await echoBackend();
      const policy = { limits: { messages: '1/h', whenExceeded: 'wait' } } as const;
      const clock = new FakeClock();
      const routes = [
        { endpoint: defineEndpoint({ path: '/endpoint', onMessage: () => {} }), policy },
        { path: '/relay', upstream: 'app', policy },
      ];
      const server = await WiredServer.start({ upstreams: { app: { servers: [url] } }, routes }, undefined, clock);
      closing.push(() => server.close());
      /** After ten minutes, in which the server has seen who is gone. */
      const timers = async () => {
        for (let i = 0; i < 60; i++) {
          await clock.advance(10_000);
          await sleep(5);
        }
        return clock.pending;
      };
      const leave = async (messages: number) => {
        const client = await opened(server, wire, path);
        for (let i = 0; i < messages; i++) client.send('one of too many');
        await sleep(50);
        client.terminate();
      };
      await leave(0);
      const before = await timers();
      for (let i = 0; i < 3; i++) await leave(10);
      await expect.poll(timers, { timeout: 10_000 }).toBe(before);
    },
  );

  test.each(['/endpoint', '/relay'])(
    'a client of %s that has gone while it had to wait leaves its place within three heartbeats',
    async path => {
      const { url } = await echoBackend();
      const policy = { limits: { connections: 1, messages: '1/h', whenExceeded: 'wait' } } as const;
      const clock = new FakeClock();
      const server = await WiredServer.start(
        {
          upstreams: { app: { servers: [url] } },
          routes: [
            { endpoint: defineEndpoint({ path: '/endpoint', heartbeat: '20s', onMessage: () => {} }), policy },
            { path: '/relay', upstream: 'app', websocket: { heartbeat: '20s' }, policy },
          ],
        },
        undefined,
        clock,
      );
      closing.push(() => server.close());
      const client = await opened(server, wire, path);
      for (let i = 0; i < 10; i++) client.send('one of too many');
      await sleep(50);
      // Who is there stays.
      for (let i = 0; i < 12; i++) await clock.advance(10_000);
      expect(client.isOpen).toBe(true);
      client.terminate();
      let next: unknown = 503;
      for (let i = 0; i < 60 && next === 503; i++) {
        await clock.advance(1_000);
        await sleep(5);
        next = await open(server, 'http/1', path);
      }
      expect(next).toBeTypeOf('object');
    },
  );
});

test('a session, and a user, has so many connections', async () => {
  const { server }: { server: WiredServer } = await start({
    session: {},
    routes: [
      {
        path: '/in/:name',
        session: 'create',
        fetch: async (request, { params }) => {
          if (params.name !== 'nobody') await server.server.sessions.signIn(request, { name: params.name!, roles: [] });
          return new Response('in');
        },
      },
      { endpoint: echo('/session'), policy: { limits: { connectionsPerSession: 1 } } },
      { endpoint: echo('/user'), policy: { limits: { connectionsPerUser: 2 } } },
    ],
  });
  const cookieOf = async (name: string) => {
    const { headers } = await ask(server, 'http/1', { path: `/in/${name}`, host: 'localhost' });
    const origin = server.url('http/1');
    return { Cookie: headers['set-cookie']!.split(';', 1)[0]!, Origin: origin };
  };
  const [nobody, alice, again, bob] = await Promise.all(['nobody', 'alice', 'alice', 'bob'].map(cookieOf));
  await opened(server, 'http/1', '/session', nobody);
  expect(await open(server, 'http/1', '/session', nobody)).toBe(429);
  await opened(server, 'http/1', '/session', alice);
  await opened(server, 'http/1', '/session', again);
  await opened(server, 'http/1', '/user', alice);
  await opened(server, 'http/1', '/user', again);
  expect(await open(server, 'http/1', '/user', alice)).toBe(429);
  await opened(server, 'http/1', '/user', bob);
  // Who has none is not limited by it.
  for (let i = 0; i < 4; i++) await opened(server, 'http/1', '/session');
});

describe('new sessions', () => {
  const page = { 'sec-fetch-dest': 'document', accept: 'text/html' };
  let running: WiredServer;
  const routes: RouteConfig[] = [
    { path: '/page', fetch: (_, { session }) => new Response(session ? 'with' : 'without') },
    { path: '/create', session: 'create', fetch },
    {
      path: '/in',
      fetch: async request => {
        await running.server.sessions.signIn(request, { name: 'alice', roles: [] });
        return new Response('signed in');
      },
    },
  ];
  const visit = (server: WiredServer, path: string, address: string, headers: Record<string, string> = {}) =>
    ask(server, 'http/1', { path, headers: { ...page, ...from(address), ...headers } });

  test('of one address come to an end: pages go without, and who asks for one is refused', async () => {
    const { server, logger } = await start({
      session: {},
      trustedProxies: ['127.0.0.1'],
      policy: { limits: { newSessionsPerAddress: '2/h' } },
      routes,
    });
    running = server;
    const first = await visit(server, '/page', '192.0.2.1');
    expect(first.body).toBe('with');
    expect((await visit(server, '/create', '192.0.2.1')).status).toBe(200);
    expect(await visit(server, '/page', '192.0.2.1')).toMatchObject({ status: 200, body: 'without' });
    expect(await visit(server, '/create', '192.0.2.1')).toMatchObject({
      status: 429,
      headers: { 'ratelimit-policy': '"newSessionsPerAddress";q=2;w=3600' },
    });
    // Who has one keeps it, who signs in gets one, and so does everybody else.
    const Cookie = first.headers['set-cookie']!.split(';', 1)[0]!;
    expect((await visit(server, '/page', '192.0.2.1', { Cookie })).body).toBe('with');
    expect(await visit(server, '/in', '192.0.2.1')).toMatchObject({ status: 200, body: 'signed in' });
    expect((await visit(server, '/page', '192.0.2.2')).body).toBe('with');
    expect(logger.all.map(({ fields }) => fields.event)).toContain('new-sessions-limited');
  });

  test('and connections are limited by default for public addresses, and not for those of private networks', () => {
    const taken = (limits: Limits, address: string) => {
      let sessions = 0;
      while (sessions < 2000 && !limits.takeNewSession(address)) sessions++;
      let places = 0;
      while (places < 2000 && !isRefusal(Seat.take([limits], { address }))) places++;
      return [sessions, places];
    };
    const environment = { clock: new FakeClock(), logger: new Lines(), trustedProxies: createAddressList([]) };
    const byDefault = serverLimits(undefined, environment);
    expect(['192.0.2.1', '10.0.0.1', '127.0.0.1'].map(address => taken(byDefault, address))).toEqual([
      [1200, 1000],
      [2000, 2000],
      [2000, 2000],
    ]);
    const lifted = serverLimits({ connectionsPerAddress: -1, newSessionsPerAddress: '5/m' }, environment);
    expect(['192.0.2.1', '10.0.0.1'].map(address => taken(lifted, address))).toEqual([
      [5, 2000],
      [5, 2000],
    ]);
  });

  test('that a backend gives are limited, too, and one that takes the place of another is none', async () => {
    const backend = await ServletBackend.start();
    closing.push(() => backend.close());
    const { server } = await start({
      trustedProxies: ['127.0.0.1'],
      policy: { limits: { newSessionsPerAddress: '2/h' } },
      upstreams: { app: { servers: [backend.url], session: { mode: 'observed', cookie: 'JSESSIONID' } } },
      routes: [{ path: '/*', upstream: 'app' }],
    });
    const asked = (path: string, headers: Record<string, string> = {}) =>
      ask(server, 'http/1', { path, headers: { ...from('192.0.2.1'), ...headers } });
    const first = await asked('/login');
    expect([first.status, (await asked('/login')).status]).toEqual([303, 303]);
    const Cookie = first.headers['set-cookie']!.split(';', 1)[0]!;
    const refused = await asked('/login');
    expect([refused.status, refused.headers['set-cookie']]).toEqual([429, undefined]);
    expect((await asked('/login', { Cookie })).status).toBe(303);
  });
});

test('a Unix socket has no address, and an attached server the same limits', async () => {
  const limits = { requestsPerAddress: '1/h', connections: 1 };
  const http = createHttpServer();
  const attached = createServer({
    session: false,
    policy: { limits },
    routes: [{ endpoint: echo() }],
    log: { level: 'silent' },
  });
  await attached.attach(http);
  closing.push(
    () => http.close(),
    () => attached.stop({ drain: 0 }),
  );
  const path = `/tmp/holdfast-limits-${process.pid}.sock`;
  await once(http.listen(path), 'listening');
  const statusOf = (url: string) =>
    new Promise<number>(resolve => {
      const client = new WebSocket(url);
      closing.push(() => client.terminate());
      client.on('open', () => resolve(101)).on('error', error => resolve(Number(/\d{3}/.exec(error.message)?.[0])));
    });
  expect(await statusOf(`ws+unix:${path}:/socket`)).toBe(101);
  expect(await statusOf(`ws+unix:${path}:/socket`)).toBe(503);
});

test('handshakes that an attached server leaves to others use up no limit, and count in no jail', async () => {
  const http = createHttpServer();
  const others = new WebSocketServer({ noServer: true });
  http.on('upgrade', (request, socket, early) => {
    if (request.url === '/other') others.handleUpgrade(request, socket, early, client => client.close());
  });
  const attached = createServer({
    session: false,
    policy: { limits: { handshakesPerAddress: '1/h' } },
    bans: { action: 'refuse', allow: [], undeclaredProxies: 'ban', jails: { scan: { failures: 1 } } },
    routes: [{ endpoint: echo() }],
    log: { level: 'silent' },
  });
  await attached.attach(http);
  closing.push(
    () => http.close(),
    () => attached.stop({ drain: 0 }),
  );
  await once(http.listen(0, '127.0.0.1'), 'listening');
  const { port } = http.address() as AddressInfo;
  const opens = async (path: string) => {
    const client = new WebSocket(`ws://127.0.0.1:${port}${path}`);
    closing.push(() => client.terminate());
    return new Promise<boolean>(resolve => client.on('open', () => resolve(true)).on('error', () => resolve(false)));
  };
  for (let i = 0; i < 3; i++) expect(await opens('/other')).toBe(true);
  expect(await opens('/socket')).toBe(true);
  expect(await opens('/socket')).toBe(false);
  expect(attached.bans.list()).toEqual([]);
});
