import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import { attachSession, MemoryLedger, MemoryStore, SessionManager, type SessionManagerOptions } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { openPostgres } from 'holdfast/session/postgres';
import { openRedis } from 'holdfast/session/redis';
import { FakeClock, testClient } from 'holdfast/testing';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { checkConfig } from '../../src/config/check.ts';
import type { RouteConfig } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';
import { FaultyStore } from '../session/fixture.ts';
import { ask, knock, Lines, type Wire, WiredServer } from './wires.ts';

const KEY = 'k'.repeat(43);
const folder = mkdtempSync(join(tmpdir(), 'holdfast-brought-'));
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});
afterAll(() => rmSync(folder, { recursive: true }));

function aManager(options: Partial<SessionManagerOptions> = {}): SessionManager {
  const sessions = new SessionManager({ store: new MemoryStore(), keys: [KEY], ...options });
  closers.push(() => sessions.close());
  return sessions;
}

/** An endpoint that says who its client is, and then what its session holds under `theme`. */
const who = (path = '/who') =>
  defineEndpoint({
    path,
    onOpen: connection => void connection.send(connection.session?.owner?.name ?? 'nobody'),
    onMessage: connection => void connection.send(String(connection.session?.get('theme' as never))),
  });

interface Site {
  readonly server: Server;
  readonly own: http.Server;
  /** `http://127.0.0.1:port` */
  readonly url: string;
}

/** An Express application with sessions, and endpoints beside it on one port and with one manager. */
async function startSite(sessions: SessionManager, config: Config = {}): Promise<Site> {
  const app = express();
  app.use((req, res, next) => {
    attachSession(sessions, req, res);
    next();
  });
  app.post('/sign-in/:name', async (req, res) => {
    await sessions.signIn(req, { name: req.params.name, roles: [] });
    res.sendStatus(204);
  });
  app.post('/theme', async (req, res) => {
    (await sessions.open(req)).set('theme' as never, 'dark' as never);
    res.sendStatus(204);
  });
  app.post('/sign-out', async (req, res) => {
    await (await sessions.get(req))?.invalidate();
    res.sendStatus(204);
  });
  const own = http.createServer(app);
  const server = createServer(
    { session: sessions, log: { access: 'off' }, ...config, routes: [{ endpoint: who() }, ...(config.routes ?? [])] },
    { logger: silentLogger },
  );
  await server.attach(own);
  own.listen(0, '127.0.0.1');
  await once(own, 'listening');
  closers.push(async () => {
    await server.stop({ drain: 0 });
    own.closeAllConnections();
    own.close();
  });
  return { server, own, url: `http://127.0.0.1:${(own.address() as AddressInfo).port}` };
}

/** Posts with a cookie; returns the one that the client has then. */
async function post({ url }: Site, path: string, cookie = ''): Promise<string> {
  const response = await fetch(url + path, { method: 'POST', headers: { cookie } });
  expect(response.status).toBe(204);
  return response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie;
}

const open = ({ url }: Site, cookie: string, path = '/who') =>
  testClient(url.replace('http', 'ws') + path, { headers: { cookie, origin: url } });

/** It answers. */
async function isOpen(socket: Awaited<ReturnType<typeof open>>): Promise<boolean> {
  socket.send('theme?');
  return (await Promise.race([socket.receive(), socket.closed])) === 'undefined';
}

const stores = [
  { name: 'memory', missing: undefined, open: async () => ({ store: new MemoryStore(), ledger: new MemoryLedger() }) },
  {
    name: 'lmdb',
    missing: undefined,
    open: async () => {
      const path = mkdtempSync(join(folder, 'lmdb-'));
      return { store: new LmdbStore({ path }), ledger: new LmdbLedger({ path }) };
    },
  },
  {
    name: 'redis',
    missing: redisIsMissing,
    open: async () => {
      const redis = await startRedis();
      stoppers.push(() => redis.stop());
      return openRedis(redis.url);
    },
  },
  {
    name: 'postgres',
    missing: postgresMissing,
    open: async () => {
      const postgres = await startPostgres();
      stoppers.push(() => postgres.stop());
      return openPostgres({ url: postgres.url });
    },
  },
];
const stoppers: (() => Promise<unknown>)[] = [];
afterAll(() => Promise.all(stoppers.map(stop => stop())));

