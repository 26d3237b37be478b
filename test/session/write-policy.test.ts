import { describe, expect, test } from 'vitest';
import { LIFETIME_PROFILES, WRITE_PROFILES } from '../../src/session/life/profiles.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import { Cluster, type Data, type Process, settle, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

function begin(options: Partial<SessionManagerOptions>): {
  store: FaultyStore;
  cluster: Cluster;
  one: Process;
  two: Process;
} {
  const store = new FaultyStore();
  const cluster = new Cluster(store, options);
  return { store, cluster, one: cluster.process(), two: cluster.process() };
}
const count = (store: FaultyStore, call: string) => store.calls.filter(name => name === call).length;

describe('manual writing', () => {
  const options = { write: 'manual' } as const;

  test('writes by sync only; later requests of the process see it, other processes do not', async () => {
    const { store, one, two } = begin(options);
    const { cookie } = await visit(one, undefined, session => session.set('n', 0));
    store.calls.length = 0;
    await visit(one, cookie, session => session.set('n', 1));
    await settle();
    expect(count(store, 'commit')).toBe(0);
    expect((await visit(one, cookie, session => session.get('n'))).result).toBe(1);
    expect((await visit(two, cookie, session => session.get('n'))).result).toBe(0);
    await visit(one, cookie, session => session.sync());
    expect((await visit(two, cookie, session => session.get('n'))).result).toBe(1);
  });

  test('writes a new session, a new secret and an end at once', async () => {
    const { store, one, two } = begin(options);
    const { cookie, sid } = await visit(one, undefined, session => session.set('n', 0));
    expect(store.calls).toContain('create');
    const renewed = await visit(one, cookie, session => session.renew());
    expect((await two.request(renewed.cookie).get())?.id).toBe(sid);
    await visit(one, renewed.cookie, session => session.invalidate());
    expect(await store.count()).toBe(0);
  });

  test('loses with the process what was not synced', async () => {
    const { store, one } = begin(options);
    const { cookie, sid } = await visit(one, undefined, session => session.set('n', 0));
    await visit(one, cookie, session => session.set('n', 1));
    const before = await store.read(sid);
    let after: unknown;
    store.close = async () => {
      after = await store.read(sid);
    };
    await one.manager.close();
    expect(after).toEqual(before);
  });

  test('keeps last access all the same, so that a session in use does not die', async () => {
    const { cluster, one } = begin(options);
    const { cookie, sid } = await visit(one, undefined, () => {});
    for (let minute = 0; minute < 60; minute += 10) {
      await visit(one, cookie, session => session.get('n'));
      await cluster.clock.advance(600_000);
    }
    expect((await visit(one, cookie, () => {})).sid).toBe(sid);
  });
});

