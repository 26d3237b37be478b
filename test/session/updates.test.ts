import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionManagerOptions } from '../../src/session/options.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import type { FakeClock } from '../../src/testing/fake-clock.ts';
import { Cluster, type Data, settle, visit } from './cluster.ts';
import { FaultyStore, KEY } from './fixture.ts';

const MANAGERS = 4;
const plusOne = (n: unknown) => Number(n ?? 0) + 1;

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const one of undo.splice(0).reverse()) await one();
});

/** Managers as in as many processes, each with what `open` opens for it. */
function managersOn(open: () => SessionStore, options: Partial<SessionManagerOptions> = {}): SessionManager[] {
  return Array.from({ length: MANAGERS }, () => {
    const manager = new SessionManager({ store: open(), keys: [KEY], cookie: { name: 'sid' }, ...options });
    undo.push(() => manager.close());
    return manager;
  });
}

async function signIn(manager: SessionManager): Promise<string> {
  const binding = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
  (await binding.open()).set('n', 0);
  await binding.commit();
  const [header] = binding.responseHeaders();
  binding.release();
  return header!.value.split(';')[0]!;
}

async function open(manager: SessionManager, cookieHeader: string): Promise<Data> {
  const binding = manager.bind({ cookieHeader, isSecure: false, isDocumentNavigation: false });
  undo.push(() => binding.release());
  return (await binding.open()) as Data;
}

const STORES: readonly (readonly [name: string, make: () => Promise<() => SessionStore>])[] = [
  [
    'memory',
    async () => {
      const store = new MemoryStore();
      return () => store;
    },
  ],
  [
    'a memory that answers late and in any order',
    async () => {
      const store = new FaultyStore();
      store.before = async () => {
        for (let turns = Math.random() * 8; turns > 0; turns--) await new Promise(resolve => setImmediate(resolve));
      };
      return () => store;
    },
  ],
  [
    'lmdb',
    async () => {
      const path = await mkdtemp(join(tmpdir(), 'holdfast-updates-'));
      undo.push(() => rm(path, { recursive: true }));
      return () => new LmdbStore({ path });
    },
  ],
];

describe.each(STORES)('update on %s', (_name, make) => {
  test.each([8, 32])('counts each of %d parallel calls on four managers once', async calls => {
    const managers = managersOn(await make());
    const cookie = await signIn(managers[0]!);
    const updates = Array.from({ length: calls }, async (_, index) =>
      (await open(managers[index % MANAGERS]!, cookie)).update('n', plusOne),
    );
    const seen = await Promise.all(updates);
    expect(seen.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: calls }, (_, index) => index + 1));
  });

  test('comes through beside managers that update in a loop without a pause', async () => {
    const managers = managersOn(await make());
    const cookie = await signIn(managers[0]!);
    let isDone = false;
    let total = 0;
    const loops = managers.slice(1).map(async manager => {
      const session = await open(manager, cookie);
      for (; !isDone; total++) await session.update('n', plusOne);
    });
    const session = await open(managers[0]!, cookie);
    for (let count = 0; count < 5; count++, total++) await session.update('n', plusOne);
    isDone = true;
    await Promise.all(loops);
    expect((await open(managers[0]!, cookie)).get('n')).toBe(total);
  });
});