describe.each(stores)('one manager for Express and for endpoints, on $name', ({ missing, open: openStore }) => {
  test.skipIf(missing)('one login is that of both, and a logout in Express closes the socket with 1008', async () => {
    const sessions = aManager(await openStore());
    const site = await startSite(sessions);
    const before = await post(site, '/theme');
    await using stranger = await open(site, before);
    expect(await stranger.receive()).toBe('nobody');
    stranger.send('theme?');
    expect(await stranger.receive()).toBe('dark');

    const cookie = await post(site, '/sign-in/ann', before);
    expect((await stranger.closed).code).toBe(1012);
    await using ann = await open(site, cookie);
    expect(await ann.receive()).toBe('ann');
    ann.send('theme?');
    expect(await ann.receive()).toBe('dark');

    await post(site, '/sign-out', cookie);
    expect(await ann.closed).toMatchObject({ code: 1008, reason: 'session ended' });
    await using after = await open(site, cookie);
    expect(await after.receive()).toBe('nobody');
    after.terminate();
  });
});

describe('who starts and who closes a manager', () => {
  test('a server that is given a manager starts it, and leaves it open when it stops', async () => {
    const clock = new FakeClock();
    const sessions = aManager({ clock, idleTimeoutMs: 10_000, sweep: { everyMs: 20_000 } });
    const ended: string[] = [];
    sessions.on('ended', ({ reason }) => ended.push(reason));
    const site = await startSite(sessions);
    await post(site, '/sign-in/ann');
    await clock.advance(20_000);
    await expect.poll(() => ended).toEqual(['expired']);
    await post(site, '/sign-in/bob');
    await site.server.stop();
    expect(await sessions.count()).toBe(1);
    expect((await sessions.ofUser('bob')).length).toBe(1);
  });

  test('starting it before and after changes nothing', async () => {
    const sessions = aManager();
    await sessions.start();
    const site = await startSite(sessions);
    await sessions.start();
    expect(await (await open(site, await post(site, '/sign-in/ann'))).receive()).toBe('ann');
  });

  test('several servers have one manager: each closes its own sockets, and stops without the other', async () => {
    const sessions = aManager();
    const [one, two] = [await startSite(sessions), await startSite(sessions)];
    const cookie = await post(one, '/sign-in/ann');
    const sockets = [await open(one, cookie), await open(two, cookie)];
    expect(await Promise.all(sockets.map(socket => socket.receive()))).toEqual(['ann', 'ann']);
    await one.server.stop({ drain: '1s' });
    expect((await sockets[0]!.closed).code).toBe(1001);
    await post(two, '/sign-out', cookie);
    expect((await sockets[1]!.closed).code).toBe(1008);
  });

  test('a server that has stopped listens to nothing of it any more', async () => {
    const sessions = aManager();
    const listening: string[] = [];
    const onSocketEnd = sessions.onSocketEnd.bind(sessions);
    sessions.onSocketEnd = listener => {
      const stop = onSocketEnd(listener);
      listening.push('one');
      return () => {
        listening.pop();
        stop();
      };
    };
    const site = await startSite(sessions);
    expect(listening).toHaveLength(1);
    await site.server.stop();
    expect(listening).toEqual([]);
    expect(site.own.listenerCount('upgrade')).toBe(0);
  });

  test('a manager that is closed is said at start, and so is a store that cannot be reached', async () => {
    const closed = aManager();
    await closed.close();
    const server = createServer({ session: closed, listen: [{ port: 0 }] }, { logger: silentLogger });
    await expect(server.start()).rejects.toMatchObject({
      code: 'ERR_SERVER_STATE',
      message: expect.stringContaining('this session manager is closed'),
    });
    const ledger = new MemoryLedger();
    ledger.subscribe = () => Promise.reject(new Error('connection refused'));
    const unreachable = aManager({ ledger });
    const other = createServer({ session: unreachable, listen: [{ port: 0 }] }, { logger: silentLogger });
    await expect(other.start()).rejects.toThrow('connection refused');
    expect(other.urls).toEqual([]);
  });

  test('a store that fails is 503 in Express and at the endpoint, and never a visitor without a session', async () => {
    const store = new FaultyStore();
    const site = await startSite(aManager({ store }));
    const cookie = await post(site, '/sign-in/ann');
    store.failing.add('*');
    const theme = await fetch(`${site.url}/theme`, { method: 'POST', headers: { cookie } });
    expect(theme.status).toBe(503);
    await expect(open(site, cookie)).rejects.toMatchObject({ status: 503 });
  });
});

