import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import { readSettings } from '../../src/session/options.ts';
import type { Session } from '../../src/session/session.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { ask, cookieOf, createSite, FaultyStore, KEY, login, type Site } from './fixture.ts';

const MINUTE = 60_000;
const OUTAGE = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 };

let store: FaultyStore;
let site: Site;
beforeEach(() => {
  store = new FaultyStore();
  site = createSite(store);
});

describe('get and open', () => {
  test('a request without a cookie has no session, and costs no store call', async () => {
    const binding = site.request();
    expect(await binding.get()).toBeUndefined();
    expect(binding.current).toBeUndefined();
    await binding.commit();
    expect(binding.responseHeaders().map(({ value }) => value)).toEqual([]);
    expect(store.calls).toEqual([]);
  });

  test('open makes a session that the next request finds', async () => {
    const first = site.request(undefined, { isSecure: true });
    const session = await first.open();
    expect(session.isNew).toBe(true);
    expect(session.createdAt).toBe(site.clock.now());
    session.set('theme', 'dark');
    expect(first.responseHeaders().map(({ value }) => value)).toEqual([]); // not true yet
    await first.commit();
    expect(first.responseHeaders().map(({ value }) => value)).toEqual([
      expect.stringMatching(/^sid=v1\.\S+; Path=\/; Secure; HttpOnly; SameSite=Lax$/),
    ]);

    const second = site.request(cookieOf(first));
    const found = await second.get();
    expect(found?.id).toBe(session.id);
    expect(found?.isNew).toBe(false);
    expect(found?.get('theme')).toBe('dark');
    await second.commit();
    expect(second.responseHeaders().map(({ value }) => value)).toEqual([]);
  });

  test('one request has one session however often and how parallel it is opened', async () => {
    const binding = site.request();
    const sessions = await Promise.all([binding.open(), binding.open(), binding.get(), binding.open()]);
    expect(new Set([...sessions.filter(Boolean), binding.current]).size).toBe(1);
    await binding.commit();
    expect(await store.count()).toBe(1);
  });

  test('auto makes a session for a page, not for its parts', async () => {
    expect(await site.request(undefined, { isDocumentNavigation: false }).auto()).toBeUndefined();
    expect(await site.request(undefined, { isDocumentNavigation: true }).auto()).toBeDefined();
  });

  test('a carrier leads to its binding', async () => {
    const carrier = {};
    const binding = site.request();
    site.manager.bindTo(carrier, binding);
    expect(await site.manager.get(carrier)).toBeUndefined();
    expect(await site.manager.open(carrier)).toBe(binding.current);
    await expect(site.manager.get({})).rejects.toMatchObject({ code: 'ERR_SESSION_OUTSIDE_REQUEST' });
  });

  test.each([
    ['a forged cookie', (cookie: string) => `${cookie.slice(0, -1)}${cookie.endsWith('A') ? 'B' : 'A'}`],
    ['another name', (cookie: string) => `x${cookie}`],
  ])('%s is anonymous', async (_what, change) => {
    const { cookie } = await login(site);
    expect(await site.request(change(cookie)).get()).toBeUndefined();
  });

  test('a live cookie is found behind dead ones, and two live ones count as none', async () => {
    const one = await login(site);
    const two = await login(site);
    const dead = await login(site);
    await site.manager.end(dead.sid, 'admin');
    expect((await site.request(`${dead.cookie}; sid=junk; ${one.cookie}`).get())?.id).toBe(one.sid);
    expect(await site.request(`${one.cookie}; ${two.cookie}`).get()).toBeUndefined();
    expect((await site.request(`${one.cookie}; ${one.cookie}`).get())?.id).toBe(one.sid);
  });
});