describe('an update that meets others', () => {
  async function begin(options: Partial<SessionManagerOptions> = {}) {
    const store = new FaultyStore();
    const cluster = new Cluster(store, options);
    const [one, two] = [cluster.process(), cluster.process()];
    const { cookie, sid } = await visit(one, undefined, session => session.set('n', 0));
    const binding = one.request(cookie);
    undo.push(() => binding.release());
    const session = (await binding.open()) as Data;
    let isTheirs = false;
    const others = { times: Number.POSITIVE_INFINITY };
    store.before = async call => {
      if (call !== 'commit' || isTheirs || others.times-- <= 0) return;
      isTheirs = true;
      await visit(two, cookie, theirs => theirs.update('n', n => Number(n) + 100));
      isTheirs = false;
    };
    return { ...cluster, clock: cluster.clock, one, two, session, sid, cookie, others, store, binding };
  }

  /** Moves the clock in small steps until it is settled; returns how far. */
  async function advanceUntil(clock: FakeClock, settled: Promise<unknown>): Promise<number> {
    let isSettled = false;
    const done = () => {
      isSettled = true;
    };
    void settled.then(done, done);
    const start = clock.monotonic();
    for (await settle(); !isSettled; await settle()) {
      if (clock.monotonic() - start > 30_000) throw new Error('not settled within half a minute');
      await clock.advance(1);
    }
    return clock.monotonic() - start;
  }

  test('waits between its tries by the clock of its manager, each time longer, and at random', async () => {
    const { clock, session, others } = await begin();
    others.times = 12;
    let tries = 0;
    const at: number[] = [];
    const update = session.update('n', n => {
      tries++;
      at.push(clock.monotonic());
      return Number(n) + 1;
    });
    await advanceUntil(clock, update);
    expect(await update).toBe(1_201);
    expect(tries).toBe(13);
    const pauses = at.slice(1).map((time, index) => time - at[index]!);
    expect(Math.max(...pauses.slice(0, 4))).toBeLessThan(50);
    expect(Math.max(...pauses)).toBeGreaterThan(Math.max(...pauses.slice(0, 2)));
    expect(new Set(pauses).size).toBeGreaterThan(4);
  });

  test.each([5_000, 1_000])('gives up after the time that its store has, and says so (%d ms)', async storeTimeoutMs => {
    const { clock, session } = await begin({ storeTimeoutMs });
    let tries = 0;
    const update = session.update('n', () => ++tries);
    update.catch(() => {});
    const ms = await advanceUntil(clock, update);
    await expect(update).rejects.toMatchObject({
      code: 'ERR_SESSION_CONFLICT',
      status: 409,
      message: expect.stringMatching(
        new RegExp(`"n" was changed by others at each of ${tries} tries in ${storeTimeoutMs} ms.*try again`),
      ),
    });
    expect(ms).toBeGreaterThanOrEqual(storeTimeoutMs - 1);
    expect(ms).toBeLessThan(storeTimeoutMs * 1.1);
    expect(tries).toBeGreaterThan(8);
    expect(tries).toBeLessThan(300);
  });

  test('goes on for as long as it takes where the store has no limit of time', async () => {
    const { clock, session, others } = await begin({ storeTimeoutMs: Number.POSITIVE_INFINITY });
    others.times = 300;
    const update = session.update('n', n => Number(n) + 1);
    expect(await advanceUntil(clock, update)).toBeGreaterThan(5_000);
    expect(await update).toBe(30_001);
  });

  test('ends with what its function throws, at whichever try', async () => {
    const { clock, session, others, two, cookie } = await begin();
    let tries = 0;
    const update = session.update('n', () => {
      if (++tries === 3) throw new RangeError('no more');
      return tries;
    });
    update.catch(() => {});
    await advanceUntil(clock, update);
    await expect(update).rejects.toThrow(new RangeError('no more'));
    expect(tries).toBe(3);
    others.times = 0;
    expect((await visit(two, cookie, theirs => theirs.get('n'))).result).toBe(200);
  });

  test.each(['here', 'elsewhere'])('rejects at once when the session has ended %s meanwhile', async where => {
    const { clock, one, two, session, sid } = await begin();
    let tries = 0;
    const update = session.update('n', () => ++tries);
    update.catch(() => {});
    for (let steps = 0; tries < 6 && steps < 2_000; steps++) {
      await settle();
      await clock.advance(1);
    }
    await (where === 'here' ? one : two).manager.end(sid, 'admin');
    const before = tries;
    expect(await advanceUntil(clock, update)).toBeLessThan(1_100);
    await expect(update).rejects.toMatchObject({ code: 'ERR_SESSION_ENDED' });
    expect(tries - before).toBeLessThanOrEqual(1);
  });

  test('keeps the order of the calls of one process', async () => {
    const { clock, session, others } = await begin();
    others.times = 4;
    const order: string[] = [];
    const first = session.update('n', n => Number(n) + 1).then(() => order.push('first'));
    const second = session.update('n', n => Number(n) + 1).then(() => order.push('second'));
    await advanceUntil(clock, Promise.all([first, second]));
    expect(order).toEqual(['first', 'second']);
  });

  test('keeps merging under a conflict policy, for as long as an update does', async () => {
    const merge = ({ mine, theirs }: { mine: unknown; theirs: unknown }) => Number(mine) + Number(theirs);
    const { clock, session, others, binding, two, cookie } = await begin({ conflicts: merge });
    others.times = 12;
    session.set('n', 1);
    const commit = binding.commit();
    await advanceUntil(clock, commit);
    await commit;
    others.times = 0;
    expect((await visit(two, cookie, theirs => theirs.get('n'))).result).toBeGreaterThan(1_200);
  });
});

test('a loop of updates in memory lets timers run', async () => {
  const manager = new SessionManager({ store: new MemoryStore(), ledger: new MemoryLedger(), keys: [KEY] });
  undo.push(() => manager.close());
  const binding = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
  undo.push(() => binding.release());
  const session = await binding.open();
  let isOver = false;
  setTimeout(() => {
    isOver = true;
  }, 5);
  const end = performance.now() + 2_000;
  while (!isOver && performance.now() < end) await session.update('n', plusOne);
  expect(isOver).toBe(true);
});
