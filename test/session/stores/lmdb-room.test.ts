import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SessionManager } from '../../../src/session/manager.ts';
import { LmdbLedger, LmdbStore, type LmdbStoreOptions } from '../../../src/session/stores/lmdb.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { closing } from '../../services/closing.ts';
import { KEY } from '../fixture.ts';

const MIB = 1024 * 1024;
const NOW = Date.UTC(2026, 0, 1);
const noRoom = expect.objectContaining({ code: 'ERR_SESSION_NO_ROOM', status: 503 });

let folder: string;
let free: number;
let measured: number;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-room-'));
  free = 1_000 * MIB;
  measured = 0;
});
afterEach(() => rm(folder, { recursive: true }));
const open = closing();

// Pretended: a disk that is really full is no place for a test.
const freeBytes = () => {
  measured++;
  return free;
};

function openStore(options: Partial<LmdbStoreOptions> = {}): LmdbStore {
  const store = new LmdbStore({ path: folder, freeBytes, ...options });
  open.push(store);
  return store;
}

/** To everybody who has it open: what was measured is measured again. */
function setFree(bytes: number): void {
  free = bytes;
  openStore();
}

const header = (owner?: string) => ({
  secretHash: 'h',
  createdAt: NOW,
  idleTimeoutMs: 1_000,
  ...(owner !== undefined && { owner: { name: owner, roles: [] } }),
});
const record = (owner?: string, value = 'x') => ({
  header: header(owner),
  version: 1,
  lastAccessedAt: NOW,
  attributes: new Map([['a', { value: Buffer.from(value), version: 1 }]]),
});
const set = (value: string) => ({ set: new Map([['a', Buffer.from(value)]]) });

describe('below the reserve of the disk', () => {
  let store: LmdbStore;
  let ledger: LmdbLedger;
  beforeEach(async () => {
    store = openStore();
    ledger = new LmdbLedger({ path: folder });
    open.push(ledger);
    for (const sid of ['one', 'two', 'three']) await store.create(sid, record());
    await ledger.put('fact', 'value', 60_000);
    setFree(63 * MIB);
  });

  test('nothing new is written, in the store or in its ledger', async () => {
    await expect(store.create('new', record())).rejects.toEqual(noRoom);
    await expect(store.create('new', record('ann'))).rejects.toEqual(noRoom);
    await expect(store.commit('one', set('y'))).rejects.toEqual(noRoom);
    await expect(store.commit('one', { header: header('ann') })).rejects.toEqual(noRoom);
    await expect(ledger.put('other', 'value', 60_000)).rejects.toEqual(noRoom);
    await expect(ledger.putIfAbsent('third', 'value', 60_000)).rejects.toEqual(noRoom);
    await expect(ledger.increment('count', 1, 60_000)).rejects.toEqual(noRoom);
    expect([store.hasRoom(true), store.hasRoom(false)]).toEqual([false, false]);
    expect(await store.count()).toBe(3);
  });

  test('the message names what is free, the reserve and the setting', async () => {
    await expect(store.create('new', record())).rejects.toThrow(
      /63 MiB left, less than the reserve of 64 MiB.*diskReserve/,
    );
  });

  test('reading, touching, ending, sweeping, and telling others go on', async () => {
    expect((await store.read('one'))?.header).toEqual(header());
    expect(await store.create('one', record())).toBe(false);
    await store.touch(new Map([['one', NOW + 500]]));
    expect((await store.glance('one'))?.lastAccessedAt).toBe(NOW + 500);
    expect((await store.commit('two', { deleted: new Set(['a']) })).status).toBe('committed');
    expect(await store.delete('two')).toBe(true);
    expect((await store.expired(NOW + 10_000, 10)).sort()).toEqual(['one', 'three']);
    expect(await store.delete('three', NOW + 10_000)).toBe(true);
    const heard: string[] = [];
    const stop = await ledger.subscribe('channel', message => heard.push(message));
    await ledger.publish('channel', 'ended');
    await expect.poll(() => heard).toEqual(['ended']);
    await stop();
    await ledger.put('fact', 'other', 60_000); // in the place of one that was there
    expect(await ledger.take('fact')).toBe('other');
  });

  test('a sweeper ends what is over although it gets no lease', async () => {
    const clock = new FakeClock(NOW);
    const manager = new SessionManager({ store, ledger, clock, keys: [KEY], sweep: { everyMs: 1_000 } });
    await manager.start();
    await clock.advance(3_000);
    await expect.poll(() => store.count()).toBe(0);
    open.splice(0, open.length, ...open.filter(one => one !== store && one !== ledger));
    await manager.close();
  });

  test('it goes on when there is room again', async () => {
    await expect(store.create('new', record())).rejects.toEqual(noRoom);
    setFree(65 * MIB);
    expect(await store.create('new', record())).toBe(true);
    expect((await store.commit('one', set('y'))).status).toBe('committed');
  });

  test('it is measured again by itself, within some seconds', async () => {
    await expect(store.create('new', record())).rejects.toEqual(noRoom);
    free = 65 * MIB;
    await expect.poll(() => store.create('new', record()).catch(() => false), { timeout: 15_000 }).toBe(true);
  });
});

test('where the disk is so full that the library is in danger, nothing at all is written, and reading goes on', async () => {
  const store = openStore();
  await store.create('one', record());
  setFree(7 * MIB);
  await expect(store.delete('one')).rejects.toEqual(noRoom);
  await expect(store.touch(new Map([['one', NOW + 1]]))).rejects.toEqual(noRoom);
  expect(await store.expired(NOW + 10_000, 10)).toEqual(['one']);
  expect(await store.read('one')).toBeDefined();
});

