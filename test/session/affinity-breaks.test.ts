import { afterEach, describe, expect, test } from 'vitest';
import { AccessMark, markNumber } from '../../src/session/process/access-mark.ts';
import { firstVersion } from '../../src/session/record/version.ts';
import { Cluster, type Process, settle, user, visit, WatchedStore } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const breaks = (...processes: Process[]) => processes.map(({ manager }) => manager.statistics().affinityBreaks);
const sum = (numbers: number[]) => numbers.reduce((all, one) => all + one, 0);

const open: Process[] = [];
afterEach(async () => {
  for (const { manager } of open.splice(0)) await manager.close();
});

async function start(cluster: Cluster, options = {}): Promise<Process> {
  const process = cluster.process(options);
  await process.manager.start();
  open.push(process);
  return process;
}

const KINDS = [
  { coherence: 'strict', make: () => new FaultyStore() },
  { coherence: 'relaxed', make: () => new FaultyStore() },
  { coherence: 'relaxed', make: () => new WatchedStore() }, // which tells what is committed
] as const;

test('a mark is exact, the same for the same process, and changes no millisecond', () => {
  const [one, two] = [new AccessMark(5), new AccessMark(2051)];
  for (const time of [1, 1_800_000_000_000, 1_800_000_000_000.4, 2 ** 42 - 2]) {
    const at = one.at(time);
    expect([one.at(at), Math.ceil(at)]).toEqual([at, Math.ceil(time)]);
    expect([one.isOther(at), two.isOther(at)]).toEqual([false, true]);
    expect(two.after(at)).toBeGreaterThan(at);
    expect(two.after(at) - at).toBeLessThan(1);
    expect(one.after(at)).toBe(at + 1);
  }
  expect(one.isOther(1_800_000_000_000)).toBe(false); // nobody's
});

test('processes of numbered machines have marks of their own, and so have those of one machine', () => {
  const at = 1_800_000_000_000;
  const isTold = (one: number, two: number) => new AccessMark(one).isOther(new AccessMark(two).at(at));
  for (const name of ['shop-', 'web', 'shop-7d9f8-', 'host.example.'])
    for (let machine = 0; machine < 6; machine++)
      for (let pid = 1; pid < 30; pid++)
        expect([
          name,
          machine,
          pid,
          isTold(markNumber(`${name}${machine}`, pid), markNumber(`${name}${machine + 1}`, pid - 1)),
        ]).toEqual([name, machine, pid, true]);
  const ofOne = Array.from({ length: 2_047 }, (_, pid) => new AccessMark(markNumber('shop-0', pid)).at(at));
  expect(new Set(ofOne).size).toBe(2_047);
});

describe.each(KINDS)('in $coherence coherence', ({ coherence, make }) => {
  test.each([
    ['read', () => {}],
    ['write', (session: { set(name: string, value: unknown): void }) => session.set('n', Math.random())],
  ])('two processes that take turns to %s break affinity with each request', async (_what, work) => {
    const cluster = new Cluster(make(), { coherence });
    const [one, two] = [await start(cluster), await start(cluster)];
    const { cookie } = await visit(one, undefined, session => session.set('n', 0));
    for (let turn = 0; turn < 20; turn++) {
      await visit(turn % 2 === 0 ? two : one, cookie, work);
      await settle(); // an event of the ledger
      if (turn % 3 === 0) await cluster.clock.advance(7);
    }
    expect(breaks(one, two)).toEqual([10, 10]);
  });

  test('a process that stays alone with a session breaks nothing, whatever it does', async () => {
    const cluster = new Cluster(make(), { coherence, cacheSessions: 2 });
    const one = await start(cluster);
    const visits = [];
    for (let n = 0; n < 5; n++) visits.push(await visit(one, undefined, session => session.set('n', n)));
    for (let round = 0; round < 10; round++) {
      for (const { cookie } of visits) await visit(one, cookie, session => round % 2 && session.set('n', round));
      await cluster.clock.advance(round * 9_000);
    }
    const socket = (await one.manager.attach(visits[0]!.sid))!;
    socket.touch();
    await cluster.clock.advance(61_000);
    await visit(one, visits[0]!.cookie, () => {});
    await socket.release();
    expect(breaks(one)).toEqual([0]);
    expect(one.manager.statistics().cacheDiscards).toBeGreaterThan(0);
  });
});