describe('writing every so often', () => {
  const options = { write: { everyMs: 10_000 } } as const;

  test('shows a change to all requests of the process at once and writes them together', async () => {
    const { store, cluster, one, two } = begin(options);
    const { cookie } = await visit(one, undefined, () => {});
    const held = one.request(cookie);
    const session = (await held.open()) as Data;
    for (let n = 0; n < 5; n++) await visit(one, cookie, other => other.set(`n${n}`, n));
    expect(session.get('n4')).toBe(4);
    held.release();
    expect(count(store, 'commit')).toBe(0);
    expect((await visit(two, cookie, other => other.get('n0'))).result).toBeUndefined();
    await cluster.clock.advance(10_000);
    await settle();
    expect(count(store, 'commit')).toBe(1);
    expect((await visit(two, cookie, other => other.keys().length)).result).toBe(5);
  });

  test('writes what is left when the process closes, and leaves no timer', async () => {
    const { store, cluster, one } = begin(options);
    const { cookie, sid } = await visit(one, undefined, () => {});
    await visit(one, cookie, session => session.set('n', 1));
    let has: boolean | undefined;
    store.close = async () => {
      has = (await store.read(sid))?.attributes.has('n');
    };
    await one.manager.close();
    expect([has, cluster.clock.pending]).toEqual([true, 0]);
  });

  test('writes after an outage that was longer than its tries', async () => {
    const { store, cluster, one, two } = begin(options);
    const { cookie } = await visit(one, undefined, () => {});
    await visit(one, cookie, session => session.set('n', 1));
    store.failing.add('commit');
    await cluster.clock.advance(60_000);
    store.failing.clear();
    await cluster.clock.advance(20_000);
    expect((await visit(two, cookie, session => session.get('n'))).result).toBe(1);
  });

  test('is refused where sessions would expire before they are written', () => {
    const { cluster } = begin({});
    expect(() => cluster.process({ write: { everyMs: 60_000 }, idleTimeoutMs: 119_999 })).toThrow(TypeError);
    cluster.process({ write: { everyMs: 60_000 }, idleTimeoutMs: 120_000 });
    for (const everyMs of [0, 99, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => cluster.process({ write: { everyMs } })).toThrow(TypeError);
    expect(() => cluster.process({ write: 'sometimes' as never })).toThrow(TypeError);
  });

  test('does not write what belongs to a session that has ended', async () => {
    const { store, cluster, one, two } = begin(options);
    const { cookie, sid } = await visit(one, undefined, () => {});
    await visit(one, cookie, session => session.set('n', 1));
    await two.manager.end(sid, 'admin');
    await cluster.clock.advance(70_000);
    expect([await store.count(), cluster.clock.pending]).toEqual([0, 0]);
    expect(one.log.filter(({ err }) => err)).toEqual([]);
  });
});

describe('what a commit writes', () => {
  async function prepared(contents: 'set' | 'get-and-set' | 'all') {
    const { store, cluster, one, two } = begin({ contents });
    const { cookie, sid } = await visit(one, undefined, session => {
      session.set('bytes', Uint8Array.of(1, 2, 3));
      session.set('text', 'kept');
    });
    const { version: first } = (await store.read(sid))!;
    /** Names of the attributes that were written since. */
    const written = async () =>
      Array.from((await store.read(sid))!.attributes).flatMap(([name, { version }]) =>
        version === first ? [] : [name],
      );
    return { store, cluster, one, two, cookie, written };
  }

  test('`set` writes what was set, and nothing that was only read', async () => {
    const { one, cookie, written } = await prepared('set');
    await visit(one, cookie, session => {
      (session.get('bytes') as Uint8Array)[0] = 9;
      session.get('text');
      session.set('other', 1);
    });
    expect(await written()).toEqual(['other']);
  });

  test('`get-and-set` writes bytes that were changed in place, however often they were read', async () => {
    const { one, two, cookie, written } = await prepared('get-and-set');
    await visit(one, cookie, session => {
      (session.get('bytes') as Uint8Array)[0] = 9;
      expect((session.get('bytes') as Uint8Array)[0]).toBe(9);
    });
    expect(await written()).toEqual(['bytes']);
    expect((await visit(two, cookie, session => session.get('bytes'))).result).toEqual(Uint8Array.of(9, 2, 3));
  });

  test('`get-and-set` writes what was read', async () => {
    const { one, cookie, written } = await prepared('get-and-set');
    await visit(one, cookie, session => session.get('text'));
    expect(await written()).toEqual(['text']);
  });

  test('is only what was changed where it is not the last one that wins, in place too', async () => {
    const { one, two, store } = begin({ contents: 'get-and-set', conflicts: 'reject' });
    const { cookie } = await visit(one, undefined, session => {
      session.set('bytes', Uint8Array.of(1, 2, 3));
      session.set('text', 'kept');
    });
    store.calls.length = 0;
    await visit(one, cookie, session => [session.get('bytes'), session.get('text')]);
    expect(count(store, 'commit')).toBe(0);
    const [mine, theirs] = [one.request(cookie), two.request(cookie)];
    for (const binding of [mine, theirs]) (((await binding.open()) as Data).get('bytes') as Uint8Array)[0] = 9;
    await mine.commit();
    await expect(theirs.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_CONFLICT' });
  });

  test('`all` writes every attribute', async () => {
    const { one, cookie, written } = await prepared('all');
    await visit(one, cookie, session => session.set('other', 1));
    expect((await written()).sort()).toEqual(['bytes', 'other', 'text']);
  });

  test('that could not be written is written by the next try', async () => {
    const { store, one, two, cookie } = await prepared('get-and-set');
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    (session.get('bytes') as Uint8Array)[0] = 9;
    store.failing.add('commit');
    await expect(binding.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    store.failing.clear();
    await binding.commit();
    expect((await visit(two, cookie, other => other.get('bytes'))).result).toEqual(Uint8Array.of(9, 2, 3));
  });
});

describe('profiles', () => {
  test('are those of IBM', () => {
    expect(WRITE_PROFILES).toEqual({
      'very-high': { frequency: { everyMs: 300_000 }, contents: 'set', sweep: { atHours: [0, 2] } },
      high: { frequency: { everyMs: 300_000 }, contents: 'all' },
      medium: { frequency: 'end-of-request', contents: 'set' },
      failover: { frequency: 'end-of-request', contents: 'all' },
    });
  });

  test('set when and what is written, unless that is set beside it', async () => {
    const { store, cluster, one } = begin({ profile: 'high' });
    const { cookie } = await visit(one, undefined, () => {});
    await visit(one, cookie, session => session.set('n', 1));
    expect(count(store, 'commit')).toBe(0);
    await cluster.clock.advance(300_000);
    expect(count(store, 'commit')).toBe(1);
    const own = cluster.process({ profile: 'high', write: 'end-of-request', contents: 'set' });
    await visit(own, cookie, session => session.set('n', 2));
    expect(count(store, 'commit')).toBe(2);
  });

  test.each([
    ['very-high', ['first', 'second']],
    ['high', ['first', 'second', 'untouched']],
  ] as const)(
    '%s: what was set is in the store 300 s later, and is lost with a process that is killed before',
    async (profile, names) => {
      const { store, cluster, one, two } = begin({ profile });
      const { cookie, sid } = await visit(one, undefined, session => session.set('untouched', 0));
      const { version: first } = (await store.read(sid))!;
      /** What is there when the process is killed now, and of that what was written since the session began. */
      const kept = async () => (await visit(two, cookie, session => session.keys().sort())).result;
      const written = async () =>
        Array.from((await store.read(sid))!.attributes).flatMap(([name, { version }]) =>
          version === first ? [] : [name],
        );
      await visit(one, cookie, session => session.set('first', 1));
      await cluster.clock.advance(200_000);
      await visit(one, cookie, session => session.set('second', 2));
      await cluster.clock.advance(99_999);
      expect((await visit(one, cookie, session => session.keys().length)).result).toBe(3);
      expect([await kept(), await written()]).toEqual([['untouched'], []]);
      await cluster.clock.advance(1);
      await settle();
      expect([await kept(), (await written()).sort()]).toEqual([['first', 'second', 'untouched'], names]);
      // A login and a logout do not wait.
      const renewed = await visit(one, cookie, session => session.renew());
      expect((await two.request(renewed.cookie).get())?.id).toBe(sid);
      await visit(one, renewed.cookie, session => session.invalidate());
      expect(await store.count()).toBe(0);
    },
  );

  test('very-high: a request finds a session over on time, although the sweep comes at night only', async () => {
    const { store, cluster, one, two } = begin({ profile: 'very-high' });
    const { cookie } = await visit(one, undefined, () => {});
    await cluster.clock.advance(30 * 60_000);
    expect(await store.count()).toBe(1);
    expect(await two.request(cookie).get()).toBeUndefined();
    expect([two.ends.map(({ reason }) => reason), await store.count()]).toEqual([['expired'], 0]);
  });

  test.each([
    ['aal1', Number.POSITIVE_INFINITY, 30 * 24],
    ['aal2', 30, 12],
    ['aal3', 15, 12],
  ] as const)('%s sets how long sessions live', async (lifetime, idleMinutes, absoluteHours) => {
    const { one } = begin({ lifetime });
    const { sid } = await visit(one, undefined, () => {});
    const info = (await one.manager.info(sid))!;
    expect(info.idleTimeoutMs ?? Number.POSITIVE_INFINITY).toBe(idleMinutes * 60_000);
    expect(info.absoluteExpiresAt).toBe(info.createdAt + absoluteHours * 3_600_000);
    expect(LIFETIME_PROFILES[lifetime].absoluteTimeoutMs).toBe(absoluteHours * 3_600_000);
  });

  test('sweep a very busy store in two hours of the night only, and again when that failed', async () => {
    const { store, cluster, one } = begin({ profile: 'very-high' });
    const noon = new Date(cluster.clock.now());
    noon.setHours(12, 0, 0, 0);
    cluster.clock.jump(noon.getTime());
    await visit(one, undefined, () => {});
    await one.manager.start();
    await cluster.clock.advance(11 * 3_600_000);
    expect(one.ends).toEqual([]);
    store.failing.add('expired');
    await cluster.clock.advance(3_600_000 + 120_000);
    store.failing.clear();
    await cluster.clock.advance(120_000);
    await settle();
    expect(one.ends).toHaveLength(1);
    await one.manager.close();
  });

  test.each<[options: Partial<SessionManagerOptions>, isTaken: boolean]>([
    [{ write: { everyMs: 100 } }, true],
    [{ write: { everyMs: 86_400_000 }, idleTimeoutMs: Number.POSITIVE_INFINITY }, true],
    [{ write: { everyMs: 90_000_000 }, idleTimeoutMs: Number.POSITIVE_INFINITY }, false],
    [{ write: { everyMs: 900_000 } }, true],
    [{ write: { everyMs: 960_000 } }, false],
    [{ write: { everyMs: 600_000 }, lifetime: 'aal3' }, false],
    [{ write: { everyMs: 600_000 }, lifetime: 'aal2' }, true],
    [{ write: { everyMs: 36_000_000 }, lifetime: 'aal1' }, true],
    [{ profile: 'very-high', idleTimeoutMs: 540_000 }, false],
    [{ profile: 'high', idleTimeoutMs: 540_000 }, false],
    [{ profile: 'high', idleTimeoutMs: 600_000 }, true],
    [{ profile: 'high', idleTimeoutMs: 540_000, write: 'manual' }, true],
    [{ profile: 'medium', idleTimeoutMs: 9_000 }, true],
    [{ profile: 'failover', idleTimeoutMs: 9_000 }, true],
    [{ sweep: { everyMs: 86_400_000 } }, true],
  ])('and lifetimes give the times that %j leaves out, and together they are taken: %s', (options, isTaken) => {
    if (isTaken) expect(() => begin(options)).not.toThrow();
    else expect(() => begin(options)).toThrow(TypeError);
  });

  test.each([
    { everyMs: 0 },
    { everyMs: 172_800_000 },
    { everyMs: Number.POSITIVE_INFINITY },
    { atHours: [24] },
    { atHours: [] },
  ])('refuse a schedule that is none: %j', sweep => {
    expect(() => begin({ sweep })).toThrow(TypeError);
  });
});