test('a new folder is not made on a full disk, and one that is there is opened', async () => {
  free = 63 * MIB;
  expect(() => openStore()).toThrow(expect.objectContaining({ code: 'ERR_SESSION_NO_ROOM' }));
  free = 65 * MIB;
  const store = openStore();
  await store.create('one', record());
  await store.close();
  free = 63 * MIB;
  expect(await openStore().read('one')).toBeDefined();
});

test('without a reserve the disk is not looked at', async () => {
  free = 0;
  const store = openStore({ reserveBytes: 0 });
  expect(await store.create('one', record())).toBe(true);
  expect(measured).toBe(0);
});

test('the disk is measured once a second, and oftener the nearer its end is, before it is reached', async () => {
  const store = openStore();
  free = 500 * 1024 * MIB;
  await Promise.all(Array.from({ length: 300 }, (_, i) => store.create(`far${i}`, record())));
  const far = measured;
  expect(far).toBeLessThan(10);
  // Each session takes as much of the pretended disk as a large one would.
  free = 64 * MIB + 2 * MIB;
  openStore();
  let written = 0;
  await expect(
    (async () => {
      for (; ; written++) {
        await store.create(`near${written}`, record('ann', 'x'.repeat(20_000)));
        free -= 100_000;
      }
    })(),
  ).rejects.toEqual(noRoom);
  expect(written).toBeGreaterThan(10);
  // The last one may take more than it was asked for; the reserve is wide.
  expect(free).toBeGreaterThan(63.8 * MIB);
});

describe('maxBytes', () => {
  test('refuses what would go beyond it, and takes new ones when some have ended', async () => {
    const store = openStore({ maxBytes: 4 * MIB });
    const value = 'x'.repeat(30_000);
    let held = 0;
    const fill = async () => {
      for (; held < 1_000; held++) await store.create(`s${held}`, record('ann', value));
    };
    await expect(fill()).rejects.toEqual(noRoom);
    expect(held).toBeGreaterThan(60);
    expect(held).toBeLessThan(140);
    await expect(store.commit('s0', { set: new Map([['b', Buffer.alloc(200_000)]]) })).rejects.toEqual(noRoom);
    for (let i = 0; i < 40; i++) await store.delete(`s${i}`);
    await expect
      .poll(() => store.create('again', record('ann', value)).catch(() => false), { timeout: 15_000 })
      .toBe(true);
  });

  test('anonymous sessions fill their share only, and one of them is still signed in', async () => {
    const store = openStore({ maxBytes: 4 * MIB, anonymousShare: 0.5 });
    const value = 'x'.repeat(30_000);
    let held = 0;
    const fill = async () => {
      for (; held < 1_000; held++) await store.create(`s${held}`, record(undefined, value));
    };
    await expect(fill()).rejects.toThrow(/anonymous sessions fill 50 %.*raise maxSize/);
    await expect(store.commit('s0', { set: new Map([['b', Buffer.alloc(50_000)]]) })).rejects.toEqual(noRoom);
    expect((await store.commit('s0', { header: header('ann') })).status).toBe('committed');
    expect((await store.commit('s0', { set: new Map([['b', Buffer.alloc(50_000)]]) })).status).toBe('committed');
    expect(await store.create('login', record('bob', value))).toBe(true);
    expect([store.hasRoom(true), store.hasRoom(false)]).toEqual([false, true]);
  });
});

describe('maxSessions', () => {
  test.each([0, -1, Number.NaN])('cannot be %d', maxSessions => {
    expect(() => openStore({ maxSessions })).toThrow(TypeError);
  });

  test.each([-0.1, 1.1, Number.NaN])('the share of anonymous sessions cannot be %d', anonymousShare => {
    expect(() => openStore({ anonymousShare })).toThrow(TypeError);
  });

  test('is exact, however many are created at a time by several', async () => {
    const stores = [
      openStore({ maxSessions: 50, anonymousShare: 1 }),
      openStore({ maxSessions: 50, anonymousShare: 1 }),
    ];
    const created = await Promise.all(
      Array.from({ length: 200 }, (_, i) => stores[i % 2]!.create(`s${i}`, record()).catch(error => error.code)),
    );
    expect(created.filter(one => one === true)).toHaveLength(50);
    expect(created.filter(one => one === 'ERR_SESSION_NO_ROOM')).toHaveLength(150);
    expect(await stores[0]!.count()).toBe(50);
  });

  test('is exact where the way to it is long', async () => {
    const store = openStore({ maxSessions: 6_000 });
    const create = async (from: number, to: number) => {
      const sids = Array.from({ length: to - from }, (_, i) => `s${from + i}`);
      return Promise.all(sids.map(sid => store.create(sid, record()).catch(() => false)));
    };
    for (let from = 0; from < 7_000; from += 500) await create(from, from + 500);
    expect([await store.count(), await store.countAnonymous()]).toEqual([4_800, 4_800]);
    expect(
      (
        await Promise.all(
          Array.from({ length: 1_500 }, (_, i) => store.create(`o${i}`, record('ann')).catch(() => false)),
        )
      ).filter(Boolean),
    ).toHaveLength(1_200);
    expect(await store.count()).toBe(6_000);
  });

  test('a sid that exists is not a matter of room', async () => {
    const store = openStore({ maxSessions: 1, anonymousShare: 1 });
    expect(await store.create('one', record())).toBe(true);
    expect(await store.create('one', record())).toBe(false);
    const twice = await Promise.all([0, 1].map(() => openStore({ maxSessions: 5 }).create('two', record())));
    expect(twice.sort()).toEqual([false, true]);
  });
});
