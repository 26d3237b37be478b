import { beforeEach, describe, expect, test } from 'vitest';
import type { SessionRecord } from '../../src/session/store.ts';
import { Cluster, type Data, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

class ReplaceableStore extends FaultyStore {
  interruptions = 0;

  /** The record is this one now, and nobody is told. */
  async replace(sid: string, record: SessionRecord): Promise<void> {
    const calls = this.calls.length;
    await this.delete(sid);
    await this.create(sid, record);
    this.calls.length = calls;
  }
}

let store: ReplaceableStore;
let cluster: Cluster<ReplaceableStore>;
let one: Process;
let two: Process;
let cookie: string;
let sid: string;
let kept: SessionRecord;
beforeEach(async () => {
  store = new ReplaceableStore();
  cluster = new Cluster(store);
  [one, two] = [cluster.process(), cluster.process()];
  ({ cookie, sid } = await visit(one, undefined, session => session.set('n', 'kept')));
  await read(two);
  kept = (await store.read(sid))!;
});
const read = async (process: Process) => (await visit(process, cookie, session => session.get('n'))).result;
const write = (process: Process, n: string) => visit(process, cookie, session => session.set('n', n));
const attach = async (process: Process) => (await process.manager.attach(sid))!;

describe('a store that was set back', () => {
  test('gives its old state to a socket after a refresh, and the new one that is written over it', async () => {
    const sockets = [await attach(one), await attach(two)];
    const values = () => sockets.map(({ session }) => (session as unknown as Data).get('n'));
    await write(one, 'lost');
    for (const socket of sockets) await socket.refresh();
    expect(values()).toEqual(['lost', 'lost']);
    await store.replace(sid, kept);
    for (const socket of sockets) await socket.refresh();
    expect(values()).toEqual(['kept', 'kept']);
    await write(two, 'new');
    for (const socket of sockets) await socket.refresh();
    expect(values()).toEqual(['new', 'new']);
  });

  test('keeps what a socket writes without having seen it, and nothing that was lost', async () => {
    const [socket, other] = [await attach(one), await attach(two)];
    const session = socket.session as unknown as Data;
    session.set('m', 'lost');
    await settle();
    await other.refresh();
    await store.replace(sid, kept);
    session.set('n', 'new');
    await settle();
    await other.refresh();
    for (const each of [session, other.session as unknown as Data])
      expect([each.get('n'), each.get('m')]).toEqual(['new', undefined]);
  });

  test('closes the sockets of a login that was lost', async () => {
    const signedIn = await visit(one, cookie, session => session.renew({ owner: user('ann') }));
    const binding = two.request(signedIn.cookie);
    await binding.open();
    const socket = await binding.attach();
    expect(socket?.session.owner?.name).toBe('ann');
    await store.replace(sid, kept);
    await socket!.refresh();
    expect(two.socketEnds).toEqual([sid]);
    expect(() => socket!.session.owner).toThrow(expect.objectContaining({ code: 'ERR_SESSION_SUPERSEDED' }));
    expect(await two.request(signedIn.cookie).get()).toBeUndefined();
  });

  test('makes no compare-and-swap succeed on a value that only has the same place', async () => {
    const bump = (process: Process) =>
      visit(process, cookie, session => session.update('count', n => ((n as number) ?? 0) + 1));
    await bump(one);
    const record = (await store.read(sid))!;
    await bump(one);
    const lost = (await store.read(sid))!.attributes.get('count')!.version;
    await store.replace(sid, record);
    await bump(two);
    const late = { set: new Map([['count', Buffer.from('late')]]), expected: new Map([['count', lost]]) };
    expect((await store.commit(sid, late)).status).toBe('conflict');
  });

  test('is believed by a process whose last commit may or may not have been lost', async () => {
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    session.set('n', 'first');
    const { commit } = store;
    store.commit = async (...args) => {
      await commit(...args);
      throw new Error('the connection broke');
    };
    await expect(binding.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    store.commit = commit;
    expect(await read(two)).toBe('first'); // it was written
    await store.replace(sid, kept); // and lost
    session.set('n', 'second');
    await binding.commit();
    expect([await read(one), await read(two)]).toEqual(['second', 'second']);
  });
});

describe('after the connection was lost', () => {
  /** What only a process from before lineages, or a store that does not know them, could write. */
  const sameVersion = async () =>
    store.replace(sid, {
      ...(await store.read(sid))!,
      attributes: new Map(),
      header: { ...kept.header, createdAt: 1 },
    });

  test('a request reads what it had cached, also where its version is still there', async () => {
    await sameVersion();
    expect(await read(two)).toBe('kept');
    store.interruptions++;
    expect(await read(two)).toBeUndefined();
    store.calls.length = 0;
    await read(two);
    expect(store.calls).toEqual(['glance']);
  });

  test('a socket reads it with its next refresh', async () => {
    const socket = await attach(two);
    await sameVersion();
    await socket.refresh();
    expect((socket.session as unknown as Data).get('n')).toBe('kept');
    store.interruptions++;
    await socket.refresh();
    expect((socket.session as unknown as Data).get('n')).toBeUndefined();
  });

  test('relaxed coherence asks again as well', async () => {
    const relaxed = cluster.process({ coherence: 'relaxed' });
    await read(relaxed);
    await sameVersion();
    expect(await read(relaxed)).toBe('kept');
    store.interruptions++;
    expect(await read(relaxed)).toBeUndefined();
  });

  test('what was being read when it was lost is not kept', async () => {
    const late = cluster.process();
    const original = store.read;
    store.read = async id => {
      const answer = await original(id);
      store.interruptions++;
      if (id === sid) await late.manager.attach('another');
      return answer;
    };
    await read(late);
    store.read = original;
    await sameVersion();
    expect(await read(late)).toBeUndefined();
  });
});
