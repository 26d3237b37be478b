import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import tls from 'node:tls';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { ask } from '../guard/ask.ts';
import { Flag, FrameType, frame, Http2Wire } from '../guard/http2-wire.ts';
import { Peer } from '../guard/peer.ts';
import { Served, wires } from '../guard/served.ts';
import { createCertificate } from '../self-signed-certificate.ts';
import { Http2Client } from '../server/http2-client.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';
import { until } from '../services/until.ts';

// A process whose event loop was busy for longer than a deadline: what has arrived meanwhile counts as in time.

/** What every module of these tests begins with: `GET /block?<ms>` keeps the process busy a little later. */
const BLOCK = `
  const block = request => {
    const ms = Number(new URL(request.url).search.slice(1));
    const work = () => { for (const end = performance.now() + ms; performance.now() < end; ); };
    // Behind it the timers come first, and then what has arrived.
    setTimeout(() => setImmediate(work), 50);
    return new Response('soon');
  };
  const blockRoute = { path: '/block', session: 'none', fetch: block };
`;

/** For how long a connection without a request is kept. */
const KEPT_MS = 6_000;

/** Returns when the process has just become busy. */
async function block(served: Served, ms: number): Promise<void> {
  await ask(served, 'http/1', { path: `/block?${ms}` });
  await wait(150);
}

/** Keeps what commits wait for, and lets it go again. */
interface Held {
  readonly url: string;
  hold(): Promise<void>;
  release(): Promise<void>;
  stop(): Promise<void>;
}

async function heldRedis(): Promise<Held> {
  const server: RedisServer = await startRedis();
  return {
    url: server.url,
    hold: async () => server.signal('SIGSTOP'),
    release: async () => server.signal('SIGCONT'),
    stop: () => server.stop(),
  };
}

async function heldPostgres(): Promise<Held> {
  const server: PostgresServer = await startPostgres();
  const client = new pg.Client({ connectionString: server.url });
  client.on('error', () => {});
  await client.connect();
  return {
    url: server.url,
    hold: async () => {
      const { rows } = await client.query("SELECT tablename FROM pg_tables WHERE schemaname = 'holdfast'");
      await client.query('BEGIN');
      const tables = rows.map(({ tablename }) => `holdfast.${tablename}`).join(', ');
      await client.query(`LOCK TABLE ${tables} IN ACCESS EXCLUSIVE MODE`);
    },
    release: async () => void (await client.query('COMMIT')),
    stop: async () => {
      await client.end().catch(() => {});
      await server.stop();
    },
  };
}

describe.each([
  { name: 'redis', missing: redisIsMissing, start: heldRedis },
  { name: 'postgres', missing: postgresMissing, start: heldPostgres },
])('with sessions in $name', ({ missing, start }) => {
  let service: Held;
  let served: Served;
  let cookie: string;

  beforeAll(async () => {
    if (missing) return;
    service = await start();
    served = await Served.module(
      `${BLOCK}
      export default defineConfig({
        listen,
        session: { store: '${service.url}', keyFiles: ['key'] },
        routes: [
          blockRoute,
          { path: '/set', session: 'create', fetch: (_, { session }) => { session.set('n', Math.random()); return new Response('stored'); } },
        ],
      });`,
      { files: { key: 'k'.repeat(43) } },
    );
    const { setCookies } = await ask(served, 'tls', { path: '/set' });
    cookie = setCookies[0]!.split(';')[0]!;
  });

  afterAll(async () => {
    await served?.[Symbol.asyncDispose]();
    await service?.stop();
  });

  test.skipIf(missing).each([
    { what: 'a deadline of the store (2 s)', ms: 3_000 },
    { what: 'every deadline (5 s)', ms: 6_000 },
  ])('a commit that was stored is answered 200 after the process was busy for longer than $what', async ({ ms }) => {
    await service.hold();
    const answers = wires.map(wire => ask(served, wire, { path: '/set', headers: ['Cookie', cookie] }));
    await wait(300);
    await block(served, ms);
    await service.release();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(served.logged().filter(({ level }) => level === 'error' || level === 50)).toEqual([]);
  });

  test.skipIf(missing)('a store that says nothing fails in time all the same', async () => {
    await service.hold();
    const startedAt = performance.now();
    const answer = ask(served, 'http/1', { path: '/set', headers: ['Cookie', cookie] });
    await wait(300);
    await block(served, 1_500);
    try {
      expect((await answer).status).toBe(503);
      // The time in which the process was busy, and the deadline.
      expect(performance.now() - startedAt).toBeLessThan(1_500 + 2_000 + 1_500);
    } finally {
      await service.release();
    }
  });
});

