import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const IDLE = 10 * MINUTE;

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
let cookie: string;
let sid: string;

/** Time passes, with all that both processes do by it. */
async function pass(ms: number, stepMs = 20 * SECOND): Promise<void> {
  for (let left = ms; left > 0; left -= stepMs) {
    await cluster.clock.advance(Math.min(stepMs, left));
    await settle();
  }
}

const touches = () => store.calls.filter(call => call === 'touch').length;

describe.each([['end-of-request'], ['manual'], [{ everyMs: 10 * SECOND }]] as const)('writing %j', write => {
  beforeEach(async () => {
    store = new FaultyStore();
    cluster = new Cluster(store, { idleTimeoutMs: IDLE, absoluteTimeoutMs: 2 * 60 * MINUTE, write });
    [one, two] = [cluster.process(), cluster.process()];
    await Promise.all([one.manager.start(), two.manager.start()]);
    ({ cookie, sid } = await visit(one, undefined, session => {
      session.set('cart', 3);
      return session.sync();
    }));
  });

  test('a request that runs for longer than the idle time is use: what it sets is stored', async () => {
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    await pass(3.5 * IDLE);
    expect((await two.request(cookie).get())?.id).toBe(sid);
    session.set('cart', 4);
    if (write === 'manual') await session.sync();
    await binding.commit();
    binding.release();
    await pass(20 * SECOND);
    expect((await visit(two, cookie, found => found.get('cart'))).result).toBe(4);
    expect([one.ends, two.ends]).toEqual([[], []]);
  });

  test('its silence begins when the last of its requests has ended', async () => {
    const [first, second] = [one.request(cookie), one.request(cookie)];
    await Promise.all([first.get(), second.get()]);
    await pass(IDLE);
    first.release();
    await pass(IDLE);
    second.release();
    second.release();
    await pass(IDLE - MINUTE);
    expect(two.ends).toEqual([]);
    expect(await two.manager.info(sid)).toBeDefined();
    await pass(3 * MINUTE);
    expect([...one.ends, ...two.ends]).toEqual([{ sid, reason: 'expired' }]);
  });

  test('it ends all the same when it is too old, by a logout, and when the client has gone', async () => {
    const old = one.request(cookie);
    await old.get();
    await pass(121 * MINUTE);
    expect([...one.ends, ...two.ends]).toEqual([{ sid, reason: 'absolute' }]);
    old.release();

    const left = await visit(one, undefined, session => session.sync());
    const gone = one.request(left.cookie);
    await gone.get();
    gone.markClientGone();
    await pass(IDLE + 2 * MINUTE);
    expect([...one.ends, ...two.ends].at(-1)).toEqual({ sid: left.sid, reason: 'expired' });

    const out = await visit(one, undefined, session => session.sync());
    const slow = one.request(out.cookie);
    await slow.get();
    await two.manager.end(out.sid, 'logout');
    await pass(2 * MINUTE);
    expect(await store.read(out.sid)).toBeUndefined();
  });

  test('costs no more writes than a session that is asked for again and again', async () => {
    const binding = one.request(cookie);
    await binding.get();
    store.calls.length = 0;
    await pass(60 * MINUTE);
    expect(touches()).toBeGreaterThan(3);
    expect(touches()).toBeLessThanOrEqual(61);
    binding.release();
  });

  test('a shorter time that the request itself sets is heeded', async () => {
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    session.idleTimeoutMs = 5 * SECOND;
    await session.sync();
    await pass(MINUTE, SECOND);
    expect((await two.request(cookie).get())?.id).toBe(sid);
    session.set('cart', 5);
    await session.sync();
    await binding.commit();
    expect([one.ends, two.ends]).toEqual([[], []]);
  });

  test('what is set in a session that has ended meanwhile is told by the commit', async () => {
    const [writing, reading, synced] = [one.request(cookie), one.request(cookie), one.request(cookie)];
    const sessions = (await Promise.all([writing, reading, synced].map(binding => binding.open()))) as Data[];
    sessions[0]!.set('cart', 4);
    sessions[2]!.set('theme', 'dark');
    await sessions[2]!.sync();
    await two.manager.end(sid, 'logout');
    await settle();
    await expect(writing.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
    await reading.commit();
    await synced.commit();
    expect(await store.count()).toBe(0);
  });
});

describe('a session that', () => {
  beforeEach(async () => {
    store = new FaultyStore();
    cluster = new Cluster(store, { idleTimeoutMs: IDLE });
    [one, two] = [cluster.process(), cluster.process()];
    await Promise.all([one.manager.start(), two.manager.start()]);
    ({ cookie, sid } = await visit(one, undefined, session => session.set('cart', 3)));
  });

  test('a long request makes is as new as its end', async () => {
    const binding = one.request();
    const session = (await binding.open()) as Data;
    session.set('cart', 1);
    await pass(2 * IDLE);
    await binding.commit();
    const [line] = binding.responseHeaders();
    binding.release();
    await pass(IDLE - MINUTE);
    expect((await two.request(line!.value.split(';')[0]).get())?.id).toBe(session.id);
  });

  test('is asked for late, by a handler that has read a long upload before, is in use since its request came', async () => {
    for (const isShown of [true, false]) {
      const begun = await visit(one, undefined, session => session.set('cart', 3));
      const binding = one.request(isShown ? begun.cookie : `${begun.cookie.slice(0, -2)}xx`);
      binding.followResponse();
      await pass(2 * IDLE);
      const session = (await binding.get()) as Data | undefined;
      expect(session?.get('cart')).toBe(isShown ? 3 : undefined);
      binding.release();
      // Its answer is still on its way.
      await pass(2 * IDLE);
      expect((await two.manager.info(begun.sid)) !== undefined).toBe(isShown);
      binding.markClientGone();
      await pass(2 * IDLE);
      expect(await two.manager.info(begun.sid)).toBeUndefined();
    }
  });

  test('is shown with a dead secret is not kept by that', async () => {
    await visit(one, cookie, session => session.renew({ owner: user('ann') }));
    const binding = one.request(cookie);
    binding.followResponse();
    await pass(2 * IDLE);
    expect(await two.manager.info(sid)).toBeUndefined();
  });

  test('was only read, under contents that write that, loses nothing when it ends', async () => {
    for (const contents of ['get-and-set', 'all'] as const) {
      const process = cluster.process({ contents });
      const begun = await visit(process, undefined, session => session.set('cart', [1]));
      const binding = process.request(begun.cookie);
      ((await binding.open()) as Data).get('cart');
      await two.manager.end(begun.sid, 'logout');
      await binding.commit();
    }
  });
});
