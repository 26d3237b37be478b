import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRedis, RedisStore } from '../../src/session/stores/redis.ts';
import { storeConformance } from '../../src/testing/store-conformance.ts';
import { type RedisServer, redisIsMissing, startRedis, startReplica } from '../services/redis-server.ts';

const skipped = redisIsMissing ? ` (skipped: ${redisIsMissing})` : '';
const COMMITS = 10_000;

interface Writer {
  /** The latest acknowledged commit of each session. */
  readonly acknowledged: ReadonlyMap<string, number>;
  readonly count: number;
  isDone: boolean;
  kill(): Promise<void>;
}

function startWriter(url: string): Writer {
  const script = fileURLToPath(new URL('redis-writer.ts', import.meta.url));
  const child = spawn(process.execPath, ['-C', 'holdfast-source', script, url, String(COMMITS)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const acknowledged = new Map<string, number>();
  const reader = createInterface(child.stdout);
  const ended = once(reader, 'close');
  const writer = {
    acknowledged,
    count: 0,
    isDone: false,
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
  reader.on('line', line => {
    const [sid, count] = line.split(' ') as [string, string];
    if (sid === 'done') writer.isDone = true;
    else acknowledged.set(sid, Math.max(Number(count), acknowledged.get(sid) ?? 0));
    writer.count++;
  });
  return writer;
}

async function expectWhole(server: RedisServer, acknowledged: ReadonlyMap<string, number>): Promise<void> {
  const store = await RedisStore.open(server.url);
  expect(await store.count()).toBe(100);
  for await (const sid of store.sids()) {
    const { header, version, attributes } = (await store.read(sid))!;
    const count = Number(header.secretHash);
    expect(count, sid).toBeGreaterThanOrEqual(acknowledged.get(sid) ?? 0);
    // Header, version and both attributes are of one and the same commit.
    for (const name of count > 0 ? ['a', 'b'] : []) {
      expect(String(attributes.get(name)!.value).split(' ')[0], sid).toBe(header.secretHash);
      expect(attributes.get(name)!.version, sid).toBe(version);
    }
    expect(await store.sidsOf(header.owner!.name)).toEqual([sid]);
    expect((await store.commit(sid, { set: new Map([['after', Buffer.from('x')]]) })).status).toBe('committed');
  }
  await store.close();
}

function reached(writer: Writer, count: number): Promise<void> {
  return expect.poll(() => writer.count, { timeout: 120_000, interval: 5 }).toBeGreaterThan(count);
}

describe.skipIf(redisIsMissing)(`redis store that waits for a replica${skipped}`, () => {
  let master: RedisServer;
  let replica: RedisServer;
  beforeAll(async () => {
    master = await startRedis();
    replica = await startReplica(master);
  });
  afterAll(async () => {
    await replica.stop();
    await master.stop();
  });

  let prefix: string;
  const acknowledge = { replicas: 1, timeoutMs: 5_000 };
  storeConformance(
    'redis, acknowledged',
    () => {
      prefix = randomUUID();
      return RedisStore.open(master.url, { prefix, acknowledge });
    },
    { describe, test },
    { openSecond: () => RedisStore.open(master.url, { prefix, acknowledge }) },
  );

  test('refuses what a replica that has stopped does not get, and goes on with it', async () => {
    const store = await RedisStore.open(master.url, {
      prefix: randomUUID(),
      acknowledge: { replicas: 1, timeoutMs: 100 },
    });
    const record = { header: { secretHash: 'x', createdAt: 0 }, version: 1, lastAccessedAt: 0, attributes: new Map() };
    await store.create('s', record);
    replica.signal('SIGSTOP');
    const refused = await Promise.allSettled(
      Array.from({ length: 10 }, () => store.commit('s', { header: { secretHash: 'y' } })),
    );
    for (const outcome of refused) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_SESSION_STORE_UNAVAILABLE' } });
    }
    expect((await store.read('s'))!.header.secretHash).toBe('y'); // reads are not held up
    replica.signal('SIGCONT');
    await expect.poll(() => store.commit('s', { header: { secretHash: 'z' } }).catch(() => undefined)).toBeDefined();
    await store.close();
  });
});

const durable = { appendonly: 'yes', appendfsync: 'always' };

describe.skipIf(redisIsMissing)(`redis store and crashes${skipped}`, () => {
  test.each([
    ['the writing process', async (writer: Writer, _server: RedisServer) => writer.kill()],
    [
      'the server',
      async (writer: Writer, server: RedisServer) => {
        await server.kill();
        await writer.kill();
        await server.restart();
      },
    ],
  ])('every acknowledged commit is there and no session is torn after kill -9 of %s', async (_name, crash) => {
    await using server = await startRedis(durable);
    const writer = startWriter(server.url);
    await reached(writer, COMMITS / 2);
    await crash(writer, server);
    expect(writer.isDone).toBe(false);
    await expectWhole(server, writer.acknowledged);
  });

  test('what a replica has acknowledged is there when it takes the place of a master that was killed', async () => {
    await using master = await startRedis();
    await using replica = await startReplica(master);
    const acknowledge = { replicas: 1, timeoutMs: 2_000 };
    const safe = await openRedis(master.url, { acknowledge });
    const fast = await openRedis(master.url);
    const record = { header: { secretHash: 'x', createdAt: 0 }, version: 1, lastAccessedAt: 0, attributes: new Map() };
    const measure = async ({ store }: typeof safe, name: string) => {
      await store.create(name, record);
      const times: number[] = [];
      for (let index = 0; index < 1_000; index++) {
        const start = performance.now();
        await store.commit(name, { set: new Map([['n', Buffer.from(String(index))]]) });
        times.push(performance.now() - start);
      }
      return times.sort((a, b) => a - b)[times.length / 2]!;
    };
    const [without, withWait] = [await measure(fast, 'fast'), await measure(safe, 'safe')];
    console.log(
      `redis: a commit takes ${without.toFixed(3)} ms, acknowledged by a replica ${withWait.toFixed(3)} ms (median of 1,000, one at a time)`,
    );

    // Killed at the moment that the last of many is acknowledged.
    const commits = Array.from({ length: 500 }, (_, index) =>
      safe.store
        .create(`s${index}`, record)
        .then(() => safe.store.commit(`s${index}`, { header: { secretHash: 'kept' } })),
    );
    await Promise.all(commits);
    await master.kill();
    await replica.cli('REPLICAOF', 'NO', 'ONE');
    const store = await RedisStore.open(replica.url);
    for (let index = 0; index < 500; index++) expect((await store.read(`s${index}`))?.header.secretHash).toBe('kept');
    expect(String((await store.read('safe'))!.attributes.get('n')!.value)).toBe('999');
    for (const part of [store, safe.store, safe.ledger, fast.store, fast.ledger]) await part.close();
  });
});
