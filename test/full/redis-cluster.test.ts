import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { createCluster } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRedis, RedisLedger, RedisStore } from '../../src/session/stores/redis.ts';
import { ledgerConformance } from '../../src/testing/ledger-conformance.ts';
import { storeConformance } from '../../src/testing/store-conformance.ts';
import { type RedisCluster, redisIsMissing, startCluster } from '../services/redis-server.ts';
import { until } from '../services/until.ts';

const skipped = redisIsMissing ? ` (skipped: ${redisIsMissing})` : '';

function record() {
  const header = {
    secretHash: 'hash',
    createdAt: Date.now(),
    idleTimeoutMs: 60_000,
    owner: { name: 'ann', roles: [] },
  };
  return { header, version: 1, lastAccessedAt: Date.now(), attributes: new Map() };
}

function change(value: string) {
  return { set: new Map([['a', Buffer.from(value)]]) };
}

describe.skipIf(redisIsMissing)(`on a redis cluster of three masters${skipped}`, () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await startCluster(3);
  });
  afterAll(() => cluster.stop());

  let prefix: string;
  storeConformance(
    'redis cluster',
    () => {
      prefix = randomUUID();
      return RedisStore.open(cluster.urls, { prefix });
    },
    { describe, test },
    { openSecond: () => RedisStore.open(cluster.urls[2]!, { prefix }) },
  );

  ledgerConformance(
    'redis cluster',
    async () => {
      const options = { prefix: randomUUID() };
      const ledger = await RedisLedger.open(cluster.urls, options);
      return { ledger, second: await RedisLedger.open(cluster.urls, options), advance: ms => wait(ms) };
    },
    { describe, test },
  );

  test('the cluster client of the application serves as well', async () => {
    const client = await createCluster({ rootNodes: cluster.urls.map(url => ({ url })) }).connect();
    const { store, ledger } = await openRedis(client, { prefix: randomUUID() });
    const told: string[] = [];
    const feed = await store.watch(sid => told.push(sid));
    for (let index = 0; index < 50; index++) await store.create(`s${index}`, record());
    await store.commit('s7', change('x'));
    await until(() => told.includes('s7'));
    expect(await store.count()).toBe(50);
    expect(await store.sidsOf('ann')).toHaveLength(50);
    expect(await ledger.increment('n', 3, 1_000)).toBe(3);
    expect(feed.isCurrent).toBe(true);
    await store.close();
    await ledger.close();
    expect(await client.sendCommand(undefined, true, ['PING'])).toBe('PONG');
    await client.close();
  });

  test('spreads the sessions over all masters', async () => {
    const store = await RedisStore.open(cluster.urls, { prefix: randomUUID() });
    for (const node of cluster.nodes) await node.cli('FLUSHALL');
    await Promise.all(Array.from({ length: 300 }, (_, index) => store.create(`s${index}`, record())));
    for (const node of cluster.nodes) expect(Number(await node.cli('DBSIZE'))).toBeGreaterThan(50);
    await store.close();
  });

  test('loses nothing and refuses nothing while slots move to another node', async () => {
    prefix = randomUUID();
    const store = await RedisStore.open(cluster.urls, { prefix });
    const brought = await createCluster({ rootNodes: cluster.urls.map(url => ({ url })) }).connect();
    const other = await RedisStore.open(brought, { prefix });
    const sids = Array.from({ length: 200 }, (_, index) => `s${index}`);
    await Promise.all(sids.map(sid => store.create(sid, record())));
    let isMoving = true;
    const commits = [store, other].map(async (writer, which) => {
      let count = 0;
      for (; isMoving; count++) {
        const sid = sids[count % sids.length]!;
        const result = await writer.commit(sid, { set: new Map([[`by-${which}`, Buffer.from(String(count))]]) });
        expect(result.status).toBe('committed');
      }
      return count;
    });
    const id = async (index: number) => (await cluster.nodes[index]!.cli('CLUSTER', 'MYID')).trim();
    const [from, to] = await Promise.all([id(0), id(1)]);
    await cluster.nodes[0]!.cli(
      ...['--cluster', 'reshard', `127.0.0.1:${cluster.nodes[0]!.port}`, '--cluster-from', from, '--cluster-to', to],
      ...['--cluster-slots', '1500', '--cluster-yes'],
    );
    isMoving = false;
    const counts = await Promise.all(commits);
    for (const [index, sid] of sids.entries()) {
      const { attributes } = (await store.read(sid))!;
      for (const [which, count] of counts.entries()) {
        const last = index + Math.floor((count - 1 - index) / sids.length) * sids.length;
        expect(String(attributes.get(`by-${which}`)?.value), sid).toBe(String(last));
      }
    }
    expect(await store.sidsOf('ann')).toHaveLength(200);
    await store.close();
    await other.close();
    await brought.close();
  });
});

describe.skipIf(redisIsMissing)(`when a master of a redis cluster is lost${skipped}`, () => {
  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'the replica that takes its place serves what was acknowledged (%s)',
    async signal => {
      await using cluster = await startCluster(3, 1);
      const acknowledge = { replicas: 1, timeoutMs: 1_000 };
      const { store, ledger } = await openRedis(cluster.urls, { commandTimeoutMs: 500, acknowledge });
      const feed = await store.watch(() => {});
      const sids = Array.from({ length: 120 }, (_, index) => `s${index}`);
      await Promise.all(sids.map(sid => store.create(sid, record())));
      await Promise.all(sids.map(sid => store.commit(sid, change('kept'))));
      await ledger.publish('c', 'm');

      const masters = [];
      for (const node of cluster.nodes)
        if (/role:master/.test(await node.cli('INFO', 'replication'))) masters.push(node);
      masters[0]!.signal(signal);

      const before = performance.now();
      await until(() => !feed.isCurrent);
      expect(performance.now() - before).toBeLessThan(1_000);
      // Meanwhile the sessions of the others are served, and those of the lost one refused in time.
      const outcomes = await Promise.allSettled(sids.map(sid => store.read(sid)));
      expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(40);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
      }

      // A process that starts now serves them, too.
      const late = await RedisStore.open(cluster.urls, { commandTimeoutMs: 500 });
      expect(
        (await Promise.allSettled(sids.map(sid => late.glance(sid)))).some(({ status }) => status === 'fulfilled'),
      ).toBe(true);
      await late.close();

      await until(async () => {
        const reads = await Promise.allSettled(sids.map(sid => store.read(sid)));
        return reads.every(
          read => read.status === 'fulfilled' && String(read.value?.attributes.get('a')?.value) === 'kept',
        );
      });
      await until(() => feed.isCurrent);
      expect(feed.gaps).toBeGreaterThan(0);
      // The slots of the lost master have no second replica.
      const others = await Promise.allSettled(sids.map(sid => store.commit(sid, change('after'))));
      const failures = others.filter(other => other.status === 'rejected');
      expect(failures.length).toBeGreaterThan(0);
      expect(failures.length).toBeLessThan(sids.length);
      for (const { reason } of failures) {
        expect(reason).toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
        expect(reason.message).toMatch(/written on the redis master .* acknowledged by 0 of the 1 replicas/);
      }
      masters[0]!.signal('SIGCONT');
      await store.close();
      await ledger.close();
    },
  );
});
