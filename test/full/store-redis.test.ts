import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { openRedis, type RedisLike, type RedisOptions, RedisStore } from '../../src/session/stores/redis.ts';
import { storeConformance } from '../../src/testing/store-conformance.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import { type RedisServer, redisIsMissing, startRedis, startReplica } from '../services/redis-server.ts';
import { until } from '../services/until.ts';

const HOUR = 3_600_000;
/** Less than the 2 s that a call may take by default, and enough for a busy machine. */
const ENDS_SOON = 1_800;
const skipped = redisIsMissing ? ` (skipped: ${redisIsMissing})` : '';
const unavailable = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 };

function record(header: object = {}, lastAccessedAt = Date.now()) {
  const attributes = new Map([['a', { value: Buffer.from('x'), version: 1 }]]);
  return {
    header: { secretHash: 'hash', createdAt: 0, idleTimeoutMs: 60_000, ...header },
    version: 1,
    lastAccessedAt,
    attributes,
  };
}

function change(value: string) {
  return { set: new Map([['a', Buffer.from(value)]]) };
}

function owner(name: string) {
  return { owner: { name, roles: [] } };
}

describe.skipIf(redisIsMissing)(`redis store${skipped}`, () => {
  let server: RedisServer;
  let prefix: string;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  const open = (options: RedisOptions = {}) => {
    prefix = randomUUID();
    return RedisStore.open(server.url, { prefix, ...options });
  };

  storeConformance(
    'redis',
    () => open(),
    { describe, test },
    { openSecond: () => RedisStore.open(server.url, { prefix }) },
  );

  const keysLike = async (pattern: string) =>
    (await server.cli('KEYS', `*${prefix}${pattern}`)).trim().split('\n').filter(Boolean);
  const lifeOf = async (pattern: string) => Number(await server.cli('PTTL', (await keysLike(pattern))[0]!));

  describe('keys', () => {
    test('a session that a sweeper has not seen outlives its end by an hour, however often that moves', async () => {
      const store = await open();
      const now = Date.now();
      await store.create('s', record({}, now));
      expect(await lifeOf('*s:s')).toBeGreaterThan(HOUR + 58_000);
      expect(await lifeOf('*s:s')).toBeLessThanOrEqual(HOUR + 60_000);
      await store.touch(new Map([['s', now + 30_000]]));
      expect(await lifeOf('*s:s')).toBeGreaterThan(HOUR + 88_000);
      await store.commit('s', { header: { absoluteExpiresAt: now + 10_000 } });
      expect(await lifeOf('*s:s')).toBeLessThanOrEqual(HOUR + 10_000);
      await store.commit('s', change('y'));
      expect(await lifeOf('*s:s')).toBeGreaterThan(HOUR);
      await store.commit('s', { header: { absoluteExpiresAt: undefined, idleTimeoutMs: undefined } });
      expect(await lifeOf('*s:s')).toBe(-1);
      await store.commit('s', { header: { idleTimeoutMs: 1_000 } });
      expect(await lifeOf('*s:s')).toBeGreaterThan(HOUR);
      await store.close();
    });

    test('a session written after its end, by a clock that is behind, is kept for an hour too', async () => {
      const store = await open();
      await store.create('s', record({}, Date.now() - 30 * 24 * HOUR));
      expect(await lifeOf('*s:s')).toBeGreaterThan(HOUR - 2_000);
      await store.close();
    });

    test('nothing is left of sessions that have ended', async () => {
      const store = await open();
      for (let index = 0; index < 20; index++) await store.create(`s${index}`, record(owner('ann')));
      await store.commit('s1', { header: owner('bob') });
      for (let index = 0; index < 20; index++) await store.delete(`s${index}`);
      expect(await keysLike('*')).toEqual([]);
      await store.close();
    });

    test('what Redis itself has dropped is neither listed nor counted for long', async () => {
      const store = await open();
      const past = Date.now() - 2 * HOUR;
      for (let index = 0; index < 600; index++) await store.create(`s${index}`, record(owner('ann'), past));
      const records = await keysLike('*:s:*');
      await server.cli('DEL', ...records.slice(0, 300));
      expect(await store.sidsOf('ann')).toHaveLength(300);
      expect(await store.expired(Date.now(), 1_000)).toHaveLength(300);
      expect(await store.count()).toBe(300);
      await server.cli('DEL', ...records.slice(300));
      // Without a sweeper, each new session takes up to two of them away.
      for (let index = 0; index < 600; index++) await store.create(`t${index}`, record());
      expect(await store.count()).toBeLessThan(700);
      await store.close();
    });

    test('an entry of a user that a crash has left behind is passed over, and goes when it is old', async () => {
      const store = await open();
      await store.create('s', record(owner('ann')));
      const [key] = await keysLike(':owner:*');
      await server.cli(
        'ZADD',
        key!,
        String(Date.now()),
        's:never-created',
        String(Date.now() - 2 * HOUR),
        's:long-gone',
      );
      expect(await store.sidsOf('ann')).toEqual(['s']);
      expect((await server.cli('ZRANGE', key!, '0', '-1')).trim().split('\n').sort()).toEqual([
        's:never-created',
        's:s',
      ]);
      await store.close();
    });

    test('of many that have expired the earliest are found, wherever they lie', async () => {
      const store = await open();
      const sids = Array.from({ length: 1_000 }, (_, index) => `s${index}`);
      await Promise.all(sids.map((sid, index) => store.create(sid, record({}, 1_000 + index))));
      expect(await store.expired(Date.now(), 700)).toEqual(sids.slice(0, 700));
      expect(await store.expired(61_009, 700)).toEqual(sids.slice(0, 10));
      await store.close();
    });

    test('are apart from those of another prefix, which may not hold what changes their place', async () => {
      const [one, other] = [await open(), await open()];
      await one.create('s', record(owner('ann')));
      expect(await other.read('s')).toBeUndefined();
      expect(await other.sidsOf('ann')).toEqual([]);
      expect(await other.count()).toBe(0);
      await one.close();
      await other.close();
      for (const bad of ['', 'a{b}', 'a b'])
        await expect(RedisStore.open(server.url, { prefix: bad })).rejects.toThrow(TypeError);
    });
  });

  test('two processes lose nothing of each other and share every end', async () => {
    const store = await open();
    await store.create('shared', record());
    const script = fileURLToPath(new URL('../session/stores/redis-racer.ts', import.meta.url));
    const racers = ['one', 'two'].map(name =>
      fork(script, [server.url, prefix, name], { execArgv: ['-C', 'holdfast-source'] }),
    );
    await Promise.all(racers.map(racer => once(racer, 'message')));
    const sids = Array.from({ length: 100 }, (_, index) => `s${index}`);
    const results = await Promise.all(
      racers.map(async racer => {
        racer.send({ sids, rounds: 100 });
        const [won] = (await once(racer, 'message')) as [{ created: boolean[]; deleted: boolean[] }];
        return won;
      }),
    );
    for (const index of sids.keys()) {
      expect(results.filter(({ created }) => created[index])).toHaveLength(1);
      expect(results.filter(({ deleted }) => deleted[index])).toHaveLength(1);
    }
    const { attributes, version } = (await store.read('shared'))!;
    expect(String(attributes.get('n')!.value)).toBe('200');
    expect(attributes.size).toBe(2 + 200);
    expect(Array.from(attributes.values(), attribute => attribute.version)).toContain(version);
    expect(await store.count()).toBe(1);
    await store.close();
  });

  describe('with acknowledge', () => {
    test('resolves when a replica has it, over one WAIT for all that gather', async () => {
      await using master = await startRedis();
      await using replica = await startReplica(master);
      const store = await RedisStore.open(master.url, { acknowledge: { replicas: 1, timeoutMs: 1_000 } });
      await Promise.all(Array.from({ length: 100 }, (_, index) => store.create(`s${index}`, record())));
      expect(Number(await replica.cli('DBSIZE'))).toBeGreaterThanOrEqual(100);
      expect(await store.commit('s1', change('y'))).toMatchObject({ status: 'committed', previous: 1 });
      expect(await store.commit('absent', change('y'))).toEqual({ status: 'gone' });
      expect(await store.delete('s1')).toBe(true);
      expect(await store.delete('s1')).toBe(false);
      const waits = /cmdstat_wait:calls=(\d+)/.exec(await master.cli('INFO', 'commandstats'))![1];
      expect(Number(waits)).toBeLessThan(20);
      await master.cli('SCRIPT', 'FLUSH');
      expect(await store.commit('s2', change('z'))).toMatchObject({ status: 'committed', previous: 1 });
      await store.close();
    });

    test('rejects when too few replicas have it, and says that it is written', async () => {
      const store = await open({ acknowledge: { replicas: 2, timeoutMs: 50 } });
      await expect(store.create('s', record())).rejects.toMatchObject({
        ...unavailable,
        message: expect.stringMatching(/written on the redis master .* acknowledged by 0 of the 2 replicas .* 50 ms/),
      });
      expect(await store.read('s')).toBeDefined();
      // Nothing was written, so nothing has to be acknowledged.
      expect(await store.create('s', record())).toBe(false);
      expect((await store.commit('absent', change('y'))).status).toBe('gone');
      await store.close();
    });

    test('refuses what could not work', async () => {
      for (const acknowledge of [{ replicas: 0 }, { replicas: 1.5 }, { replicas: 1, timeoutMs: 0 }]) {
        await expect(open({ acknowledge })).rejects.toThrow(TypeError);
      }
      await expect(open({ commandTimeoutMs: 0 })).rejects.toThrow(TypeError);
    });
  });

  describe('with the client of the application', () => {
    test('works, and closes only what it has opened itself', async () => {
      const client = await createClient({ url: server.url }).connect();
      const brought: RedisLike = client; // fits as it is
      const { store, ledger } = await openRedis(brought, { prefix: randomUUID() });
      const told: string[] = [];
      await store.watch(sid => told.push(sid));
      await store.create('s', record());
      await store.commit('s', { set: new Map([['b', Buffer.from([0, 255, 10])]]) });
      expect([...(await store.read('s'))!.attributes.get('b')!.value]).toEqual([0, 255, 10]);
      await until(() => told.includes('s'));
      expect(await ledger.increment('n', 2, 1_000)).toBe(2);
      await store.close();
      await ledger.close();
      expect(await client.ping()).toBe('PONG');
      client.destroy();
    });

    test('also when that speaks the older protocol', async () => {
      const client = await createClient({ url: server.url, RESP: 2 }).connect();
      const store = await RedisStore.open(client, { prefix: randomUUID() });
      const told: string[] = [];
      const feed = await store.watch(sid => told.push(sid));
      await store.create('s', record(owner('ann')));
      await store.commit('s', change('y'));
      await until(() => told.includes('s'));
      expect((await store.read('s'))!.header).toMatchObject(owner('ann'));
      expect(await store.sidsOf('ann')).toEqual(['s']);
      expect(feed.isCurrent).toBe(true);
      await store.close();
      client.destroy();
    });

    test('fails at once while that is not connected', async () => {
      const client = createClient({ url: server.url });
      const store = await RedisStore.open(client);
      await expect(store.read('s')).rejects.toMatchObject(unavailable);
      await store.close();
    });

    test('recovers with that', async () => {
      await using own = await startRedis({ appendonly: 'yes' });
      const client = createClient({ url: own.url, disableOfflineQueue: true });
      client.on('error', () => {}); // the application's business
      await client.connect();
      const store = await RedisStore.open(client, {
        commandTimeoutMs: 300,
        acknowledge: { replicas: 1, timeoutMs: 10 },
      });
      const feed = await store.watch(() => {});
      await expect(store.create('s', record())).rejects.toThrow(/0 of the 1 replicas/);
      await own.kill();
      await expect(store.read('s')).rejects.toMatchObject(unavailable);
      await expect(store.create('t', record())).rejects.toMatchObject(unavailable);
      await own.restart();
      await until(() => store.read('s').then(Boolean, () => false));
      await until(() => feed.isCurrent);
      await until(() => store.create('t', record()).catch(error => /0 of the 1 replicas/.test(error.message)));
      await store.close();
      client.destroy();
    });
  });
});