test('only the first request after another process breaks affinity, also of several at once', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie } = await visit(one, undefined, () => {});
  await Promise.all(Array.from({ length: 6 }, () => visit(two, cookie, () => {})));
  for (let n = 0; n < 3; n++) await visit(two, cookie, () => {});
  expect(breaks(one, two)).toEqual([0, 1]);
});

test('a change outside a request is not an access', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie, sid } = await visit(one, undefined, session => session.set('n', 0));
  await two.manager.access(sid, session => session.set('n', 1));
  await visit(one, cookie, () => {});
  expect(breaks(one, two)).toEqual([0, 0]);
});

test('a process that stays alone breaks nothing by a login with times of its own, where the time of the store has fractions', async () => {
  const store = new FaultyStore();
  const cluster = new Cluster(store, { rememberMe: { idleTimeoutMs: 3_600_000, absoluteTimeoutMs: 24 * 3_600_000 } });
  const begin = cluster.clock.now();
  Object.assign(store, { time: async () => begin + cluster.clock.monotonic() + 0.37 });
  const one = await start(cluster);
  const { cookie } = await visit(one, undefined, session => session.set('n', 0));
  const login = await visit(one, cookie, (_session, binding) => binding.signIn(user('ann'), { persistent: true }));
  await visit(one, login.cookie, () => {});
  const socket = (await one.manager.attach(login.sid))!;
  await cluster.clock.advance(5_000);
  socket.touch();
  await visit(one, login.cookie, session => session.set('n', 1));
  await cluster.clock.advance(61_000);
  await visit(one, login.cookie, session => session.renew({ persistent: true, idleTimeoutMs: 60_000 }));
  await socket.release();
  expect(breaks(one)).toEqual([0]);
});

test('a process that takes the place of another counts each session once', async () => {
  const cluster = new Cluster(new FaultyStore());
  const before = cluster.process();
  const { cookie } = await visit(before, undefined, () => {});
  const after = cluster.process();
  for (let n = 0; n < 3; n++) await visit(after, cookie, () => {});
  expect(breaks(after)).toEqual([1]);
});

test('a break writes who has the session now, and nothing else is written for it', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie } = await visit(one, undefined, () => {});
  cluster.store.calls.length = 0;
  await visit(one, cookie, () => {});
  expect(cluster.store.calls).toEqual(['glance']);
  await visit(two, cookie, () => {});
  await visit(two, cookie, () => {});
  expect(cluster.store.calls).toEqual(['glance', 'read', 'touch', 'glance']);
});

test('a store that cannot write last accesses fails no request, and the break is counted once', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie } = await visit(one, undefined, () => {});
  cluster.store.failing.add('touch');
  for (let n = 0; n < 3; n++) await visit(two, cookie, () => {});
  expect(breaks(two)).toEqual([1]);
  cluster.store.failing.clear();
  await cluster.clock.advance(61_000);
  await visit(one, cookie, () => {});
  expect(breaks(one)).toEqual([1]);
});

test('a store that is slow to write last accesses holds a request up for a tenth of a second, and is asked for one write at a time', async () => {
  const cluster = new Cluster(new FaultyStore(), { storeTimeoutMs: 60_000 });
  const [one, two] = [cluster.process(), cluster.process()];
  const visits = [];
  for (let n = 0; n < 30; n++) visits.push(await visit(one, undefined, () => {}));
  cluster.store.calls.length = 0;
  const stuck = Promise.withResolvers<void>();
  cluster.store.before = call => (call === 'touch' ? stuck.promise : undefined);
  let over = 0;
  const all = Promise.all(visits.map(({ cookie }) => visit(two, cookie, () => {}).then(() => over++)));
  await settle();
  expect(over).toBe(0);
  for (let ms = 0; ms < 130; ms += 5) {
    await cluster.clock.advance(5);
    await settle();
  }
  expect(over).toBe(30);
  await all;
  await visit(two, visits[0]!.cookie, () => {}); // which waits for nothing any more
  const touches = () => cluster.store.calls.filter(call => call === 'touch').length;
  expect([touches(), breaks(two)]).toEqual([1, [30]]);
  stuck.resolve();
  await settle();
  expect(touches()).toBeLessThanOrEqual(2);
  for (const { cookie } of visits) await visit(one, cookie, () => {});
  expect(breaks(one)).toEqual([30]);
});

