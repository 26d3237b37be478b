import { createServer, defineEndpoint, type Server } from 'holdfast';
import { MemoryLedger, MemoryStore } from 'holdfast/session';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import type { Config } from '../../src/config/config.ts';

const servers: Server[] = [];
afterEach(() => Promise.all(servers.splice(0).map(server => server.stop({ drain: 0 }))));

function create(config: Config = {}): Server {
  const server = createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], log: { access: 'off' }, ...config },
    { logger: silentLogger },
  );
  servers.push(server);
  return server;
}

const url = (server: Server, path: string) => new URL(path, server.urls[0]!.replace('localhost', '127.0.0.1'));
const NOT_YET = { code: 'ERR_SERVER_STATE', message: expect.stringContaining('await start() or attach() first') };

describe('server.sessions before the server has started', () => {
  test('is the same object then and later, and what was taken from it works in handlers', async () => {
    const server: Server = create({
      session: { store: new MemoryStore() },
      routes: [
        {
          path: '/in',
          fetch: async request => new Response((await sessions.signIn(request, { name: 'ann', roles: [] })).id),
        },
        { path: '/who', fetch: async request => new Response((await sessions.get(request))?.owner?.name ?? 'nobody') },
        {
          path: '/open',
          fetch: async request => new Response(sessions.encodeUrl(request, `/${(await sessions.open(request)).id}`)),
        },
      ],
    });
    const { sessions } = server;
    await server.start();
    expect(server.sessions).toBe(sessions);
    const signedIn = await fetch(url(server, '/in'));
    const cookie = signedIn.headers.getSetCookie()[0]!.split(';')[0]!;
    const sid = await signedIn.text();
    expect(await (await fetch(url(server, '/who'), { headers: { cookie } })).text()).toBe('ann');
    expect(await (await fetch(url(server, '/open'), { headers: { cookie } })).text()).toBe(`/${sid}`);
    expect(await sessions.access(sid, session => session.owner?.name)).toBe('ann');
    expect((await sessions.info(sid))?.sid).toBe(sid);
    expect((await sessions.peek(sid))?.owner?.name).toBe('ann');
    expect((await sessions.ofUser('ann')).map(one => one.sid)).toEqual([sid]);
    expect(await sessions.count()).toBe(1);
    expect(sessions.statistics().created).toBe(1);
    expect(await Array.fromAsync(sessions.list(), one => one.sid)).toEqual([sid]);
    expect(await sessions.endAllOf('ann', { except: sid })).toBe(0);
    expect(await sessions.end(sid, 'admin')).toBe(true);
  });

  test('passes on what a login and a look ask for besides', async () => {
    const server: Server = create({
      session: {
        store: new MemoryStore(),
        attributes: { report: 'apart' },
        rememberMe: { idleTimeout: '10d', absoluteTimeout: '30d' },
      },
      routes: [
        {
          path: '/in',
          fetch: async request => {
            const session = await server.sessions.signIn(request, { name: 'ann', roles: [] }, { persistent: true });
            session.set('report' as never, 'large' as never);
            return new Response(session.id);
          },
        },
      ],
    });
    await server.start();
    const signedIn = await fetch(url(server, '/in'));
    const sid = await signedIn.text();
    expect(signedIn.headers.getSetCookie()[0]).toMatch(/; Max-Age=2592000;/);
    expect((await server.sessions.info(sid))?.isPersistent).toBe(true);
    const seen = await server.sessions.peek(sid, { attributes: ['report'] });
    expect(seen?.get('report' as never)).toBe('large');
  });

  test('takes listeners, which are told what happens from the start on, and stop when they are told to', async () => {
    const server: Server = create({
      routes: [{ path: '/*', session: 'create', fetch: () => new Response() }],
    });
    const heard: string[] = [];
    server.sessions.on('created', () => heard.push('created'));
    const stopEarly = server.sessions.on('created', () => heard.push('stopped before the start'));
    const stopLate = server.sessions.on('created', () => heard.push('stopped after the start'));
    const twice = () => heard.push('twice');
    server.sessions.on('created', twice);
    stopEarly();
    await server.start();
    await fetch(url(server, '/'));
    expect(heard).toEqual(['created', 'stopped after the start', 'twice']);
    stopLate();
    stopLate();
    server.sessions.on('created', () => heard.push('late'));
    heard.length = 0;
    await fetch(url(server, '/'));
    expect(heard).toEqual(['created', 'twice', 'late']);
  });

  test('one function may listen for two, of which one stops: before the start and after it', async () => {
    const server: Server = create({ routes: [{ path: '/*', session: 'create', fetch: () => new Response() }] });
    const heard: string[] = [];
    const both = () => heard.push('heard');
    const stopEarly = [server.sessions.on('created', both), server.sessions.on('created', both)];
    await server.start();
    const stopLate = [server.sessions.on('created', both), server.sessions.on('created', both)];
    for (const [stop, left] of [
      [undefined, 4],
      [stopEarly[0], 3],
      [stopEarly[0], 3],
      [stopLate[1], 2],
      [stopEarly[1], 1],
      [stopLate[0], 0],
    ] as const) {
      stop?.();
      heard.length = 0;
      await fetch(url(server, '/'));
      expect(heard).toHaveLength(left);
    }
  });

  test('refuses a listener that could never be told anything, at once', () => {
    const { sessions } = create();
    expect(() => sessions.on('crated' as never, () => {})).toThrow(/did you mean "created"/);
    expect(() => sessions.on('created', undefined as never)).toThrow('on: the listener is a function');
  });

  test('makes inspectors, whose options are checked at once', async () => {
    const server = create();
    const inspect = server.sessions.inspector({ allow: () => true });
    expect(() => server.sessions.inspector({ alow: () => true } as never)).toThrow(/did you mean "allow"/);
    await server.start();
    const response = await inspect(new Request('http://localhost/', { headers: { accept: 'application/json' } }));
    expect(await response.json()).toMatchObject({ sessions: [] });
  });

  test('rejects what asks the store, and says what to do', async () => {
    const { sessions } = create();
    const sid = 'A'.repeat(22);
    const calls: (() => unknown)[] = [
      () => sessions.count(),
      () => sessions.info(sid),
      () => sessions.peek(sid),
      () => sessions.end(sid, 'admin'),
      () => sessions.ofUser('ann'),
      () => sessions.endAllOf('ann'),
      () => sessions.access(sid, () => {}),
      () => sessions.get({}),
      () => sessions.open({}),
      () => sessions.signIn({}, { name: 'ann', roles: [] }),
      () => Array.fromAsync(sessions.list()),
      async () => sessions.statistics(),
      async () => sessions.encodeUrl({}, '/'),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject(NOT_YET);
  });
});

describe('server.sessions while the server starts', () => {
  test('is there for the init of an endpoint', async () => {
    const counted: number[] = [];
    const endpoint = defineEndpoint({
      path: '/a',
      async init() {
        counted.push(await server.sessions.count());
      },
    });
    const server: Server = create({ routes: [{ endpoint }] });
    await server.start();
    expect(counted).toEqual([0]);
  });

  test('waits for the store', async () => {
    const ledger = new MemoryLedger();
    const subscribe = ledger.subscribe.bind(ledger);
    const reached = Promise.withResolvers<void>();
    ledger.subscribe = async (channel, listener) => {
      await reached.promise;
      return subscribe(channel, listener);
    };
    const server = create({ session: { store: new MemoryStore(), ledger } });
    const starting = server.start();
    const counting = server.sessions.count();
    expect(await Promise.race([counting, new Promise(resolve => setTimeout(resolve, 20, 'waiting'))])).toBe('waiting');
    reached.resolve();
    expect(await counting).toBe(0);
    await starting;
  });

  test('rejects when the start fails, for which start says why', async () => {
    const ledger = new MemoryLedger();
    ledger.subscribe = () => Promise.reject(new Error('connection refused'));
    const server = create({ session: { store: new MemoryStore(), ledger } });
    const starting = server.start();
    const counting = server.sessions.count();
    await expect(starting).rejects.toThrow('connection refused');
    await expect(counting).rejects.toMatchObject(NOT_YET);
    await expect(server.sessions.count()).rejects.toMatchObject(NOT_YET);
  });
});

test('server.sessions has the counters of a server that has stopped', async () => {
  const server = create({ routes: [{ path: '/*', session: 'create', fetch: () => new Response() }] });
  await server.start();
  await fetch(url(server, '/'));
  await server.stop({ drain: 0 });
  expect(server.sessions.statistics().created).toBe(1);
});

test('a server without sessions says so at once', () => {
  expect(() => create({ session: false }).sessions).toThrow(/this server keeps no sessions; remove "session: false"/);
});

test('sessionsOf a mounted application is there from the beginning as well, also of one in another', async () => {
  const inner = { session: {}, routes: [{ path: '/*', session: 'create' as const, fetch: () => new Response() }] };
  const server = create({
    session: false,
    routes: [{ mount: '/shop', application: { routes: [{ mount: '/cart', application: inner }] } }],
  });
  const heard: string[] = [];
  server.sessionsOf('/shop/cart').on('created', () => heard.push('created'));
  for (const mount of ['/shop', '/cart', ''])
    expect(() => server.sessionsOf(mount)).toThrow('has sessions of its own; use server.sessions');
  await server.start();
  await fetch(url(server, '/shop/cart/1'));
  expect(heard).toEqual(['created']);
  expect(await server.sessionsOf('/shop/cart').count()).toBe(1);
});
