import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ExpressStore, type ExpressStoreOptions, toExpressStore } from '../../src/session/express-store.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { PostgresStore } from '../../src/session/stores/postgres.ts';
import { RedisStore } from '../../src/session/stores/redis.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { closing } from '../services/closing.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';
import { createSite, FaultyStore, login } from './fixture.ts';

const HOUR = 3_600_000;

let clock: FakeClock;
let backend: SessionStore;
let store: ExpressStore;
const opened = closing();

function open(options: ExpressStoreOptions = {}, over: SessionStore = backend): ExpressStore {
  const made = toExpressStore(over, { clock, ...options });
  opened.push(made);
  return made;
}

/** A session as express-session hands it over, living for so many milliseconds. */
function data(values: object = {}, maxAge: number | null = HOUR) {
  const expires = maxAge === null ? null : new Date(clock.now() + maxAge).toISOString();
  return { ...values, cookie: { originalMaxAge: maxAge, expires, httpOnly: true, path: '/' } };
}

beforeEach(() => {
  clock = new FakeClock(Date.now()); // servers have clocks of their own
});
interface Backend {
  readonly name: string;
  readonly missing?: string | undefined;
  /** Starts the server that it needs. */
  start?(): Promise<{ readonly url: string; stop(): Promise<void> }>;
  open(folder: string, url: string): SessionStore | Promise<SessionStore>;
}

let opens = 0;
const backends: Backend[] = [
  { name: 'memory', open: () => new MemoryStore() },
  { name: 'lmdb', open: folder => new LmdbStore({ path: folder }) },
  {
    name: 'redis',
    missing: redisIsMissing,
    start: startRedis,
    open: (_folder, url) => RedisStore.open(url, { prefix: `t${opens++}` }),
  },
  {
    name: 'postgres',
    missing: postgresMissing,
    start: startPostgres,
    open: (_folder, url) => PostgresStore.open({ url, schema: `t${opens++}` }),
  },
];