describe('traffic of sockets under a manager', () => {
  test.each([
    ['messages keep the session alive where nothing is said', undefined, 'open'],
    ['not under touchOnTraffic: never', 'never', 'closed'],
  ] as const)('%s', async (_, touchOnTraffic, then) => {
    const clock = new FakeClock();
    const sessions = aManager({ clock, idleTimeoutMs: 60_000 });
    const session = touchOnTraffic ? { manager: sessions, touchOnTraffic } : sessions;
    const site = await startSite(sessions, { session });
    await using socket = await open(site, await post(site, '/sign-in/ann'));
    await socket.receive();
    for (let second = 0; second < 90; second += 30) {
      await clock.advance(30_000);
      if (then === 'closed' && second === 30) break;
      socket.send('still here');
      await socket.receive();
    }
    if (then === 'closed') expect((await socket.closed).code).toBe(1008);
    else expect(await isOpen(socket)).toBe(true);
    socket.terminate();
  });
});

describe.each<Wire>(['http/1', 'tls', 'http/2'])('the routes of a server with a manager, over %s', wire => {
  test('have its cookie, under its name and path, and its sessions', async () => {
    const sessions = aManager({ cookie: { name: 'sid', path: '/app' } });
    const count: RouteConfig = {
      path: '/app/count',
      async fetch(request) {
        const session = await server.server.sessions.open(request);
        return new Response(String(await session.update('n' as never, n => (Number(n ?? 0) + 1) as never)));
      },
    };
    const server = await WiredServer.start({ session: sessions, routes: [count, { endpoint: who('/app/who') }] });
    closers.push(() => server.close());
    const first = await ask(server, wire, { path: '/app/count' });
    const [cookie, ...attributes] = first.headers['set-cookie']!.split('; ');
    expect(cookie).toMatch(/^sid=/);
    expect(attributes).toEqual(['Path=/app', ...(wire === 'http/1' ? [] : ['Secure']), 'HttpOnly', 'SameSite=Lax']);
    expect(first.headers['cache-control']).toBe('private, no-cache');
    const again = await ask(server, wire, { path: '/app/count', headers: { cookie: cookie! } });
    expect([first.body, again.body]).toEqual(['1', '2']);
    const headers = { cookie: cookie!, origin: `${wire === 'http/1' ? 'http' : 'https'}://public.example` };
    expect((await knock(server, wire, { path: '/app/who', headers })).status).toBe(101);
    expect(await sessions.count()).toBe(1);
  });

  test('a cookie that the handler sets and that of the session both leave, the session last', async () => {
    const sessions = aManager({ cookie: { name: 'sid' } });
    const both: RouteConfig = {
      path: '/both',
      async fetch(request) {
        await sessions.open(request);
        return new Response('ok', { headers: { 'set-cookie': 'theme=dark' } });
      },
    };
    const server = await WiredServer.start({ session: sessions, routes: [both] });
    closers.push(() => server.close());
    const { headers } = await ask(server, wire, { path: '/both' });
    expect(headers['set-cookie']).toMatch(/^theme=dark, sid=/);
  });
});