describe('a request that proves its user itself', () => {
  test('sees the session of that user among several, and opening one ends those of others', async () => {
    const ann = { name: 'ann', roles: [] };
    const begun = async (owner?: typeof ann) => {
      const binding = site.manager.bind({
        cookieHeader: undefined,
        isSecure: false,
        isDocumentNavigation: false,
        ...(owner && { user: owner }),
      });
      const { id } = await binding.open();
      await binding.commit();
      return { sid: id, cookie: cookieOf(binding) };
    };
    const [own, other] = [await begun(ann), await login(site)];
    const request = (cookieHeader: string, name: string) =>
      site.manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false, user: { name, roles: [] } });
    const both = `${other.cookie}; ${own.cookie}`;
    expect((await request(both, 'ann').get())?.id).toBe(own.sid);
    expect(await request(both, 'bob').get()).toBeUndefined();
    expect(site.ends).toEqual([]);
    const bobs = await request(both, 'bob').open();
    expect([bobs.owner?.name, site.ends.map(({ sid }) => sid)]).toEqual(['bob', [other.sid, own.sid]]);
  });

  test('is one session when a rotation has left two tickets, in relaxed coherence too', async () => {
    for (const coherence of ['strict', 'relaxed'] as const) {
      const store = new FaultyStore();
      const { manager, request, clock } = createSite(store, {
        coherence,
        idleTimeoutMs: 86_400_000,
        absoluteTimeoutMs: 864_000_000,
      });
      const begun = await login({ manager, request, clock, ends: [] });
      await clock.advance(4 * 3_600_000);
      const rotating = request(begun.cookie);
      await rotating.get();
      await rotating.commit();
      const rotated = cookieOf(rotating);
      expect(rotated).not.toBe(begun.cookie);
      for (const both of [`${begun.cookie}; ${rotated}`, `${rotated}; ${begun.cookie}`])
        expect((await request(both).get())?.id).toBe(begun.sid);
      await clock.advance(60_000);
      expect((await request(`${begun.cookie}; ${rotated}`).get())?.id).toBe(begun.sid);
      expect(manager.statistics().deadSecrets).toBe(0);
      await manager.close();
    }
  });
});

describe('attributes', () => {
  async function session(): Promise<Session> {
    return site.request((await login(site, { cart: [{ n: 1 }], theme: 'dark' })).cookie).open();
  }

  test('are read, set, deleted and listed', async () => {
    const one = await session();
    one.set('user', { name: 'ann' });
    one.delete('theme');
    expect(one.keys().sort()).toEqual(['cart', 'user']);
    expect(one.has('theme')).toBe(false);
    expect(one.get('theme')).toBeUndefined();
    one.set('user', undefined);
    expect(one.has('user')).toBe(false);
  });

  test('are a snapshot of what was set', async () => {
    const one = await session();
    const list = [1];
    one.set('list', list);
    list.push(2);
    expect(one.get('list')).toEqual([1]);
    one.set('list', list);
    expect(one.get('list')).toEqual([1, 2]);
  });

  test('are decoded once and cannot be changed in place', async () => {
    const one = await session();
    const cart = one.get('cart') as { n: number }[];
    expect(one.get('cart')).toBe(cart);
    expect(() => cart.push({ n: 2 })).toThrow(TypeError);
  });

  test('with bytes are another copy for each reader', async () => {
    const one = await session();
    one.set('bytes', new Uint8Array([1, 2]));
    (one.get('bytes') as Uint8Array)[0] = 9;
    expect(one.get('bytes')).toEqual(new Uint8Array([1, 2]));
  });

  test('that cannot be kept are refused at once and change nothing', async () => {
    const one = await session();
    const refusal = { code: 'ERR_SESSION_NOT_SERIALIZABLE', message: expect.stringContaining('cart[0].onClick') };
    expect(() => one.set('cart', [{ onClick() {} }])).toThrow(expect.objectContaining(refusal));
    expect(one.get('cart')).toEqual([{ n: 1 }]);
    expect(() => one.set('', 1)).toThrow(TypeError);
    expect(() => one.set('x'.repeat(257), 1)).toThrow(TypeError);
  });

  test('larger than the limit are refused', async () => {
    site = createSite(store, { maxAttributeBytes: 100 });
    const one = await session();
    expect(() => one.set('a', 'x'.repeat(100))).toThrow(expect.objectContaining({ code: 'ERR_SESSION_TOO_LARGE' }));
  });

  test('of two scopes keep apart what has one name', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const one = (await binding.open()) as Session<Record<string, unknown>>;
    one.set('cart', 'of nobody');
    one.scope('shop').set('cart', 'of the shop');
    one.scope('bar').set('cart', 'of the bar');
    await binding.commit();
    const again = (await site.request(cookie).open()) as Session<Record<string, unknown>>;
    expect([again.get('cart'), again.scope('shop').get('cart'), again.scope('bar').get('cart')]).toEqual([
      'of nobody',
      'of the shop',
      'of the bar',
    ]);
    again.scope('shop').delete('cart');
    expect([again.has('cart'), again.scope('bar').keys(), again.scope('shop').keys()]).toEqual([true, ['cart'], []]);
  });

  test('and sessions above warnSize are named in the log, once each, and kept', async () => {
    const warnings: object[] = [];
    const logger = { debug() {}, info() {}, error() {}, warn: (fields: object) => void warnings.push(fields) };
    site = createSite(store, { logger, warnSize: { attributeBytes: 1_000, sessionBytes: 3_000 } });
    const text = 'x'.repeat(2_000);
    const { sid } = await login(site, { small: 'x', report: text });
    expect(warnings).toEqual([{ sid: sid.slice(0, 8), attribute: 'report', bytes: expect.any(Number) }]);
    const other = await login(site, { report: text, chart: text });
    expect(warnings.slice(1)).toEqual([
      { sid: other.sid.slice(0, 8), attribute: 'chart', bytes: expect.any(Number) },
      { sid: other.sid.slice(0, 8), bytes: expect.any(Number) },
    ]);
    expect((await site.request(other.cookie).open()).keys()).toEqual(['report', 'chart']);
  });

  test('named like properties of objects are attributes like others', async () => {
    const { cookie } = await login(site, { constructor: 1 });
    const binding = site.request(cookie);
    const one = await binding.open();
    expect(one.get('toString')).toBeUndefined();
    one.set('__proto__', { a: 1 });
    await binding.commit();
    const again = await site.request(cookie).open();
    expect(again.keys().sort()).toEqual(['__proto__', 'constructor']);
    expect(again.get('__proto__')).toEqual({ a: 1 });
  });
});