test.skipIf(postgresMissing)('a new connection to postgres that was made is used', async () => {
  const server = await startPostgres();
  const { promise, resolve } = Promise.withResolvers<void>();
  let waitFor: Promise<void> = Promise.resolve();
  const sockets = new Set<Socket>();
  const proxy = net.createServer(async near => {
    sockets.add(near.on('error', () => {}));
    await waitFor;
    const far = net.connect(server.port, '127.0.0.1').on('error', () => {});
    near.pipe(far).pipe(near);
    sockets.add(far);
  });
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  const { port } = proxy.address() as AddressInfo;
  const served = await Served.module(
    `${BLOCK}
    export default defineConfig({
      listen,
      session: { store: '${server.url.replace(String(server.port), String(port))}', keyFiles: ['key'] },
      routes: [
        blockRoute,
        { path: '/set', session: 'create', fetch: (_, { session }) => { session.set('n', 1); return new Response('stored'); } },
      ],
    });`,
    { files: { key: 'k'.repeat(43) } },
  );
  try {
    await until(async () => (await ask(served, 'http/1', { path: '/set' })).status === 200);
    waitFor = promise;
    for (const socket of sockets) socket.destroy();
    await wait(200);
    const answer = ask(served, 'http/1', { path: '/set' });
    await wait(200);
    await block(served, 3_000);
    resolve();
    expect((await answer).status).toBe(200);
  } finally {
    await served[Symbol.asyncDispose]();
    for (const socket of sockets) socket.destroy();
    proxy.close();
    await server.stop();
  }
});

describe('towards backends', () => {
  let backend: http.Server;
  let secure: tls.Server;
  let raw: net.Server;
  let served: Served;
  /** What a backend has to do before it goes on. */
  let waitFor: () => Promise<unknown> = async () => {};
  let isDead = false;

  beforeAll(async () => {
    backend = http.createServer(async (request, response) => {
      if (isDead) return;
      if (request.url === '/health') await wait(250);
      else await waitFor();
      response.end('answered');
    });
    backend.on('upgrade', async (request, socket: Socket) => {
      await waitFor();
      const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accept = Buffer.from(await crypto.subtle.digest('SHA-1', Buffer.from(key))).toString('base64');
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.write(Buffer.from([0x81, 2, 0x68, 0x69]));
      socket.on('error', () => {}).resume();
    });
    const { certificate: cert, key } = createCertificate({ name: 'localhost' });
    secure = tls.createServer({ cert, key }, socket => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswered'));
    });
    // Its handshake begins late.
    raw = net.createServer(async socket => {
      socket.on('error', () => {}).pause();
      await waitFor();
      secure.emit('connection', socket);
    });
    for (const server of [backend, raw]) await once(server.listen(0, '127.0.0.1'), 'listening');
    const portOf = (server: net.Server) => (server.address() as AddressInfo).port;
    served = await Served.module(
      `${BLOCK}
      const limits = { connectTimeout: '800ms', answerTimeout: '800ms', handshakeTimeout: '800ms' };
      const health = { path: '/health', interval: '10ms', timeout: '800ms', unhealthyAfter: 1 };
      export default defineConfig({
        listen, session: false,
        upstreams: {
          app: { servers: ['http://127.0.0.1:${portOf(backend)}'], ...limits },
          checked: { servers: ['http://127.0.0.1:${portOf(backend)}'], health },
          secure: { servers: ['https://127.0.0.1:${portOf(raw)}'], tls: { verify: false }, ...limits },
        },
        routes: [
          blockRoute,
          { path: '/app/*', upstream: 'app', websocket: true },
          { path: '/checked', upstream: 'checked' },
          { path: '/secure', upstream: 'secure' },
        ],
      });`,
    );
  });

  afterAll(async () => {
    await served?.[Symbol.asyncDispose]();
    for (const server of [backend, raw]) server?.close();
  });

  test('an answer that has arrived is passed on', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waitFor = () => promise;
    const answers = wires.map(wire => ask(served, wire, { path: '/app/a' }));
    await wait(200);
    await block(served, 2_000);
    resolve();
    expect((await Promise.all(answers)).map(({ status, body }) => [status, body])).toEqual(
      wires.map(() => [200, 'answered']),
    );
  });

  test('a WebSocket that was taken is opened', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waitFor = () => promise;
    const answers = wires.map(wire => ask(served, wire, { path: '/app/socket', isUpgrade: true }));
    await wait(200);
    await block(served, 2_000);
    resolve();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([101, 101, 101]);
  });

  test('a connection that was made is used, TLS included', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waitFor = () => promise;
    const answers = wires.map(wire => ask(served, wire, { path: '/secure' }));
    await wait(200);
    await block(served, 2_000);
    resolve();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  test('a server that has answered its check stays in service', async () => {
    for (let round = 0; round < 3; round++) await block(served, 1_500).then(() => wait(1_500));
    expect(served.logged().filter(({ msg }) => /unhealthy/.test(String(msg)))).toEqual([]);
  });

  test('a backend that says nothing is given up in time all the same', async () => {
    isDead = true;
    const startedAt = performance.now();
    const answer = ask(served, 'http/1', { path: '/app/a' });
    await wait(200);
    await block(served, 2_000);
    expect((await answer).status).toBe(504);
    expect(performance.now() - startedAt).toBeLessThan(2_000 + 800 + 1_000);
    isDead = false;
  });
});