describe.skipIf(redisIsMissing)(`redis store in an outage${skipped}`, () => {
  const recovers = (store: RedisStore) => until(() => store.read('s').then(Boolean, () => false));

  test('a server that says nothing any more fails calls in time, then at once, and serves again by itself', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url, { commandTimeoutMs: 300 });
    await store.create('s', record());
    const feed = await store.watch(() => {});
    const { gaps } = feed;
    server.signal('SIGSTOP');
    let start = performance.now();
    const calls = [
      store.read('s'),
      store.commit('s', change('y')),
      store.delete('other'),
      store.count(),
      store.sidsOf('ann'),
    ];
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toMatchObject({ status: 'rejected', reason: unavailable });
    }
    expect(performance.now() - start).toBeLessThan(ENDS_SOON);
    await until(() => !feed.isCurrent);
    expect(performance.now() - start).toBeLessThan(ENDS_SOON);
    start = performance.now();
    await expect(store.read('s')).rejects.toThrow(/127\.0\.0\.1:\d+ is not connected/);
    expect(performance.now() - start).toBeLessThan(ENDS_SOON);
    // Long enough for attempts to connect again, which end in time as well.
    await wait(700);
    server.signal('SIGCONT');
    await recovers(store);
    await until(() => feed.isCurrent);
    expect(feed.gaps).toBeGreaterThan(gaps);
    await store.close();
  });

  test('a server that was killed and comes back is used again, with its scripts loaded anew', async () => {
    await using server = await startRedis({ appendonly: 'yes', appendfsync: 'always' });
    const store = await RedisStore.open(server.url);
    await store.create('s', record());
    const told: string[] = [];
    const feed = await store.watch(sid => told.push(sid));
    await server.kill();
    await until(() => !feed.isCurrent);
    await expect(store.commit('s', change('y'))).rejects.toMatchObject(unavailable);
    await expect(store.create('t', record())).rejects.toMatchObject(unavailable);
    await server.restart();
    await recovers(store);
    await until(() => feed.isCurrent);
    expect(store.interruptions).toBeGreaterThan(0);
    expect(await store.commit('s', change('z'))).toMatchObject({ status: 'committed', previous: 1 });
    await until(() => told.includes('s'));
    await server.cli('SCRIPT', 'FLUSH');
    expect(await store.delete('s')).toBe(true);
    await store.close();
  });

  test('a watcher whose connection is cut knows that it may have missed something, and hears the rest', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url);
    await store.create('s', record());
    const told: string[] = [];
    const feed = await store.watch(sid => told.push(sid));
    for (let cut = 1; cut <= 3; cut++) {
      const { gaps } = feed;
      await server.cli('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await until(() => feed.gaps > gaps);
      await until(() => feed.isCurrent);
      told.length = 0;
      await store.commit('s', change('y'));
      await until(() => told.includes('s'));
    }
    await feed.close();
    expect(feed.isCurrent).toBe(false);
    await store.close();
  });

  test('a server that has become a replica refuses writes, and is asked again when it is a master', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url);
    await store.create('s', record());
    await server.cli('REPLICAOF', '127.0.0.1', '1');
    await expect(store.commit('s', change('y'))).rejects.toThrow(/READONLY: it is a replica/);
    await server.cli('REPLICAOF', 'NO', 'ONE');
    await until(() =>
      store.commit('s', change('y')).then(
        ({ status }) => status === 'committed',
        () => false,
      ),
    );
    await store.close();
  });

  test('a server without memory refuses new sessions as one without room, and reads on', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url);
    await store.create('s', record());
    await server.cli('CONFIG', 'SET', 'maxmemory', '1');
    await expect(store.create('t', record())).rejects.toMatchObject({ code: 'ERR_SESSION_NO_ROOM', status: 503 });
    await expect(store.commit('s', change('more than before'))).rejects.toThrow(/OOM: its memory is full/);
    expect((await store.commit('s', change('y'))).status).toBe('committed');
    expect(await store.read('s')).toBeDefined();
    await server.cli('CONFIG', 'SET', 'maxmemory', '0');
    expect((await store.commit('s', change('y'))).status).toBe('committed');
    await store.close();
  });

  test('a cluster that serves no slot says so', async () => {
    await using server = await startRedis({ 'cluster-enabled': 'yes' });
    await expect(RedisStore.open(server.url)).rejects.toMatchObject(unavailable);
  });

  test('a process that was too busy to read an answer in time still gets it', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url, { commandTimeoutMs: 300 });
    await store.create('s', record());
    const read = store.read('s');
    await new Promise(resolve => setImmediate(resolve)); // sent
    const end = performance.now() + 500;
    while (performance.now() < end);
    expect(await read).toBeDefined();
    await store.close();
  });

  test('calls after close are refused', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(server.url);
    const call = store.read('s').catch(error => error);
    await store.close();
    expect([undefined, 'ERR_SESSION_STORE_UNAVAILABLE']).toContain((await call)?.code);
    await expect(store.read('s')).rejects.toMatchObject(unavailable);
  });
});