describe('commits', () => {
  test('write what changed, once, and nothing when nothing did', async () => {
    const { cookie } = await login(site, { a: 1 });
    const binding = site.request(cookie);
    const session = await binding.open();
    store.calls.length = 0;
    session.get('a');
    await binding.commit();
    expect(store.calls).toEqual([]);
    session.set('b', 2);
    session.set('c', 3);
    await binding.commit();
    await binding.commit();
    expect(store.calls).toEqual(['commit']);
  });

  test('of one session run in order, and what is set meanwhile goes with the next', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('n', 1);
    const first = binding.commit();
    session.set('n', 2);
    expect(session.get('n')).toBe(2);
    const second = binding.commit();
    session.set('n', 3);
    const third = session.sync();
    await Promise.all([first, second, third]);
    expect(store.calls.filter(call => call === 'commit')).toHaveLength(2);
    expect((await site.request(cookie).open()).get('n')).toBe(3);
  });

  test('show what they write while they are on their way, the header included', async () => {
    const binding = site.request((await login(site)).cookie);
    const session = (await binding.open()) as Session<Record<string, unknown>>;
    session.set('a', 1);
    session.idleTimeoutMs = 1_000;
    const commit = binding.commit();
    expect([session.get('a'), session.idleTimeoutMs]).toEqual([1, 1_000]);
    await commit;
    expect([session.get('a'), session.idleTimeoutMs]).toEqual([1, 1_000]);
  });

  test('sync writes now', async () => {
    const binding = site.request();
    const session = await binding.open();
    session.set('a', 1);
    await session.sync();
    expect((await site.request(cookieOf(binding)).get())?.get('a')).toBe(1);
  });

  test('of a session that has ended write nothing and say so', async () => {
    const { cookie, sid } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('a', 1);
    await site.manager.end(sid, 'admin');
    await expect(binding.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
    expect(await store.count()).toBe(0);
    expect(() => session.get('a')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_ENDED' }));
  });

  test('that fail keep the changes for another try', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('a', 1);
    store.failing.add('commit');
    await expect(binding.commit()).rejects.toMatchObject(OUTAGE);
    session.set('b', 2);
    store.failing.clear();
    await binding.commit();
    const again = await site.request(cookie).open();
    expect([again.get('a'), again.get('b')]).toEqual([1, 2]);
  });

  test('that create twice because the first answer was lost make one session', async () => {
    const binding = site.request();
    const session = await binding.open();
    session.set('a', 1);
    const { create } = store;
    store.create = async (...args) => {
      await create(...args);
      throw new Error('connection lost');
    };
    await expect(binding.commit()).rejects.toMatchObject(OUTAGE);
    store.create = create;
    session.set('b', 2);
    await binding.commit();
    const again = await site.request(cookieOf(binding)).open();
    expect([again.id, again.get('a'), again.get('b')]).toEqual([session.id, 1, 2]);
  });
});

