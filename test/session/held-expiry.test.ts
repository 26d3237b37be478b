import { beforeEach, describe, expect, test } from 'vitest';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import type { SocketEndReason } from '../../src/session/process/registry.ts';
import type { SocketSession } from '../../src/session/process/socket-session.ts';
import type { Session } from '../../src/session/session.ts';
import { ask, createSite, FaultyStore, login, type Site } from './fixture.ts';

const MINUTE = 60_000;
const ABSOLUTE = { idleTimeoutMs: Number.POSITIVE_INFINITY, absoluteTimeoutMs: 30 * MINUTE };
const NEVER_SWEPT = { sweep: { atHours: [12] } } as const; // the fake clock begins at midnight

let store: FaultyStore;
beforeEach(() => {
  store = new FaultyStore();
});

interface Held {
  readonly site: Site;
  readonly sid: string;
  readonly cookie: string;
  readonly socket: SocketSession & { session: Session };
  /** What sockets of this process were told, with the minutes since the login. */
  readonly told: [why: SocketEndReason, minutes: number][];
}

async function held(options: Partial<SessionManagerOptions> = {}): Promise<Held> {
  const site = createSite(store, { ...NEVER_SWEPT, ...options });
  const startedAt = site.clock.now();
  const { sid, cookie } = await login(site);
  const told: Held['told'] = [];
  site.manager.onSocketEnd((_, why) => told.push([why, (site.clock.now() - startedAt) / MINUTE]));
  const socket = (await site.manager.attach(sid))!;
  return { site, sid, cookie, socket, told };
}

/** Another process with the same store and clock. */
const elsewhere = ({ site }: Held, options: Partial<SessionManagerOptions> = {}) =>
  createSite(store, { ...NEVER_SWEPT, ...options, clock: site.clock });