describe.each(backends)('over the $name store', ({ name, missing, start, open: openBackend }) => {
  let folder: string;
  let server: { readonly url: string; stop(): Promise<void> } | undefined;
  beforeAll(async () => {
    if (!missing) server = await start?.();
  }, 60_000);
  afterAll(() => server?.stop());
  beforeEach(async context => {
    context.skip(missing !== undefined, `${name} (skipped: ${missing})`);
    folder = await mkdtemp(join(tmpdir(), 'holdfast-express-store-'));
    backend = await openBackend(folder, server?.url ?? '');
    Object.assign(backend, { time: undefined }); // the clock of the tests counts
    store = open();
  });
  afterEach(async () => {
    if (missing) return;
    await store.close();
    await backend.close();
    await rm(folder, { recursive: true, force: true });
  });

  test('a session comes back as JSON says it, and a sid that nobody set is none', async () => {
    const session = { ...data({ user: { name: 'Ann' }, n: [1, null] }), at: new Date(0), left: undefined };
    await store.set('a', session);
    expect(await store.get('a')).toEqual({
      ...data({ user: { name: 'Ann' }, n: [1, null] }),
      at: '1970-01-01T00:00:00.000Z',
    });
    expect(await store.get('b')).toBeUndefined();
  });

  test.each(['', ' ', 'a/b:c', '__proto__', 'ü€😀', 'x'.repeat(3000), 'express:a'])(
    'the sid %j names one session',
    async sid => {
      if (sid === '') return expect(store.set(sid, data())).rejects.toThrow(TypeError);
      await store.set(sid, data({ a: 1 }));
      expect(await store.get(sid)).toEqual(data({ a: 1 }));
      expect(Object.keys(await store.all())).toEqual([sid]);
      await store.destroy(sid);
      expect(await store.get(sid)).toBeUndefined();
    },
  );

  test('set replaces the whole session: the last one wins', async () => {
    await store.set('a', data({ one: 1, two: 2 }));
    await store.set('a', data({ two: 3 }));
    expect(await store.get('a')).toEqual(data({ two: 3 }));
  });

  test('it ends at the millisecond that its cookie says', async () => {
    await store.set('a', data({}, 1500));
    await clock.advance(1499);
    expect(await store.get('a')).toBeDefined();
    await clock.advance(1);
    expect([await store.get('a'), await store.length(), await store.all()]).toEqual([
      undefined,
      0,
      Object.create(null),
    ]);
  });

  test('without an expiry in its cookie it is kept for a day after the last set or touch', async () => {
    await store.set('a', data({ a: 1 }, null));
    clock.jump(clock.now() + 20 * HOUR);
    await store.touch('a', data({}, null));
    clock.jump(clock.now() + 24 * HOUR - 1);
    expect(await store.get('a')).toEqual(data({ a: 1 }, null));
    await clock.advance(1);
    expect(await store.get('a')).toBeUndefined();
  });

  test('touch moves the expiry, both ways, and get tells it', async () => {
    await store.set('a', data({ a: 1 }, 1000));
    await clock.advance(900);
    await store.touch('a', data({ ignored: true }, 2000));
    expect(await store.get('a')).toEqual(data({ a: 1 }, 2000));
    await clock.advance(1999);
    expect(await store.get('a')).toMatchObject({ a: 1, cookie: { originalMaxAge: 2000 } });
    await store.touch('a', data({}, 10));
    await clock.advance(10);
    expect(await store.get('a')).toBeUndefined();
  });

  test('touch writes the data not again', async () => {
    await store.set('a', data({ a: 1 }));
    const before = (await backend.read('express:a'))!.attributes.get('session')!;
    await store.touch('a', data({ a: 2 }));
    expect((await backend.read('express:a'))!.attributes.get('session')).toEqual(before);
  });

  test('touch of a sid that nobody set makes no session', async () => {
    await store.touch('a', data());
    expect([await store.get('a'), await backend.count()]).toEqual([undefined, 0]);
  });

  test('set after destroy brings nothing back, also by another process; when that is long ago it does', async () => {
    const other = open();
    await store.set('a', data({ user: 'Ann' }));
    await other.destroy('a');
    for (const each of [store, other]) {
      await each.set('a', data({ user: 'Ann' }));
      await each.touch('a', data());
      expect(await each.get('a')).toBeUndefined();
    }
    expect([await store.length(), await store.all()]).toEqual([0, Object.create(null)]);
    await clock.advance(5 * 60_000);
    await store.set('a', data({ user: 'Bob' }));
    expect(await store.get('a')).toEqual(data({ user: 'Bob' }));
  });

  test('all, length and clear mean the sessions of one prefix', async () => {
    const site = createSite(backend);
    const { sid } = await login(site, { a: 1 });
    const shop = open({ prefix: 'shop:' });
    for (const name of ['a', 'b', 'c']) await store.set(name, data({ name }));
    await shop.set('a', data({ name: 'shop' }));
    expect(await store.all()).toEqual(
      Object.assign(Object.create(null), { a: data({ name: 'a' }), b: data({ name: 'b' }), c: data({ name: 'c' }) }),
    );
    expect([await store.length(), await shop.length()]).toEqual([3, 1]);
    await store.clear();
    expect([await store.length(), await shop.length(), await store.get('a')]).toEqual([0, 1, undefined]);
    expect(await shop.get('a')).toEqual(data({ name: 'shop' }));
    expect(await backend.read(sid)).toBeDefined();
    await store.set('b', data());
    expect(await store.get('b')).toBeUndefined();
  });

  test('many sessions are counted, told and cleared', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `s${index}`);
    await Promise.all(names.map(name => store.set(name, data({ name }))));
    expect(await store.length()).toBe(200);
    expect(Object.keys(await store.all()).sort()).toEqual(names.sort());
    await store.clear();
    expect(await store.length()).toBe(0);
  });

  test('what is over is swept, tombstones too, and nothing of anybody else', async () => {
    const shop = open({ prefix: 'shop:', sweepIntervalMs: Number.POSITIVE_INFINITY });
    for (let index = 0; index < 100; index++) await shop.set(`${index}`, data({}, 100));
    await store.set('a', data({}, 1000));
    await store.set('b', data());
    await store.set('c', data());
    await store.destroy('c');
    await clock.advance(60_000);
    await expect.poll(() => backend.read('express:a')).toBeUndefined();
    expect(await backend.read('express:c')).toBeDefined();
    const later = async () => {
      await clock.advance(60_000);
      return backend.read('express:c');
    };
    await expect.poll(later).toBeUndefined();
    expect(await store.get('b')).toBeDefined();
    expect(await backend.count()).toBe(101);
  });
});

describe('what happens at the same time', () => {
  let faulty: FaultyStore;
  beforeEach(() => {
    faulty = new FaultyStore();
    backend = faulty;
    store = open();
  });

  test('a session that is copied to another sid is kept there', async () => {
    await store.set('old', data({ cart: 1 }));
    const session = (await store.get('old'))!;
    await store.destroy('old');
    await store.set('old', session);
    await store.set('new', session);
    expect(await store.get('new')).toMatchObject({ cart: 1 });
    expect(await store.get('old')).toBeUndefined();
  });

  test('a destroy is not overtaken by the first set, which is still on its way', async () => {
    const gate = Promise.withResolvers<void>();
    faulty.before = call => (call === 'create' ? gate.promise : undefined);
    const writes = [store.set('a', data()), store.destroy('a')];
    gate.resolve();
    await Promise.all(writes);
    expect(await store.get('a')).toBeUndefined();
  });

  test('a session is kept as it was when set was called', async () => {
    const session = data({ list: [1] }) as ReturnType<typeof data> & { list: number[] };
    const written = store.set('a', session);
    session.list.push(2);
    await written;
    expect(await store.get('a')).toMatchObject({ list: [1] });
  });

  test('a request that is slower than the tombstone does not bring the session back either', async () => {
    await store.set('a', data({ user: 'Ann' }, 10 * HOUR));
    const slow = (await store.get('a'))!;
    await store.destroy('a');
    await clock.advance(HOUR); // swept meanwhile
    await expect.poll(() => backend.read('express:a')).toBeUndefined();
    await store.set('a', slow);
    expect(await store.get('a')).toBeUndefined();
  });

  test('a session whose time ended during a request is kept by its set', async () => {
    await store.set('a', data({ n: 1 }, 1000));
    const slow = (await store.get('a'))!;
    await clock.advance(60_000);
    await expect.poll(() => backend.read('express:a')).toBeUndefined();
    await store.set('a', Object.assign(slow, data({ n: 2 })));
    expect(await store.get('a')).toMatchObject({ n: 2 });
  });
});

