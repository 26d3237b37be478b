import { beforeEach, describe, expect, test } from 'vitest';
import type { SocketSession } from '../../src/session/process/socket-session.ts';
import type { Session } from '../../src/session/session.ts';
import { createSite, FaultyStore, login, type Site } from './fixture.ts';

let store: FaultyStore;
let site: Site;
beforeEach(() => {
  store = new FaultyStore();
  site = createSite(store);
});

async function attached(sid: string): Promise<SocketSession & { session: Session }> {
  const socket = await site.manager.attach(sid);
  expect(socket).toBeDefined();
  return socket!;
}
const turn = () => new Promise(resolve => setImmediate(resolve));

describe('a session held by sockets', () => {
  test('shows what one sets to the others at once, and commits it behind them, together', async () => {
    const { sid, cookie } = await login(site);
    const [one, two] = await Promise.all([attached(sid), attached(sid)]);
    store.calls.length = 0;
    one.session.set('a', 1);
    one.session.set('b', 2);
    two.session.set('c', 3);
    expect([two.session.get('a'), one.session.get('c')]).toEqual([1, 3]);
    await expect.poll(() => store.calls).toEqual(['commit']);
    await turn();
    const session = await site.request(cookie).open();
    expect([session.get('a'), session.get('b'), session.get('c')]).toEqual([1, 2, 3]);
  });

  test('is loaded once for all of them', async () => {
    const { sid } = await login(site);
    store.calls.length = 0;
    await Promise.all(Array.from({ length: 20 }, () => attached(sid)));
    await attached(sid);
    expect(store.calls).toEqual(['glance']);
  });

  test('is not given to a socket when it ended while it was being read', async () => {
    const { sid } = await login(site);
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { glance } = store;
    store.glance = async id => {
      const answer = await glance(id);
      await gate;
      return answer;
    };
    const attaching = site.manager.attach(sid);
    await turn();
    await site.manager.end(sid, 'logout');
    open();
    expect(await attaching).toBeUndefined();
  });

  test('is seen by a request of this process before it is committed', async () => {
    const { sid, cookie } = await login(site);
    const socket = await attached(sid);
    socket.session.set('a', 1);
    expect((await site.request(cookie).open()).get('a')).toBe(1);
  });

  test('sees what a request of this process commits', async () => {
    const { sid, cookie } = await login(site, { a: 1 });
    const socket = await attached(sid);
    const binding = site.request(cookie);
    const session = await binding.open();
    session.set('a', 2);
    await session.renew({ owner: { name: 'ann', roles: [] } });
    await binding.commit();
    expect([socket.session.get('a'), socket.session.owner?.name]).toEqual([2, 'ann']);
    await session.update('a', a => (a as number) + 1);
    expect(socket.session.get('a')).toBe(3);
  });

  test('sees what another process has committed after a refresh, which costs a version otherwise', async () => {
    const { sid, cookie } = await login(site, { a: 1 });
    const socket = await attached(sid);
    const elsewhere = createSite(store);
    const binding = elsewhere.request(cookie);
    (await binding.open()).set('a', 2);
    await binding.commit();
    expect(socket.session.get('a')).toBe(1);
    await socket.refresh();
    expect(socket.session.get('a')).toBe(2);
    store.calls.length = 0;
    await socket.refresh();
    expect(store.calls).toEqual(['glance']);
  });

  test('catches up when its own commit came after one of another process', async () => {
    const { sid, cookie } = await login(site, { a: 1 });
    const socket = await attached(sid);
    const binding = createSite(store).request(cookie);
    (await binding.open()).set('a', 2);
    await binding.commit();
    socket.session.set('b', 1);
    await expect.poll(() => socket.session.get('a')).toBe(2);
    expect(socket.session.get('b')).toBe(1);
  });

  test('sees what another process has committed within 5 s, for as long as somebody holds it', async () => {
    const { sid, cookie } = await login(site, { a: 1 });
    const socket = await attached(sid);
    const binding = createSite(store).request(cookie);
    (await binding.open()).set('a', 2);
    await binding.commit();
    store.failing.add('glance'); // an outage delays it
    await site.clock.advance(5_000);
    store.failing.clear();
    await site.clock.advance(5_000);
    expect(socket.session.get('a')).toBe(2);
    await socket.release();
    await site.clock.advance(5_000);
    expect(site.clock.pending).toBe(0);
  });

  test('that another process has ended is over here within 5 s', async () => {
    const { sid, cookie } = await login(site);
    const [one, two] = await Promise.all([attached(sid), attached(sid)]);
    const ended: string[] = [];
    site.manager.onSocketEnd(sid => ended.push(sid));
    await (await createSite(store).request(cookie).open()).invalidate();
    expect(one.isEnded).toBe(false);
    await site.clock.advance(5_000);
    expect([one.isEnded, two.isEnded, ended]).toEqual([true, true, [sid]]);
    expect(await site.manager.attach(sid)).toBeUndefined();
    expect(site.ends).toEqual([]); // it is the other process that has ended it
  });

  test.each([
    ['a request does not find it', (_socket: SocketSession, cookie: string) => site.request(cookie).get()],
    ['a commit does not find it', ({ session }: SocketSession) => session.set('a', 1)],
  ])('that another process has ended is over here as soon as %s', async (_how, learn) => {
    const { sid, cookie } = await login(site);
    const socket = await attached(sid);
    const ended: string[] = [];
    site.manager.onSocketEnd(sid => ended.push(sid));
    await createSite(store).manager.end(sid, 'admin');
    await learn(socket, cookie);
    await expect.poll(() => ended).toEqual([sid]);
    await socket.release();
    expect(ended).toEqual([sid]);
  });

  test('keeps the later value of another process when the answer to its own commit comes late', async () => {
    const { sid, cookie } = await login(site);
    const socket = await attached(sid);
    const answer = Promise.withResolvers<void>();
    const { commit } = store;
    store.commit = async (...args) => {
      store.commit = commit;
      const result = await commit(...args);
      await answer.promise;
      return result;
    };
    socket.session.set('a', 'ours');
    await turn();
    const binding = createSite(store).request(cookie);
    (await binding.open()).set('a', 'theirs');
    await binding.commit();
    await socket.refresh();
    answer.resolve();
    await turn();
    expect(socket.session.get('a')).toBe('theirs');
  });

  test('stays alive by touch, written in batches', async () => {
    const { sid, cookie } = await login(site);
    const socket = await attached(sid);
    store.calls.length = 0;
    for (let second = 0; second < 40 * 60; second += 10) {
      socket.touch();
      await site.clock.advance(10_000);
    }
    expect(store.calls.filter(call => call === 'touch').length).toBeLessThanOrEqual(48);
    expect(await site.request(cookie).get()).toBeDefined();
  });

  test('ends without touch however long the socket is open', async () => {
    await site.manager.start();
    const { sid } = await login(site);
    const socket = await attached(sid);
    await site.clock.advance(31 * 60_000);
    await expect.poll(() => site.ends).toEqual([{ sid, reason: 'expired' }]);
    expect(() => socket.session.get('a')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_ENDED' }));
    await socket.release();
    await site.manager.close();
  });

  test('throws everywhere once it has ended, and does not come back', async () => {
    const { sid, cookie } = await login(site, { a: 1 });
    const [one, two] = await Promise.all([attached(sid), attached(sid)]);
    one.session.set('b', 1);
    await (await site.request(cookie).open()).invalidate();
    for (const socket of [one, two]) {
      expect(() => socket.session.get('a')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_ENDED' }));
      socket.touch();
      await socket.release();
    }
    await site.clock.advance(120_000);
    expect(await store.count()).toBe(0);
    expect(site.ends).toEqual([{ sid, reason: 'logout' }]);
    expect(await site.manager.attach(sid)).toBeUndefined();
  });

  test('can be ended by a socket, and not be renewed by one', async () => {
    const { sid } = await login(site);
    const socket = await attached(sid);
    await expect(socket.session.renew()).rejects.toMatchObject({ code: 'ERR_SESSION_HEADERS_SENT' });
    await socket.session.invalidate('security');
    expect(site.ends).toEqual([{ sid, reason: 'security' }]);
  });

  test('is committed by the release of a socket, and its session is no longer usable there', async () => {
    const { sid, cookie } = await login(site);
    const [one, two] = await Promise.all([attached(sid), attached(sid)]);
    one.session.set('a', 1);
    await one.release();
    expect(() => one.session.get('a')).toThrow(expect.objectContaining({ code: 'ERR_SESSION_OUTSIDE_REQUEST' }));
    expect(two.session.get('a')).toBe(1);
    two.session.set('b', 2);
    await Promise.all([two.release(), two.release()]);
    const session = await site.request(cookie).open();
    expect([session.get('a'), session.get('b')]).toEqual([1, 2]);
  });

  test('is validated afresh after the last socket let go', async () => {
    const { sid } = await login(site, { a: 1 });
    await (await attached(sid)).release();
    store.calls.length = 0;
    await attached(sid);
    expect(store.calls).toEqual(['glance']);
  });

  test('is written when the manager closes', async () => {
    const { sid } = await login(site);
    const socket = await attached(sid);
    const { close } = store;
    let kept: unknown;
    store.close = async () => {
      kept = (await store.read(sid))?.attributes.has('a');
      await close.call(store);
    };
    socket.session.set('a', 1);
    await site.manager.close();
    expect(kept).toBe(true);
    expect(site.clock.pending).toBe(0);
  });

  test('is no obstacle to closing the manager when another process has ended it', async () => {
    const [gone, kept] = [await login(site), await login(site)];
    const [one, two] = await Promise.all([attached(gone.sid), attached(kept.sid)]);
    await createSite(store).manager.end(gone.sid, 'admin');
    one.session.set('a', 1);
    await site.clock.advance(1_000);
    two.touch();
    store.calls.length = 0;
    await site.manager.close();
    expect(store.calls).toContain('touch');
  });
});

describe('a commit behind sockets that fails', () => {
  test('is tried again, and nobody is troubled when that succeeds', async () => {
    const { sid, cookie } = await login(site);
    const socket = await attached(sid);
    const errors: Error[] = [];
    socket.onError(error => errors.push(error));
    store.failing.add('commit');
    socket.session.set('a', 1);
    await expect.poll(() => store.calls).toContain('commit');
    await site.clock.advance(1_000);
    store.failing.clear();
    await site.clock.advance(5_000);
    expect(errors).toEqual([]);
    expect((await site.request(cookie).open()).get('a')).toBe(1);
  });

  test('is reported to each socket once it lasts, and kept for the next change', async () => {
    const { sid, cookie } = await login(site);
    const [one, two] = await Promise.all([attached(sid), attached(sid)]);
    const errors: string[] = [];
    one.onError(() => errors.push('one'));
    two.onError(() => errors.push('two'));
    store.failing.add('commit');
    one.session.set('a', 1);
    await turn();
    await site.clock.advance(10_000);
    expect(errors.sort()).toEqual(['one', 'two']);
    store.failing.clear();
    two.session.set('b', 2);
    await turn();
    await turn();
    const session = await site.request(cookie).open();
    expect([session.get('a'), session.get('b')]).toEqual([1, 2]);
  });

  test('fails the release of the socket that leaves, which lets go all the same', async () => {
    const { sid } = await login(site);
    const socket = await attached(sid);
    store.failing.add('commit');
    socket.session.set('a', 1);
    await expect(socket.release()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    store.failing.clear();
    expect((await attached(sid)).session.has('a')).toBe(false);
  });
});
