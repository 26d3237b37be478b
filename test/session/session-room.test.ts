import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import { LmdbLedger, LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';
import { Cluster, user, visit } from './cluster.ts';
import { FaultyStore, KEY } from './fixture.ts';
import { type Backend, connect, PLACES, type Place, skipNote } from './race-stores.ts';

const noRoom = expect.objectContaining({ code: 'ERR_SESSION_NO_ROOM', status: 503 });

for (const { name, missing, open } of PLACES)
  describe(`a cap of ten sessions, eight of them anonymous, in ${name}${skipNote({ missing })}`, () => {
    let place: Place;
    beforeAll(async () => {
      if (!missing) place = await open();
    });
    afterAll(() => place?.close());

    test.skipIf(missing)(
      'leaves room for logins, whatever pages are loaded without a cookie, and counts what it refuses once',
      async () => {
        const clock = new FakeClock(Date.now());
        const backend = await openCapped(name, place.address);
        const limits = name === 'memory' || name === 'lmdb' ? {} : { maxSessions: 10 };
        await using manager = new SessionManager({
          ...backend,
          ...limits,
          clock,
          keys: [KEY],
          cookie: { name: 'sid' },
        });
        await manager.start();
        const bind = (cookieHeader?: string) =>
          manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: true });
        const loadPage = async () => {
          const binding = bind();
          await binding.auto();
          await binding.commit();
          const cookie = binding.responseHeaders()[0]?.value.split(';')[0];
          binding.release();
          return cookie;
        };
        const signIn = async (owner: string, cookie?: string) => {
          const binding = bind(cookie);
          const { id } = await binding.signIn(user(owner));
          await binding.commit();
          binding.release();
          return id;
        };
        const pages: (string | undefined)[] = [];
        for (let i = 0; i < 12; i++) pages.push(await loadPage());
        expect(pages.map(cookie => cookie !== undefined)).toEqual([...Array(8).fill(true), ...Array(4).fill(false)]);
        // A page that asks for a session itself learns that there is none.
        const asking = bind();
        await asking.open();
        await expect(asking.commit()).rejects.toEqual(noRoom);
        await expect(asking.commit()).rejects.toEqual(noRoom);
        asking.release();
        // A login of a new visitor, and one from an anonymous session.
        await signIn('ann');
        await signIn('bob', pages[0]);
        expect([await manager.count(), await backend.store.countAnonymous!()]).toEqual([9, 7]);
        // What is counted at each sweep only is known by then.
        await clock.advance(60_000);
        expect(await loadPage()).toBeDefined();
        // Now there is none for anybody.
        await expect(loadPage()).rejects.toEqual(noRoom);
        await expect(signIn('cay')).rejects.toEqual(noRoom);
        const [first] = await manager.ofUser('ann');
        await manager.end(first!.sid, 'logout');
        await clock.advance(60_000);
        await signIn('cay');
        expect(await manager.count()).toBe(10);
        // The page that asked, the one more, and the login; each once.
        const counted = { noRoom: 3, noRoomForPages: 4, noRoomForChanges: 0, created: 11 };
        expect(manager.statistics()).toMatchObject(counted);
      },
    );
  });

test.each(['memory', 'lmdb'] as const)(
  'at the cap of %s what has expired goes before a session is refused, whenever the next sweep is',
  async name => {
    const place = PLACES.find(one => one.name === name)!;
    const { address, close } = await place.open();
    const clock = new FakeClock(Date.now());
    await using manager = new SessionManager({
      ...{ ...(await openCapped(name, address)), clock, keys: [KEY], cookie: { name: 'sid' } },
      ...{ idleTimeoutMs: 60_000, sweep: { everyMs: 3_600_000 } },
    });
    await manager.start();
    const open = async () => {
      const binding = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
      await binding.open();
      await binding.commit().finally(() => binding.release());
    };
    for (let i = 0; i < 8; i++) await open();
    await expect(open()).rejects.toEqual(noRoom);
    await clock.advance(61_000);
    await open();
    expect(await manager.count()).toBe(1);
    await manager.close();
    await close();
  },
);

async function openCapped(name: string, address: string): Promise<Backend> {
  if (name === 'memory') return { ...(await connect(address)), store: new MemoryStore({ maxSessions: 10 }) };
  if (name !== 'lmdb') return connect(address);
  const path = address.slice('lmdb:'.length);
  return { store: new LmdbStore({ path, maxSessions: 10 }), ledger: new LmdbLedger({ path }) };
}