describe.skipIf(redisIsMissing)(`opening redis${skipped}`, () => {
  function journal() {
    const lines: string[] = [];
    const log = (fields: object, message: string) => void lines.push(`${JSON.stringify(fields)} ${message}`);
    return { lines, logger: { debug: log, info: log, warn: log, error: log } satisfies Logger };
  }

  test('warns of settings under which logins are lost, and not of others', async () => {
    await using server = await startRedis({ maxmemory: '100mb', 'maxmemory-policy': 'volatile-lru' });
    const bad = journal();
    await (await RedisStore.open(server.url, { logger: bad.logger })).close();
    expect(bad.lines).toEqual([
      expect.stringMatching(/volatile-lru.*drops keys/),
      expect.stringMatching(/appendonly yes/),
    ]);
    await server.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await server.cli('CONFIG', 'SET', 'appendonly', 'yes');
    const good = journal();
    await (await RedisStore.open(server.url, { logger: good.logger })).close();
    expect(good.lines).toEqual([]);
  });

  test('needs only the permissions that the guide names, and asks for the password without telling it', async () => {
    await using server = await startRedis();
    const rules = [
      'on',
      '>se:sa/me',
      '~shop:*',
      '~{shop:*',
      '&shop:*',
      '+@all',
      '-@admin',
      '-@dangerous',
      '+cluster|slots',
    ];
    await server.cli('ACL', 'SETUSER', 'app', ...rules);
    await server.cli('CONFIG', 'SET', 'requirepass', 'other');
    const target = `redis://app:${encodeURIComponent('se:sa/me')}@127.0.0.1:${server.port}/0?prefix=shop`;
    const { lines, logger } = journal();
    const { store, ledger } = await openRedis(target, { logger });
    expect(lines).toEqual([expect.stringContaining('does not tell its settings')]);
    const feed = await store.watch(() => {});
    await store.create('s', record(owner('ann')));
    expect(await store.sidsOf('ann')).toEqual(['s']);
    expect(await store.expired(Date.now() + HOUR, 10)).toEqual(['s']);
    expect(await store.delete('s')).toBe(true);
    await ledger.subscribe('c', () => {});
    await ledger.publish('c', 'm');
    expect(await ledger.increment('n', 1, 1_000)).toBe(1);
    // Its sign of life, by which it knows that it hears what is published.
    await until(async () =>
      /cmdstat_publish:calls=[4-9]/.test(await server.cli('-a', 'other', 'INFO', 'commandstats')),
    );
    expect(feed.isCurrent).toBe(true);
    await store.close();
    await ledger.close();

    for (const url of [
      `redis://app:sesame@127.0.0.1:${server.port}`,
      'redis://app:sesame@127.0.0.1:1',
      'http://app:sesame@x',
    ]) {
      const error = await RedisStore.open(url).catch(reason => reason);
      expect(error).toBeInstanceOf(Error);
      for (let cause = error; cause instanceof Error; cause = cause.cause) {
        expect(`${cause.stack} ${JSON.stringify(cause)}`).not.toContain('sesame');
      }
    }
    const error = await RedisStore.open(server.url).catch(reason => reason);
    expect(error).toMatchObject({ ...unavailable, message: expect.stringContaining(`127.0.0.1:${server.port}`) });
  });

  test('is done by the next address when one is away', async () => {
    await using server = await startRedis({ 'cluster-enabled': 'yes' });
    await server.cli('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await until(async () => /cluster_state:ok/.test(await server.cli('CLUSTER', 'INFO')));
    const store = await RedisStore.open(['redis://127.0.0.1:1', server.url]);
    expect(await store.count()).toBe(0);
    await store.close();
  });

  test('refuses several addresses of which one is no node of a cluster, whichever are away', async () => {
    await using server = await startRedis();
    for (const urls of [
      ['redis://127.0.0.1:1', server.url],
      [server.url, 'redis://127.0.0.1:1'],
    ])
      await expect(RedisStore.open(urls)).rejects.toThrow(/not a node of a cluster/);
  });

  test('trusts the server of rediss:// by its certificate', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-redis-tls-'));
    const { certificate, key } = writeSelfSignedCertificate(folder);
    const port = await freePort();
    const files = { 'tls-cert-file': certificate, 'tls-key-file': key, 'tls-ca-cert-file': certificate };
    await using _server = await startRedis({ 'tls-port': String(port), 'tls-auth-clients': 'no', ...files });
    const url = `rediss://localhost:${port}`;
    await expect(RedisStore.open(url)).rejects.toMatchObject({
      ...unavailable,
      cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
    });
    const store = await RedisStore.open(url, { tls: { ca: await readFile(certificate) } });
    expect(await store.create('s', record())).toBe(true);
    const feed = await store.watch(() => {});
    expect(feed.isCurrent).toBe(true);
    await store.close();
    await rm(folder, { recursive: true });
  });

  test('takes prefix and replicas from the address, unless they are given, and refuses what else is there', async () => {
    await using server = await startRedis();
    const url = `${server.url}/0?prefix=shop&replicas=1`;
    const strict = await RedisStore.open(url, { acknowledge: { replicas: 1, timeoutMs: 10 } });
    await expect(strict.create('s', record())).rejects.toThrow(/0 of the 1 replicas/);
    const plain = await RedisStore.open(server.url, { prefix: 'shop' });
    expect(await plain.read('s')).toBeDefined();
    await strict.close();
    await plain.close();
    await expect(RedisStore.open(`${server.url}?prefx=shop`)).rejects.toThrow(/"prefx".*prefix and replicas/);
    await expect(RedisStore.open(`${server.url}?replicas=many`)).rejects.toThrow(TypeError);
  });

  test('takes the database that the address names', async () => {
    await using server = await startRedis();
    const store = await RedisStore.open(`${server.url}/3`);
    await store.create('s', record());
    expect((await server.cli('-n', '3', 'DBSIZE')).trim()).not.toBe('0');
    expect((await server.cli('DBSIZE')).trim()).toBe('0');
    await store.close();
  });
});

test('opening redis by its address without the package says what to install', async () => {
  vi.doMock('redis', () => {
    throw new Error("Cannot find package 'redis'");
  });
  try {
    await expect(RedisStore.open('redis://127.0.0.1:1')).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringContaining('npm install redis'),
    });
  } finally {
    vi.doUnmock('redis');
  }
});
