import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { AccessTimes } from '../../src/session/process/access-times.ts';
import { openRedis } from '../../src/session/stores/redis.ts';
import { ask } from '../guard/ask.ts';
import { Served, type Wire, wires } from '../guard/served.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';
import { until } from '../services/until.ts';

// A Redis whose memory is full, with `noeviction`.

const IDLE_MS = 4_000;

/** Two processes on one Redis. `/set?<length>` writes a text of that length, `/in` and `/out` sign in and out. */
function start(url: string, sweep = '500ms'): Promise<Served> {
  return Served.module(
    `const text = request => 'x'.repeat(Number(new URL(request.url).search.slice(1)));
    const own = {};
    export default defineConfig({
      listen,
      session: { store: '${url}', keyFiles: ['key'], idleTimeout: '${IDLE_MS}ms', sweep: { every: '${sweep}' }, anonymousShare: 1 },
      routes: [
        { path: '/new', session: 'create', fetch: (request, { session }) => { session.set('text', text(request)); return new Response('made'); } },
        { path: '/get', session: 'existing', fetch: (_, { session }) => new Response(session ? 'here' : 'none') },
        { path: '/set', session: 'existing', fetch: (request, { session }) => { session.set('text', text(request)); return new Response('set'); } },
        { path: '/less', session: 'existing', fetch: (_, { session }) => { session.delete('text'); return new Response('deleted'); } },
        { path: '/in', session: 'existing', fetch: async (_, { session }) => { await session.renew({ owner: { name: 'ann', roles: [] } }); return new Response('in'); } },
        { path: '/out', session: 'existing', fetch: async (_, { session }) => { await session.invalidate(); return new Response('out'); } },
      ],
    });`,
    { files: { key: 'k'.repeat(43) } },
  );
}

