import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const SECOND = 1_000;
const POLL = { touch: false };

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let cookie: string;
let sid: string;
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store, { idleTimeoutMs: 3 * SECOND });
  one = cluster.process();
  ({ cookie, sid } = await visit(one, undefined, session => session.set('cart', 3)));
});

describe('a request that does not touch its session', () => {
  test('sees it and keeps nothing of it alive', async () => {
    const seen = [];
    for (let second = 0; second < 4; second++) {
      const binding = one.request(cookie, POLL);
      seen.push((await binding.get())?.id);
      await binding.commit();
      binding.release();
      await cluster.clock.advance(SECOND);
    }
    expect(seen).toEqual([sid, sid, sid, undefined]);
    expect(one.ends).toEqual([{ sid, reason: 'expired' }]);
    expect(store.calls).not.toContain('touch');
  });

  test('does not keep it in use by running for long, asked for its session or not', async () => {
    const asked = one.request(cookie, POLL);
    await asked.get();
    const unasked = one.request(cookie, POLL);
    unasked.followResponse();
    for (let second = 0; second < 3; second++) await cluster.clock.advance(SECOND);
    expect(await one.request(cookie).get()).toBeUndefined();
    asked.release();
    unasked.release();
    expect(one.manager.statistics().activeNow).toBe(0);
  });

  test('stores what it changes, which is no use either', async () => {
    await cluster.clock.advance(2 * SECOND);
    await visit(
      one,
      cookie,
      async session => {
        session.set('cart', 4);
        await session.update('n', () => 1);
      },
      POLL,
    );
    expect((await store.read(sid))?.attributes.size).toBe(2);
    await cluster.clock.advance(SECOND);
    expect(await one.request(cookie).get()).toBeUndefined();
  });

  test('is not counted as an access, and sees the last one', async () => {
    const { lastAccessedAt } = (await one.manager.info(sid))!;
    const before = one.manager.statistics().sinceLastAccessMs;
    await cluster.clock.advance(2 * SECOND);
    const { result } = await visit(one, cookie, session => session.lastAccessedAt, POLL);
    expect(result).toBe(lastAccessedAt);
    expect((await one.manager.info(sid))?.lastAccessedAt).toBe(lastAccessedAt);
    expect(one.manager.statistics().sinceLastAccessMs).toEqual(before);
  });

  test('does not replace the secret by time, and the next one that is use does', async () => {
    one = cluster.process({ idleTimeoutMs: 100 * SECOND, renewalTimeoutMs: SECOND });
    ({ cookie } = await visit(one, undefined, session => session.set('cart', 3)));
    await cluster.clock.advance(2 * SECOND);
    expect((await visit(one, cookie, () => {}, POLL)).setCookies).toEqual([]);
    expect((await visit(one, cookie, () => {})).setCookies).toHaveLength(1);
  });

  test('ends the former secret of a rotation when it shows the new one', async () => {
    one = cluster.process({ idleTimeoutMs: 1_000 * SECOND, renewalTimeoutMs: 100 * SECOND });
    const first = await visit(one, undefined, session => session.set('cart', 3));
    await cluster.clock.advance(101 * SECOND);
    const { cookie: next } = await visit(one, first.cookie, () => {});
    await visit(one, next, () => {}, POLL);
    await cluster.clock.advance(31 * SECOND);
    expect(await one.request(first.cookie).get()).toBeUndefined();
  });

  test('may begin a session, and sign in, which is use', async () => {
    const made = await visit(one, undefined, session => session.set('a', 1), POLL);
    expect((await one.manager.info(made.sid))?.attributes).toHaveLength(1);
    await cluster.clock.advance(2 * SECOND);
    const { cookie: signedIn } = await visit(one, made.cookie, session => session.renew({ owner: user('ann') }), POLL);
    await cluster.clock.advance(2 * SECOND);
    expect((await one.request(signedIn).get())?.owner?.name).toBe('ann');
  });

  test.each([['manual'], [{ everyMs: 1_000 }]] as const)('behaves the same, writing %j', async write => {
    one = cluster.process({ write });
    ({ cookie, sid } = await visit(one, undefined, async session => {
      session.set('cart', 3);
      await session.sync();
    }));
    for (let second = 0; second < 3; second++) {
      await visit(one, cookie, session => session.get('cart'), POLL);
      await cluster.clock.advance(SECOND);
    }
    expect(await one.request(cookie).get()).toBeUndefined();
  });

  test('changes nothing for those that are use at the same time', async () => {
    const running = one.request(cookie);
    await running.get();
    for (let second = 0; second < 5; second++) {
      const poll = one.request(cookie, POLL);
      expect((await poll.get())?.id).toBe(sid);
      poll.release();
      await cluster.clock.advance(SECOND);
    }
    running.release();
    expect((await one.request(cookie, POLL).get())?.id).toBe(sid);
    await settle();
  });
});
