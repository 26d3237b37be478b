import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import { encodeValue } from '../../src/session/record/encoder.ts';
import { sessionUntilSignIn } from '../../src/session/record/handle.ts';
import { defineType } from '../../src/session/record/type-registry.ts';
import type { Session } from '../../src/session/session.ts';
import type { SessionRecord, SessionStore, StoredAttribute } from '../../src/session/store.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { closing } from '../services/closing.ts';
import { Cluster, type Data, settle, visit, WatchedStore } from './cluster.ts';
import { cookieOf, KEY } from './fixture.ts';
import { type Backend, connect, PLACES, type Place, skipNote } from './race-stores.ts';

const APART = { report: 'apart', 'shop:photo': 'apart' } as const;
const LARGE = 'x'.repeat(900_000);
const NOT_LOADED = expect.objectContaining({ code: 'ERR_SESSION_NOT_LOADED' });
const plusOne = (n: unknown) => Number(n ?? 0) + 1;

class Stone {
  weight = 5;
}
defineType('Stone', Stone, { keep: ['weight'] });

/** The stored value of a type that only another process has declared. */
function unknownType(name: string): Uint8Array {
  const bytes = Buffer.from(encodeValue(name, new Stone(), 1_000));
  bytes.write('Brick', bytes.indexOf('Stone'));
  return bytes;
}

/** How many bytes of values a store has given. */
class Weighed {
  bytes = 0;
  calls: string[] = [];

  take(): number {
    const { bytes } = this;
    this.bytes = 0;
    this.calls = [];
    return bytes;
  }

  of(store: SessionStore): SessionStore {
    const add = (attributes: ReadonlyMap<string, StoredAttribute> | undefined) => {
      for (const { value } of attributes?.values() ?? []) this.bytes += value.length;
    };
    return new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          this.calls.push(String(name));
          const answer = Reflect.apply(member, target, args);
          if (name === 'read') void answer.then((record?: SessionRecord) => add(record?.attributes));
          if (name === 'readAttributes') void answer.then(add);
          return answer;
        };
      },
    });
  }
}

