import { beforeEach, describe, expect, test } from 'vitest';
import type { SessionHeader } from '../../src/session/store.ts';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const MINUTE = 60_000;
const OUTAGE = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 };

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
let cookie: string;
let sid: string;
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store);
  [one, two] = [cluster.process(), cluster.process()];
  ({ cookie, sid } = await visit(one, undefined, session => session.set('n', 1)));
});

describe('a store that does not answer in time', () => {
  test.each(['read', 'glance'] as const)(
    'fails a request with 503, at its %s, and is not waited for any longer',
    async call => {
      const process = call === 'read' ? two : one;
      let release = () => {};
      store.before = name => (name === call ? new Promise<void>(resolve => (release = resolve)) : undefined);
      const binding = process.request(cookie, { isDocumentNavigation: true });
      const session = binding.auto();
      const refused = expect(session).rejects.toMatchObject(OUTAGE);
      await settle();
      await cluster.clock.advance(4_999);
      expect(binding.current).toBeUndefined();
      await cluster.clock.advance(1);
      await refused;
      expect(binding.responseHeaders()).toEqual([]);
      store.before = () => {};
      release();
      expect((await binding.get())?.id).toBe(sid);
    },
  );

  test('fails a commit with 503; when it had done it all the same the next try does no harm', async () => {
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    session.set('n', 2);
    const { commit } = store;
    store.commit = (...args) => commit(...args).then(() => new Promise(() => {}));
    const failed = expect(binding.commit()).rejects.toMatchObject(OUTAGE);
    await settle();
    await cluster.clock.advance(5_000);
    await failed;
    store.commit = commit;
    session.set('m', 3);
    await binding.commit();
    expect((await visit(two, cookie, found => [found.get('n'), found.get('m')])).result).toEqual([2, 3]);
  });

  test('is waited for as long as it takes with Infinity, and a time that no timer can count is as long', async () => {
    for (const storeTimeoutMs of [Number.POSITIVE_INFINITY, 2 ** 40]) {
      const patient = cluster.process({ storeTimeoutMs });
      const before = cluster.clock.pending;
      let release = () => {};
      store.before = () => new Promise<void>(resolve => (release = resolve));
      const found = patient.request(cookie).get();
      await settle();
      expect(cluster.clock.pending).toBe(before);
      store.before = () => {};
      release();
      expect((await found)?.id).toBe(sid);
    }
  });
});

describe('a store that answers what is no answer', () => {
  const junk: Record<string, unknown[]> = {
    read: [null, {}, 'record', { header: {}, version: 1, lastAccessedAt: 1, attributes: new Map() }],
    glance: [null, {}, 7, { version: 1 }, { version: '1', lastAccessedAt: 0 }],
    commit: [undefined, null, {}, { status: 'committed' }, { status: 'maybe' }],
    create: [undefined, 'yes'],
    delete: [undefined, 1],
  };
  test.each(Object.entries(junk))(
    'to %s has failed: nobody is signed out, nothing has ended',
    async (call, answers) => {
      for (const give of answers.flatMap(answer => [async () => answer, () => answer])) {
        const original = store[call as 'read'];
        store[call as 'read'] = give as () => never;
        const process = call === 'read' ? cluster.process() : one;
        const work = async () => {
          if (call === 'delete') return process.manager.end(sid, 'admin');
          if (call === 'create') return visit(process, undefined, () => {});
          return visit(process, cookie, session => session.set('n', 2));
        };
        await expect(work()).rejects.toMatchObject(OUTAGE);
        store[call as 'read'] = original;
        expect((await process.request(cookie).get())?.id).toBe(sid);
      }
      expect(one.ends).toEqual([]);
    },
  );
});

describe('a store that answers glances at once', () => {
  test('has failed when it throws: 503, and nobody is signed out', async () => {
    const { glance } = store;
    store.glance = () => {
      throw new Error('damaged');
    };
    await expect(one.request(cookie).get()).rejects.toMatchObject(OUTAGE);
    store.glance = glance;
    expect((await one.request(cookie).get())?.id).toBe(sid);
  });
});

