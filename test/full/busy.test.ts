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

/** Returns when the process has just become busy. */
async function block(served: Served, ms: number): Promise<void> {
  await ask(served, 'http/1', { path: `/block?${ms}` });
  await wait(150);
}

/** What happens around a standstill. It has brought itself into place when it calls `busy`, and goes on in it. */
type Case = (busy: () => Promise<void>) => Promise<void>;
type Results = Readonly<Record<string, Promise<void>>>;

/** One standstill for all of them, side by side. Returns what becomes of each. */
function inOneStandstill(served: Served, ms: number, cases: Readonly<Record<string, Case>>): Results {
  const places = Object.values(cases).map(() => Promise.withResolvers<void>());
  const busy = Promise.all(places.map(({ promise }) => promise)).then(() => block(served, ms));
  const results = Object.entries(cases).map(([name, run], index) => {
    const inPlace = () => places[index]!.resolve();
    const result = run(() => {
      inPlace();
      return busy;
    });
    // Also one that has failed before.
    result.then(inPlace, inPlace);
    return [name, result] as const;
  });
  return Object.fromEntries(results);
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

describe('towards stores', () => {
  const stack = new AsyncDisposableStack();
  let results: Results = {};

  /** A commit in a standstill, and one that is never stored. */
  async function commits(store: 'redis' | 'postgres'): Promise<{ stored: Promise<void>; silent: Promise<void> }> {
    const service = await (store === 'redis' ? heldRedis() : heldPostgres());
    stack.defer(() => service.stop());
    const served = stack.use(
      await Served.module(
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
      ),
    );
    const { setCookies } = await ask(served, 'tls', { path: '/set' });
    const headers = ['Cookie', setCookies[0]!.split(';')[0]!];
    const stored = (async () => {
      await service.hold();
      const answers = wires.map(wire => ask(served, wire, { path: '/set', headers }));
      await wait(300);
      // Longer than a deadline of the store (2 s), and than every other one (5 s).
      await block(served, 6_000);
      await service.release();
      expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
      expect(served.logged().filter(({ level }) => level === 'error' || level === 50)).toEqual([]);
    })();
    const silent = stored
      .catch(() => {})
      .then(async () => {
        await service.hold();
        const startedAt = performance.now();
        const answer = ask(served, 'http/1', { path: '/set', headers });
        await wait(300);
        await block(served, 1_500);
        expect((await answer).status).toBe(503);
        // The time in which the process was busy, and the deadline.
        expect(performance.now() - startedAt).toBeLessThan(1_500 + 2_000 + 1_500);
      });
    return { stored, silent };
  }

  async function newConnection(): Promise<void> {
    const server = await startPostgres();
    stack.defer(() => server.stop());
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
    stack.defer(() => {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    });
    const { port } = proxy.address() as AddressInfo;
    const served = stack.use(
      await Served.module(
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
      ),
    );
    await until(async () => (await ask(served, 'http/1', { path: '/set' })).status === 200);
    waitFor = promise;
    for (const socket of sockets) socket.destroy();
    await wait(200);
    const answer = ask(served, 'http/1', { path: '/set' });
    await wait(200);
    await block(served, 3_000);
    resolve();
    expect((await answer).status).toBe(200);
  }

  beforeAll(() => {
    const named: Record<string, Promise<void>> = {};
    for (const [store, missing] of [
      ['redis', redisIsMissing],
      ['postgres', postgresMissing],
    ] as const) {
      if (missing) continue;
      const both = commits(store);
      named[`${store} stored`] = both.then(({ stored }) => stored);
      named[`${store} silent`] = both.then(({ silent }) => silent);
    }
    if (!postgresMissing) named.connection = newConnection();
    for (const result of Object.values(named)) result.catch(() => {});
    results = named;
  });
  afterAll(async () => {
    await Promise.allSettled(Object.values(results));
    await stack.disposeAsync();
  });

  for (const [store, missing] of [
    ['redis', redisIsMissing],
    ['postgres', postgresMissing],
  ] as const) {
    test.skipIf(missing)(
      `${store}: a commit that was stored is answered 200 after the process was busy for longer than every deadline`,
      () => results[`${store} stored`],
    );

    test.skipIf(missing)(
      `${store}: one that says nothing fails in time all the same`,
      () => results[`${store} silent`],
    );
  }

  test.skipIf(postgresMissing)('a new connection to postgres that was made is used', () => results.connection);
});

describe('towards backends', () => {
  const LIMIT_MS = 2_000;
  const STANDSTILL_MS = 4_000;
  const stack = new AsyncDisposableStack();
  let served: Served;
  let results: Results = {};
  /** What a backend waits for. */
  const { promise: release, resolve: goOn } = Promise.withResolvers<void>();

  const cases: Record<string, Case> = {
    async 'an answer that has arrived is passed on'(busy) {
      const answers = wires.map(wire => ask(served, wire, { path: '/app/a' }));
      await wait(200);
      await busy();
      goOn();
      expect((await Promise.all(answers)).map(({ status, body }) => [status, body])).toEqual(
        wires.map(() => [200, 'answered']),
      );
    },
    async 'a WebSocket that was taken is opened'(busy) {
      const answers = wires.map(wire => ask(served, wire, { path: '/app/socket', isUpgrade: true }));
      await wait(200);
      await busy();
      goOn();
      expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([101, 101, 101]);
    },
    async 'a connection that was made is used, TLS included'(busy) {
      const answers = wires.map(wire => ask(served, wire, { path: '/secure' }));
      await wait(200);
      await busy();
      goOn();
      expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
    },
    async 'a backend that says nothing is given up in time all the same'(busy) {
      const startedAt = performance.now();
      const answer = ask(served, 'http/1', { path: '/app/dead' });
      await wait(200);
      await busy();
      expect((await answer).status).toBe(504);
      expect(performance.now() - startedAt).toBeLessThan(STANDSTILL_MS + LIMIT_MS + 1_000);
    },
    async 'a server that has answered its check stays in service'(busy) {
      await busy();
      await wait(STANDSTILL_MS + LIMIT_MS);
      for (let round = 0; round < 2; round++) await block(served, 2_500).then(() => wait(2_500));
      expect(served.logged().filter(({ msg }) => /unhealthy/.test(String(msg)))).toEqual([]);
    },
  };

  beforeAll(async () => {
    const backend = http.createServer(async (request, response) => {
      if (request.url === '/app/dead') return;
      if (request.url === '/health') await wait(250);
      else await release;
      response.end('answered');
    });
    backend.on('upgrade', async (request, socket: Socket) => {
      await release;
      const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accept = Buffer.from(await crypto.subtle.digest('SHA-1', Buffer.from(key))).toString('base64');
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.write(Buffer.from([0x81, 2, 0x68, 0x69]));
      socket.on('error', () => {}).resume();
    });
    const { certificate: cert, key } = createCertificate({ name: 'localhost' });
    const secure = tls.createServer({ cert, key }, socket => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswered'));
    });
    // Its handshake begins late.
    const raw = net.createServer(async socket => {
      socket.on('error', () => {}).pause();
      await release;
      secure.emit('connection', socket);
    });
    for (const server of [backend, raw]) {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      stack.defer(() => void server.close());
    }
    const portOf = (server: net.Server) => (server.address() as AddressInfo).port;
    served = stack.use(
      await Served.module(
        `${BLOCK}
        const limits = { connectTimeout: ${LIMIT_MS}, answerTimeout: ${LIMIT_MS}, handshakeTimeout: ${LIMIT_MS} };
        const health = { path: '/health', interval: '10ms', timeout: ${LIMIT_MS}, unhealthyAfter: 1 };
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
      ),
    );
    results = inOneStandstill(served, STANDSTILL_MS, cases);
  });
  afterAll(async () => {
    await Promise.allSettled(Object.values(results));
    await stack.disposeAsync();
  });

  test.each(Object.keys(cases))('%s', name => results[name]);
});

describe('towards clients', () => {
  const LIMIT_MS = 2_500;
  /** Longer than a connection without a request is kept: a second, and one more that Node adds. */
  const STANDSTILL_MS = 5_000;
  let served: Served;
  let results: Results = {};

  const cases: Record<string, Case> = {
    async 'a head without an end is 408 all the same'(busy) {
      using peer = new Peer(await served.dial('http/1'));
      peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
      await wait(100);
      const startedAt = performance.now();
      await busy();
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/^HTTP\/1\.1 408 /);
      expect(performance.now() - startedAt).toBeLessThan(STANDSTILL_MS + LIMIT_MS + 2_500);
    },
    async 'a TLS handshake that has arrived is taken'(busy) {
      const plain = net.connect(served.port('tls'), '127.0.0.1');
      await once(plain, 'connect');
      await wait(100);
      await busy();
      const socket = tls.connect({ socket: plain, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
      using peer = new Peer(socket);
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
    },
    async 'a PROXY header that has arrived is read'(busy) {
      const [, port] = await served.program.printed(/listening on https:\S+\nlistening on http:\S+:(\d+)/);
      const socket = net.connect(Number(port), '127.0.0.1');
      await once(socket, 'connect');
      using peer = new Peer(socket);
      socket.write('PROXY TCP4 ');
      await wait(100);
      await busy();
      socket.write('192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
    },
    async 'over HTTP/2 settings that were acknowledged, and requests that have arrived, count'(busy) {
      using wire = await Http2Wire.dial(served.port('http/2'));
      wire.acknowledgesSettings = false;
      using idle = await Http2Wire.dial(served.port('http/2'));
      await wait(100);
      await busy();
      wire.send(frame(FrameType.settings, Flag.ack, 0));
      const streams = [wire, idle].map(one => one.request('GET', '/'));
      for (const [index, one] of [wire, idle].entries())
        expect(await one.seen(() => one.statusOf(streams[index]!))).toBe(200);
    },
    async 'a pong that has arrived keeps its WebSocket open'(busy) {
      const over2 = new Http2Client(served.url('http/2'));
      const sockets: WebSocketClient[] = [
        await testClient(`${served.url('http/1').replace('http', 'ws')}/beat`),
        await testClient(`${served.url('tls').replace('http', 'ws')}/beat`, { tls: { rejectUnauthorized: false } }),
        await over2.webSocket('/beat'),
      ];
      let closed = 0;
      for (const socket of sockets) void socket.closed.then(() => closed++);
      await busy();
      await wait(STANDSTILL_MS + LIMIT_MS + 1_000);
      for (let round = 0; round < 2; round++) await block(served, 2_000).then(() => wait(2_500));
      expect(closed).toBe(0);
      for (const socket of sockets) socket.close();
      over2.session.destroy();
    },
  };
  for (const wire of ['http/1', 'tls'] as const) {
    cases[`the rest of a head that has arrived is read over ${wire}`] = async busy => {
      using peer = new Peer(await served.dial(wire));
      peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
      await wait(100);
      await busy();
      peer.socket.write('Connection: close\r\n\r\n');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/^HTTP\/1\.1 200 /);
    };
    cases[`the rest of a body that has arrived is read over ${wire}`] = async busy => {
      using peer = new Peer(await served.dial(wire));
      peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbo');
      await wait(100);
      await busy();
      peer.socket.write('dy');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/^HTTP\/1\.1 200 [\s\S]*body$/);
    };
    cases[`a request that has arrived on a kept connection is served over ${wire}`] = async busy => {
      using peer = new Peer(await served.dial(wire));
      peer.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await until(() => peer.text.endsWith('answered'));
      await busy();
      peer.socket.write('POST /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody');
      await until(() => peer.isClosed);
      expect(peer.text).toMatch(/body$/);
    };
  }

  beforeAll(async () => {
    served = await Served.module(
      `${BLOCK}
      listen.push({ port: 0, host: '127.0.0.1', proxyProtocol: 'required' });
      export default defineConfig({
        listen, session: false, headerTimeout: ${LIMIT_MS}, clientTimeout: ${LIMIT_MS}, keepAliveTimeout: '1s', trustedProxies: ['127.0.0.1'],
        routes: [
          blockRoute,
          { endpoint: defineEndpoint({ path: '/beat', idleTimeout: '800ms', heartbeat: '300ms' }) },
          { path: '/', fetch: () => new Response('answered') },
          { path: '/read', fetch: async request => new Response(await request.text()) },
        ],
      });`,
    );
    results = inOneStandstill(served, STANDSTILL_MS, cases);
  });
  afterAll(async () => {
    await Promise.allSettled(Object.values(results));
    await served?.[Symbol.asyncDispose]();
  });

  test.each(Object.keys(cases))('%s', name => results[name]);
});