test('what has waited for a slow write is not written behind what was written meanwhile', async () => {
  const cluster = new Cluster(new FaultyStore(), { storeTimeoutMs: 60_000 });
  const [one, two] = [cluster.process(), cluster.process()];
  const [first, second] = [await visit(one, undefined, () => {}), await visit(one, undefined, () => {})];
  const stuck = Promise.withResolvers<void>();
  cluster.store.before = call => (call === 'touch' ? stuck.promise : undefined);
  const waiting = visit(two, first.cookie, () => {});
  await settle();
  const behind = visit(two, second.cookie, () => {});
  for (let ms = 0; ms < 130; ms += 5) {
    await cluster.clock.advance(5);
    await settle();
  }
  await Promise.all([waiting, behind]);
  cluster.store.before = () => {};
  await cluster.clock.advance(61_000); // the batch writes it
  await visit(two, second.cookie, () => {});
  const { lastAccessedAt } = (await cluster.store.read(second.sid))!;
  stuck.resolve();
  await settle();
  expect((await cluster.store.read(second.sid))!.lastAccessedAt).toBeGreaterThanOrEqual(lastAccessedAt);
  await visit(two, second.cookie, () => {});
  expect(breaks(two)).toEqual([2]);
});

test('more breaks than 200 in a second are counted where they happen, and not all are told to the others', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const visits = [];
  for (let n = 0; n < 300; n++) visits.push(await visit(one, undefined, () => {}));
  cluster.store.calls.length = 0;
  for (const { cookie } of visits) await visit(two, cookie, () => {});
  for (const { cookie } of visits) await visit(two, cookie, () => {});
  expect(breaks(two)).toEqual([300]);
  expect(cluster.store.calls.filter(call => call === 'touch')).toHaveLength(200);
  await cluster.clock.advance(1_000);
  const { cookie } = await visit(one, undefined, () => {});
  await visit(two, cookie, () => {});
  await visit(one, cookie, () => {});
  expect(breaks(one)).toEqual([1]);
});

test('the time of the last access is in whole milliseconds for all who ask', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie, sid } = await visit(one, undefined, session =>
    expect(session.lastAccessedAt).toBe(cluster.clock.now()),
  );
  const then = cluster.clock.now();
  await cluster.clock.advance(5_000);
  await visit(two, cookie, session => expect(session.lastAccessedAt).toBe(then));
  expect((await one.manager.info(sid))?.lastAccessedAt).toBe(then + 5_000);
  expect(two.manager.statistics().sinceLastAccessMs).toEqual({ count: 1, sum: 5_000, max: 5_000 });
});

test('sessions of a version that does not say who used them break affinity where another process has changed them', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie, sid } = await visit(one, undefined, session => session.set('n', 0));
  const record = (await cluster.store.read(sid))!;
  await cluster.store.delete(sid);
  await cluster.store.create(sid, { ...record, version: firstVersion(), lastAccessedAt: cluster.clock.now() });
  await visit(two, cookie, () => {});
  expect(breaks(one, two)).toEqual([0, 0]);
});

test('a login and a stranger are accesses as others are', async () => {
  const cluster = new Cluster(new FaultyStore());
  const [one, two] = [cluster.process(), cluster.process()];
  const { cookie } = await visit(one, undefined, () => {});
  await visit(two, cookie, (_session, binding) => binding.signIn(user('ann')));
  expect(sum(breaks(one, two))).toBe(1);
});
