import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Cluster, type Data, type Process, user, visit } from './cluster.ts';
import { FaultyStore, KEY } from './fixture.ts';
import { connect, PLACES, type Place, skipNote } from './race-stores.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const ann = user('ann');
const bob = user('bob');
const rememberMe = { idleTimeoutMs: 14 * DAY, absoluteTimeoutMs: 90 * DAY };

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
const begin = (options: Partial<SessionManagerOptions> = {}) => {
  store = new FaultyStore();
  cluster = new Cluster(store, { rememberMe, ...options });
  [one, two] = [cluster.process(), cluster.process()];
};
beforeEach(() => begin());

const maxAge = ({ setCookies }: { setCookies: readonly string[] }, name = 'sid') => {
  const line = setCookies.find(cookie => cookie.startsWith(`${name}=`));
  return line === undefined ? 'none' : Number(/; Max-Age=(\d+)/.exec(line)?.[1] ?? Number.NaN);
};
const login = (cookie?: string, options?: object, owner = ann, process = one) =>
  visit(process, cookie, (_, binding) => binding.signIn(owner, options as never));
const info = async (sid: string) => (await one.manager.info(sid))!;

describe('a login that asks for a persistent cookie', () => {
  test('gets one until the session ends by age, and the times of rememberMe', async () => {
    const visitor = await visit(one, undefined, session => session.set('cart', 3));
    expect(maxAge(visitor)).toBeNaN();
    await cluster.clock.advance(HOUR / 4);
    const at = cluster.clock.now();
    const seen = await login(visitor.cookie, { persistent: true });
    expect(maxAge(seen)).toBe((90 * DAY) / SECOND);
    expect(await info(visitor.sid)).toMatchObject({
      isPersistent: true,
      idleTimeoutMs: 14 * DAY,
      absoluteExpiresAt: at + 90 * DAY,
    });
    await cluster.clock.advance(13 * DAY);
    expect((await visit(two, seen.cookie, session => session.owner?.name)).result).toBe('ann');
  });

  test.each([
    [
      'signIn',
      (_: Data, binding: { signIn(owner: typeof ann, options: object): Promise<unknown> }, options: object) =>
        binding.signIn(ann, options),
    ],
    ['renew', (session: Data, _: unknown, options: object) => session.renew({ owner: ann, ...options })],
  ] as const)('may have times of its own, by %s', async (_how, signIn) => {
    const at = cluster.clock.now();
    const options = { persistent: true, idleTimeoutMs: 2 * DAY, absoluteTimeoutMs: 30 * DAY };
    const seen = await visit(one, undefined, (session, binding) => signIn(session, binding, options));
    expect(maxAge(seen)).toBe((30 * DAY) / SECOND);
    expect(await info(seen.sid)).toMatchObject({ idleTimeoutMs: 2 * DAY, absoluteExpiresAt: at + 30 * DAY });
  });

  test('keeps it over rotations by time and renewals, for what is left of the session', async () => {
    const first = await login(undefined, { persistent: true });
    await cluster.clock.advance(5 * DAY);
    const rotated = await visit(two, first.cookie, () => {});
    expect(maxAge(rotated)).toBe((85 * DAY) / SECOND);
    await cluster.clock.advance(5 * DAY + 500);
    const renewed = await visit(two, rotated.cookie, session => session.renew());
    expect(maxAge(renewed)).toBe((80 * DAY) / SECOND);
    expect(await info(first.sid)).toMatchObject({ isPersistent: true, idleTimeoutMs: 14 * DAY });
  });

  test('is no wish of the next login: that one has a session cookie and the usual times again', async () => {
    const first = await login(undefined, { persistent: true });
    await cluster.clock.advance(3 * DAY);
    const at = cluster.clock.now();
    // Which another process knows at once, although the last access that the store had was days ago.
    const second = await login(first.cookie, undefined, ann, two);
    expect(maxAge(second)).toBeNaN();
    expect((await visit(one, second.cookie, session => session.owner?.name)).result).toBe('ann');
    expect(await info(first.sid)).toMatchObject({
      isPersistent: false,
      idleTimeoutMs: 30 * MINUTE,
      absoluteExpiresAt: at + 12 * HOUR,
    });
    const record = await store.read(first.sid);
    expect(record?.header.login).toBeUndefined();
    expect(first.sid).toBe(second.sid);
  });

  test('ends with its session, for the next user and for a box that is not ticked', async () => {
    const first = await login(undefined, { persistent: true });
    const other = await login(first.cookie, { persistent: false }, bob);
    const { sid } = (await two.manager.ofUser('bob'))[0]!;
    expect(sid).not.toBe(first.sid);
    expect(await one.manager.info(first.sid)).toBeUndefined();
    expect([maxAge(other), (await info(sid)).isPersistent]).toEqual([Number.NaN, false]);
  });

  test('ends by its own idle and absolute times', async () => {
    const first = await login(undefined, { persistent: true, idleTimeoutMs: 2 * DAY, absoluteTimeoutMs: 5 * DAY });
    let { cookie } = first;
    for (let day = 0; day < 4; day++) {
      await cluster.clock.advance(DAY);
      ({ cookie } = await visit(one, cookie, () => {}));
    }
    await cluster.clock.advance(DAY);
    expect(await one.request(cookie).get()).toBeUndefined();
    const second = await login(undefined, { persistent: true, idleTimeoutMs: 2 * DAY });
    await cluster.clock.advance(2 * DAY);
    expect(await one.request(second.cookie).get()).toBeUndefined();
    expect(one.ends.map(({ reason }) => reason)).toEqual(['absolute', 'expired']);
  });

  test('tells the marker under "strict" for as long', async () => {
    begin({ cookie: { name: 'sid', sameSite: 'strict' } });
    const first = await login(undefined, { persistent: true });
    expect(maxAge(first, 'sid-there')).toBe((90 * DAY) / SECOND);
    const binding = one.request(first.cookie);
    await binding.get();
    await cluster.clock.advance(DAY);
    const [marker] = binding.responseHeaders();
    expect(marker?.value).toMatch(/^sid-there=1; Max-Age=7776000;/);
    binding.release();
    const second = await login(first.cookie);
    expect([maxAge(second), maxAge(second, 'sid-there')]).toEqual([Number.NaN, Number.NaN]);
  });

  test('overrides the persistent cookie of the manager in both directions', async () => {
    begin({ cookie: { name: 'sid', persistent: true } });
    const usual = await login();
    expect([maxAge(usual), (await info(usual.sid)).isPersistent]).toEqual([(12 * HOUR) / SECOND, true]);
    const shorter = await login(undefined, { persistent: false });
    expect([maxAge(shorter), (await info(shorter.sid)).isPersistent]).toEqual([Number.NaN, false]);
    const renewed = await visit(two, shorter.cookie, session => session.renew());
    expect(maxAge(renewed)).toBeNaN();
    const longer = await login(undefined, { persistent: true });
    expect(maxAge(longer)).toBe((90 * DAY) / SECOND);
    expect(maxAge(await login(renewed.cookie))).toBe((12 * HOUR) / SECOND);
  });

  test('may have other times without a persistent cookie', async () => {
    const seen = await login(undefined, { idleTimeoutMs: MINUTE, absoluteTimeoutMs: DAY });
    expect(maxAge(seen)).toBeNaN();
    expect(await info(seen.sid)).toMatchObject({ isPersistent: false, idleTimeoutMs: MINUTE });
    await cluster.clock.advance(MINUTE);
    expect(await two.request(seen.cookie).get()).toBeUndefined();
  });

  test('of a renewal without a user holds, too, and one without any wish leaves what there is', async () => {
    const first = await login();
    const { absoluteExpiresAt } = await info(first.sid);
    await cluster.clock.advance(MINUTE);
    const second = await visit(one, first.cookie, session => session.renew());
    expect((await info(first.sid)).absoluteExpiresAt).toBe(absoluteExpiresAt);
    const third = await visit(one, second.cookie, session => session.renew({ persistent: true }));
    expect(maxAge(third)).toBe((90 * DAY) / SECOND);
    expect(await info(first.sid)).toMatchObject({ owner: ann, isPersistent: true });
  });

  test.each([
    [{ idleTimeoutMs: 7 * DAY }, { idleTimeoutMs: 7 * DAY, endsIn: 80 * DAY }],
    [{ absoluteTimeoutMs: 20 * DAY }, { idleTimeoutMs: 14 * DAY, endsIn: 20 * DAY }],
    [
      { idleTimeoutMs: DAY, absoluteTimeoutMs: 2 * DAY },
      { idleTimeoutMs: DAY, endsIn: 2 * DAY },
    ],
  ])(
    'stays persistent with a renewal without a user that names only %j',
    async (options, { idleTimeoutMs, endsIn }) => {
      const first = await login(undefined, { persistent: true });
      await cluster.clock.advance(10 * DAY);
      const renewed = await visit(two, first.cookie, session => session.renew(options));
      expect(maxAge(renewed)).toBe(endsIn / SECOND);
      const absoluteExpiresAt = cluster.clock.now() + endsIn;
      expect(await info(first.sid)).toMatchObject({ isPersistent: true, idleTimeoutMs, absoluteExpiresAt });
      expect(maxAge(await login(renewed.cookie))).toBeNaN();
    },
  );

  test('is taken back from a session that comes to be owned by the user of a request', async () => {
    const first = await visit(one, undefined, session => session.renew({ persistent: true }));
    expect(maxAge(first)).toBe((90 * DAY) / SECOND);
    await cluster.clock.advance(DAY);
    const claimed = await visit(two, first.cookie, session => session.owner, { user: ann });
    expect([claimed.result, maxAge(claimed)]).toEqual([ann, Number.NaN]);
    const absoluteExpiresAt = cluster.clock.now() + 12 * HOUR;
    expect(await info(first.sid)).toMatchObject({ isPersistent: false, idleTimeoutMs: 30 * MINUTE, absoluteExpiresAt });
  });

  test('lasts as long as browsers keep cookies, where sessions never end by age', async () => {
    begin({ rememberMe: undefined as never, absoluteTimeoutMs: Number.POSITIVE_INFINITY });
    const seen = await login(undefined, { persistent: true });
    expect(maxAge(seen)).toBe((400 * DAY) / SECOND);
    expect((await info(seen.sid)).absoluteExpiresAt).toBe(cluster.clock.now() + 400 * DAY);
  });
});

