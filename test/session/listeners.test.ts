import { beforeEach, describe, expect, test } from 'vitest';
import type { SessionEvents } from '../../src/session/reports/events.ts';
import { Cluster, type Process, settle, user, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const KINDS = ['created', 'ended', 'changed', 'renewed', 'passivated', 'activated'] as const;
type Told = readonly [keyof SessionEvents, unknown];

function listenTo({ manager }: Process, told: Told[]): void {
  for (const kind of KINDS) manager.on(kind, event => told.push([kind, event]));
}

let store: FaultyStore;
let cluster: Cluster;
let processes: Process[];
let told: Told[];
beforeEach(async () => {
  store = new FaultyStore();
  cluster = new Cluster(store);
  processes = [cluster.process(), cluster.process(), cluster.process()];
  told = [];
  for (const process of processes) {
    listenTo(process, told);
    await process.manager.start();
  }
});

describe('listeners', () => {
  test('are told each thing once, in one of the processes, in the order in which it happened', async () => {
    const [one, two] = processes as [Process, Process];
    const { cookie, sid } = await visit(one, undefined, session => session.set('a', 1));
    const renewed = await visit(one, cookie, session => {
      session.set('a', 2);
      session.set('b', 1);
      return session.renew({ owner: user('ann') });
    });
    await visit(one, renewed.cookie, session => session.delete('b'));
    await visit(two, renewed.cookie, session => session.invalidate('logout'));
    await settle();
    expect(told).toEqual([
      ['created', { sid }],
      ['changed', { sid, attribute: 'a', kind: 'added' }],
      ['changed', { sid, attribute: 'a', kind: 'replaced' }],
      ['changed', { sid, attribute: 'b', kind: 'added' }],
      ['renewed', { sid, kind: 'renewed' }],
      ['changed', { sid, attribute: 'b', kind: 'removed' }],
      ['activated', { sid }],
      ['ended', { sid, reason: 'logout' }],
    ]);
  });

  test('are told of a rotation as such', async () => {
    const [one] = processes as [Process];
    const { cookie, sid } = await visit(one, undefined, session => {
      session.idleTimeoutMs = Number.POSITIVE_INFINITY;
    });
    await cluster.clock.advance(4 * 3_600_000);
    await visit(one, cookie, () => {});
    expect(told).toContainEqual(['renewed', { sid, kind: 'rotated' }]);
  });

  test('hear nothing of what was not done', async () => {
    const [one] = processes as [Process];
    const binding = one.request();
    const session = await binding.open();
    session.set('a', 1);
    await session.renew();
    expect(told).toEqual([]);
    store.failing.add('create');
    await expect(binding.commit()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    expect(told).toEqual([]);
  });

  test('that throw, at once or later, disturb nobody and are logged', async () => {
    const [one] = processes as [Process];
    one.manager.on('created', () => {
      throw new Error('at once');
    });
    one.manager.on('created', async () => {
      await settle();
      throw new Error('later');
    });
    let isHeard = false;
    one.manager.on('created', () => {
      isHeard = true;
    });
    await visit(one, undefined, () => {});
    await settle();
    await settle();
    expect(isHeard).toBe(true);
    expect(one.log.map(({ err }) => (err as Error | undefined)?.message)).toEqual(['at once', 'later']);
  });

  test('may end a session while they are told of it', async () => {
    const [one] = processes as [Process];
    one.manager.on('created', ({ sid }) => void one.manager.end(sid, 'security'));
    await visit(one, undefined, () => {});
    await settle();
    expect(told.map(([kind]) => kind)).toEqual(['created', 'ended']);
    expect(await store.count()).toBe(0);
  });
});

describe('the end of a session', () => {
  const ended = () => told.filter(([kind]) => kind === 'ended');

  test('is told once when all processes end it at the same moment', async () => {
    const { sid } = await visit(processes[0]!, undefined, () => {});
    const claims = await Promise.all(
      processes.flatMap(({ manager }) => [manager.end(sid, 'admin'), manager.end(sid, 'admin')]),
    );
    expect(claims.filter(Boolean)).toHaveLength(1);
    expect(ended()).toHaveLength(1);
  });

  test('by time is told once when all sweep and are asked at the same moment', async () => {
    const visits = await Promise.all(
      Array.from({ length: 50 }, (_, index) => visit(processes[index % 3]!, undefined, () => {})),
    );
    await cluster.clock.advance(29 * 60_000);
    cluster.clock.jump(cluster.clock.now() + 60_000);
    const swept = cluster.clock.advance(2 * 60_000);
    const asked = Promise.all(
      visits.slice(0, 10).flatMap(({ cookie }) => processes.map(process => process.request(cookie).get())),
    );
    await swept;
    expect((await asked).every(session => session === undefined)).toBe(true);
    await expect.poll(() => ended().length).toBe(50);
    expect(new Set(ended().map(([, event]) => (event as { sid: string }).sid)).size).toBe(50);
    expect(ended().every(([, event]) => (event as { reason: string }).reason === 'expired')).toBe(true);
  });

  test('by time is looked for by one process at a time', async () => {
    store.calls.length = 0;
    await cluster.clock.advance(10 * 60_000);
    const sweeps = store.calls.filter(call => call === 'expired').length;
    expect(sweeps).toBeGreaterThanOrEqual(9);
    expect(sweeps).toBeLessThanOrEqual(11);
  });

  test('by time is not reached by a session that is used while it is swept', async () => {
    const { sid } = await visit(processes[0]!, undefined, () => {});
    await cluster.clock.advance(29 * 60_000 + 30_000);
    const { delete: remove } = store;
    store.delete = async (id, ...rest) => {
      await store.touch(new Map([[id, cluster.clock.now()]])); // another process has used it
      return remove(id, ...rest);
    };
    await cluster.clock.advance(5 * 60_000);
    await settle();
    expect(ended()).toEqual([]);
    expect(await store.read(sid)).toBeDefined();
  });
});

test('a manager that is started twice sweeps once, and one whose start failed can be started again', async () => {
  const late = cluster.process();
  const { subscribe } = cluster.ledger;
  cluster.ledger.subscribe = async () => {
    throw new Error('connection refused');
  };
  await expect(late.manager.start()).rejects.toThrow('connection refused');
  cluster.ledger.subscribe = subscribe;
  const before = cluster.clock.pending;
  await late.manager.start();
  await late.manager.start();
  expect(cluster.clock.pending).toBe(before);
  const { cookie, sid } = await visit(late, undefined, () => {});
  await processes[0]!.manager.end(sid, 'admin');
  await settle();
  store.calls.length = 0;
  expect(await late.request(cookie).get()).toBeUndefined();
  expect(store.calls).toEqual([]);
});