describe('two managers that set one cookie for different sessions', () => {
  const OTHER = 'o'.repeat(43);
  const clashes = (lines: Lines) => lines.all.filter(({ fields }) => fields.event === 'session-cookies-clash');
  const answer = () => new Response();
  /** What a server says at its start of the sessions that it and an application mounted in it have. */
  async function atStart(one: SessionManager, other: SessionManager, routes: RouteConfig[] = []): Promise<Lines> {
    const lines = new Lines();
    const application = { session: other, routes: [{ path: '/x', fetch: answer }] };
    const server = createServer(
      { session: one, routes: [{ path: '/x', fetch: answer }, { mount: '/a', application }, ...routes] },
      { logger: lines },
    );
    const http1 = http.createServer();
    await server.attach(http1);
    await server.stop({ drain: 0 });
    return lines;
  }

  test.each([
    ['other keys', { keys: [OTHER] }],
    ['another memory', {}],
    ['a store of another kind', { store: new LmdbStore({ path: mkdtempSync(join(folder, 'clash-')) }) }],
  ])('are named once where a server starts with both, here with %s', async (_what, options) => {
    const [one, other] = [aManager(), aManager(options)];
    const lines = clashes(await atStart(one, other, [{ path: '/y', fetch: answer }]));
    expect(lines.map(({ level, fields }) => [level, fields])).toEqual([
      ['warn', { event: 'session-cookies-clash', cookie: 'holdfast', path: '/', part: 'server' }],
    ]);
    expect(lines[0]!.message).toContain('cookie.name');
    expect(JSON.stringify(lines)).not.toMatch(/kkk|ooo/);
    expect(clashes(await atStart(other, one))).toEqual([]);
  });

  test('are not meant by others: another name, path or domain, no cookie, one store', async () => {
    const store = new MemoryStore();
    for (const [first, second] of [
      [{}, { cookie: { name: 'other' } }],
      [{}, { cookie: { path: '/a' } }],
      [{}, { cookie: { domain: 'shop.example' } }],
      [{}, { tracking: 'header' as const }],
      [{ store }, { store }],
    ])
      expect(clashes(await atStart(aManager(first), aManager(second)))).toEqual([]);
    const same = aManager();
    expect(clashes(await atStart(same, same))).toEqual([]);
    // Nor by those of two hosts.
    const lines = new Lines();
    const routes = [
      { path: '/x', host: 'a.example', fetch: answer },
      {
        mount: '/b',
        application: { session: aManager(), routes: [{ path: '/x', host: 'b.example', fetch: answer }] },
      },
    ];
    const server = createServer({ session: aManager(), routes }, { logger: lines });
    await server.attach(http.createServer());
    await server.stop({ drain: 0 });
    expect(clashes(lines)).toEqual([]);
  });

  test('are named by the first request where Express has one and a server beside it the other', async () => {
    const [ours, theirs, lines] = [aManager(), aManager({ keys: [OTHER] }), new Lines()];
    const own = http.createServer((req, res) => {
      attachSession(theirs, req, res);
      res.end();
    });
    const server = createServer({ session: ours, routes: [{ endpoint: who() }] }, { logger: lines });
    await server.attach(own);
    own.listen(0, '127.0.0.1');
    await once(own, 'listening');
    closers.push(async () => {
      own.closeAllConnections();
      own.close();
    });
    expect(clashes(lines)).toEqual([]);
    const url = `http://127.0.0.1:${(own.address() as AddressInfo).port}`;
    for (let i = 0; i < 3; i++) await fetch(url);
    expect(clashes(lines)).toHaveLength(1);
    await server.stop({ drain: 0 });
  });

  test('are named where one response gets both', async () => {
    const lines = new Lines();
    const [one, other] = [aManager(), aManager({ keys: [OTHER], logger: lines })];
    const own = http.createServer((req, res) => {
      attachSession(one, req, res);
      attachSession(other, req, res);
      res.end();
    });
    own.listen(0, '127.0.0.1');
    await once(own, 'listening');
    closers.push(async () => {
      own.closeAllConnections();
      own.close();
    });
    for (let i = 0; i < 2; i++) await fetch(`http://127.0.0.1:${(own.address() as AddressInfo).port}`);
    expect(clashes(lines)).toHaveLength(1);
  });
});

