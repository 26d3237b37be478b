import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const REFUSED = { code: 'ERR_SESSION_UNAUTHORIZED', status: 403 };
const ann = user('ann');
const bob = user('bob');

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
let anonymous: string;
let sid: string;
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store);
  [one, two] = [cluster.process(), cluster.process()];
  ({ cookie: anonymous, sid } = await visit(one, undefined, session => session.set('cart', 3)));
});
const owned = () => visit(one, anonymous, () => {}, { user: ann });

describe('what is no owner is refused, and nothing is changed for it', () => {
  test.each([
    ['no name', { roles: [] }],
    ['an empty name', { name: '', roles: [] }],
    ['a number for a name', { name: 7, roles: [] }],
    ['a name of 257 characters', { name: 'a'.repeat(257), roles: [] }],
    ['a name of 257 characters, each of them two for JavaScript', { name: '😀'.repeat(257), roles: [] }],
    ['no roles', { name: 'ann' }],
    ['one text of roles, of which "admin" would be a part', { name: 'ann', roles: 'no-admin' }],
    ['a role that is no text', { name: 'ann', roles: [{}] }],
  ])('%s', async (_what, owner) => {
    const { cookie } = await visit(one, anonymous, (_, binding) => binding.signIn(bob));
    const binding = one.request(cookie);
    await expect(binding.signIn(owner as never)).rejects.toThrow(TypeError);
    await expect((await binding.open()).renew({ owner: owner as never })).rejects.toThrow(TypeError);
    expect(() => one.request(cookie, { user: owner as never })).toThrow(TypeError);
    expect((await binding.get())?.owner).toEqual(bob);
    binding.release();
  });
});

describe('a session', () => {
  test('belongs to the first user who is authenticated in it, and gets a new secret then', async () => {
    const { cookie, result } = await visit(one, anonymous, session => [session.owner?.name, session.get('cart')], {
      user: ann,
    });
    expect(result).toEqual(['ann', 3]);
    expect(cookie).not.toBe(anonymous);
    expect((await visit(two, cookie, session => session.owner, { user: ann })).result).toEqual(ann);
  });

  test('that a user opens is theirs from the beginning', async () => {
    const { cookie } = await visit(one, undefined, session => session.set('cart', 1), { user: ann });
    await expect(two.request(cookie, { user: bob }).get()).rejects.toMatchObject(REFUSED);
  });

  test('is refused to another user, untouched, logged and counted once for the request', async () => {
    const { cookie } = await owned();
    await cluster.clock.advance(120_000);
    const before = await store.read(sid);
    const binding = two.request(cookie, { user: bob });
    await expect(binding.get()).rejects.toMatchObject(REFUSED);
    await expect(binding.open()).rejects.toMatchObject(REFUSED);
    expect(binding.current).toBeUndefined();
    await binding.commit();
    expect(binding.responseHeaders()).toEqual([]);
    binding.release();
    await cluster.clock.advance(120_000);
    expect(await store.read(sid)).toEqual(before);
    expect(two.manager.statistics()).toMatchObject({ unauthorized: 1, activeNow: 0 });
    expect(two.log).toContainEqual(expect.objectContaining({ event: 'unauthorized-session-request', user: 'bob' }));
    expect(JSON.stringify(two.log)).not.toContain(cookie.slice(4, 60));
  });

  test('whose owner shows credentials with each request is veiled where nobody asks for them', async () => {
    const { cookie } = await owned();
    const session = (await two.request(cookie).get()) as Data;
    expect([session.id, session.owner, session.get('cart'), session.has('cart'), session.keys()]).toEqual([
      sid,
      undefined,
      undefined,
      false,
      [],
    ]);
    expect(session.scope('x').keys()).toEqual([]);
    expect(() => session.set('cart', 9)).toThrow(expect.objectContaining(REFUSED));
    expect(() => session.delete('cart')).toThrow(expect.objectContaining(REFUSED));
    await expect(session.update('cart', () => 9)).rejects.toMatchObject(REFUSED);
    expect(() => {
      session.idleTimeoutMs = 1_000;
    }).toThrow(expect.objectContaining(REFUSED));
  });

  test('is veiled to a socket as it was to its handshake', async () => {
    const { cookie } = await owned();
    const open = two.request(cookie);
    await open.get();
    const veiled = (await open.attach())!;
    const session = veiled.session as unknown as Data;
    expect([session.id, session.owner, session.keys()]).toEqual([sid, undefined, []]);
    expect(() => session.set('cart', 9)).toThrow(expect.objectContaining(REFUSED));
    const asked = two.request(cookie, { user: ann });
    await asked.get();
    const seen = (await asked.attach())!;
    expect([seen.session.owner?.name, (seen.session as unknown as Data).get('cart')]).toEqual(['ann', 3]);
    await Promise.all([veiled.release(), seen.release()]);
    expect(await two.request().attach()).toBeUndefined();
  });

  test('whose owner is kept in it shows them to every request of its client', async () => {
    const { cookie } = await visit(one, anonymous, session => session.renew({ owner: ann }));
    expect((await visit(two, cookie, session => [session.owner?.name, session.get('cart')])).result).toEqual([
      'ann',
      3,
    ]);
  });

  test('keeps of an owner the name and the roles, whatever else the application passes', async () => {
    await visit(one, anonymous, session => session.renew({ owner: { ...ann, password: 'secret' } as never }));
    expect((await store.read(sid))?.header.owner).toEqual(ann);
  });

  test('is not given to somebody else by renewing it', async () => {
    const { cookie } = await visit(one, anonymous, session => session.renew({ owner: ann }));
    await expect(visit(two, cookie, session => session.renew({ owner: bob }))).rejects.toMatchObject(REFUSED);
    expect((await store.read(sid))?.header.owner).toEqual(ann);
  });
});

