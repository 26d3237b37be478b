import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createClient, createClientPool, createSentinel } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openRedis, type RedisLike, RedisStore } from '../../src/session/stores/redis.ts';
import { storeConformance } from '../../src/testing/index.ts';
import { ask } from '../guard/ask.ts';
import { Served, wires } from '../guard/served.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { freePort } from '../services/free-port.ts';
import {
  type RedisSentinels,
  redisIsMissing,
  startRedis,
  startReplica,
  startSentinels,
} from '../services/redis-server.ts';
import { until } from '../services/until.ts';

/** A master with a replica, and three Sentinels. */
async function start() {
  const stack = new AsyncDisposableStack();
  const master = stack.use(await startRedis({ appendonly: 'no' }));
  const replica = stack.use(await startReplica(master));
  const sentinels = stack.use(await startSentinels(master));
  return { master, replica, sentinels, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function serve(url: string): Promise<Served> {
  return Served.module(
    `export default defineConfig({
      listen,
      session: { store: '${url}', keyFiles: ['key'], cache: { sessions: 0 } },
      routes: [
        { path: '/set', session: 'create', fetch: (request, { session }) => { session.set('n', new URL(request.url).search); return new Response('set'); } },
        { path: '/get', session: 'existing', fetch: (_, { session }) => new Response(session ? session.get('n') : 'none') },
      ],
    });`,
    { files: { key: 'k'.repeat(43) } },
  );
}

const brought = ({ ports }: RedisSentinels) =>
  createSentinel({ name: 'shop', sentinelRootNodes: ports.map(port => ({ host: '127.0.0.1', port })) });

describe.skipIf(redisIsMissing)('sessions behind Sentinels', () => {
  test.each([
    { how: 'killed', signal: 'SIGKILL' },
    { how: 'silent', signal: 'SIGSTOP' },
  ] as const)(
    'are found after a failover, when the master was $how: 503 meanwhile, and no restart',
    async ({ signal }) => {
      await using setup = await start();
      const { master, replica, sentinels } = setup;
      await using served = await serve(sentinels.url);
      const cookies: string[] = [];
      for (const wire of wires)
        cookies.push((await ask(served, wire, { path: '/set?before' })).setCookies[0]!.split(';')[0]!);
      await until(async () => (await replica.cli('DBSIZE')) === (await master.cli('DBSIZE')));
      master.signal(signal);
      const seen = new Set<string>();
      for (const [index, wire] of wires.entries()) {
        await until(async () => {
          const { status, body } = await ask(served, wire, { path: '/get', headers: ['Cookie', cookies[index]!] });
          seen.add(status === 200 ? `200 ${body}` : String(status));
          return status === 200;
        });
      }
      expect([...seen].sort()).toEqual(['200 ?before', '503']);
      expect(await sentinels.master()).toBe(replica.port);
      for (const [index, wire] of wires.entries()) {
        const headers = ['Cookie', cookies[index]!];
        expect((await ask(served, wire, { path: '/set?after', headers })).status).toBe(200);
        expect((await ask(served, wire, { path: '/get', headers })).body).toBe('?after');
      }
    },
  );

  test('move with an ordered failover, and back, subscriptions too', async () => {
    await using setup = await start();
    const { master, replica, sentinels } = setup;
    const [one, other] = [await openRedis(sentinels.url), await openRedis(sentinels.url)];
    const heard: string[] = [];
    await other.ledger.subscribe('news', message => heard.push(message));
    const feed = await other.store.watch(() => {});
    for (const next of [replica, master]) {
      await until(async () => /OK/.test(await sentinels.cli(1, 'SENTINEL', 'FAILOVER', 'shop').catch(() => '')));
      await until(async () => (await sentinels.master()) === next.port, 30_000);
      await until(async () => {
        await one.ledger.publish('news', String(next.port)).catch(() => {});
        await wait(50);
        return heard.includes(String(next.port)) && feed.isCurrent;
      });
      // The former master follows, and the other way round needs it.
      const former = next === replica ? master : replica;
      await until(
        // It closes its connections when it becomes a replica.
        async () =>
          /role:slave[\s\S]*master_link_status:up/.test(await former.cli('INFO', 'replication').catch(() => '')),
        30_000,
      );
      heard.length = 0;
    }
    expect(one.store.interruptions).toBeGreaterThan(0);
    for (const { store, ledger } of [one, other]) {
      await store.close();
      await ledger.close();
    }
  });

  test('with passwords of their own, a database, and a Sentinel that says nothing', async () => {
    await using master = await startRedis();
    await using replica = await startReplica(master);
    for (const server of [replica, master]) {
      await server.cli('CONFIG', 'SET', 'masterauth', 'p@ss');
      await server.cli('CONFIG', 'SET', 'requirepass', 'p@ss');
    }
    const lines = ['sentinel auth-pass shop p@ss', 'requirepass watcher', 'sentinel sentinel-pass watcher'];
    await using sentinels = await startSentinels(master, { lines, password: 'watcher' });
    sentinels.signal(0, 'SIGSTOP');
    const hosts = sentinels.ports.map(port => `127.0.0.1:${port}`).join(',');
    const url = `redis+sentinel://:p%40ss@${hosts}/shop/3?prefix=s&sentinelPassword=watcher`;
    const { store, ledger } = await openRedis(url);
    await ledger.put('a', 'b', 60_000);
    expect(await master.cli('-a', 'p@ss', '--no-auth-warning', '-n', '3', 'KEYS', 's:*')).toMatch(/s:fact/);
    await store.close();
    await ledger.close();
    await expect(RedisStore.open(url.replace('watcher', 'wrong'))).rejects.toMatchObject({
      code: 'ERR_SESSION_STORE_UNAVAILABLE',
    });
    sentinels.signal(0, 'SIGCONT');
  });

  test('over TLS, to the Sentinels and to the master', async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-sentinel-tls-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const { certificate, key } = writeSelfSignedCertificate(folder);
    const [masterPort, sentinelPort] = [await freePort(), await freePort()];
    const files = { 'tls-cert-file': certificate, 'tls-key-file': key, 'tls-ca-cert-file': certificate };
    const settings = { ...files, 'tls-auth-clients': 'no', 'tls-replication': 'yes' };
    stack.use(await startRedis({ ...settings, 'tls-port': String(masterPort) }));
    const lines = Object.entries({ ...settings, 'tls-port': sentinelPort }).map(([name, value]) => `${name} ${value}`);
    stack.use(await startSentinels({ port: masterPort }, { count: 1, replicas: 0, lines }));
    const url = `rediss+sentinel://localhost:${sentinelPort}/shop`;
    await expect(RedisStore.open(url)).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
    const tls = { ca: await readFile(certificate), servername: 'localhost' };
    const store = await RedisStore.open(url, { tls });
    expect(await store.count()).toBe(0);
    expect((await store.watch(() => {})).isCurrent).toBe(true);
    await store.close();
  });

  test('a client of createSentinel that is brought works, failover included, and stays open', async () => {
    await using setup = await start();
    const { master, replica, sentinels } = setup;
    const client = brought(sentinels);
    client.on('error', () => {});
    await client.connect();
    const { store, ledger } = await openRedis(client satisfies RedisLike, {
      acknowledge: { replicas: 1, timeoutMs: 500 },
    });
    const record = { header: { secretHash: 'h', createdAt: Date.now() }, version: 1, lastAccessedAt: Date.now() };
    await store.create('s', { ...record, attributes: new Map() });
    const heard: string[] = [];
    await ledger.subscribe('news', message => heard.push(message));
    await master.kill();
    await until(async () => (await store.read('s').catch(() => undefined)) !== undefined);
    expect(await sentinels.master()).toBe(replica.port);
    await until(async () => {
      await ledger.publish('news', 'after').catch(() => {});
      return heard.includes('after');
    });
    await store.close();
    await ledger.close();
    expect(await client.sendCommand(false, ['PING'])).toBe('PONG');
    await client.destroy();
  });
});

describe.skipIf(redisIsMissing)('behind Sentinels', () => {
  let setup: Awaited<ReturnType<typeof start>>;
  let prefix: string;
  beforeAll(async () => {
    setup = await start();
  });
  afterAll(() => setup[Symbol.asyncDispose]());

  describe('what cannot work is refused when it is opened', () => {
    const refused = async (target: Parameters<typeof RedisStore.open>[0]) =>
      RedisStore.open(target, { commandTimeoutMs: 1_000 }).then(
        store => void store.close(),
        error => `${error.code ?? error.name}: ${error.message}`,
      );

    test('by an address: a Sentinel, a replica, two servers, a name that nobody knows', async () => {
      const { master, replica, sentinels } = setup;
      const [port] = sentinels.ports;
      expect(await refused(`redis://127.0.0.1:${port}`)).toMatch(/UNAVAILABLE: .*is a Sentinel.*redis\+sentinel:/);
      expect(await refused(replica.url)).toMatch(/UNAVAILABLE: .*is a replica; give the address of its master/);
      expect(await refused([master.url, replica.url])).toMatch(
        /UNAVAILABLE: .*not a node of a cluster.*redis\+sentinel:/,
      );
      expect(await refused(sentinels.url.replace('shop', 'ship'))).toMatch(/UNAVAILABLE: .*no sentinel knows .*"ship"/);
      expect(await refused(`redis+sentinel://127.0.0.1:${master.port}/shop`)).toMatch(
        /UNAVAILABLE: .*could not be reached/,
      );
      expect(await refused(master.url)).toBeUndefined();
    });

    test('by a client: of a Sentinel, of a replica, a pool, one with callbacks, an ioredis', async () => {
      const { replica, sentinels } = setup;
      for (const [url, why] of [
        [`redis://127.0.0.1:${sentinels.ports[0]}`, /is a Sentinel/],
        [replica.url, /is a replica/],
      ] as const) {
        const client = await createClient({ url }).connect();
        expect(await refused(client)).toMatch(why);
        client.destroy();
      }
      const pool = createClientPool({ url: replica.url });
      const legacy = createClient({ url: replica.url }).legacy();
      const ioredis = { status: 'ready', callBuffer() {}, sendCommand() {}, duplicate() {}, connect() {}, on() {} };
      for (const [client, why] of [
        [pool, /^TypeError: .*a pool without duplicate, subscribe/],
        [legacy, /^TypeError: .*without duplicate/],
        [ioredis, /^TypeError: .*a client of ioredis without destroy/],
        [{}, /^TypeError: .*without sendCommand/],
        [undefined, /^TypeError: /],
      ] as const)
        expect(await refused(client as never)).toMatch(why);
    });
  });

  storeConformance(
    'redis',
    () => RedisStore.open(setup.sentinels.url, { prefix: (prefix = randomUUID()) }),
    { describe, test },
    { openSecond: () => RedisStore.open(setup.sentinels.url, { prefix }) },
  );
});
