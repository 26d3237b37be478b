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

  test('refuses a cap that holds nothing', () => {
    expect(() => new MemoryStore({ maxSessions: 0 })).toThrow(TypeError);
  });
});