describe('update', () => {
  test('loses no increment of parallel requests', async () => {
    const { cookie } = await login(site, { n: 0 });
    const results = await Promise.all(
      Array.from({ length: 20 }, async () => (await site.request(cookie).open()).update('n', n => (n as number) + 1)),
    );
    expect(new Set(results).size).toBe(20);
    expect((await site.request(cookie).open()).get('n')).toBe(20);
  });

  test('sees what was set before it and is seen at once', async () => {
    const session = await site.request().open();
    session.set('list', ['a']);
    expect(await session.update('list', list => [...(list as string[]), 'b'])).toEqual(['a', 'b']);
    expect(session.get('list')).toEqual(['a', 'b']);
    expect(await session.update('absent', value => value ?? 'new')).toBe('new');
  });

  test('tries again when somebody else was faster, until the time of its store is over', async () => {
    const { cookie, sid } = await login(site, { n: 0 });
    const session = await site.request(cookie).open();
    let tries = 0;
    // Another process gets in between each read and its commit.
    store.before = async call => {
      if (call === 'commit')
        await MemoryStore.prototype.commit.call(store, sid, { set: new Map([['n', Uint8Array.of(1, 4, 2)]]) });
    };
    const update = session.update('n', () => ++tries);
    const refused = expect(update).rejects.toMatchObject({ code: 'ERR_SESSION_CONFLICT' });
    for (let ms = 0; ms <= 5_000; ms += 50) await site.clock.advance(50);
    await refused;
    expect(tries).toBeGreaterThan(8);
    store.before = () => {};
    expect(await session.update('n', n => (n as number) + 1)).toBe(2);
  });

  test('says so when the session has ended', async () => {
    const { cookie, sid } = await login(site);
    const session = await site.request(cookie).open();
    await site.manager.end(sid, 'admin');
    await expect(session.update('a', () => 1)).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
  });
});

describe('renew', () => {
  test('keeps the session, replaces the cookie, and the old one is dead at once', async () => {
    const { cookie, sid } = await login(site, { cart: 1 });
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('user', 'ann');
    await session.renew({ owner: { name: 'ann', roles: ['user'] } });
    expect(await site.request(cookie).get()).toBeUndefined();
    const renewed = cookieOf(binding);
    expect(renewed).not.toBe(cookie);
    const after = await site.request(renewed).open();
    expect([after.id, after.get('cart'), after.get('user'), after.owner]).toEqual([
      sid,
      1,
      'ann',
      { name: 'ann', roles: ['user'] },
    ]);
  });

  test('of a session that is new needs no second write', async () => {
    const binding = site.request();
    await (await binding.open()).renew({ owner: { name: 'ann', roles: [] } });
    await binding.commit();
    expect(store.calls).toEqual(['create']);
    expect((await site.request(cookieOf(binding)).get())?.owner?.name).toBe('ann');
  });

  test('that fails leaves the old secret and nobody logged in', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    store.failing.add('commit');
    await expect(session.renew({ owner: { name: 'ann', roles: [] } })).rejects.toMatchObject(OUTAGE);
    store.failing.clear();
    session.set('a', 1);
    await binding.commit();
    expect(binding.responseHeaders().map(({ value }) => value)).toEqual([]);
    const after = await site.request(cookie).open();
    expect([after.owner, after.get('a')]).toEqual([undefined, 1]);
  });

  test('is not undone by another request that sets the idle time', async () => {
    const { cookie } = await login(site);
    const [first, second] = [site.request(cookie), site.request(cookie)];
    const [a, b] = await Promise.all([first.open(), second.open()]);
    await a.renew();
    b.idleTimeoutMs = 5 * MINUTE;
    await second.commit();
    expect(await site.request(cookie).get()).toBeUndefined();
    expect((await site.request(cookieOf(first)).get())?.idleTimeoutMs).toBe(5 * MINUTE);
  });

  test('and open throw once the headers are sent', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    binding.markHeadersSent();
    await expect(session.renew()).rejects.toMatchObject({ code: 'ERR_SESSION_HEADERS_SENT' });
    session.set('still', 'possible');
    await binding.commit();
    const anonymous = site.request();
    anonymous.markHeadersSent();
    await expect(anonymous.open()).rejects.toMatchObject({ code: 'ERR_SESSION_HEADERS_SENT' });
  });
});