describe.skipIf(redisIsMissing)('while the memory of Redis is full', () => {
  let redis: RedisServer;
  let one: Served;
  let other: Served;

  beforeAll(async () => {
    redis = await startRedis();
    [one, other] = [await start(redis.url), await start(redis.url)];
  });
  afterAll(async () => {
    await one?.[Symbol.asyncDispose]();
    await other?.[Symbol.asyncDispose]();
    await redis?.stop();
  });
  afterEach(() => limit(0));

  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.cli('INFO', 'memory'))![1]);
  const limit = (bytes: number) => redis.cli('CONFIG', 'SET', 'maxmemory', String(bytes));
  const visit = async (served: Served, wire: Wire, path: string, cookie?: string) => {
    const { status, body, setCookies } = await ask(served, wire, { path, headers: cookie ? ['Cookie', cookie] : [] });
    return { status, body, cookie: setCookies[0]?.split(';')[0] ?? cookie };
  };
  const visitor = async (wire: Wire = 'http/1') => (await visit(one, wire, '/new?1000')).cookie!;

  test('what makes a session no larger is stored, over every wire', async () => {
    for (const wire of wires) {
      let cookie: string | undefined = await visitor(wire);
      await limit(1);
      const seen: [path: string, status: number, body: string][] = [];
      for (const path of ['/set?1000', '/set?900', '/set?100000', '/in', '/get', '/less', '/out', '/get', '/new?1']) {
        const { status, body, cookie: next } = await visit(one, wire, path, path === '/new?1' ? undefined : cookie);
        cookie = next;
        seen.push([path, status, status === 503 ? '' : body]);
      }
      await limit(0);
      expect(seen).toEqual([
        ['/set?1000', 200, 'set'],
        ['/set?900', 200, 'set'],
        ['/set?100000', 503, ''],
        ['/in', 200, 'in'],
        ['/get', 200, 'here'],
        ['/less', 200, 'deleted'],
        ['/out', 200, 'out'],
        ['/get', 200, 'none'],
        ['/new?1', 503, ''],
      ]);
    }
  });

  test('nobody is signed out whose session is in use, in whichever process', async () => {
    const cookie = await visitor();
    await limit(1);
    for (const end = performance.now() + 2.5 * IDLE_MS; performance.now() < end; await wait(300))
      expect(await visit(one, 'http/1', '/get', cookie)).toMatchObject({ status: 200, body: 'here' });
    expect(await visit(other, 'http/1', '/get', cookie)).toMatchObject({ status: 200, body: 'here' });
  });

  test('expired sessions go, and then there is room again', async () => {
    await limit((await used()) + 1_000_000);
    const kept = await visitor();
    const answers: number[] = [];
    while (answers.at(-1) !== 503) answers.push((await visit(one, 'http/1', '/new?20000')).status);
    expect(answers.length).toBeGreaterThan(10);
    // More than Redis gets back from the buffers of idle connections, which count as memory too.
    expect((await visit(other, 'http/1', '/set?200000', kept)).status).toBe(503);
    await until(async () => {
      expect(await visit(one, 'http/1', '/get', kept)).toMatchObject({ status: 200, body: 'here' });
      return (await visit(other, 'http/1', '/new?20000')).status === 200;
    });
    await until(async () => (await visit(other, 'http/1', '/set?200000', kept)).status === 200);
  });

  test('what has expired goes when a session finds no room, whenever the next sweep is', async () => {
    await using own = await startRedis();
    await using served = await start(own.url, '1h');
    const base = Number(/used_memory:(\d+)/.exec(await own.cli('INFO', 'memory'))![1]);
    await own.cli('CONFIG', 'SET', 'maxmemory', String(base + 1_000_000));
    const kept = await visit(served, 'http/1', '/new?10');
    while ((await visit(served, 'http/1', '/new?20000')).status === 200);
    for (const end = performance.now() + IDLE_MS + 500; performance.now() < end; await wait(300))
      expect((await visit(served, 'http/1', '/get', kept.cookie)).body).toBe('here');
    for (const wire of wires) expect((await visit(served, wire, '/new?20000')).status).toBe(200);
    expect((await visit(served, 'http/1', '/set?20000', kept.cookie)).status).toBe(200);
  });

  test('so many last accesses that they take longer than a command may are written', async () => {
    const { store, ledger } = await openRedis(redis.url, { prefix: 'many', commandTimeoutMs: 1_000 });
    const now = Date.now();
    const header = { secretHash: 'hash', createdAt: now, idleTimeoutMs: 600_000 };
    const sids = Array.from({ length: 40_000 }, (_, index) => `s${index}`);
    for (let start = 0; start < sids.length; start += 1_000) {
      const record = { header, version: 1, lastAccessedAt: now, attributes: new Map() };
      await Promise.all(sids.slice(start, start + 1_000).map(sid => store.create(sid, record)));
    }
    await limit(1);
    const accessTimes = new AccessTimes(store, systemClock, silentLogger, { noteAccess() {} }, { affinityBreaks: 0 });
    await wait(100);
    for (const sid of sids) accessTimes.note(sid, header, now - 600_000);
    await accessTimes.flush();
    for (const sid of [sids[0]!, sids.at(-1)!]) expect((await store.glance(sid))!.lastAccessedAt).toBeGreaterThan(now);
    await accessTimes.close();
    await store.close();
    await ledger.close();
  });

  test('facts of the ledger that are there are written in place, and none is made', async () => {
    const { store, ledger } = await openRedis(redis.url, { prefix: 'facts' });
    await ledger.put('seen', '1', 60_000);
    await ledger.increment('tries', 1, 60_000);
    await limit(1);
    await ledger.put('seen', '2', 60_000);
    expect(await ledger.get('seen')).toBe('2');
    expect(await ledger.increment('tries', 1, 60_000)).toBe(2);
    expect(await ledger.take('seen')).toBe('2');
    for (const made of [
      () => ledger.put('new', '1', 60_000),
      () => ledger.putIfAbsent('new', '1', 60_000),
      () => ledger.increment('more', 1, 60_000),
      () => ledger.put('tries', 'x'.repeat(1_000), 60_000),
    ])
      await expect(made()).rejects.toMatchObject({ code: 'ERR_SESSION_NO_ROOM' });
    await store.close();
    await ledger.close();
  });
});
