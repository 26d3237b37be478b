import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/session/stores/memory.ts';
import { storeConformance } from '../../../src/testing/store-conformance.ts';

storeConformance('memory', () => new MemoryStore(), { describe, test });

describe('memory store', () => {
  const record = { header: { secretHash: 'x', createdAt: 0 }, version: 1, lastAccessedAt: 0, attributes: new Map() };

  test('refuses a session beyond its cap and drops none that lives', async () => {
    const store = new MemoryStore({ maxSessions: 2 });
    await store.create('a', record);
    await store.create('b', record);
    await expect(store.create('c', record)).rejects.toMatchObject({ code: 'ERR_SESSION_NO_ROOM', status: 503 });
    expect(await store.create('a', record)).toBe(false);
    expect(await store.count()).toBe(2);
    await store.delete('a');
    expect(await store.create('c', record)).toBe(true);
  });

  test('finds the next one to expire without looking at all of them', async () => {
    const store = new MemoryStore();
    let looks = 0;
    for (let second = 9_999; second >= 0; second--) {
      const header = {
        ...record.header,
        get absoluteExpiresAt() {
          looks++;
          return second * 1_000;
        },
      };
      await store.create(`s${second}`, { ...record, header });
    }
    looks = 0;
    for (const next of ['s0', 's1', 's2']) {
      expect(await store.expired(Number.MAX_SAFE_INTEGER, 1)).toEqual([next]);
      await store.delete(next);
    }
    expect(looks).toBeLessThan(100);
  });

  test('lists no session twice that is touched meanwhile', async () => {
    const store = new MemoryStore();
    for (const sid of ['a', 'b', 'c']) await store.create(sid, record);
    const listed: string[] = [];
    for await (const sid of store.sids()) {
      listed.push(sid);
      await store.touch(new Map([[sid, listed.length]]));
    }
    expect(listed).toEqual(['a', 'b', 'c']);
  });

  test('refuses a cap that holds nothing', () => {
    expect(() => new MemoryStore({ maxSessions: 0 })).toThrow(TypeError);
  });
});