describe('the end of a session', () => {
  test('is told once, with its reason, clears the cookie, and every later use throws', async () => {
    const { cookie, sid } = await login(site, { a: 1 });
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('b', 2);
    await session.invalidate();
    expect(site.ends).toEqual([{ sid, reason: 'logout' }]);
    await binding.commit();
    expect(await store.count()).toBe(0);
    expect(binding.responseHeaders().map(({ value }) => value)).toEqual([
      'sid=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax',
    ]);
    expect(binding.current).toBeUndefined();
    expect(session.id).toBe(sid);
    const ended = expect.objectContaining({ code: 'ERR_SESSION_ENDED' });
    for (const use of [
      () => session.get('a'),
      () => session.set('a', 1),
      () => session.keys(),
      () => session.owner,
      () => session.isNew,
    ]) {
      expect(use).toThrow(ended);
    }
    await expect(session.invalidate()).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
  });

  test('may be followed by a new session in the same request, and the client learns of that one', async () => {
    const { cookie, sid } = await login(site, { a: 1 });
    const binding = site.request(cookie);
    await (await binding.open()).invalidate();
    const fresh = await binding.open();
    expect(fresh.id).not.toBe(sid);
    expect(fresh.keys()).toEqual([]);
    await binding.commit();
    expect(binding.responseHeaders().map(({ value }) => value)).toHaveLength(1);
    expect((await site.request(cookieOf(binding)).get())?.id).toBe(fresh.id);
  });

  test('of one that was never committed leaves no trace', async () => {
    const binding = site.request();
    await (await binding.open()).invalidate();
    await binding.commit();
    expect([binding.responseHeaders().map(({ value }) => value), site.ends, store.calls]).toEqual([[], [], []]);
  });

  test('is claimed by one of many', async () => {
    const { sid } = await login(site);
    const claims = await Promise.all(Array.from({ length: 10 }, () => site.manager.end(sid, 'admin')));
    expect(claims.filter(Boolean)).toHaveLength(1);
    expect(site.ends).toEqual([{ sid, reason: 'admin' }]);
  });

  test('reaches the other listeners when one throws, and none that has been removed', async () => {
    const { sid } = await login(site);
    const heard: string[] = [];
    site.manager.on('ended', () => {
      throw new Error('listener');
    });
    const stop = site.manager.on('ended', () => heard.push('removed'));
    site.manager.on('ended', () => heard.push('kept'));
    stop();
    await site.manager.end(sid, 'security');
    expect(heard).toEqual(['kept']);
  });
});