describe('applications that are mounted', () => {
  test('may bring a manager of their own, and two may bring the same', async () => {
    const [main, shared] = [aManager({ cookie: { name: 'main' } }), aManager({ cookie: { name: 'shared' } })];
    const application = (manager: SessionManager) => ({
      session: manager,
      routes: [
        {
          path: '/sign-in',
          fetch: async (request: Request) => {
            await manager.signIn(request, { name: 'ann', roles: [] });
            return new Response();
          },
        },
        { endpoint: who() },
      ],
    });
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: main,
        routes: [
          { endpoint: who() },
          { mount: '/a', application: application(shared) },
          { mount: '/b', application: application(shared) },
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    expect([server.sessions, server.sessionsOf('/a'), server.sessionsOf('/b')]).toEqual([main, shared, shared]);
    await server.start();
    closers.push(() => server.stop({ drain: 0 }));
    const url = server.urls[0]!.replace('localhost', '127.0.0.1').replace(/\/$/, '');
    const cookie = (await fetch(`${url}/a/sign-in`)).headers.getSetCookie()[0]!.split(';')[0]!;
    const at = (path: string) => testClient(url.replace('http', 'ws') + path, { headers: { cookie, origin: url } });
    const sockets = [await at('/a/who'), await at('/b/who'), await at('/who')];
    expect(await Promise.all(sockets.map(socket => socket.receive()))).toEqual(['ann', 'ann', 'nobody']);
    expect(await shared.endAllOf('ann')).toBe(1);
    expect(await Promise.all(sockets.slice(0, 2).map(async socket => (await socket.closed).code))).toEqual([
      1008, 1008,
    ]);
    expect(await isOpen(sockets[2]!)).toBe(true);
    sockets[2]!.terminate();
  });
});

describe('backends behind a server with a manager', () => {
  async function startGateway(sessions: SessionManager, session: RouteConfig['session']): Promise<string> {
    const servers = [];
    for (const name of ['one', 'two']) {
      const backend = http.createServer((request, response) =>
        response.end(String(request.headers['x-session-id'] ?? name)),
      );
      backend.listen(0, '127.0.0.1');
      await once(backend, 'listening');
      closers.push(() => backend.close());
      servers.push(`http://127.0.0.1:${(backend.address() as AddressInfo).port}`);
    }
    return startGatewayTo(servers, sessions, session);
  }

  async function startGatewayTo(
    servers: readonly string[],
    sessions: SessionManager,
    session: RouteConfig['session'],
  ): Promise<string> {
    backends = servers;
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: sessions,
        upstreams: { app: { servers, affinity: 'cookie' } },
        routes: [{ path: '/*', upstream: 'app', session }],
        dataFolder: mkdtempSync(join(folder, 'data-')),
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    closers.push(() => server.stop({ drain: 0 }));
    return server.urls[0]!.replace('localhost', '127.0.0.1');
  }
  let backends: readonly string[];

  test('get the sessions of the manager', async () => {
    const sessions = aManager();
    const answer = await fetch(await startGateway(sessions, 'create'));
    const sid = await answer.text();
    expect((await sessions.info(sid))?.sid).toBe(sid);
  });

  test('have clients tied to them by a cookie that its keys sign, which other processes with these keys believe', async () => {
    const sessions = aManager();
    const first = await fetch(await startGateway(sessions, 'none'));
    const [cookie] = first.headers.getSetCookie().map(line => line.split(';')[0]!);
    // Its data folder has another key.
    const again = await fetch(await startGatewayTo(backends, aManager(), 'none'), { headers: { cookie: cookie! } });
    expect(await again.text()).toBe(await first.text());
    expect(again.headers.getSetCookie()).toEqual([]);
  });

  test('leave no listener at the ledger of the manager when the server has stopped', async () => {
    const ledger = new MemoryLedger();
    const channels: string[] = [];
    const subscribe = ledger.subscribe.bind(ledger);
    ledger.subscribe = async (channel, listener) => {
      const unsubscribe = await subscribe(channel, listener);
      channels.push(channel);
      return async () => {
        channels.splice(channels.indexOf(channel), 1);
        await unsubscribe();
      };
    };
    const sessions = aManager({ ledger });
    await sessions.start();
    const own = [...channels];
    await startGateway(sessions, 'create');
    expect(channels.length).toBeGreaterThan(own.length);
    await closers.pop()!();
    expect(channels).toEqual(own);
  });
});

describe('what contradicts a manager', () => {
  const problems = (config: object): string[] => {
    try {
      parseConfig(config);
      return [];
    } catch (error) {
      return (error as { problems: { path: string; message: string }[] }).problems.map(
        ({ path, message }) => `${path}: ${message}`,
      );
    }
  };

  test.each([
    ['store', { store: 'memory:' }],
    ['cookie', { cookie: { name: 'mine' } }],
    ['keyFiles', { keyFiles: ['key'] }],
    ['idleTimeout', { idleTimeout: '5m' }],
    ['tracking', { tracking: 'header' }],
    ['maxSessions', { maxSessions: 7 }],
  ])('%s beside it is an error that says where it belongs', (name, option) => {
    const session = { manager: aManager(), ...option };
    const message = `session.${name}: is for the manager to say; give it to "new SessionManager", or remove "manager"`;
    expect(problems({ session })).toEqual([message]);
    const mounted = [{ mount: '/a', application: { session } }];
    expect(problems({ routes: mounted })).toEqual([`routes[0].application.${message}`]);
  });

  test('touchOnTraffic beside it is none', () => {
    expect(problems({ session: { manager: aManager(), touchOnTraffic: 'any' } })).toEqual([]);
  });

  test.each([
    ['a promise', Promise.resolve()],
    ['a store', new MemoryStore()],
    ['a number', 5],
    ['true', true],
  ])('%s is no manager', (_, session) => {
    expect(problems({ session: { manager: session } }).join()).toContain('session.manager: expected a session manager');
    expect(problems({ session }).length).toBeGreaterThan(0);
  });

  test('a cookie whose path does not lead to where the application is mounted', () => {
    const session = aManager({ cookie: { path: '/shop' } });
    const at = (mount: string) => problems({ routes: [{ mount, application: { session } }] });
    expect(at('/shop')).toEqual([]);
    expect(at('/shop/cart')).toEqual([]);
    expect(at('/shopping')).toEqual([
      expect.stringContaining(
        'the session cookie of this manager has the path "/shop", and no browser sends it to "/shopping"',
      ),
    ]);
    const inner = { routes: [{ mount: '/cart', application: { session } }] };
    expect(problems({ routes: [{ mount: '/shop', application: inner }] })).toEqual([]);
    expect(problems({ routes: [{ mount: '/blog', application: inner }] })[0]).toContain('to "/blog/cart"');
  });

  test('the cookie of a backend whose sessions are observed has another name than that of the manager', () => {
    const session = aManager({ cookie: { name: 'JSESSIONID' } });
    const observed = { mode: 'observed', cookie: 'JSESSIONID', suffix: '.' };
    const upstreams = { app: { servers: ['http://localhost:3000'], session: observed } };
    const routes = [{ path: '/*', upstream: 'app' }];
    expect(problems({ session, upstreams, routes })[0]).toContain('is the name of our own session cookie');
  });

  test('check warns of a __Host- cookie where a listener has no TLS, and of sessions in URLs', () => {
    const warnings = (session: SessionManager) =>
      checkConfig(parseConfig({ session, routes: [{ path: '/a', redirect: '/b' }] })).map(({ message }) => message);
    const secure = aManager({ cookie: { everyListenerIsSecure: true } });
    expect(warnings(secure)).toEqual([expect.stringContaining('browsers drop a "__Host-" cookie')]);
    expect(warnings(aManager({ tracking: 'url' }))).toEqual([expect.stringContaining('sessions in URLs')]);
    expect(warnings(aManager())).toEqual([]);
  });
});
