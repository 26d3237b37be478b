import { beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Data, type Process, settle, user, visit, WatchedStore } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

let store: FaultyStore;
let cluster: Cluster;
let one: Process;
let two: Process;
let cookie: string;
let sid: string;

async function begin(created: FaultyStore, coherence: 'strict' | 'relaxed'): Promise<void> {
  store = created;
  cluster = new Cluster(store, { coherence });
  [one, two] = [cluster.process(), cluster.process()];
  await Promise.all([one.manager.start(), two.manager.start()]);
  ({ cookie, sid } = await visit(one, undefined, session => session.set('n', 0)));
  store.calls.length = 0;
}
const read = async (process: Process, name = 'n') =>
  (await visit(process, cookie, session => session.get(name))).result;
const write = (process: Process, n: number) => visit(process, cookie, session => session.set('n', n));

describe('strict coherence', () => {
  beforeEach(() => begin(new FaultyStore(), 'strict'));

  test('costs ten reading requests one read at first, then glances only, and no write', async () => {
    for (let round = 0; round < 10; round++) expect(await read(two)).toBe(0);
    expect(store.calls.filter(call => call === 'read')).toHaveLength(1);
    store.calls.length = 0;
    for (let round = 0; round < 10; round++) expect(await read(two)).toBe(0);
    expect(store.calls).toEqual(Array(10).fill('glance'));
  });

  test('shows each request what any process committed before it began', async () => {
    for (let n = 1; n <= 10; n++) {
      const [writer, reader] = n % 2 ? [one, two] : [two, one];
      await write(writer, n);
      expect(await read(reader)).toBe(n);
      expect(await read(writer)).toBe(n);
    }
  });

  test('needs no read for what the process itself has committed', async () => {
    await write(one, 1);
    store.calls.length = 0;
    expect(await read(one)).toBe(1);
    expect(store.calls).toEqual(['glance']);
    expect(one.manager.statistics().affinityBreaks).toBe(0);
  });

  test('shows a value that came between two commits of the process itself', async () => {
    const binding = one.request(cookie);
    const session = (await binding.open()) as Data;
    await visit(two, cookie, other => other.set('theirs', 1));
    session.set('mine', 1);
    await binding.commit();
    const seen = await visit(one, cookie, other => [other.get('mine'), other.get('theirs')]);
    expect(seen.result).toEqual([1, 1]);
  });

  test('shows what the store has when it was set back to an earlier state', async () => {
    const before = (await store.read(sid))!;
    await write(one, 1);
    expect(await read(two)).toBe(1);
    await store.delete(sid);
    await store.create(sid, before);
    expect([await read(one), await read(two)]).toEqual([0, 0]);
  });

  test('does not ask the store for a session that is known to be over', async () => {
    await two.manager.end(sid, 'admin');
    await settle(); // the ledger tells the other process
    store.calls.length = 0;
    expect(await one.request(cookie).get()).toBeUndefined();
    expect(await two.request(cookie).get()).toBeUndefined();
    expect(store.calls).toEqual([]);
  });

  test('finds by asking what the ledger has not told', async () => {
    cluster = new Cluster(store);
    const deaf = cluster.process({ ledger: new Cluster(store).ledger });
    expect(await read(deaf)).toBe(0);
    await two.manager.end(sid, 'admin');
    expect(await deaf.request(cookie).get()).toBeUndefined();
  });

  test('gives up no session that another process has used between the judgement and the end', async () => {
    await read(two);
    await cluster.clock.advance(29 * 60_000);
    cluster.clock.jump(cluster.clock.now() + 60_000); // before anybody sweeps
    const { delete: remove } = store;
    store.delete = async (...args) => {
      await store.touch(new Map([[sid, cluster.clock.now()]]));
      return remove(...args);
    };
    expect((await two.request(cookie).get())?.id).toBe(sid);
    expect([one.ends, two.ends]).toEqual([[], []]);
  });
});