describe('a login gets at most', () => {
  test.each([
    [{ persistent: true, idleTimeoutMs: 14 * DAY + 1 }, 'idleTimeoutMs'],
    [{ persistent: true, absoluteTimeoutMs: 90 * DAY + 1 }, 'absoluteTimeoutMs'],
    [{ absoluteTimeoutMs: Number.POSITIVE_INFINITY }, 'absoluteTimeoutMs'],
  ])('what rememberMe allows, so that %j ends no session and begins none', async (options, name) => {
    const before = await login();
    const error = await login(before.cookie, options, bob).catch(caught => caught);
    expect(error).toMatchObject({ code: 'ERR_SESSION_LIFETIME' });
    expect(error.message).toContain(name);
    expect(error.message).toContain('rememberMe');
    const renewal = visit(one, before.cookie, session => session.renew({ owner: ann, ...options }));
    await expect(renewal).rejects.toMatchObject({ code: 'ERR_SESSION_LIFETIME' });
    expect((await visit(one, before.cookie, session => session.owner?.name)).result).toBe('ann');
    expect(await one.manager.ofUser('bob')).toEqual([]);
  });

  test('the usual times without rememberMe, and a persistent cookie for as long', async () => {
    begin({ rememberMe: undefined as never });
    const seen = await login(undefined, { persistent: true });
    expect(maxAge(seen)).toBe((12 * HOUR) / SECOND);
    const asked = login(undefined, { persistent: true, idleTimeoutMs: HOUR });
    await expect(asked).rejects.toMatchObject({ code: 'ERR_SESSION_LIFETIME' });
  });

  test('as long as browsers keep a cookie, and is told that no option allows more', async () => {
    begin({ rememberMe: undefined as never, absoluteTimeoutMs: Number.POSITIVE_INFINITY });
    const error = await login(undefined, { persistent: true, absoluteTimeoutMs: 400 * DAY + 1 }).catch(
      caught => caught,
    );
    expect(error).toMatchObject({ code: 'ERR_SESSION_LIFETIME' });
    expect(error.message).toMatch(/34560000001 .* 34560000000; ask for less: browsers keep no cookie for longer$/);
    expect(maxAge(await login(undefined, { persistent: true, absoluteTimeoutMs: 400 * DAY }))).toBe(
      (400 * DAY) / SECOND,
    );
  });

  test.each([
    [{ persistent: 'yes' }],
    [{ idleTimeoutMs: 0 }],
    [{ absoluteTimeoutMs: -1 }],
    [{ idleTimeoutMs: '14d' }],
    [{ idleTimeoutMs: Number.NaN }],
    [{ absoluteTimeout: 5 }],
    ['persistent'],
  ])('what is a wish at all, and %j is none', async options => {
    await expect(login(undefined, options as never)).rejects.toThrow(TypeError);
    const binding = one.request();
    const session = await binding.open();
    await expect(session.renew(options as never)).rejects.toThrow(TypeError);
    binding.release();
  });

  test.each([
    [{ idleTimeoutMs: DAY }],
    [{ idleTimeoutMs: DAY, absoluteTimeoutMs: 401 * DAY }],
    [{ idleTimeoutMs: 0, absoluteTimeoutMs: DAY }],
    [{ idleTimeoutMs: DAY, absoluteTimeoutMs: Number.POSITIVE_INFINITY }],
    [{ idleTimeoutMs: DAY, absoluteTimeoutMs: DAY, longest: 4 }],
    [5],
  ])('what browsers keep: %j is refused as rememberMe', options => {
    expect(() => cluster.process({ rememberMe: options as never })).toThrow(/rememberMe/);
  });
});