describe('signing in', () => {
  test('as the owner keeps the session', async () => {
    const { cookie } = await visit(one, anonymous, session => session.renew({ owner: ann }));
    const again = await visit(two, cookie, (_, binding) => binding.signIn(ann));
    expect(again.result.id).toBe(sid);
    expect(again.cookie).not.toBe(cookie);
  });

  test('as the owner lifts the veil', async () => {
    const { cookie } = await owned();
    const binding = two.request(cookie);
    const session = (await binding.signIn(ann)) as Data;
    session.set('cart', 4);
    expect([session.id, session.owner?.name, session.get('cart')]).toEqual([sid, 'ann', 4]);
  });

  test.each([
    ['kept in the session', () => visit(one, anonymous, session => session.renew({ owner: ann })), undefined],
    ['veiled to this request', owned, undefined],
    ['another than the user of this request', owned, bob],
    ['the user of this request', owned, ann],
  ])(
    'as somebody else than the owner, who is %s, ends the session and begins another',
    async (_who, own, requestUser) => {
      const { cookie } = await own();
      const binding = two.request(cookie, { user: requestUser });
      const session = (await binding.signIn(bob)) as Data;
      expect([session.owner, session.keys()]).toEqual([bob, []]);
      expect(session.id).not.toBe(sid);
      await binding.commit();
      expect(two.ends).toEqual([{ sid, reason: 'logout' }]);
      const [next] = binding.responseHeaders();
      binding.release();
      const seen = await visit(one, next!.value.split(';')[0], found => found.owner?.name, { user: bob });
      expect([seen.sid, seen.result]).toEqual([session.id, 'bob']);
      await settle();
      expect(await one.request(cookie).get()).toBeUndefined();
      expect(two.manager.statistics().activeNow).toBe(0);
    },
  );
});

describe.each([['end-of-request'], ['manual'], [{ everyMs: 10_000 }]] as const)('claims at once, writing %j', write => {
  beforeEach(() => {
    cluster = new Cluster(store, { write });
    [one, two] = [cluster.process(), cluster.process()];
  });

  test.each([['in one process'], ['in two']])('of one user: one wins, the other works on, %s', async where => {
    const bindings = [one, where === 'in two' ? two : one].map(process => process.request(anonymous, { user: ann }));
    const sessions = await Promise.all(bindings.map(binding => binding.get()));
    expect(sessions.map(session => session?.owner?.name)).toEqual(['ann', 'ann']);
    await Promise.all(bindings.map(binding => binding.commit()));
    expect(bindings.flatMap(binding => binding.responseHeaders())).toHaveLength(1);
    for (const binding of bindings) binding.release();
    expect([one, two].map(({ manager }) => manager.statistics().activeNow)).toEqual([0, 0]);
  });

  test.each([['in one process'], ['in two']])('of two users: the loser gets nothing, %s', async where => {
    const claims = [ann, bob].map((claimant, index) =>
      (where === 'in two' && index ? two : one).request(anonymous, { user: claimant }).get(),
    );
    const results = await Promise.allSettled(claims);
    const winners = results.flatMap(result =>
      result.status === 'fulfilled' && result.value ? [result.value.owner?.name] : [],
    );
    expect(winners).toHaveLength(1);
    expect((await store.read(sid))?.header.owner?.name).toBe(winners[0]);
  });
});

test('a claim whose store fails leaves no session behind, and the next try works', async () => {
  const binding = one.request(anonymous, { user: ann });
  store.failing.add('commit');
  await expect(binding.get()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
  expect(binding.current).toBeUndefined();
  expect(one.manager.statistics().activeNow).toBe(0);
  store.failing.clear();
  expect((await binding.get())?.owner?.name).toBe('ann');
});