describe.skipIf(redisIsMissing)('a redis whose memory is limited', () => {
  test('keeps the last fifth of it for logins, and goes on ending and touching when all of it is in use', async () => {
    await using server = await startRedis();
    const clock = new FakeClock(Date.now());
    const options = { clock, keys: [KEY], cookie: { name: 'sid' }, idleTimeoutMs: 1_000_000 };
    await using manager = new SessionManager({ ...(await connect(server.url)), ...options });
    const open = async (cookieHeader?: string, owner?: string) => {
      const binding = manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
      const session = owner === undefined ? await binding.open() : await binding.signIn(user(owner));
      await binding.commit().finally(() => binding.release());
      return { sid: session.id, cookie: binding.responseHeaders()[0]?.value.split(';')[0] };
    };
    await manager.start();
    const kept = await open();
    const used = Number(/used_memory:(\d+)/.exec(await server.cli('INFO', 'memory'))![1]);
    await server.cli('CONFIG', 'SET', 'maxmemory', String(Math.round(used / 0.85)));
    const sweep = async () => {
      await clock.advance(60_000);
      // A sweep asks Redis, in real time. How far it has come does not matter before the end.
      await wait(20);
    };
    await sweep();
    const outcome = () =>
      open().then(
        () => 'opened',
        error => error.code,
      );
    await expect.poll(outcome).toBe('ERR_SESSION_NO_ROOM');
    const login = await open(kept.cookie, 'ann');
    await server.cli('CONFIG', 'SET', 'maxmemory', String(Math.round(used / 2)));
    await expect(open(undefined, 'bob')).rejects.toEqual(noRoom);
    // It is read, and its last access written: no sweep takes it for idle, and what is idle goes.
    for (let minute = 0; minute < 30; minute++) {
      const reading = manager.bind({ cookieHeader: login.cookie, isSecure: false, isDocumentNavigation: false });
      expect((await reading.get())?.id).toBe(login.sid);
      reading.release();
      await sweep();
    }
    await expect.poll(() => manager.count()).toBe(1);
    expect(await manager.end(login.sid, 'logout')).toBe(true);
    expect(await manager.count()).toBe(0);
  });
});

describe('a store without a count of anonymous sessions', () => {
  const site = (options: Partial<SessionManagerOptions>) => {
    const store = new FaultyStore();
    Object.assign(store, { countAnonymous: undefined, hasRoom: undefined });
    return new Cluster(store, options).process();
  };

  test('is capped all the same, every session taken for anonymous', async () => {
    const process = site({ maxSessions: 5 });
    for (let i = 0; i < 4; i++) await visit(process, undefined, () => {});
    await expect(visit(process, undefined, () => {})).rejects.toEqual(noRoom);
    expect(await process.manager.count()).toBe(4);
  });

  test.each([{ maxSessions: 0 }, { maxSessions: 5, anonymousShare: 2 }])('refuses %j', options => {
    expect(() => site(options)).toThrow(TypeError);
  });
});

describe('overflow: evict', () => {
  const options = { overflow: 'evict' } as const;
  let cluster: Cluster;
  beforeEach(() => {
    const store = new FaultyStore();
    Object.assign(store, { hasRoom: undefined });
    cluster = new Cluster(store, { ...options, maxSessions: 3, anonymousShare: 1 });
  });
  const signedIn = (process: ReturnType<Cluster['process']>, name: string) =>
    visit(process, undefined, (_, binding) => binding.signIn(user(name)));

  test('ends an anonymous session first, though one of a user would expire sooner', async () => {
    const process = cluster.process();
    const login = await signedIn(process, 'ann');
    await cluster.clock.advance(1_000);
    const first = await visit(process, undefined, () => {});
    await visit(process, undefined, () => {});
    await visit(process, undefined, () => {});
    expect(process.ends).toEqual([{ sid: first.sid, reason: 'evicted' }]);
    expect((await process.request(login.cookie).get())?.id).toBe(login.sid);
  });

  test('ends nobody who is signed in for a page that anybody loads', async () => {
    const process = cluster.process();
    for (const name of ['ann', 'bob', 'cay']) await signedIn(process, name);
    await expect(visit(process, undefined, () => {})).rejects.toEqual(noRoom);
    expect(process.ends).toEqual([]);
    await signedIn(process, 'dan');
    expect(process.ends).toHaveLength(1);
  });
});

describe('where there is no room', () => {
  const full = () =>
    Object.assign(new Error('full'), { name: 'HoldfastError', code: 'ERR_SESSION_NO_ROOM', status: 503 });
  const refuse = (store: FaultyStore) => {
    store.commit = async () => {
      throw full();
    };
  };

  test('a request that only reads does not fail because its secret is due to be replaced', async () => {
    const cluster = new Cluster(new FaultyStore(), { renewalTimeoutMs: 1_000, idleTimeoutMs: 60_000 });
    const process = cluster.process();
    const { cookie, sid } = await visit(process, undefined, () => {});
    await cluster.clock.advance(2_000);
    refuse(cluster.store);
    const again = await visit(process, cookie, session => session.id);
    expect([again.result, again.setCookies]).toEqual([sid, []]);
  });

  test('nor because its contents would be written again', async () => {
    const cluster = new Cluster(new FaultyStore(), { contents: 'get-and-set' });
    const process = cluster.process();
    const { cookie } = await visit(process, undefined, session => session.set('cart', { items: 1 }));
    refuse(cluster.store);
    expect((await visit(process, cookie, session => session.get('cart'))).result).toEqual({ items: 1 });
    await expect(visit(process, cookie, session => session.set('cart', {}))).rejects.toEqual(noRoom);
  });
});