describe('time', () => {
  test('ends a session that was silent for the idle time, not a millisecond before', async () => {
    const { cookie, sid } = await login(site);
    await site.clock.advance(30 * MINUTE - 1);
    expect(await ask(site, cookie)).toBeDefined();
    await site.clock.advance(30 * MINUTE - 1);
    expect(await ask(site, cookie)).toBeDefined();
    await site.clock.advance(30 * MINUTE);
    expect(await ask(site, cookie)).toBeUndefined();
    expect(site.ends).toEqual([{ sid, reason: 'expired' }]);
  });

  test('ends a session at its absolute limit however busy it is', async () => {
    const { cookie, sid } = await login(site);
    for (let passed = 0; passed < 12 * 60; passed += 20) {
      expect(await ask(site, cookie)).toBeDefined();
      await site.clock.advance(20 * MINUTE);
    }
    expect(await ask(site, cookie)).toBeUndefined();
    expect(site.ends).toEqual([{ sid, reason: 'absolute' }]);
  });

  test('ends no session when both limits are off', async () => {
    site = createSite(store, { idleTimeoutMs: Infinity, absoluteTimeoutMs: Infinity });
    const { cookie } = await login(site);
    await site.clock.advance(1000 * 24 * 60 * MINUTE);
    expect((await site.request(cookie).get())?.idleTimeoutMs).toBe(Infinity);
    expect(site.ends).toEqual([]);
  });

  test('follows the idle time that the session itself was given', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    session.idleTimeoutMs = 5 * MINUTE;
    expect(() => {
      session.idleTimeoutMs = 0;
    }).toThrow(TypeError);
    await binding.commit();
    binding.release();
    await site.clock.advance(5 * MINUTE);
    expect(await ask(site, cookie)).toBeUndefined();
  });

  test('is written for a busy session once a minute, not with each request', async () => {
    const { cookie } = await login(site);
    store.calls.length = 0;
    for (let second = 0; second < 300; second++) {
      await ask(site, cookie);
      await site.clock.advance(1_000);
    }
    expect(store.calls.filter(call => call === 'glance')).toHaveLength(300);
    expect(store.calls).not.toContain('read');
    const touches = store.calls.filter(call => call === 'touch').length;
    expect(touches).toBeGreaterThanOrEqual(4);
    expect(touches).toBeLessThanOrEqual(5);
  });

  test('is written for a session of a short idle time when a tenth of that has passed', async () => {
    site = createSite(store, { idleTimeoutMs: 100_000 });
    const { cookie } = await login(site);
    store.calls.length = 0;
    for (let second = 0; second < 100; second++) {
      await ask(site, cookie);
      await site.clock.advance(1_000);
    }
    const touches = store.calls.filter(call => call === 'touch').length;
    expect(touches).toBeGreaterThanOrEqual(9);
    expect(touches).toBeLessThanOrEqual(11);
  });

  test('is written once a minute also when the session is used while it is being written', async () => {
    const { cookie } = await login(site);
    await site.clock.advance(60_000);
    store.calls.length = 0;
    store.before = async call => {
      if (call === 'touch') await site.clock.advance(1).then(() => ask(site, cookie));
    };
    await ask(site, cookie);
    for (let second = 0; second < 30; second++) await site.clock.advance(1_000);
    expect(store.calls.filter(call => call === 'touch')).toEqual(['touch']);
  });

  test('is written for many sessions in one call', async () => {
    const logins = await Promise.all(Array.from({ length: 50 }, () => login(site)));
    await site.clock.advance(2 * MINUTE);
    store.calls.length = 0;
    for (const { cookie } of logins) await ask(site, cookie);
    await site.clock.advance(2_000);
    expect(store.calls.filter(call => call === 'touch')).toHaveLength(1);
  });

  test('that could not be written is written later', async () => {
    const { cookie, sid } = await login(site);
    await site.clock.advance(2 * MINUTE);
    await ask(site, cookie);
    const usedAt = site.clock.now();
    store.failing.add('touch');
    await site.clock.advance(5_000);
    store.failing.clear();
    await site.clock.advance(5_000);
    expect(Math.ceil((await store.read(sid))!.lastAccessedAt)).toBe(usedAt);
  });

  test('ends idle sessions that nobody asks for, in a sweep, and spares those in use', async () => {
    await site.manager.start();
    const idle = await Promise.all(Array.from({ length: 1_200 }, () => login(site)));
    const busy = await login(site);
    for (let minute = 0; minute < 32; minute++) {
      await site.clock.advance(MINUTE);
      await ask(site, busy.cookie);
    }
    await expect.poll(() => site.ends.length).toBe(1_200);
    expect(new Set(site.ends.map(({ sid }) => sid))).toEqual(new Set(idle.map(({ sid }) => sid)));
    expect(site.ends.every(({ reason }) => reason === 'expired')).toBe(true);
    expect(await ask(site, busy.cookie)).toBeDefined();
    await site.manager.close();
    expect(site.clock.pending).toBe(0);
  });

  test('of an outage does not stop the sweep for ever', async () => {
    await site.manager.start();
    await login(site);
    store.failing.add('expired');
    await site.clock.advance(40 * MINUTE);
    expect(site.ends).toEqual([]);
    store.failing.clear();
    await site.clock.advance(MINUTE);
    await expect.poll(() => site.ends.length).toBe(1);
    await site.manager.close();
  });
});

describe('a store that cannot be reached', () => {
  test('is an error in every call and never "no session"', async () => {
    const { cookie, sid } = await login(site);
    store.failing.add('*');
    const binding = site.request(cookie);
    await expect(binding.get()).rejects.toMatchObject(OUTAGE);
    await expect(binding.open()).rejects.toMatchObject(OUTAGE);
    await expect(site.manager.access(sid, () => {})).rejects.toMatchObject(OUTAGE);
    await expect(site.manager.attach(sid)).rejects.toMatchObject(OUTAGE);
    await expect(site.manager.end(sid, 'admin')).rejects.toMatchObject(OUTAGE);
    store.failing.clear();
    expect((await binding.get())?.id).toBe(sid);
    expect(site.ends).toEqual([]);
  });

  test('leaves a session alive that could not be ended', async () => {
    const { cookie } = await login(site);
    const binding = site.request(cookie);
    const session = await binding.open();
    store.failing.add('delete');
    await expect(session.invalidate()).rejects.toMatchObject(OUTAGE);
    expect(binding.responseHeaders().map(({ value }) => value)).toEqual([]);
    store.failing.clear();
    expect(await site.request(cookie).get()).toBeDefined();
  });
});