describe('relaxed coherence with a feed of changes', () => {
  let watched: WatchedStore;
  beforeEach(async () => {
    watched = new WatchedStore();
    await begin(watched, 'relaxed');
  });

  test('costs ten reading requests one read at first, then nothing', async () => {
    for (let round = 0; round < 10; round++) expect(await read(two)).toBe(0);
    expect(store.calls).toEqual(['read', 'touch']); // and says that it has come here from another process
    store.calls.length = 0;
    for (let round = 0; round < 10; round++) expect(await read(two)).toBe(0);
    expect(store.calls).toEqual([]);
  });

  test('shows what was told', async () => {
    await read(two);
    await write(one, 1);
    expect(await read(two)).toBe(1);
  });

  test('writes the last access of a busy session once a minute', async () => {
    for (let second = 0; second < 300; second++) {
      await read(two);
      await cluster.clock.advance(1_000);
    }
    // The first one says that it has come here from another process.
    expect(store.calls.filter(call => call === 'touch').length).toBeLessThanOrEqual(1 + 5);
  });

  test('asks for everything again after a gap, and while the feed is not current at most 1 s later', async () => {
    await read(two);
    watched.isSilent = true;
    await write(one, 1);
    expect(await read(two)).toBe(0); // nothing has told it
    watched.feed.gaps++;
    expect(await read(two)).toBe(1);
    watched.feed.isCurrent = false;
    await write(one, 2);
    await cluster.clock.advance(1_000);
    expect(await read(two)).toBe(2);
  });

  test.each(['read', 'glance'] as const)('does not take for current what changed during its %s', async call => {
    if (call === 'glance') await read(two);
    watched.tell(sid);
    let once = true;
    const original = store[call];
    store[call] = (async (id: string) => {
      const answer = await original(id);
      if (once) {
        once = false;
        await write(one, 1);
      }
      return answer;
    }) as never;
    await read(two);
    expect(await read(two)).toBe(1);
  });

  test('trusts nothing that was read before the feed began', async () => {
    const late = cluster.process();
    expect(await read(late)).toBe(0);
    await write(one, 1);
    await late.manager.start();
    expect(await read(late)).toBe(1);
  });

  test('shows a change of another process to sockets', async () => {
    const socket = (await two.manager.attach(sid))!;
    await write(one, 5);
    await settle();
    expect((socket.session as unknown as Data).get('n')).toBe(5);
  });

  test('ends a session in every process', async () => {
    await read(two);
    await one.manager.end(sid, 'admin');
    await settle();
    expect(await two.request(cookie).get()).toBeUndefined();
  });
});

describe('relaxed coherence without a feed', () => {
  beforeEach(() => begin(new FaultyStore(), 'relaxed'));

  test('is at most 1 s behind', async () => {
    const deaf = cluster.process({ ledger: new Cluster(store).ledger });
    await read(deaf);
    await write(one, 1);
    await cluster.clock.advance(999);
    expect(await read(deaf)).toBe(0);
    await cluster.clock.advance(1);
    expect(await read(deaf)).toBe(1);
  });

  test('asks again for a session that another process has taken over', async () => {
    await read(two);
    await write(one, 1);
    await settle(); // the ledger tells it
    expect(await read(two)).toBe(1);
  });

  test('shows a process what it has committed itself at once', async () => {
    await read(two);
    await write(two, 1);
    expect(await read(two)).toBe(1);
  });

  test('signs nobody out whose new secret it has not heard of', async () => {
    const [a, b] = [cluster.process({ ledger: new Cluster(store).ledger }), cluster.process()];
    await read(b);
    const renewed = await visit(a, cookie, session => session.renew({ owner: user('ann') }));
    const seen = await b.request(renewed.cookie, { isDocumentNavigation: true }).auto();
    expect([seen?.id, seen?.owner?.name]).toEqual([sid, 'ann']);
  });

  test('claims a session for nobody that another process has given to its owner', async () => {
    const [a, b] = [cluster.process({ ledger: new Cluster(store).ledger }), cluster.process()];
    await read(b);
    await visit(a, cookie, () => {}, { user: user('ann') });
    expect((await b.request(cookie, { user: user('ann') }).get())?.owner?.name).toBe('ann');
    expect(await b.request(cookie, { user: user('bob') }).get()).toBeUndefined();
  });
});