describe('a session that sockets hold', () => {
  test.each([
    ['idle', {}, 'expired'],
    ['absolute', ABSOLUTE, 'absolute'],
    ['idle, written now and then', { write: { everyMs: 5 * MINUTE } }, 'expired'],
    ['idle, written by hand', { write: 'manual' }, 'expired'],
    ['idle, in relaxed coherence', { coherence: 'relaxed' }, 'expired'],
    ['idle, kept in no memory', { cacheSessions: 0 }, 'expired'],
  ] as const)('ends at its limit, to the millisecond and without a sweep (%s)', async (_what, options, reason) => {
    const { site, sid, told, socket } = await held(options);
    await site.clock.advance(30 * MINUTE - 1);
    expect([socket.isEnded, told, site.ends]).toEqual([false, [], []]);
    await site.clock.advance(1);
    expect([socket.isEnded, told, site.ends]).toEqual([true, [['ended', 30]], [{ sid, reason }]]);
    expect(() => socket.session.get('a')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_ENDED' }));
    expect(await store.count()).toBe(0);
  });

  test('ends at its limit after the last use, whoever of this process has used it', async () => {
    const { site, sid, cookie, told, socket } = await held();
    await site.clock.advance(20 * MINUTE);
    socket.touch();
    await site.clock.advance(20 * MINUTE);
    const binding = site.request(cookie);
    await binding.get();
    binding.release();
    await site.clock.advance(30 * MINUTE);
    expect([told, site.ends]).toEqual([[['ended', 70]], [{ sid, reason: 'expired' }]]);
  });

  test.each([1, 60, 1_740, 1_799, 1_799.9])('lives on when another process has used it after %d s', async seconds => {
    const usedMs = seconds * 1_000;
    const here = await held();
    const { site, cookie, told, socket } = here;
    const there = elsewhere(here);
    await site.clock.advance(usedMs);
    expect(await ask(there, cookie)).toBeDefined();
    await site.clock.advance(30 * MINUTE - 1);
    expect([socket.isEnded, told]).toEqual([false, []]);
    await site.clock.advance(1);
    expect([...site.ends, ...there.ends].map(({ reason }) => reason)).toEqual(['expired']);
    expect(told).toEqual([['ended', 30 + usedMs / MINUTE]]);
  });

  test('asks the store once for each use in another process, and not for its own', async () => {
    const here = await held();
    const { site, cookie, socket } = here;
    const there = elsewhere(here);
    await site.clock.advance(10 * MINUTE);
    const binding = there.request(cookie);
    await binding.get();
    binding.release();
    await site.clock.advance(10_000);
    // What a look every 5 s at changes of others costs is not counted.
    const asked = () => store.calls.filter(call => call === 'glance').length - (site.clock.now() - start) / 5_000;
    const start = site.clock.now();
    store.calls.length = 0;
    await site.clock.advance(25 * MINUTE);
    expect(asked()).toBeLessThanOrEqual(2);
    const before = asked();
    for (let i = 0; i < 10; i++) {
      socket.touch();
      await site.clock.advance(10 * MINUTE);
    }
    expect(asked() - before).toBeLessThanOrEqual(1);
    expect(socket.isEnded).toBe(false);
  });

  test('ends once for two processes that hold it, and at the same moment in both', async () => {
    const here = await held();
    const { site, sid, told } = here;
    const there = elsewhere(here);
    await there.manager.attach(sid);
    const toldThere: number[] = [];
    there.manager.onSocketEnd(() => toldThere.push(site.clock.now()));
    await site.clock.advance(30 * MINUTE);
    expect([told.length, toldThere.length]).toEqual([1, 1]);
    expect([...site.ends, ...there.ends]).toEqual([{ sid, reason: 'expired' }]);
  });

  test.each([
    ['by a socket', async ({ socket }: Held) => void (socket.session.idleTimeoutMs = MINUTE)],
    [
      'by a request',
      async ({ site, cookie }: Held) => {
        const binding = site.request(cookie);
        (await binding.open()).idleTimeoutMs = MINUTE;
        await binding.commit();
        binding.release();
      },
    ],
    ['by access', ({ site, sid }: Held) => site.manager.access(sid, session => void (session.idleTimeoutMs = MINUTE))],
  ])('ends sooner when its idle time was shortened %s', async (_how, shorten) => {
    const parts = await held();
    await shorten(parts);
    await parts.site.clock.advance(MINUTE);
    expect(parts.told).toEqual([['ended', 1]]);
  });

  test('ends later when its idle time was made longer', async () => {
    const { site, socket, told } = await held();
    await site.clock.advance(29 * MINUTE);
    socket.session.idleTimeoutMs = 60 * MINUTE;
    await site.clock.advance(30 * MINUTE);
    expect(told).toEqual([]);
    await site.clock.advance(MINUTE);
    expect(told).toEqual([['ended', 60]]);
  });

  test('a shorter time that was never committed ends nothing and asks the store once in that time', async () => {
    const { site, socket, told } = await held({ write: 'manual' });
    socket.session.idleTimeoutMs = 1_000;
    store.calls.length = 0;
    await site.clock.advance(4_000);
    expect(store.calls.length).toBeLessThanOrEqual(2);
    expect([socket.isEnded, told]).toEqual([false, []]);
  });

  test('what comes after its end, before that is known, does not bring it back', async () => {
    const { site, socket, told } = await held();
    const asked = Promise.withResolvers<void>();
    store.before = call => (call === 'glance' || call === 'read' ? asked.promise : undefined);
    await site.clock.advance(30 * MINUTE);
    socket.touch();
    expect(socket.isEnded).toBe(false);
    asked.resolve();
    await expect.poll(() => told.length).toBe(1);
  });

  test('is not given to one more socket when its time is over', async () => {
    const { site, sid } = await held();
    const asked = Promise.withResolvers<void>();
    store.before = () => asked.promise;
    await site.clock.advance(30 * MINUTE);
    const attaching = site.manager.attach(sid);
    asked.resolve();
    expect(await attaching).toBeUndefined();
  });

  test('an outage at its idle limit does not end it, and afterwards it ends', async () => {
    const { site, sid, told, socket } = await held();
    store.failing.add('*');
    await site.clock.advance(35 * MINUTE);
    expect([socket.isEnded, told]).toEqual([false, []]);
    store.failing.clear();
    await site.clock.advance(1_000);
    expect([told.length, site.ends]).toEqual([1, [{ sid, reason: 'expired' }]]);
  });

  test.each([1, 2, 3, 4, 7])('is watched on when the store has refused %d times to end it', async refusals => {
    const { site, sid, told, socket } = await held();
    const remove = store.delete.bind(store);
    let left = refusals;
    // As if another process had used it at the last moment, each time.
    store.delete = (id, expiredBy) => (left-- > 0 ? Promise.resolve(false) : remove(id, expiredBy));
    await site.clock.advance(30 * MINUTE);
    expect(told).toEqual(refusals < 2 ? [['ended', 30]] : []);
    expect(socket.isEnded).toBe(refusals < 2);
    await site.clock.advance(5_000);
    expect([told.length, site.ends]).toEqual([1, [{ sid, reason: 'expired' }]]);
  });

  test('an outage is asked about once a second, however many sessions wait', async () => {
    const { site } = await held();
    for (let i = 0; i < 500; i++) await site.manager.attach((await login(site)).sid);
    store.failing.add('*');
    await site.clock.advance(31 * MINUTE);
    store.calls.length = 0;
    await site.clock.advance(10_000);
    expect(store.calls.length).toBeLessThan(10 * 60 + 100);
    store.failing.clear();
    await site.clock.advance(15_000);
    expect(site.ends.length).toBe(501);
  });

  test('ends at its age also in an outage, and in the store when that is over', async () => {
    const { site, sid, told } = await held({ ...ABSOLUTE, sweep: { everyMs: MINUTE } });
    await site.manager.start();
    store.failing.add('*');
    await site.clock.advance(30 * MINUTE);
    expect(told).toEqual([['ended', 30]]);
    store.failing.clear();
    await site.clock.advance(2 * MINUTE);
    expect(site.ends).toEqual([{ sid, reason: 'absolute' }]);
    expect(told.length).toBe(1);
    await site.manager.close();
  });

  test('any number of them costs one timer, and none when the last has gone', async () => {
    const { site, socket } = await held();
    const before = site.clock.pending;
    const sockets = [socket];
    for (let i = 0; i < 10_000; i++) sockets.push((await site.manager.attach((await login(site)).sid))!);
    expect(site.clock.pending).toBe(before);
    for (const each of sockets) await each.release();
    await site.clock.advance(5_000);
    expect(site.clock.pending).toBe(0);
  });
});

test('a session whose sockets have gone is left to the sweep and to requests', async () => {
  const { site, sid, cookie, socket } = await held();
  await socket.release();
  await site.clock.advance(31 * MINUTE);
  expect(site.ends).toEqual([]);
  expect(await site.request(cookie).get()).toBeUndefined();
  expect(site.ends).toEqual([{ sid, reason: 'expired' }]);
});

test('another process that shortens the idle time tells those that hold the session', async () => {
  const { MemoryLedger } = await import('../../src/session/ledgers/memory.ts');
  const ledger = new MemoryLedger();
  const here = await held({ ledger });
  const there = elsewhere(here, { ledger });
  await Promise.all([here.site.manager.start(), there.manager.start()]);
  await there.manager.access(here.sid, session => {
    session.idleTimeoutMs = 1_000;
  });
  // The one that holds it has heard of the commit, and reads it.
  const callsSince = () => store.calls.slice(store.calls.lastIndexOf('commit'));
  await expect.poll(callsSince, { interval: 10 }).toContain('read');
  await here.site.clock.advance(1_000);
  expect(here.told).toEqual([['ended', 1 / 60]]);
});