describe.each(PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'attributes that lie apart, on $title',
  ({ name, missing, open }) => {
    let place: Place;
    let shared: Backend | undefined;
    const running = closing();
    beforeAll(async () => {
      if (missing) return;
      place = await open();
      if (name === 'memory') shared = await connect(place.address);
    });
    afterAll(() => place?.close());

    async function start(options: Partial<SessionManagerOptions> = { attributes: APART }) {
      const weighed = new Weighed();
      const { store, ledger } = shared ?? (await connect(place.address));
      const manager = new SessionManager({
        store: weighed.of(store),
        ledger,
        keys: [KEY],
        cookie: { name: 'sid' },
        ...options,
      });
      running.push({ close: () => (shared ? undefined : manager.close()) });
      return { manager, weighed };
    }

    async function request<T>(
      manager: SessionManager,
      cookie: string | undefined,
      work: (session: Data) => T | Promise<T>,
    ): Promise<{ result: T; cookie: string; sid: string }> {
      const binding = manager.bind({ cookieHeader: cookie, isSecure: false, isDocumentNavigation: false });
      const session = (await binding.open()) as Data;
      const result = await work(session);
      await binding.commit();
      const own = cookieOf(binding);
      binding.release();
      return { result, cookie: own || cookie!, sid: session.id };
    }

    const withReport = (manager: SessionManager, more: Record<string, unknown> = {}) =>
      request(manager, undefined, session => {
        for (const [key, value] of Object.entries({ counter: 1, report: LARGE, ...more })) session.set(key, value);
      });

    test.skipIf(missing)('load fetches one, and get works from then on in this request and in no other', async () => {
      const { manager } = await start();
      const { cookie } = await withReport(manager);
      const other = await start();
      for (const one of [manager, other.manager])
        for (let round = 0; round < 2; round++)
          await request(one, cookie, async session => {
            expect(() => session.get('report')).toThrow(NOT_LOADED);
            expect(await session.load('report')).toBe(LARGE);
            expect(session.get('report')).toBe(LARGE);
            expect(session.get('counter')).toBe(1);
          });
    });

    test.skipIf(missing)('requests that touch a counter fetch nothing of 900 KB beside it', async () => {
      const { cookie } = await withReport((await start()).manager);
      const { manager, weighed } = await start();
      const counted = async (work: (session: Data) => unknown) => {
        weighed.take();
        await request(manager, cookie, work);
        return weighed.bytes;
      };
      expect(await counted(session => session.get('counter'))).toBeLessThan(20);
      expect(await counted(session => session.set('counter', plusOne(session.get('counter'))))).toBeLessThan(20);
      expect(await counted(session => session.update('counter', plusOne))).toBeLessThan(20);
      expect(await counted(session => session.load('counter'))).toBeLessThan(20);
      expect(await counted(session => session.load('report'))).toBeGreaterThan(900_000);
      await request((await start()).manager, cookie, async session => expect(session.get('counter')).toBe(3));
    });

    test.skipIf(missing)('update reads its own attribute only, with a list and without one', async () => {
      const { cookie } = await withReport((await start()).manager);
      for (const options of [{ attributes: APART }, {}]) {
        const { manager, weighed } = await start(options);
        await request(manager, cookie, async session => {
          weighed.take();
          await session.update('counter', plusOne);
          expect(weighed.bytes).toBeLessThan(20);
        });
      }
    });

    test.skipIf(missing)('has, keys, set, update and delete need nothing loaded', async () => {
      const { manager, weighed } = await start();
      const { cookie } = await withReport(manager, { theme: 'dark' });
      const fresh = await start();
      await request(fresh.manager, cookie, session => {
        expect([session.has('report'), session.has('shop:photo')]).toEqual([true, false]);
        expect(session.keys().sort()).toEqual(['counter', 'report', 'theme']);
        session.set('report', 'short');
        expect(session.get('report')).toBe('short');
        session.set('shop:photo', 'photo');
      });
      expect(fresh.weighed.take()).toBeLessThan(100);
      await request(manager, cookie, async session => {
        expect(await session.load(['report', 'shop:photo', 'theme'])).toEqual(['short', 'photo', 'dark']);
        expect(await session.update('report', report => `${report}er`)).toBe('shorter');
        expect(session.get('report')).toBe('shorter');
        session.delete('shop:photo');
        expect([session.has('shop:photo'), session.get('shop:photo')]).toEqual([false, undefined]);
      });
      await request(manager, cookie, async session => {
        expect(session.keys().sort()).toEqual(['counter', 'report', 'theme']);
        expect(await session.load(['shop:photo', 'report'])).toEqual([undefined, 'shorter']);
        session.delete('report');
      });
      weighed.take();
      await request(manager, cookie, async session => {
        expect(await session.load('report')).toBeUndefined();
        expect(session.get('report')).toBeUndefined();
        expect(weighed.calls).not.toContain('readAttributes'); // that it is absent was known
      });
    });

    test.skipIf(missing)('a scope names them by the rest of their names', async () => {
      const { manager } = await start();
      const { cookie } = await request(manager, undefined, session =>
        session.scope('shop').set('photo', new Uint8Array([1, 2, 3])),
      );
      await request(manager, cookie, async session => {
        const shop = session.scope('shop');
        expect(shop.keys()).toEqual(['photo']);
        expect(shop.has('photo')).toBe(true);
        expect(() => shop.get('photo')).toThrow(NOT_LOADED);
        expect(await shop.load(['photo'])).toEqual([new Uint8Array([1, 2, 3])]);
        expect(session.get('shop:photo')).toEqual(new Uint8Array([1, 2, 3]));
      });
    });

    test.skipIf(missing)('processes with other lists share sessions, also while the list is changed', async () => {
      const before = await start({});
      const { cookie } = await withReport(before.manager);
      const after = await start();
      await request(after.manager, cookie, async session => {
        expect(() => session.get('report')).toThrow(NOT_LOADED);
        expect(await session.load('report')).toBe(LARGE);
        session.set('report', 'changed apart');
      });
      await request(before.manager, cookie, session => {
        expect(session.get('report')).toBe('changed apart');
        session.set('report', 'changed as before');
      });
      const narrower = await start({ attributes: { counter: 'apart' } });
      await request(narrower.manager, cookie, async session => {
        expect(session.get('report')).toBe('changed as before');
        expect(() => session.get('counter')).toThrow(NOT_LOADED);
        expect(await session.update('counter', plusOne)).toBe(2);
      });
      await request(after.manager, cookie, async session => {
        expect([session.get('counter'), await session.load('report')]).toEqual([2, 'changed as before']);
      });
    });

    test.skipIf(missing)(
      'what others have committed since the session was read is loaded with all the rest',
      async () => {
        const { manager } = await start();
        const other = await start();
        const { cookie } = await withReport(manager);
        await request(manager, cookie, async session => {
          await request(other.manager, cookie, async theirs => {
            theirs.set('report', 'new');
            theirs.set('counter', 7);
          });
          expect(session.get('counter')).toBe(1);
          expect(await session.load('report')).toBe('new');
          expect(session.get('counter')).toBe(7);
        });
      },
    );

    test.skipIf(missing)('names and sizes are told to administrators without reading the values', async () => {
      const { cookie, sid } = await withReport((await start()).manager);
      const { manager, weighed } = await start();
      const info = await manager.info(sid);
      const sizes = Object.fromEntries(info!.attributes.map(attribute => [attribute.name, attribute.bytes]));
      expect(sizes.report).toBeGreaterThan(900_000);
      expect(sizes.report).toBeLessThan(900_100);
      expect(sizes.counter).toBeLessThan(20);
      expect(weighed.take()).toBeLessThan(20);
      await request(manager, cookie, session => session.delete('report'));
      expect((await manager.info(sid))!.attributes.map(attribute => attribute.name)).toEqual(['counter']);
    });

    test.skipIf(missing)('the limit of a session counts what lies apart', async () => {
      const { manager } = await start({ attributes: APART, maxSessionBytes: 1_000_000 });
      const { cookie } = await withReport(manager);
      await request(manager, cookie, async session => {
        expect(() => session.set('other', 'y'.repeat(100_000))).toThrow(
          expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }),
        );
        await expect(session.update('other', () => 'y'.repeat(100_000))).rejects.toMatchObject({
          code: 'ERR_SESSION_TOO_LARGE',
        });
        session.set('report', 'short');
        session.set('other', 'y'.repeat(100_000));
      });
    });

    test.skipIf(missing)('work outside requests loads them as requests do', async () => {
      const { manager } = await start();
      const { cookie, sid } = await withReport(manager);
      await manager.access(sid, async session => {
        expect(() => (session as Data).get('report')).toThrow(NOT_LOADED);
        expect(await (session as Data).load('report')).toBe(LARGE);
        (session as Data).set('report', 'by access');
      });
      await request(manager, cookie, async session => expect(await session.load('report')).toBe('by access'));
    });

    test.skipIf(missing)('a session that ended meanwhile is over for load, too', async () => {
      const { manager } = await start();
      const other = await start();
      const { cookie, sid } = await withReport(manager);
      const binding = manager.bind({ cookieHeader: cookie, isSecure: false, isDocumentNavigation: false });
      const session = (await binding.get()) as Data;
      await other.manager.end(sid, 'admin');
      await expect(session.load('report')).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
      expect(binding.current).toBeUndefined();
      binding.release();
    });
  },
);