test('what a release before does not know of a record stays in it', async () => {
  const first = await login(undefined, { persistent: true });
  const before = (await store.read(first.sid))!;
  await store.commit(first.sid, { header: { secretAt: 5 } });
  expect((await store.read(first.sid))?.header).toEqual({ ...before.header, secretAt: 5 });
});

describe.each(PLACES.map(place => ({ place, title: `${place.name}${skipNote(place)}` })))('on $title', ({ place }) => {
  let at: Place;
  beforeAll(async () => {
    if (!place.missing) at = await place.open();
  });
  afterAll(() => at?.close());

  test.skipIf(place.missing)('a login gives a session other times, and the next one takes them back', async () => {
    const backend = await connect(at.address);
    const clock = new FakeClock(Date.now());
    // Sessions go by the test's clock.
    Object.defineProperty(backend.store, 'time', { value: undefined });
    const manager = new SessionManager({ ...backend, keys: [KEY], clock, rememberMe });
    const request = (cookieHeader?: string) =>
      manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
    const signIn = async (cookie?: string, options?: object) => {
      const binding = request(cookie);
      const { id } = await binding.signIn(ann, options);
      await binding.commit();
      const [line] = binding.responseHeaders();
      binding.release();
      return { id, cookie: line!.value.split(';')[0]!, isPersistent: line!.value.includes('Max-Age') };
    };
    const first = await signIn(undefined, { persistent: true });
    expect(first.isPersistent).toBe(true);
    await clock.advance(10 * DAY);
    expect(await backend.store.expired(clock.now(), 10)).toEqual([]);
    expect(await manager.info(first.id)).toMatchObject({ isPersistent: true, idleTimeoutMs: 14 * DAY });
    const second = await signIn(first.cookie);
    expect([second.id, second.isPersistent]).toEqual([first.id, false]);
    expect(await manager.info(first.id)).toMatchObject({ isPersistent: false, idleTimeoutMs: 30 * MINUTE });
    expect(await backend.store.expired(clock.now(), 10)).toEqual([]);
    expect(await backend.store.expired(clock.now() + 31 * MINUTE, 10)).toEqual([first.id]);
    await manager.close();
  });
});
