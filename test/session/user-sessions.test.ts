import { describe, expect, test } from 'vitest';
import { Cluster, cookiesOf, type Process, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

function begin(options = {}) {
  const store = new FaultyStore();
  const cluster = new Cluster(store, options);
  return { store, cluster, one: cluster.process(), two: cluster.process() };
}
const signIn = (process: Process, name = 'ann', cookie?: string) =>
  visit(process, cookie, (_, binding) => binding.signIn(user(name)));
const sids = async (process: Process, name = 'ann') =>
  (await process.manager.ofUser(name)).map(({ sid }) => sid).sort();

describe('the sessions of a user', () => {
  test('are listed without a value or a secret', async () => {
    const { one, two } = begin();
    const first = await signIn(one);
    const second = await signIn(two);
    await signIn(two, 'bob');
    await visit(one, first.cookie, session => session.set('pin', 'a value that nobody may see'));
    expect(await sids(two)).toEqual([first.sid, second.sid].sort());
    const infos = await two.manager.ofUser('ann');
    expect(infos.find(({ sid }) => sid === first.sid)).toMatchObject({
      owner: user('ann'),
      attributes: [{ name: 'pin', bytes: expect.any(Number) }],
    });
    expect(JSON.stringify(infos)).not.toMatch(/nobody may see|secret/i);
    expect(await two.manager.ofUser('nobody')).toEqual([]);
  });

  test('end all at once, but the one from which it is asked', async () => {
    const { one, two } = begin();
    const kept = await signIn(one);
    await signIn(one);
    await signIn(two);
    await signIn(two, 'bob');
    expect(await two.manager.endAllOf('ann', { except: kept.sid, reason: 'logout' })).toBe(2);
    expect(await sids(one)).toEqual([kept.sid]);
    expect(two.ends.map(({ reason }) => reason)).toEqual(['logout', 'logout']);
    expect(await two.manager.endAllOf('ann')).toBe(1);
    expect(await sids(one, 'bob')).toHaveLength(1);
  });

  test('are listed with all others, and without those whose time is over', async () => {
    const { cluster, one } = begin();
    await signIn(one);
    await cluster.clock.advance(29 * 60_000);
    const { sid } = await visit(one, undefined, () => {});
    await cluster.clock.advance(60_000);
    const all: string[] = [];
    for await (const info of one.manager.list()) all.push(info.sid);
    expect(all).toEqual([sid]);
    expect(await sids(one)).toEqual([]);
    expect(await one.manager.info('unknown')).toBeUndefined();
  });
});

describe('a limit of sessions per user', () => {
  test.each(['refuse', 'end-oldest'] as const)(
    'holds for logins in new sessions, one after the other (%s)',
    async whenReached => {
      const { cluster, one, two } = begin({ maxSessionsPerUser: { max: 2, whenReached } });
      const first = await signIn(one);
      await cluster.clock.advance(1_000);
      const second = await signIn(two);
      const third = signIn(one);
      if (whenReached === 'refuse') {
        await expect(third).rejects.toMatchObject({ code: 'ERR_SESSION_USER_LIMIT', status: 403 });
        expect(await sids(one)).toEqual([first.sid, second.sid].sort());
      } else {
        const { sid } = await third;
        expect(await sids(one)).toEqual([second.sid, sid].sort());
        expect(one.ends).toEqual([{ sid: first.sid, reason: 'evicted' }]);
      }
      await signIn(two, 'bob');
    },
  );

  test.each(['refuse', 'end-oldest'] as const)('holds for parallel logins on two processes (%s)', async whenReached => {
    const { store, one, two } = begin({ maxSessionsPerUser: { max: 2, whenReached } });
    const begun = await Promise.all(Array.from({ length: 3 }, () => visit(one, undefined, () => {})));
    const logins = [...begun.map(({ cookie }) => signIn(two, 'ann', cookie)), signIn(one), signIn(two), signIn(one)];
    const results = await Promise.allSettled(logins);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(whenReached === 'refuse' ? 2 : 6);
    expect(await store.sidsOf('ann')).toHaveLength(2);
  });

  test('holds for users who are authenticated with each request', async () => {
    const { one, two } = begin({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } });
    const { cookie, sid } = await visit(one, undefined, () => {}, { user: user('ann') });
    await expect(visit(two, undefined, () => {}, { user: user('ann') })).rejects.toMatchObject({
      code: 'ERR_SESSION_USER_LIMIT',
    });
    const anonymous = await visit(two, undefined, () => {});
    await expect(visit(two, anonymous.cookie, () => {}, { user: user('ann') })).rejects.toMatchObject({
      code: 'ERR_SESSION_USER_LIMIT',
    });
    expect((await visit(two, cookie, () => {}, { user: user('ann') })).sid).toBe(sid);
    expect(two.manager.statistics().activeNow).toBe(0);
  });

  test('counts neither the session that logs in again nor one whose time is over', async () => {
    const { cluster, one } = begin({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } });
    const first = await signIn(one);
    const again = await signIn(one, 'ann', first.cookie);
    expect(again.sid).toBe(first.sid);
    await cluster.clock.advance(31 * 60_000);
    const second = await signIn(one);
    expect(await sids(one)).toEqual([second.sid]);
  });

  test('does not outlive a process that was killed while it signed somebody in', async () => {
    const { store, cluster, one, two } = begin({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } });
    const { sidsOf } = store;
    let isFirst = true;
    store.sidsOf = async name => {
      if (isFirst) {
        isFirst = false;
        await new Promise(() => {});
      }
      return sidsOf.call(store, name);
    };
    void signIn(one).catch(() => {});
    await expect.poll(() => isFirst).toBe(false);
    const login = signIn(two);
    await cluster.clock.advance(5_000);
    expect((await login).sid).toBeTruthy();
  });

  test('that is none is refused', () => {
    const { cluster } = begin();
    for (const max of [0, Number.NaN, 1.5])
      expect(() => cluster.process({ maxSessionsPerUser: { max, whenReached: 'refuse' } })).toThrow(TypeError);
  });
});

test('a signed-in client learns its ticket when the limit made the session be written early', async () => {
  const { store, one } = begin({ maxSessionsPerUser: { max: 1, whenReached: 'refuse' } });
  const binding = one.request();
  const session = await binding.signIn(user('ann'));
  await binding.commit();
  expect(store.calls.filter(call => call === 'create' || call === 'commit')).toEqual(['create']);
  expect((await one.request(cookiesOf(binding)[0]).get())?.id).toBe(session.id);
});