describe('towards clients', () => {
  let served: Served;
  beforeAll(async () => {
    served = await Served.module(
      `${BLOCK}
      listen.push({ port: 0, host: '127.0.0.1', proxyProtocol: 'required' });
      export default defineConfig({
        listen, session: false, headerTimeout: '800ms', clientTimeout: '800ms', keepAliveTimeout: '5s', trustedProxies: ['127.0.0.1'],
        routes: [
          blockRoute,
          { endpoint: defineEndpoint({ path: '/beat', idleTimeout: '800ms', heartbeat: '300ms' }) },
          { path: '/', fetch: () => new Response('answered') },
          { path: '/read', fetch: async request => new Response(await request.text()) },
        ],
      });`,
    );
  });
  afterAll(() => served?.[Symbol.asyncDispose]());

  test.each(['http/1', 'tls'] as const)('the rest of a head that has arrived is read over %s', async wire => {
    using peer = new Peer(await served.dial(wire));
    peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
    await wait(100);
    await block(served, 2_500);
    peer.socket.write('Connection: close\r\n\r\n');
    await until(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a head without an end is 408 all the same', async () => {
    using peer = new Peer(await served.dial('http/1'));
    peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
    await wait(100);
    const startedAt = performance.now();
    await block(served, 2_500);
    await until(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 408 /);
    expect(performance.now() - startedAt).toBeLessThan(2_500 + 800 + 2_500);
  });

  test('a TLS handshake that has arrived is taken', async () => {
    const plain = net.connect(served.port('tls'), '127.0.0.1');
    await once(plain, 'connect');
    await wait(100);
    await block(served, 2_000);
    const socket = tls.connect({ socket: plain, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    using peer = new Peer(socket);
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await until(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a PROXY header that has arrived is read', async () => {
    const [, port] = await served.program.printed(/listening on https:\S+\nlistening on http:\S+:(\d+)/);
    const socket = net.connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    using peer = new Peer(socket);
    socket.write('PROXY TCP4 ');
    await wait(100);
    await block(served, 2_000);
    socket.write('192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await until(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
  });

  test.each(['http/1', 'tls'] as const)('the rest of a body that has arrived is read over %s', async wire => {
    using peer = new Peer(await served.dial(wire));
    peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbo');
    await wait(100);
    await block(served, 2_500);
    peer.socket.write('dy');
    await until(() => peer.isClosed);
    expect(peer.text).toMatch(/^HTTP\/1\.1 200 [\s\S]*body$/);
  });

  test.each(['http/1', 'tls'] as const)(
    'a request that has arrived on a kept connection is served over %s',
    async wire => {
      using peer = new Peer(await served.dial(wire));
      peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await until(() => peer.text.endsWith('answered'));
      await block(served, KEPT_MS + 2_000);
      peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/body$/);
    },
  );

  test('over HTTP/2 settings that were acknowledged, and requests that have arrived, count', async () => {
    using wire = await Http2Wire.dial(served.port('http/2'));
    wire.acknowledgesSettings = false;
    using idle = await Http2Wire.dial(served.port('http/2'));
    await wait(100);
    await block(served, 2_500);
    wire.send(frame(FrameType.settings, Flag.ack, 0));
    const streams = [wire, idle].map(one => one.request('GET', '/'));
    for (const [index, one] of [wire, idle].entries())
      expect(await one.seen(() => one.statusOf(streams[index]!))).toBe(200);
  });

  test('a pong that has arrived keeps its WebSocket open', async () => {
    const over2 = new Http2Client(served.url('http/2'));
    const sockets: WebSocketClient[] = [
      await testClient(`${served.url('http/1').replace('http', 'ws')}/beat`),
      await testClient(`${served.url('tls').replace('http', 'ws')}/beat`, { tls: { rejectUnauthorized: false } }),
      await over2.webSocket('/beat'),
    ];
    let closed = 0;
    for (const socket of sockets) void socket.closed.then(() => closed++);
    for (let round = 0; round < 3; round++) await block(served, 2_000).then(() => wait(2_500));
    expect(closed).toBe(0);
    for (const socket of sockets) socket.close();
    over2.session.destroy();
  });
});