describe('a session outside its request', () => {
  test('throws when it is used after the request', async () => {
    const { cookie } = await login(site, { a: 1 });
    const binding = site.request(cookie);
    const session = await binding.open();
    binding.release();
    const outside = expect.objectContaining({ code: 'ERR_SESSION_OUTSIDE_REQUEST' });
    expect(() => session.get('a')).toThrow(outside);
    expect(() => session.set('a', 1)).toThrow(outside);
    await expect(session.sync()).rejects.toEqual(outside);
    await expect(binding.get()).rejects.toEqual(outside);
    await expect(binding.open()).rejects.toEqual(outside);
  });

  test('is worked on with access, which commits also when the work throws', async () => {
    const { cookie, sid } = await login(site, { a: 1 });
    expect(await site.manager.access(sid, session => session.get('a'))).toBe(1);
    await expect(
      site.manager.access(sid, session => {
        session.set('a', 2);
        throw new Error('later');
      }),
    ).rejects.toThrow('later');
    expect((await site.request(cookie).open()).get('a')).toBe(2);
  });

  test('cannot be renewed there, and does not look used', async () => {
    const { sid, cookie } = await login(site);
    await expect(site.manager.access(sid, session => session.renew())).rejects.toMatchObject({
      code: 'ERR_SESSION_HEADERS_SENT',
    });
    for (let minute = 0; minute < 30; minute++) {
      await site.manager.access(sid, session => session.set('minute', minute));
      await site.clock.advance(MINUTE);
    }
    expect(await site.request(cookie).get()).toBeUndefined();
  });

  test('that is gone is an error', async () => {
    await expect(site.manager.access('unknown', () => 1)).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
  });
});

describe('a manager that is closed', () => {
  test('refuses what comes late, on lmdb too, and waits for nothing more', async () => {
    const path = await mkdtemp(join(tmpdir(), 'holdfast-closed-'));
    try {
      const late = createSite(new LmdbStore({ path }));
      const { sid, cookie } = await login(late);
      const socket = (await late.manager.attach(sid))!;
      const binding = late.request();
      await binding.open();
      await late.manager.close();
      const outage = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503, message: expect.stringContaining('closed') };
      await expect(binding.commit()).rejects.toMatchObject(outage);
      await expect(late.request(cookie).get()).rejects.toMatchObject(outage);
      socket.touch();
      await socket.release();
      expect(late.clock.pending).toBe(0);
    } finally {
      await rm(path, { recursive: true });
    }
  });
});

test('a manager of which only store and keys are said has the documented limits', () => {
  expect(readSettings({ store, keys: [KEY] })).toMatchObject({
    idleTimeoutMs: 30 * MINUTE,
    absoluteTimeoutMs: 12 * 60 * MINUTE,
    renewalTimeoutMs: 4 * 60 * MINUTE,
    write: 'end-of-request',
    contents: 'set',
    conflicts: 'last-wins',
    coherence: 'strict',
    cacheSessions: 10_000,
    cacheBytes: 64 * 1024 * 1024,
    maxAttributeBytes: 1024 * 1024,
    maxSessionBytes: 4 * 1024 * 1024,
    warnSize: { attributeBytes: 16 * 1024, sessionBytes: 64 * 1024 },
    overflow: 'refuse',
    sweep: { everyMs: MINUTE },
  });
});

test('options that cannot work are refused when the manager is made', () => {
  const options = { store: new MemoryStore(), keys: [KEY] };
  expect(() => new SessionManager({ ...options, keys: [] })).toThrow(TypeError);
  expect(() => new SessionManager({ ...options, idleTimeoutMs: 0 })).toThrow(TypeError);
  expect(() => new SessionManager({ ...options, absoluteTimeoutMs: Number.NaN })).toThrow(TypeError);
  expect(() => new SessionManager({ ...options, maxAttributeBytes: -1 })).toThrow(TypeError);
});