describe('what another version has written', () => {
  test('in the header is kept by everything that changes it', async () => {
    await store.commit(sid, { header: { device: { id: 7 } } as Partial<SessionHeader> });
    const renewed = await visit(two, cookie, session => {
      session.idleTimeoutMs = MINUTE * 10;
      return session.renew({ owner: user('ann') });
    });
    await cluster.clock.advance(9 * MINUTE);
    await visit(one, renewed.cookie, session => session.set('n', 2));
    expect((await store.read(sid))?.header).toMatchObject({
      device: { id: 7 },
      idleTimeoutMs: MINUTE * 10,
      owner: user('ann'),
    });
  });

  test('in an attribute is an error for who reads it, and no obstacle for anything else', async () => {
    const bytes = Uint8Array.of(250, 1, 2, 3);
    await store.commit(sid, { set: new Map([['later', bytes]]) });
    const { result } = await visit(two, cookie, session => {
      expect(() => session.get('later')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_TYPE_UNKNOWN' }));
      session.set('n', 2);
      return [session.get('n'), session.has('later'), session.keys().sort()];
    });
    expect(result).toEqual([2, true, ['later', 'n']]);
    expect((await store.read(sid))?.attributes.get('later')?.value).toEqual(bytes);
    const all = cluster.process({ contents: 'all' });
    await visit(all, cookie, session => session.set('n', 3));
    expect((await store.read(sid))?.attributes.get('later')?.value).toEqual(bytes);
  });

  test('on the channel of the processes is ignored', async () => {
    await one.manager.start();
    for (const message of [
      '',
      'null',
      '7',
      '"x"',
      '{}',
      '[]',
      '{"type":"ended"}',
      '{"type":"ended","sid":7}',
      `{"type":"paused","sid":"${sid}"}`,
    ])
      await cluster.ledger.publish('session', message);
    await settle();
    expect((await one.request(cookie).get())?.id).toBe(sid);
  });

  test('on the channel of the processes fills no memory: an end of what cannot be a session is not remembered', async () => {
    await one.manager.start();
    await visit(one, cookie, session => session.set('n', 5));
    // What has ended is not asked for again: it would be gone for this process.
    const foreign = 'x'.repeat(100_000);
    await store.create(foreign, (await store.read(sid))!);
    await cluster.ledger.publish('session', JSON.stringify({ type: 'ended', sid: foreign }));
    await cluster.ledger.publish('session', JSON.stringify({ type: 'ended', sid: `${foreign.slice(0, 21)}/` }));
    await settle();
    expect(await one.manager.access(foreign, session => session.id)).toBe(foreign);
  });
});

describe('a store that is full', () => {
  test('makes room by ending the session next to expire, also for many at once', async () => {
    const small = new Cluster(new FaultyStore(5), { overflow: 'evict' });
    const [a, b] = [small.process(), small.process()];
    const first = await visit(a, undefined, () => {});
    for (let n = 1; n < 5; n++) {
      await small.clock.advance(1_000);
      await visit(b, undefined, () => {});
    }
    await small.clock.advance(1_000);
    await visit(b, undefined, () => {});
    expect(b.ends).toEqual([{ sid: first.sid, reason: 'evicted' }]);
    const visits = await Promise.all(Array.from({ length: 5 }, (_, n) => visit(n % 2 ? a : b, undefined, () => {})));
    expect(visits).toHaveLength(5);
    expect(await small.store.count()).toBe(5);
    expect(new Set([...a.ends, ...b.ends].map(({ sid }) => sid)).size).toBe(a.ends.length + b.ends.length);
  });

  test('refuses when there is nothing that it could end', async () => {
    const full = new Cluster(new FaultyStore(1), {
      overflow: 'evict',
      idleTimeoutMs: Infinity,
      absoluteTimeoutMs: Infinity,
    });
    const process = full.process();
    const kept = await visit(process, undefined, () => {});
    await expect(visit(process, undefined, () => {})).rejects.toMatchObject({
      code: 'ERR_SESSION_NO_ROOM',
      status: 503,
    });
    expect((await process.request(kept.cookie).get())?.id).toBe(kept.sid);
  });
});

describe("the machine's clock", () => {
  test('set back and forth ends nothing that is in use', async () => {
    await one.manager.start();
    for (let round = 0; round < 6; round++) {
      const now = cluster.clock.now();
      expect((await visit(one, cookie, () => {})).sid).toBe(sid);
      cluster.clock.jump(now - 60 * MINUTE);
      for (let minute = 0; minute < 5; minute++) {
        expect((await visit(one, cookie, () => {})).sid).toBe(sid);
        await cluster.clock.advance(MINUTE);
      }
      cluster.clock.jump(now + 5 * MINUTE);
      expect((await visit(one, cookie, () => {})).sid).toBe(sid);
      await cluster.clock.advance(20 * MINUTE);
    }
    expect(one.ends).toEqual([]);
    expect(one.manager.statistics().sinceLastAccessMs.max).toBeLessThan(30 * MINUTE);
    await one.manager.close();
  });

  test('set forward ends the idle ones and no others', async () => {
    await one.manager.start();
    const idle = await visit(one, undefined, () => {});
    await cluster.clock.advance(20 * MINUTE);
    await visit(one, cookie, () => {});
    cluster.clock.jump(cluster.clock.now() + 15 * MINUTE);
    await cluster.clock.advance(2 * MINUTE);
    await settle();
    expect(one.ends).toEqual([{ sid: idle.sid, reason: 'expired' }]);
    expect((await one.request(cookie).get())?.id).toBe(sid);
    await one.manager.close();
  });

  test('set back lets no old secret work', async () => {
    await visit(one, cookie, session => session.renew());
    cluster.clock.jump(cluster.clock.now() - 24 * 60 * MINUTE);
    expect(await one.request(cookie).get()).toBeUndefined();
    await expect(one.request(cookie).open()).rejects.toMatchObject({ code: 'ERR_SESSION_SUPERSEDED' });
  });

  test('does not confuse who measures with the other clock: relaxed coherence stays within 1 s', async () => {
    const relaxed = cluster.process({ coherence: 'relaxed' });
    await visit(relaxed, cookie, () => {});
    await visit(one, cookie, session => session.set('n', 2));
    cluster.clock.jump(cluster.clock.now() - 60 * MINUTE);
    await cluster.clock.advance(1_000);
    expect((await visit(relaxed, cookie, session => session.get('n'))).result).toBe(2);
  });
});

describe('a cookie that is', () => {
  const other = { keys: ['another key of at least 32 bytes, not secret'] };
  test.each<[string, (own: string) => string | Promise<string>]>([
    ['forged', own => own.replace(/.$/, last => (last === 'A' ? 'B' : 'A'))],
    ['forged in its sid', own => own.replace('v1.', 'v1.A').replace(/^(sid=v1\.\S{22})\S/, '$1')],
    [
      'signed with a key of somebody else',
      async () => (await visit(new Cluster(store).process(other), undefined, () => {})).cookie,
    ],
    ['truncated', own => own.slice(0, -1)],
    ['empty', () => 'sid='],
    ['over-long', own => `${own}${'x'.repeat(100_000)}`],
    ['not ASCII', own => `${own.slice(0, 30)}é\u0000\u{1f36a}${own.slice(33)}`],
    ['of a later version', own => own.replace('v1.', 'v2.')],
    ['a nonce', own => own.replace('v1.', 'n1.')],
    ['behind four others of its name', own => `sid=a; sid=b; sid=c; sid=d; ${own}`],
    ['hidden in another', own => `x="${own}"; ${own.replace('sid=', 'sid =x')}`],
  ])('%s opens nothing, asks the store for nothing, and is replaced on a page', async (_what, forge) => {
    const header = await forge(cookie);
    store.calls.length = 0;
    expect(await two.request(header).get()).toBeUndefined();
    expect(store.calls).toEqual([]);
    const fresh = await visit(two, header, () => {}, { isDocumentNavigation: true });
    expect(fresh.sid).not.toBe(sid);
    expect(fresh.setCookies).toHaveLength(1);
  });

  test('repeated counts once', async () => {
    expect((await two.request(`${cookie}; ${cookie}; ${cookie}`).get())?.id).toBe(sid);
  });

  test('of a session that has expired opens nothing, ends it once, and is replaced', async () => {
    await cluster.clock.advance(30 * MINUTE);
    expect(await Promise.all([one, two, one].map(process => process.request(cookie).get()))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect([...one.ends, ...two.ends]).toEqual([{ sid, reason: 'expired' }]);
    expect((await visit(two, cookie, () => {})).sid).not.toBe(sid);
  });
});

test('a new session that is ended while it is being created does not stay in the store', async () => {
  const before = await store.count();
  const binding = one.request();
  const session = await binding.open();
  const sync = expect(session.sync()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
  await session.invalidate();
  await sync;
  await binding.commit();
  expect([await store.count(), binding.responseHeaders()]).toEqual([before, []]);
});

test('closing twice closes once', async () => {
  let closes = 0;
  const { close } = store;
  store.close = async () => {
    closes++;
    await close.call(store);
  };
  await Promise.all([one.manager.close(), one.manager.close()]);
  await one.manager.close();
  expect(closes).toBe(1);
});

test('of many sessions that sockets hold, one that cannot be asked about does not keep the others from being looked at', async () => {
  const held = await Promise.all(Array.from({ length: 3 }, () => visit(one, undefined, () => {})));
  const sockets = await Promise.all(held.map(({ sid }) => one.manager.attach(sid)));
  const { glance } = store;
  store.glance = async id => {
    if (id === held[0]!.sid) throw new Error('corrupt');
    return glance(id);
  };
  const deaf = cluster.process({ ledger: new Cluster(store).ledger });
  await deaf.manager.end(held[2]!.sid, 'admin');
  await cluster.clock.advance(5_000);
  await settle();
  expect(sockets.map(socket => socket!.isEnded)).toEqual([false, false, true]);
});