describe('attributes that lie apart', () => {
  const running = closing();

  function cluster(options: Partial<SessionManagerOptions> = {}, store: WatchedStore = new WatchedStore()) {
    const made = new Cluster(store, { attributes: APART, ...options });
    return made;
  }

  const withReport = (process: ReturnType<Cluster['process']>, report: unknown = LARGE) =>
    visit(process, undefined, session => {
      session.set('counter', 1);
      session.set('report', report);
    });

  test('get throws for one that was not loaded, also when the session has none of this name', async () => {
    const process = cluster().process();
    const { cookie } = await visit(process, undefined, session => {
      expect(() => session.get('report')).toThrow(NOT_LOADED);
      session.set('counter', 1);
    });
    await visit(process, cookie, async session => {
      expect(() => session.get('report')).toThrow(/load\("report"\)/);
      expect(await session.load('report')).toBeUndefined();
      expect(session.get('report')).toBeUndefined();
    });
  });

  test('load refuses what is not a name', async () => {
    const process = cluster().process();
    await visit(process, undefined, async session => {
      for (const keys of [undefined, null, 7, {}, ['report', 7], new Set(['report'])])
        await expect(session.load(keys as never), String(keys)).rejects.toBeInstanceOf(TypeError);
      expect(await session.load([])).toEqual([]);
    });
  });

  test('options that cannot be meant are a TypeError at once', () => {
    for (const attributes of [
      'report',
      ['report'],
      new Map([['report', 'apart']]),
      { report: 'inline' },
      { report: true },
    ])
      expect(() => cluster({ attributes: attributes as never }).process(), String(attributes)).toThrow(TypeError);
    for (const attributes of [{ report: undefined }, { '': 'apart' }, { ['n'.repeat(257)]: 'apart' }, null])
      expect(() => cluster({ attributes: attributes as never }).process()).toThrow(TypeError);
    expect(() => cluster({ attributes: {} }).process()).not.toThrow();
  });

  test('what was loaded is frozen, and decoded once', async () => {
    const process = cluster().process();
    const { cookie } = await withReport(process, { rows: [1, 2] });
    await visit(process, cookie, async session => {
      const report = (await session.load('report')) as { rows: number[] };
      expect(report).toBe(session.get('report'));
      expect(() => report.rows.push(3)).toThrow(TypeError);
    });
  });

  test('what was set is read back after sync, and by the next request when it is loaded', async () => {
    const process = cluster().process();
    const { cookie } = await visit(process, undefined, async session => {
      session.set('report', 'first');
      await session.sync();
      expect(session.get('report')).toBe('first');
      session.set('counter', 1);
      await session.sync();
      expect(session.get('report')).toBe('first');
    });
    await visit(process, cookie, async session => {
      session.set('report', 'second');
      await session.sync();
      expect(session.get('report')).toBe('second');
    });
    await visit(process, cookie, async session => expect(await session.load('report')).toBe('second'));
  });

  test('concurrent loads, commits and updates leave each with a value that was there', async () => {
    const { store } = cluster();
    store.before = async () => {
      for (let turns = Math.random() * 6; turns > 0; turns--) await new Promise(resolve => setImmediate(resolve));
    };
    const shared = cluster({}, store);
    const processes = [1, 2, 3].map(() => shared.process({ clock: systemClock }));
    const { cookie } = await visit(processes[0]!, undefined, session => {
      session.set('n', 0);
      session.set('report', [0, LARGE.slice(0, 50)]);
    });
    const work = Array.from({ length: 60 }, (_, index) =>
      visit(processes[index % 3]!, cookie, async session => {
        if (index % 2) {
          await session.update('report', report => [(report as [number])[0] + 1, LARGE.slice(0, 50)]);
          await session.update('n', plusOne);
          return;
        }
        const [n] = (await session.load('report')) as [number];
        // Of one moment: `n` follows `report`, and never the other way round.
        expect(n).toBeGreaterThanOrEqual(session.get('n') as number);
        expect(session.get('report')).toEqual([n, LARGE.slice(0, 50)]);
      }),
    );
    await Promise.all(work);
    await visit(processes[0]!, cookie, async session =>
      expect([session.get('n'), ((await session.load('report')) as [number])[0]]).toEqual([30, 30]),
    );
  });

  test('load gives up with a conflict when others change it at every try', async () => {
    const made = cluster({ storeTimeoutMs: 500 });
    const { store } = made;
    const process = made.process();
    const { cookie, sid } = await withReport(process);
    const socket = (await process.manager.attach(sid))!;
    // Each answer is older than what a request of this process has just written.
    let [round, isBusy] = [0, false];
    for (const call of ['read', 'readAttributes'] as const) {
      const original = store[call].bind(store) as (...args: unknown[]) => Promise<never>;
      store[call] = async (...args: unknown[]) => {
        const answer = await original(...args);
        if (isBusy) return answer;
        isBusy = true;
        await visit(process, cookie, other => other.set('report', ++round));
        isBusy = false;
        return answer;
      };
    }
    const failed = expect((socket.session as Data).load('report')).rejects.toMatchObject({
      code: 'ERR_SESSION_CONFLICT',
      status: 409,
    });
    for (let turn = 0; turn < 40; turn++) {
      await made.clock.advance(50);
      await settle();
    }
    await failed;
    await socket.release();
  });

  test('a store that fails makes load fail with 503, and the next load works', async () => {
    const made = cluster();
    const process = made.process();
    const { cookie } = await withReport(process);
    await visit(process, cookie, async session => {
      made.store.failing.add('readAttributes');
      await expect(session.load('report')).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        status: 503,
      });
      expect(() => session.get('report')).toThrow(NOT_LOADED);
      made.store.failing.clear();
      expect(await session.load('report')).toBe(LARGE);
    });
  });

  test.each([[[]], [{}], ['x'], [7]])(
    'an answer of a store that is none (%j) is a failure of the store',
    async answer => {
      const made = cluster();
      const process = made.process();
      const { cookie } = await withReport(process);
      await visit(process, cookie, async session => {
        made.store.readAttributes = async () => answer as never;
        await expect(session.load('report')).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
      });
    },
  );

  test('load outside its request throws, also when the request ends while it is on its way', async () => {
    const made = cluster();
    const process = made.process();
    const { cookie } = await withReport(process);
    const binding = process.request(cookie);
    const session = (await binding.get()) as Data;
    made.store.before = async call => {
      if (call === 'readAttributes') binding.release();
    };
    await expect(session.load('report')).rejects.toMatchObject({ code: 'ERR_SESSION_OUTSIDE_REQUEST' });
    await expect(session.load('report')).rejects.toMatchObject({ code: 'ERR_SESSION_OUTSIDE_REQUEST' });
  });

  test('a store that was written before there was such a thing still works, and reads everything', async () => {
    const memory = new MemoryStore();
    const before: SessionStore = {
      name: 'before',
      create: (sid, record) => memory.create(sid, record),
      read: sid => memory.read(sid),
      glance: sid => memory.glance(sid),
      commit: (sid, changes) => memory.commit(sid, changes),
      touch: accesses => memory.touch(accesses),
      delete: (sid, expiredBy) => memory.delete(sid, expiredBy),
      expired: (now, limit) => memory.expired(now, limit),
      sids: () => memory.sids(),
      sidsOf: owner => memory.sidsOf(owner),
      count: () => memory.count(),
      close: () => memory.close(),
    };
    const manager = new SessionManager({ store: before, keys: [KEY], attributes: APART, cookie: { name: 'sid' } });
    running.push(manager);
    const opened = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
    const made = (await opened.open()) as Data;
    made.set('report', LARGE);
    made.set('counter', 1);
    await opened.commit();
    const cookie = cookieOf(opened);
    opened.release();
    const again = manager.bind({ cookieHeader: cookie, isSecure: false, isDocumentNavigation: false });
    const session = (await again.get()) as Data;
    expect(() => session.get('report')).toThrow(NOT_LOADED);
    expect(await session.update('counter', plusOne)).toBe(2);
    expect(await session.load('report')).toBe(LARGE);
    expect((await manager.info(session.id))!.attributes.map(({ name }) => name).sort()).toEqual(['counter', 'report']);
    again.release();
    // Also here the memory for decoded sessions has nothing of it.
    expect(manager.statistics().liveBytesNow).toBeLessThan(10_000);
  });

  test('the near cache neither holds nor weighs them, and keeps more sessions for it', async () => {
    const made = cluster({ cacheBytes: 20_000 });
    const process = made.process();
    const { cookie } = await withReport(process);
    await visit(process, cookie, async session => {
      await session.load('report');
      session.set('report', `${LARGE}y`);
      await session.sync();
      await session.update('report', report => `${report}z`);
    });
    const { liveBytesNow, liveNow } = process.manager.statistics();
    expect(liveBytesNow).toBeLessThan(5_000);
    expect(liveNow).toBe(1);
    made.store.calls.length = 0;
    await visit(process, cookie, session => session.get('counter'));
    expect(made.store.calls).toEqual(['glance']);
  });

  test('under the conflict policy reject a change of one that another has changed is refused', async () => {
    const made = cluster({ conflicts: 'reject' });
    const [one, two] = [made.process(), made.process()];
    const { cookie } = await withReport(one, 'first');
    await visit(one, cookie, async session => {
      session.set('report', 'mine');
      await visit(two, cookie, theirs => theirs.set('report', 'theirs'));
      await expect(session.sync()).rejects.toMatchObject({ code: 'ERR_SESSION_CONFLICT' });
      expect(await session.load('report')).toBe('theirs');
      session.set('report', 'mine, knowing theirs');
    });
    await visit(two, cookie, async session => expect(await session.load('report')).toBe('mine, knowing theirs'));
  });

  test.each([{}, { attributes: {} }])(
    'under the conflict policy reject a change that is made again after a conflict is one to what was met (%j)',
    async options => {
      const made = cluster({ conflicts: 'reject', ...options });
      const [one, two] = [made.process(), made.process()];
      const { cookie } = await withReport(one, 'first');
      for (const isLoaded of [true, false])
        for (const theirs of ['theirs', undefined]) {
          await visit(one, cookie, async session => {
            if (isLoaded) await session.load('report');
            session.set('report', 'mine');
            await visit(two, cookie, other => other.set('report', theirs));
            await expect(session.sync()).rejects.toMatchObject({ code: 'ERR_SESSION_CONFLICT' });
            expect(session.get('report')).toBe(theirs);
            for (let round = 0; round < 2; round++) {
              session.set('report', `mine, knowing theirs ${round}`);
              await session.sync();
            }
          });
          await visit(two, cookie, async session =>
            expect(await session.load('report')).toBe('mine, knowing theirs 1'),
          );
        }
    },
  );

  test('under the conflict policy reject what was loaded is what a change is made to', async () => {
    const made = cluster({ conflicts: 'reject' });
    const [one, two] = [made.process(), made.process()];
    const { cookie, sid } = await withReport(one, 'first');
    const socket = (await one.manager.attach(sid))!;
    const session = socket.session as Data;
    await session.load('report');
    await visit(two, cookie, theirs => theirs.set('report', 'theirs'));
    expect(session.get('report')).toBe('first');
    session.set('report', `${session.get('report')}, and mine`);
    await expect(session.sync()).rejects.toMatchObject({ code: 'ERR_SESSION_CONFLICT' });
    await socket.release();
  });

  test('a merging conflict policy gets what others have written, and what was loaded before', async () => {
    const merges: unknown[] = [];
    const made = cluster({
      conflicts: conflict => {
        merges.push(conflict);
        return [...((conflict.theirs as unknown[]) ?? []), ...((conflict.mine as unknown[]) ?? [])];
      },
    });
    const [one, two] = [made.process(), made.process()];
    const { cookie } = await withReport(one, ['first']);
    for (const isLoaded of [true, false])
      await visit(one, cookie, async session => {
        if (isLoaded) await session.load('report');
        session.set('report', ['mine']);
        await visit(two, cookie, theirs => theirs.set('report', ['theirs']));
        await session.sync();
        expect(session.get('report')).toEqual(['theirs', 'mine']);
      });
    expect(merges).toEqual([
      { name: 'report', base: ['first'], mine: ['mine'], theirs: ['theirs'] },
      { name: 'report', base: undefined, mine: ['mine'], theirs: ['theirs'] },
    ]);
  });

  test.each(['get-and-set', 'all'] as const)(
    'under the contents %s only those that were loaded are written',
    async contents => {
      const made = cluster({ contents });
      const process = made.process();
      const { cookie } = await withReport(process, 'kept');
      const written: string[][] = [];
      const original = made.store.commit;
      made.store.commit = (sid, changes) => {
        written.push([...(changes.set?.keys() ?? [])].sort());
        return original(sid, changes);
      };
      await visit(process, cookie, session => session.get('counter'));
      await visit(process, cookie, async session => {
        session.get('counter');
        await session.load('report');
      });
      expect(written).toEqual([['counter'], ['counter', 'report']]);
    },
  );

  test.each([
    ['get-and-set', [['counter'], ['report']]],
    ['all', [['counter', 'report']]],
  ] as const)(
    'under the contents %s a declared attribute counts as read where it is read',
    async (contents, expected) => {
      const made = cluster({ contents });
      const process = made.process();
      const { cookie } = await withReport(process, 'kept');
      const written: string[][] = [];
      const original = made.store.commit;
      made.store.commit = (sid, changes) => {
        written.push([...(changes.set?.keys() ?? [])].sort());
        return original(sid, changes);
      };
      const facts = { attributes: ['report'] };
      await visit(process, cookie, () => {}, facts);
      await visit(process, cookie, session => session.get('counter'), facts);
      if (contents === 'get-and-set') await visit(process, cookie, session => session.get('report'), facts);
      expect(written).toEqual(expected);
    },
  );

  test.each(['get-and-set', 'all'] as const)(
    'under the contents %s bytes that were changed in place are written',
    async contents => {
      const process = cluster({ contents }).process();
      const { cookie } = await withReport(process, new Uint8Array([1]));
      await visit(process, cookie, async session => {
        ((await session.load('report')) as Uint8Array)[0] = 2;
      });
      await visit(process, cookie, async session => expect(await session.load('report')).toEqual(new Uint8Array([2])));
    },
  );

  test.each(['get-and-set', 'all'] as const)(
    'under the contents %s a former value is not written over a newer one',
    async contents => {
      const made = cluster({ contents });
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      const session = socket.session as Data;
      await session.load('report');
      await visit(two, cookie, other => other.set('report', 'of two'));
      made.store.failing.add('readAttributes');
      await socket.refresh().catch(() => {});
      expect(session.get('report')).toBe('first');
      session.set('cart', ['pen']);
      await session.sync();
      made.store.failing.clear();
      await visit(two, cookie, async other => {
        expect([await other.load('report'), other.get('cart')]).toEqual(['of two', ['pen']]);
      });
      await socket.release();
    },
  );

  describe('on sockets', () => {
    const report = (session: Session) => (session as Data).get('report');
    const load = (session: Session) => (session as Data).load('report');

    test('one that has loaded it sees at once what another socket or request of its process writes', async () => {
      const process = cluster().process();
      const { cookie, sid } = await withReport(process, 'first');
      const [a, b, c] = await Promise.all([1, 2, 3].map(() => process.manager.attach(sid)));
      expect(await load(a!.session)).toBe('first');
      expect(await load(b!.session)).toBe('first');
      expect(() => report(c!.session)).toThrow(NOT_LOADED);
      (a!.session as Data).set('report', 'by a');
      expect(report(b!.session)).toBe('by a');
      await settle();
      expect(report(b!.session)).toBe('by a');
      await visit(process, cookie, session => session.set('report', 'by a request'));
      expect([report(a!.session), report(b!.session)]).toEqual(['by a request', 'by a request']);
      await visit(process, cookie, session => session.update('report', () => 'by an update'));
      expect(report(a!.session)).toBe('by an update');
      await visit(process, cookie, session => session.delete('report'));
      expect(report(a!.session)).toBeUndefined();
      expect(() => report(c!.session)).toThrow(NOT_LOADED);
      expect(await load(c!.session)).toBeUndefined();
      await Promise.all([a, b, c].map(socket => socket!.release()));
    });

    test('one that has loaded it has the former value until the refresh, and then what another process has written', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await visit(two, cookie, session => session.set('report', 'second'));
      expect(report(socket.session)).toBe('first');
      await socket.refresh();
      expect(report(socket.session)).toBe('second');
      await visit(two, cookie, session => session.delete('report'));
      await socket.refresh();
      expect(report(socket.session)).toBeUndefined();
      await visit(two, cookie, session => session.set('report', 'third'));
      await socket.refresh();
      expect(report(socket.session)).toBe('third');
      await socket.release();
    });

    test('one that has found none, or has deleted it, gets what another process sets later', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await visit(one, undefined, session => session.set('counter', 1));
      for (const begin of [
        async (session: Data) => expect(await session.load('report')).toBeUndefined(),
        (session: Data) => session.delete('report'),
      ]) {
        const socket = (await one.manager.attach(sid))!;
        await begin(socket.session as Data);
        expect(report(socket.session)).toBeUndefined();
        await visit(two, cookie, session => session.set('report', 'later'));
        expect(report(socket.session)).toBeUndefined();
        await socket.refresh();
        expect(report(socket.session)).toBe('later');
        await visit(two, cookie, session => session.delete('report'));
        await socket.release();
      }
    });

    test('a value that could not be fetched again stays the former one, and the next refresh fetches it', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await visit(two, cookie, session => {
        session.set('report', 'second');
        session.set('counter', 2);
      });
      made.store.failing.add('readAttributes');
      await expect(socket.refresh()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
      expect([report(socket.session), (socket.session as Data).get('counter')]).toEqual(['first', 2]);
      made.store.failing.clear();
      await socket.refresh();
      expect(report(socket.session)).toBe('second');
      await socket.release();
    });

    test('a request that learns of a change brings it to the sockets of its process', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await visit(two, cookie, session => session.set('report', 'second'));
      await visit(one, cookie, session => session.get('counter'));
      await expect.poll(() => report(socket.session)).toBe('second');
      await socket.release();
    });

    test('requests that come at once bring it with one fetch', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await visit(two, cookie, session => session.set('report', 'second'));
      made.store.calls.length = 0;
      await Promise.all(Array.from({ length: 20 }, () => visit(one, cookie, session => session.get('counter'))));
      await expect.poll(() => report(socket.session)).toBe('second');
      const count = (call: string) => made.store.calls.filter(name => name === call).length;
      expect([count('readAttributes'), count('glance')]).toEqual([1, 20]);
      await socket.release();
    });

    test('it follows by itself within the refresh of 5 s', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await visit(two, cookie, session => session.set('report', 'second'));
      await made.clock.advance(5_000);
      await expect.poll(() => report(socket.session)).toBe('second');
      await socket.release();
    });

    test('a refresh of sockets that have not loaded it fetches nothing of it', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await visit(two, cookie, session => session.set('report', 'second'));
      made.store.calls.length = 0;
      await socket.refresh();
      expect(made.store.calls).not.toContain('readAttributes');
      expect((socket.session as Data).has('report')).toBe(true);
      await socket.release();
    });

    test('the end of the session ends load with it', async () => {
      const made = cluster();
      const [one, two] = [made.process(), made.process()];
      const { sid } = await withReport(one, 'first');
      const socket = (await one.manager.attach(sid))!;
      await load(socket.session);
      await two.manager.end(sid, 'admin');
      await expect(load(socket.session))
        .resolves.toBe('first')
        .catch(() => {});
      await socket.refresh();
      expect(socket.isEnded).toBe(true);
      await expect(load(socket.session)).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
      await socket.release();
    });
  });

  test.each(['manual', { everyMs: 1_000 }] as const)(
    'under write %j requests of one process share what they set, and load what others have',
    async write => {
      const made = cluster({ write });
      const [one, two] = [made.process(), made.process()];
      const { cookie } = await visit(one, undefined, async session => {
        session.set('report', 'first');
        await session.sync();
      });
      await visit(one, cookie, session => session.set('report', 'not written yet'));
      await visit(one, cookie, async session => {
        expect(() => session.get('report')).toThrow(NOT_LOADED);
        expect(await session.load('report')).toBe('not written yet');
        await session.sync();
      });
      await visit(two, cookie, async session => {
        session.set('report', 'by another process');
        await session.sync();
      });
      await visit(one, cookie, async session => expect(await session.load('report')).toBe('by another process'));
      for (const process of [one, two]) await process.manager.close();
    },
  );

  test('what a request declares is loaded with its session, whichever way it gets it', async () => {
    const made = cluster();
    const process = made.process();
    const facts = { attributes: ['report', 'counter'] };
    const { cookie } = await visit(process, undefined, session => expect(session.get('report')).toBeUndefined(), facts);
    await visit(process, cookie, session => session.set('report', 'here'));
    const { cookie: renewed } = await visit(
      process,
      cookie,
      async (session, binding) => {
        expect(session.get('report')).toBe('here');
        const signedIn = (await binding.signIn({ name: 'alice', roles: [] })) as Data;
        expect(signedIn.get('report')).toBe('here');
      },
      facts,
    );
    // Of another user: it begins a new session.
    await visit(
      process,
      renewed,
      async (_, binding) => {
        const other = (await binding.signIn({ name: 'bob', roles: [] })) as Data;
        expect(other.get('report')).toBeUndefined();
      },
      facts,
    );
  });

  test('a declared attribute that cannot be loaded makes the request fail with 503, and no session be lost', async () => {
    const made = cluster();
    const process = made.process();
    const { cookie } = await withReport(process);
    made.store.failing.add('readAttributes');
    const binding = process.request(cookie, { attributes: ['report'] });
    await expect(binding.get()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 });
    made.store.failing.clear();
    expect(((await binding.get()) as Data).get('report')).toBe(LARGE);
    binding.release();
  });

  test.each(['inline', 'on a socket'])(
    'a declared attribute of a type that this process does not know fails at get, and takes no session away (%s)',
    async kind => {
      const made = cluster();
      const process = made.process();
      const { cookie, sid } = await withReport(process, 'first');
      const set = new Map([['report', unknownType('report')]]);
      await made.store.commit(sid, { set });
      const facts = { attributes: ['report'] };
      const binding = process.request(cookie, facts);
      const socket = kind === 'inline' ? undefined : (await binding.get()) && (await binding.attach());
      const session = (socket?.session ?? (await binding.get())) as Data;
      expect(session.get('counter')).toBe(1);
      expect(() => session.get('report')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_TYPE_UNKNOWN' }));
      await binding.signIn({ name: 'alice', roles: [] });
      await (await binding.get())!.invalidate();
      expect(await process.manager.attach(sid)).toBeUndefined();
      await socket?.release();
      binding.release();
      expect((await made.store.read(sid))?.attributes.get('report')).toBeUndefined();
    },
  );

  test('a session that ends while what is declared is loaded counts as none', async () => {
    const made = cluster();
    const [one, two] = [made.process(), made.process()];
    const { cookie, sid } = await withReport(one);
    made.store.before = async call => {
      made.store.before = () => {};
      if (call === 'glance') await two.manager.end(sid, 'admin');
    };
    const binding = one.request(cookie, { attributes: ['report'] });
    expect(await binding.get()).toBeUndefined();
    binding.release();
  });

  test('a request that may not see the session sees none of it, also by load', async () => {
    const process = cluster().process();
    const alice = { name: 'alice', roles: [] };
    const { cookie } = await visit(process, undefined, session => session.set('report', 'secret'), { user: alice });
    const facts = { attributes: ['report'] };
    await visit(
      process,
      cookie,
      async session => {
        expect(session.get('report')).toBeUndefined();
        expect(await session.load('report')).toBeUndefined();
        expect(await session.load(['report', 'counter'])).toEqual([undefined, undefined]);
      },
      facts,
    );
    await visit(process, cookie, session => expect(session.get('report')).toBe('secret'), { ...facts, user: alice });
  });

  describe('after a login in another process of which nothing was said here yet', () => {
    const SUPERSEDED = { code: 'ERR_SESSION_SUPERSEDED', status: 409 };
    const alice = { name: 'alice', roles: [] };

    async function prepare(options: Partial<SessionManagerOptions> = {}) {
      const made = cluster(options);
      made.store.isSilent = true;
      const [one, two] = [made.process(), made.process()];
      const { cookie, sid } = await withReport(one, 'first');
      made.ledger.publish = async () => {};
      const logIn = () =>
        visit(one, cookie, async (session, binding) => {
          await binding.signIn(alice);
          session.set('report', "alice's");
          session.set('cart', "alice's");
        });
      return { made, one, two, cookie, sid, logIn };
    }

    const duringLoad = (made: Awaited<ReturnType<typeof prepare>>['made'], work: () => Promise<unknown>) => {
      made.store.before = async call => {
        if (call !== 'readAttributes') return;
        made.store.before = () => {};
        await work();
      };
    };

    test.each(['end-of-request', 'manual'] as const)(
      'a socket from before gets nothing by load, and ends (write: %s)',
      async write => {
        const { two, sid, made, cookie } = await prepare({ write });
        const socket = (await two.manager.attach(sid))!;
        await visit(made.process({ write: 'end-of-request' }), cookie, async (session, binding) => {
          await binding.signIn(alice);
          session.set('report', "alice's");
        });
        await expect((socket.session as Data).load('report')).rejects.toMatchObject(SUPERSEDED);
        expect(two.socketEnds).toEqual([sid]);
        await socket.refresh();
        expect(two.socketEnds).toEqual([sid]);
        await socket.release();
      },
    );

    test('a socket from before ends also when its refresh meets the login', async () => {
      const { two, sid, made, cookie, logIn, one } = await prepare();
      const socket = (await two.manager.attach(sid))!;
      await (socket.session as Data).load('report');
      await visit(one, cookie, session => session.set('report', 'second'));
      duringLoad(made, logIn);
      await socket.refresh();
      expect(two.socketEnds).toEqual([sid]);
      await socket.release();
    });

    test('a request that declares it has no session any more, and can sign in', async () => {
      const { two, cookie, made, logIn } = await prepare();
      duringLoad(made, logIn);
      const binding = two.request(cookie, { attributes: ['report'] });
      expect(await binding.get()).toBeUndefined();
      await expect(binding.open()).rejects.toMatchObject(SUPERSEDED);
      const session = (await binding.signIn({ name: 'bob', roles: [] })) as Data;
      expect([session.owner?.name, session.get('cart'), session.get('report')]).toEqual(['bob', undefined, undefined]);
      binding.release();
    });

    test('a handshake that declares it gets no socket', async () => {
      const { one, two, cookie, made, logIn } = await prepare();
      const binding = two.request(cookie, { attributes: ['report'] });
      await binding.get();
      await visit(one, cookie, session => session.set('report', 'second'));
      duringLoad(made, logIn);
      expect(await binding.attach()).toBeUndefined();
      binding.release();
    });

    test('a request from before sees nothing of it, whatever it loads', async () => {
      const { two, cookie, logIn } = await prepare();
      const binding = two.request(cookie);
      const session = (await binding.get()) as Data;
      await logIn();
      for (let round = 0; round < 2; round++) await expect(session.load('report')).rejects.toMatchObject(SUPERSEDED);
      expect([session.owner, session.get('cart'), session.get('counter')]).toEqual([undefined, undefined, 1]);
      expect(() => session.get('report')).toThrow(NOT_LOADED);
      binding.release();
    });

    test('work that no client has let in goes on', async () => {
      const { two, sid, logIn } = await prepare();
      await two.manager.access(sid, async session => {
        await logIn();
        expect(await (session as Data).load('report')).toBe("alice's");
        expect(session.owner?.name).toBe('alice');
      });
    });

    test('a request that signs in beside its load has both', async () => {
      const { two, cookie, made, one } = await prepare();
      const binding = two.request(cookie);
      const session = (await binding.get()) as Data;
      await visit(one, cookie, other => other.set('report', 'second'));
      let isHeld = false;
      made.store.before = async call => {
        if (call === 'commit') for (let turn = 0; turn < 5; turn++) await settle();
        if (call === 'read') isHeld = true;
      };
      const [, report] = await Promise.all([binding.signIn(alice), session.load('report')]);
      expect([report, session.owner?.name, isHeld]).toEqual(['second', 'alice', true]);
      binding.release();
    });

    test('a secret that was replaced by time is no login', async () => {
      const { made, one, two, cookie } = await prepare({ renewalTimeoutMs: 1_000 });
      const binding = two.request(cookie);
      const session = (await binding.get()) as Data;
      await made.clock.advance(2_000);
      const rotated = await visit(one, cookie, other => other.set('report', 'second'));
      expect(rotated.setCookies).not.toEqual([]);
      expect(await session.load('report')).toBe('second');
      binding.release();
    });

    test('an idle time that was shortened meanwhile ends the sockets of a process that has learned of it by load', async () => {
      const { made, one, two, cookie, sid } = await prepare();
      const socket = (await two.manager.attach(sid))!;
      await visit(one, cookie, other => {
        other.idleTimeoutMs = 2_000;
        other.set('report', 'second');
      });
      expect(await (socket.session as Data).load('report')).toBe('second');
      await made.clock.advance(3_000);
      await expect.poll(() => two.socketEnds).toEqual([sid]);
      await socket.release();
    });
  });

  test('what stands for a superseded session has nothing to load, and after the login what that has', async () => {
    const process = cluster().process();
    let current: Session | undefined;
    const stand = sessionUntilSignIn(() => current) as Data;
    expect(await stand.load('report')).toBeUndefined();
    expect(await stand.load(['report', 'counter'])).toEqual([undefined, undefined]);
    expect(await stand.scope('shop').load('photo')).toBeUndefined();
    await expect(stand.load(7 as never)).rejects.toBeInstanceOf(TypeError);
    await visit(process, undefined, async session => {
      session.set('report', 'new');
      current = session as Session;
      expect(await stand.load('report')).toBe('new');
      expect(await stand.load(['report'])).toEqual(['new']);
    });
  });

  test('a look into a session has those that it names, and says so of the others', async () => {
    const process = cluster().process();
    const { sid } = await withReport(process, 'here');
    const seen = (await process.manager.peek(sid)) as unknown as Data;
    expect([seen.has('report'), seen.keys(), seen.get('counter')]).toEqual([true, ['counter', 'report'], 1]);
    expect(() => seen.get('report')).toThrow(NOT_LOADED);
    expect(() => seen.get('shop:photo')).toThrow(NOT_LOADED);
    const more = (await process.manager.peek(sid, { attributes: ['report'] })) as unknown as Data;
    expect([more.get('report'), more.get('counter')]).toEqual(['here', 1]);
    await expect(process.manager.peek(sid, { attributes: 'report' as never })).rejects.toBeInstanceOf(TypeError);
  });

  test('listeners of changes hear whether one was added or replaced', async () => {
    const process = cluster().process();
    const kinds: string[] = [];
    process.manager.on('changed', ({ attribute, kind }) => kinds.push(`${attribute} ${kind}`));
    const { cookie } = await visit(process, undefined, session => session.set('report', 1));
    await visit(process, cookie, session => session.set('report', 2));
    await visit(process, cookie, session => session.delete('report'));
    expect(kinds).toEqual(['report added', 'report replaced', 'report removed']);
  });

  test('the warning for large attributes names the remedy, and none is given for what lies apart', async () => {
    const process = cluster().process();
    const { cookie } = await withReport(process);
    expect(process.log.filter(({ bytes }) => bytes)).toEqual([]);
    await visit(process, cookie, session => session.set('photo', LARGE));
    expect(process.log.filter(({ attribute }) => attribute === 'photo')).toMatchObject([
      { message: expect.stringContaining("attributes: { photo: 'apart' }") },
    ]);
  });
});
