import { describe, expect, test } from 'vitest';
import { NearCache } from '../../src/session/process/near-cache.ts';
import { Snapshot } from '../../src/session/record/snapshot.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { Cluster, visit } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

const header = { secretHash: 'h', createdAt: 0 };
function snapshot(version = 1, bytes = 0): Snapshot {
  const attributes = new Map(bytes > 0 ? [['a', { value: new Uint8Array(bytes), version: 1 }]] : []);
  return new Snapshot({ header, version, attributes });
}

function create(maxSessions: number, maxBytes = 1_000_000) {
  const passivated: string[] = [];
  const activated: string[] = [];
  const cache = new NearCache({
    maxSessions,
    maxBytes,
    clock: new FakeClock(),
    onDiscarded: sid => passivated.push(sid),
    onLoaded: sid => activated.push(sid),
  });
  const load = (sid: string, version = 1, bytes = 0) =>
    cache.load(sid, async () => ({ snapshot: snapshot(version, bytes), lastAccessedAt: 0 }));
  return { cache, load, passivated, activated };
}

describe('the near cache', () => {
  test('drops the one that was used the longest ago to make room', async () => {
    const { cache, load, passivated } = create(2);
    await load('a');
    await load('b');
    cache.get('a');
    await load('c');
    expect([passivated, cache.has('a'), cache.has('b'), cache.size]).toEqual([['b'], true, false, 2]);
  });

  test('holds no more bytes than it may', async () => {
    const { cache, load, passivated } = create(100, 10_000);
    await load('a', 1, 1_000);
    await load('b', 1, 1_000);
    await load('c', 1, 2_500);
    expect(passivated).toEqual(['a']);
    expect(cache.bytes).toBeLessThanOrEqual(10_000);
  });

  test('counts what attributes cost however small they are', async () => {
    const { cache } = create(100, 1_000_000);
    const attributes = new Map(
      Array.from({ length: 10_000 }, (_, index) => [`${index}`, { value: new Uint8Array(3), version: 1 }] as const),
    );
    await cache.load('many', async () => ({
      snapshot: new Snapshot({ header, version: 1, attributes }),
      lastAccessedAt: 0,
    }));
    expect(cache.has('many')).toBe(false);
  });

  test('does not give up all others for one that is too large for it', async () => {
    const { cache, load, passivated, activated } = create(100, 10_000);
    await load('a');
    await load('huge', 1, 10_000);
    expect([cache.has('a'), cache.has('huge'), passivated, activated]).toEqual([true, false, [], ['a']]);
    // One that has grown too large leaves.
    cache.update('a', snapshot(2, 10_000));
    expect([cache.size, cache.bytes, passivated]).toEqual([0, 0, ['a']]);
  });

  test('of no sessions keeps none and tells nothing', async () => {
    const { cache, load, passivated, activated } = create(0);
    await load('a');
    cache.add('b', snapshot(), 0);
    expect([cache.size, cache.bytes, passivated, activated]).toEqual([0, 0, [], []]);
  });

  test('counts the bytes of what leaves, is replaced or ends', async () => {
    const { cache, load } = create(10);
    await load('a', 1, 100);
    await load('a', 2, 500);
    cache.update('a', snapshot(3, 50));
    await load('b', 1, 70);
    cache.delete('a');
    cache.delete('b');
    expect([cache.size, cache.bytes]).toEqual([0, 0]);
  });

  test('keeps the later of two versions', async () => {
    const { cache, load } = create(10);
    await load('a', 5);
    await load('a', 4);
    expect(cache.get('a')!.snapshot.version).toBe(5);
  });

  test('does not trust what changed while it was being read or asked for', async () => {
    const { cache, load } = create(10);
    const gate = Promise.withResolvers<void>();
    const loading = cache.load('a', async () => {
      await gate.promise;
      return { snapshot: snapshot(), lastAccessedAt: 0 };
    });
    cache.distrust('a');
    gate.resolve();
    await loading;
    expect(cache.get('a')!.validatedAt).toBe(Number.NEGATIVE_INFINITY);

    await load('a');
    expect(cache.get('a')!.validatedAt).toBe(0);
    for (const distrust of [() => cache.distrust('a'), () => cache.distrustAll()]) {
      const glance = async () => {
        distrust();
        return { version: 1, lastAccessedAt: 7 };
      };
      expect(await cache.validate('a', glance)).toMatchObject({ version: 1 });
      expect(cache.get('a')!.validatedAt).toBe(Number.NEGATIVE_INFINITY);
    }
  });

  test('does not keep a session that ended while it was being read', async () => {
    const { cache } = create(10);
    await cache.load('a', async () => {
      cache.delete('a');
      return { snapshot: snapshot(), lastAccessedAt: 0 };
    });
    expect(cache.has('a')).toBe(false);
  });
});

describe('a process', () => {
  test('tells once that a session came into its memory, and that it left', async () => {
    const cluster = new Cluster(new FaultyStore(), { cacheSessions: 2 });
    const [maker, reader] = [cluster.process(), cluster.process()];
    const begin = (n: number) => visit(maker, undefined, session => session.set('n', n));
    const [a, b, c] = [await begin(0), await begin(1), await begin(2)];
    const told: unknown[] = [];
    reader.manager.on('activated', ({ sid }) => told.push(['in', sid]));
    reader.manager.on('passivated', ({ sid }) => told.push(['out', sid]));
    // Two at once read it twice, and it comes once.
    await Promise.all([visit(reader, a.cookie, () => {}), visit(reader, a.cookie, () => {})]);
    await visit(reader, b.cookie, () => {});
    await visit(reader, a.cookie, () => {});
    await visit(reader, c.cookie, () => {});
    expect(told).toEqual([
      ['in', a.sid],
      ['in', b.sid],
      ['out', b.sid],
      ['in', c.sid],
    ]);
    expect((await reader.manager.info(a.sid))?.isLive).toBe(true);
    expect((await reader.manager.info(b.sid))?.isLive).toBe(false);
    expect(reader.manager.statistics()).toMatchObject({ liveNow: 2, cacheDiscards: 1 });
    expect((await visit(reader, b.cookie, session => session.get('n'))).result).toBe(1);
  });

  test('refuses a size of memory that is none', () => {
    const cluster = new Cluster(new FaultyStore());
    expect(() => cluster.process({ cacheSessions: Number.NaN })).toThrow(TypeError);
    expect(() => cluster.process({ cacheBytes: -1 })).toThrow(TypeError);
  });
});
