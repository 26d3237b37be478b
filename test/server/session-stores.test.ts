import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import type { SessionConfig } from '../../src/config/config.ts';
import { openBackend } from '../../src/server/assembly/session-stores.ts';
import type { SessionRecord } from '../../src/session/store.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';

describe.skipIf(redisIsMissing)('the profile failover on a redis', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  const record: SessionRecord = {
    header: { secretHash: 'h', createdAt: 0 },
    version: 1,
    lastAccessedAt: 0,
    attributes: new Map(),
  };

  async function create(sid: string, config: SessionConfig): Promise<boolean> {
    const { store, ledger } = await openBackend(config, { clock: new FakeClock(), logger: silentLogger });
    try {
      return await store.create(sid, record);
    } finally {
      await store.close();
      await ledger?.close();
    }
  }

  test('waits until a replica has what was written', async () => {
    await expect(create('a', { store: redis.url, profile: 'failover' })).rejects.toThrow(/0 of the 1 replicas/);
    expect(await create('b', { store: redis.url, profile: 'medium' })).toBe(true);
    expect(await create('c', { store: redis.url, contents: 'all' })).toBe(true);
  });

  test('waits for as many as the store is told to', async () => {
    const acknowledge = { replicas: 3, timeout: '20ms' as const };
    const told: SessionConfig = { store: { url: redis.url, acknowledge }, profile: 'failover' };
    await expect(create('d', told)).rejects.toThrow(/0 of the 3 replicas/);
    const byAddress: SessionConfig = { store: `${redis.url}/0?replicas=2`, profile: 'failover' };
    await expect(create('e', byAddress)).rejects.toThrow(/0 of the 2 replicas/);
  });
});