describe('failures', () => {
  let faulty: FaultyStore;
  let logged: { readonly repeated?: number }[];
  beforeEach(() => {
    faulty = new FaultyStore();
    backend = faulty;
    logged = [];
    const note = (fields: object) => void logged.push(fields);
    store = open({ logger: { debug: note, info: note, warn: note, error: note } });
  });

  const calls: [string, (store: ExpressStore, ...callback: [((error: unknown) => void)?]) => unknown][] = [
    ['get', (store, ...callback) => Reflect.apply(store.get, store, ['a', ...callback])],
    ['set', (store, ...callback) => Reflect.apply(store.set, store, ['a', data(), ...callback])],
    ['touch', (store, ...callback) => Reflect.apply(store.touch, store, ['a', data(), ...callback])],
    ['destroy', (store, ...callback) => Reflect.apply(store.destroy, store, ['a', ...callback])],
    ['load', (store, ...callback) => Reflect.apply(store.load, store, ['a', ...callback])],
    ['all', (store, ...callback) => Reflect.apply(store.all, store, callback)],
    ['length', (store, ...callback) => Reflect.apply(store.length, store, callback)],
  ];

  test.each(calls)(
    '%s tells a failing store by its callback, or rejects; 503 and not "no session"',
    async (_name, call) => {
      await store.set('a', data());
      faulty.failing.add('*');
      const outage = expect.objectContaining({ code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 });
      expect(await new Promise(resolve => void call(store, resolve))).toEqual(outage);
      await expect(call(store)).rejects.toEqual(outage);
      call(store); // nobody waits for it: it is logged, and ends nothing
      // One line for the first, and one that counts the others: at the latest when the store is closed.
      const failures = async () => {
        await store.close();
        return logged.reduce((sum, { repeated = 1 }) => sum + repeated, 0);
      };
      await expect.poll(failures).toBeGreaterThanOrEqual(2);
    },
  );

  test.each(calls)('%s never calls back before it returns, and once', async (_name, call) => {
    let isReturned = false;
    const seen: boolean[] = [];
    const returned = call(store, () => seen.push(isReturned));
    isReturned = true;
    expect(returned).toBeUndefined();
    await expect.poll(() => seen).toEqual([true]);
  });

  test.each([
    ['a circle', () => Object.assign(data(), { self: {} as object })],
    ['a BigInt', () => ({ ...data(), n: 1n })],
    ['a sid that is none', () => data()],
  ])('%s is told by the callback and not thrown', async (what, make) => {
    const session = make() as ReturnType<typeof data> & { self?: object };
    if (session.self) Object.assign(session.self, { session });
    const sid = what === 'a sid that is none' ? (undefined as unknown as string) : 'a';
    const error = await new Promise(resolve => store.set(sid, session, resolve));
    expect(error).toBeInstanceOf(TypeError);
    expect(await backend.count()).toBe(0);
  });

  test('data that is no JSON is an error', async () => {
    await store.set('a', data());
    await backend.commit('express:a', { set: new Map([['session', Buffer.from('{')]]) });
    await expect(store.get('a')).rejects.toThrow(SyntaxError);
  });

  test('a store that does not answer is an error after 5 s', async () => {
    faulty.before = () => new Promise(() => {});
    const asked = expect(store.get('a')).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    await clock.advance(5_000);
    await asked;
  });

  test('a sweep that fails is tried again', async () => {
    await store.set('a', data({}, 1000));
    faulty.failing.add('expired');
    await clock.advance(60_000);
    expect(await backend.read('express:a')).toBeDefined();
    faulty.failing.clear();
    await clock.advance(60_000);
    await expect.poll(() => backend.read('express:a')).toBeUndefined();
  });

  test('without express-session there is no class to make sessions of', async () => {
    await store.set('a', data());
    await expect(store.load('a')).rejects.toThrow(/session\(\{ store \}\)/);
    expect(() => store.createSession({}, data())).toThrow(TypeError);
  });
});

test.each([
  { prefix: '' },
  { prefix: 'shop' },
  { prefix: 'a:b:' },
  { ttlMs: 0 },
  { tombstoneMs: Number.POSITIVE_INFINITY },
  { sweepIntervalMs: -1 },
  { storeTimeoutMs: Number.NaN },
])('options that cannot work are refused: %j', options => {
  expect(() => toExpressStore(new MemoryStore(), options)).toThrow(TypeError);
});

test('close ends the sweeping, and leaves the store open', async () => {
  backend = new MemoryStore();
  store = open();
  await store.set('a', data());
  await store.close();
  expect(clock.pending).toBe(0);
  expect(await backend.count()).toBe(1);
});
