import { beforeEach, describe, expect, test } from 'vitest';
import { HoldfastError } from '../../src/base/errors.ts';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
beforeEach(() => {
  store = new FaultyStore();
  cluster = new Cluster(store);
  [one, two] = [cluster.process(), cluster.process()];
});
/** What it says why not; fails itself where it does not. */
const fails = (work: Promise<unknown>) =>
  expect(work).rejects.toMatchObject({ code: 'ERR_SESSION_NO_ROOM', status: 503 });
const statistics = (process = one) => process.manager.statistics();

describe('statistics count', () => {
  test('sessions that were created and ended, why, and how long they lived', async () => {
    const visits = await Promise.all(Array.from({ length: 4 }, () => visit(one, undefined, () => {})));
    await cluster.clock.advance(10_000);
    await one.manager.end(visits[0]!.sid, 'logout');
    await one.manager.end(visits[0]!.sid, 'logout');
    await one.manager.end(visits[1]!.sid, 'security');
    await cluster.clock.advance(30 * 60_000);
    expect(await one.request(visits[2]!.cookie).get()).toBeUndefined();
    expect(statistics()).toMatchObject({
      created: 4,
      ended: 3,
      endedBy: { expired: 1, absolute: 0, logout: 1, evicted: 0, admin: 0, security: 1 },
      lifetimeMs: { count: 3, sum: 10_000 + 10_000 + 1_810_000, max: 1_810_000 },
    });
  });

  test('the lifetime of sessions that are swept though this process never saw them', async () => {
    await visit(one, undefined, () => {});
    await two.manager.start();
    await cluster.clock.advance(31 * 60_000);
    await settle();
    expect(statistics(two)).toMatchObject({ created: 0, ended: 1, endedBy: { expired: 1 }, lifetimeMs: { count: 1 } });
    expect(statistics(two).lifetimeMs.max).toBeGreaterThanOrEqual(30 * 60_000);
    await two.manager.close();
  });

  test('sessions in memory and their bytes', async () => {
    const { sid } = await visit(one, undefined, session => session.set('a', 'x'.repeat(1_000)));
    expect(statistics().liveNow).toBe(1);
    expect(statistics().liveBytesNow).toBeGreaterThan(2_000);
    expect(statistics().size.max).toBeGreaterThan(1_000);
    await one.manager.end(sid, 'admin');
    expect(statistics()).toMatchObject({ liveNow: 0, liveBytesNow: 0 });
  });

  test('the size of sessions whenever they are read or written', async () => {
    const { cookie } = await visit(one, undefined, session => session.set('a', 'x'.repeat(100)));
    const created = statistics().size;
    expect(created.count).toBe(1);
    await visit(one, cookie, session => session.set('a', 'x'.repeat(3_000)));
    expect(statistics().size.count).toBe(created.count + 1);
    expect(statistics().size.max).toBeGreaterThan(3_000);
    await visit(two, cookie, () => {});
    expect(statistics(two).size.max).toBe(statistics(one).size.max);
  });

  test('hits, misses and breaks of affinity', async () => {
    const { cookie } = await visit(one, undefined, session => session.set('a', 1));
    await visit(two, cookie, session => session.set('a', 2));
    await visit(two, cookie, () => {});
    await visit(one, cookie, () => {});
    expect(statistics(two)).toMatchObject({ cacheMisses: 1, cacheHits: 1, affinityBreaks: 1 });
    expect(statistics(one)).toMatchObject({ cacheMisses: 1, cacheHits: 0, affinityBreaks: 1 });
  });

  test('requests for sessions that are gone, and the time since the last access', async () => {
    const { cookie, sid } = await visit(one, undefined, () => {});
    await cluster.clock.advance(5_000);
    await visit(one, cookie, () => {});
    await cluster.clock.advance(2_000);
    await visit(one, cookie, () => {});
    expect(statistics().sinceLastAccessMs).toEqual({ count: 2, sum: 7_000, max: 5_000 });
    await one.manager.end(sid, 'admin');
    await one.request(cookie).get();
    expect(statistics().gone).toBe(1);
  });

  test('calls to the store: how many, how long, how much, and which failed', async () => {
    const wait = { read: 30, glance: 2, commit: 40 } as Record<string, number>;
    store.before = call => cluster.clock.advance(wait[call] ?? 0);
    const { cookie } = await visit(one, undefined, session => session.set('a', 'x'.repeat(100)));
    await visit(two, cookie, session => session.get('a'));
    await visit(two, cookie, session => session.set('b', 'y'.repeat(50)));
    store.failing.add('glance');
    await expect(two.request(cookie).get()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    const { reads, glances, writes, slowest } = statistics(two);
    expect(reads).toMatchObject({ count: 1, failures: 0, totalMs: 30, maxMs: 30 });
    expect(reads.bytes).toBeGreaterThanOrEqual(100);
    expect(reads.bytes).toBeLessThan(200);
    expect(glances).toMatchObject({ count: 2, failures: 1, totalMs: 4 });
    expect(writes).toMatchObject({ count: 2, failures: 0, totalMs: 40 }); // the other says that it has come to this one
    expect(writes.bytes).toBeGreaterThanOrEqual(50);
    expect(writes.bytes).toBeLessThan(100);
    expect(slowest.map(({ ms }) => ms)).toEqual([40, 30, 2, 2, 0]);
    expect(slowest[0]).toMatchObject({ operation: 'commit a session', at: expect.any(Number) });
  });

  test('at most ten of the slowest calls', async () => {
    for (let n = 0; n < 20; n++) await visit(one, undefined, () => {});
    expect(statistics().slowest).toHaveLength(10);
  });

  test('a new session without room once, however often its request tries', async () => {
    const full = new Cluster(new FaultyStore(1));
    const process = full.process();
    await visit(process, undefined, () => {});
    const tries: Record<string, (binding: SessionBinding) => Promise<unknown>> = {
      'commit, commit': async binding => [await binding.open(), await fails(binding.commit())],
      'sync, sync': async binding => {
        const session = await binding.open();
        return [await fails(session.sync()), await fails(session.sync())];
      },
      update: async binding => fails(((await binding.open()) as Data).update('a', () => 1)),
      'sign in': binding => binding.signIn(user('ann')),
      'sign in twice': async binding => [await binding.signIn(user('ann')), await binding.signIn(user('ann'))],
    };
    for (const [name, act] of Object.entries(tries)) {
      const before = statistics(process).noRoom;
      const binding = process.request(undefined);
      await act(binding);
      await fails(binding.commit());
      binding.release();
      expect([name, statistics(process).noRoom - before]).toEqual([name, 1]);
    }
    expect(statistics(process)).toMatchObject({ created: 1, noRoomForChanges: 0 });
  });

  test('a change that finds no room apart from new sessions, and once, until there is room', async () => {
    const { cookie } = await visit(one, undefined, () => {});
    const { commit } = store;
    let isFull = true;
    store.commit = async (...args: Parameters<typeof commit>) => {
      if (isFull) throw new HoldfastError('ERR_SESSION_NO_ROOM', 'no room', { status: 503 });
      return commit(...args);
    };
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    session.set('a', 1);
    await fails(binding.commit());
    await fails(session.sync());
    expect(statistics()).toMatchObject({ noRoom: 0, noRoomForChanges: 1 });
    isFull = false;
    await binding.commit();
    isFull = true;
    await fails(session.update('a', () => 3));
    await fails(session.update('a', () => 4));
    expect(statistics()).toMatchObject({ noRoom: 0, noRoomForChanges: 2 });
    isFull = false;
    await session.update('a', () => 5);
    isFull = true;
    session.set('a', 2);
    await fails(binding.commit());
    binding.release();
    expect(statistics()).toMatchObject({ noRoom: 0, noRoomForChanges: 3, created: 1 });
  });

  test('nothing where room is lacking for what nobody has asked for: a new secret by time, and contents that were only read', async () => {
    const process = cluster.process({ contents: 'all', renewalTimeoutMs: 60_000 });
    const { cookie } = await visit(process, undefined, session => session.set('a', 1));
    store.commit = async () => {
      throw new HoldfastError('ERR_SESSION_NO_ROOM', 'no room', { status: 503 });
    };
    await cluster.clock.advance(61_000);
    await visit(process, cookie, session => session.get('a'));
    expect(statistics(process)).toMatchObject({ noRoom: 0, noRoomForChanges: 0 });
  });

  test('pages that were served without a session, for the rest of the room is for logins', async () => {
    const full = new Cluster(new MemoryStore({ maxSessions: 2, anonymousShare: 0.5 }) as never);
    const process = full.process();
    await visit(process, undefined, () => {});
    const page = process.request(undefined, { isDocumentNavigation: true });
    expect(await page.auto()).toBeUndefined();
    page.release();
    expect(statistics(process)).toMatchObject({ noRoom: 0, noRoomForPages: 1 });
  });

  test('refusals of a store that is full, and not the sessions that made room', async () => {
    const full = new Cluster(new FaultyStore(2));
    const [refusing, evicting] = [full.process(), full.process({ overflow: 'evict' })];
    await visit(refusing, undefined, () => {});
    await visit(refusing, undefined, () => {});
    await expect(visit(refusing, undefined, () => {})).rejects.toMatchObject({
      code: 'ERR_SESSION_NO_ROOM',
      status: 503,
    });
    await visit(evicting, undefined, () => {});
    expect([statistics(refusing).noRoom, statistics(evicting).noRoom]).toEqual([1, 0]);
    expect(statistics(evicting).endedBy.evicted).toBe(1);
  });
});

describe('nothing is held any more', () => {
  const owner = user('ann');
  const cases: Record<string, (binding: SessionBinding, cookie: string) => Promise<unknown>> = {
    'after nothing was done': async () => {},
    'after it was read': binding => binding.get(),
    'after it was read many times at once': binding =>
      Promise.all([binding.get(), binding.open(), binding.auto(), binding.existing()]),
    'after it was ended': async binding => (await binding.open()).invalidate(),
    'after it was ended and another was opened': async binding => {
      await (await binding.open()).invalidate();
      await binding.open();
    },
    'after somebody signed in, and somebody else': async binding => {
      await binding.signIn(owner);
      await binding.signIn(user('bob'));
    },
    'when it was released before it was loaded': async binding => {
      const loading = binding.get().catch(() => {});
      binding.release();
      await loading;
    },
    'when it was released while somebody signed in': async binding => {
      const signing = binding.signIn(owner).catch(() => {});
      await Promise.resolve();
      binding.release();
      await signing;
    },
    'when the store failed': async binding => {
      store.failing.add('*');
      await binding.get().catch(() => {});
      await binding.open().catch(() => {});
      store.failing.clear();
    },
    'when it could not be read at first': async binding => {
      store.failing.add('*');
      await binding.get().catch(() => {});
      store.failing.clear();
      await binding.get();
    },
    'when the commit failed': async binding => {
      ((await binding.open()) as Data).set('a', 1);
      store.failing.add('commit');
      await binding.commit().catch(() => {});
      store.failing.clear();
    },
    'when it ended elsewhere': async binding => {
      const session = (await binding.open()) as Data;
      await two.manager.end(session.id, 'admin');
      session.set('a', 1);
      await binding.commit().catch(() => {});
    },
  };

  test.each(['end-of-request', 'manual', { everyMs: 1_000 }] as const)('writing %j', async write => {
    for (const [name, act] of Object.entries(cases)) {
      const process = new Cluster(store, { write }).process();
      const { cookie } = await visit(process, undefined, () => {});
      for (const header of [cookie, undefined]) {
        const binding = process.request(header, { isDocumentNavigation: true });
        await act(binding, cookie);
        binding.release();
        binding.release();
        await settle();
        expect([name, process.manager.statistics().activeNow]).toEqual([name, 0]);
      }
    }
  });

  test('while it is held it is counted, sockets too', async () => {
    const { cookie, sid } = await visit(one, undefined, () => {});
    const binding = one.request(cookie);
    await binding.get();
    const socket = (await one.manager.attach(sid))!;
    expect(statistics().activeNow).toBe(2);
    binding.release();
    await socket.release();
    await socket.release();
    expect(statistics().activeNow).toBe(0);
  });
});
