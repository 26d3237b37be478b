import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RedisLedger } from '../../../src/session/stores/redis.ts';
import { ledgerConformance } from '../../../src/testing/ledger-conformance.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../../services/redis-server.ts';
import { until } from '../../services/until.ts';

/** Less than the 2 s that a call may take by default, and enough for a busy machine. */
const ENDS_SOON = 1_800;
const skipped = redisIsMissing ? ` (skipped: ${redisIsMissing})` : '';

describe.skipIf(redisIsMissing)(`redis ledger${skipped}`, () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  ledgerConformance(
    'redis',
    async () => {
      const prefix = randomUUID();
      const ledger = await RedisLedger.open(server.url, { prefix });
      return { ledger, second: await RedisLedger.open(server.url, { prefix }), advance: ms => wait(ms) };
    },
    { describe, test },
  );

  test('nothing is left of what was taken or is over', async () => {
    const prefix = randomUUID();
    const ledger = await RedisLedger.open(server.url, { prefix });
    await ledger.putIfAbsent('a', 'x', 60_000);
    await ledger.take('a');
    await ledger.putIfAbsent('b', 'x', 1);
    await ledger.increment('c', 1, 1);
    await until(async () => (await server.cli('KEYS', `*${prefix}*`)).trim() === '');
    await ledger.close();
  });
});

describe.skipIf(redisIsMissing)(`redis ledger in an outage${skipped}`, () => {
  const unavailable = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 };

  test('refuses every call in time, and hears again by itself when it is over', async () => {
    await using server = await startRedis();
    const ledger = await RedisLedger.open(server.url, { commandTimeoutMs: 300 });
    const heard: string[] = [];
    const unsubscribe = await ledger.subscribe('c', message => heard.push(message));
    for (const outage of ['SIGSTOP', 'SIGKILL'] as const) {
      const stopListening = await ledger.subscribe('another', () => {});
      if (outage === 'SIGKILL') await server.kill();
      else server.signal(outage);
      const start = performance.now();
      const calls = [
        ledger.get('k'),
        ledger.take('k'),
        ledger.putIfAbsent('k', 'v', 1_000),
        ledger.increment('n', 1, 1_000),
        ledger.publish('c', 'lost'),
      ];
      for (const call of await Promise.allSettled(calls)) {
        expect(call).toMatchObject({ status: 'rejected', reason: unavailable });
      }
      expect(performance.now() - start).toBeLessThan(ENDS_SOON);
      const subscribing = performance.now();
      await expect(ledger.subscribe('other', () => {})).rejects.toMatchObject(unavailable);
      // Once the time of a command, and not a second time for what is to be undone.
      expect(performance.now() - subscribing).toBeLessThan(500);
      await stopListening();
      expect(performance.now() - start).toBeLessThan(2 * ENDS_SOON);
      if (outage === 'SIGKILL') await server.restart();
      else server.signal('SIGCONT');
      heard.length = 0;
      await until(async () => {
        await ledger.publish('c', outage).catch(() => {});
        return heard.includes(outage);
      });
    }
    await unsubscribe();
    await ledger.close();
    await expect(ledger.get('k')).rejects.toMatchObject(unavailable);
  });
});
