import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeValue } from '../../../src/session/record/encoder.ts';
import type { SessionStore } from '../../../src/session/store.ts';
import { Head } from '../../../src/session/stores/lmdb/head.ts';
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';
import { PostgresStore } from '../../../src/session/stores/postgres.ts';
import { RedisStore } from '../../../src/session/stores/redis.ts';
import { postgresMissing, startPostgres } from '../../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../../services/redis-server.ts';
import { createSite, type Site } from '../fixture.ts';
// As the code of before lineages has written them: see make.ts there.
import records from './old-records/records.json' with { type: 'json' };

/** A store with the old records in it. */
interface Old extends AsyncDisposable {
  readonly cookies: readonly string[];
  open(): SessionStore | Promise<SessionStore>;
  /** Sets `count` as a process of before does: every version grows by one. */
  writeAsBefore(sid: string, count: Uint8Array): Promise<unknown>;
}

const bytes = (base64: string) => Buffer.from(base64, 'base64');

async function inLmdb(): Promise<Old> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-old-'));
  const { cookies, databases } = records.lmdb;
  const options = { encoding: 'binary', keyEncoding: 'binary' } as const;
  const alter = async (work: (root: ReturnType<typeof open<Buffer, Buffer>>) => void) => {
    const root = open<Buffer, Buffer>({ path, ...options, maxDbs: 16, overlappingSync: false });
    work(root);
    await root.close();
  };
  await alter(root => {
    for (const [name, entries] of Object.entries(databases)) {
      const database = root.openDB<Buffer, Buffer>({ name, ...options, useVersions: entries[0]?.length === 3 });
      for (const [key, value, version] of entries as [string, string, number?][])
        database.putSync(bytes(key), bytes(value), version!);
    }
  });
  return {
    cookies,
    open: () => new LmdbStore({ path }),
    writeAsBefore: (sid, count) =>
      alter(root => {
        const heads = root.openDB<Buffer, Buffer>({ name: 'heads', ...options, useVersions: true });
        for (const { key, value, version } of heads.getRange({ versions: true })) {
          const head = Head.decode(value);
          if (head.sid !== sid) continue;
          const { attributes } = head;
          const changed = { version: attributes.get('count')!.version + 1, value: count };
          const after = head.with(undefined, new Map(attributes).set('count', changed));
          heads.putSync(Buffer.from(key), after.encode(), version! + 1);
        }
      }),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

async function inRedis(): Promise<Old> {
  const server = await startRedis();
  const { cookies, hashes, sets } = records.redis;
  const { createClient } = await import('redis');
  const client = await createClient({ url: server.url }).connect();
  for (const [key, fields] of Object.entries(hashes))
    await client.hSet(key, new Map(fields.map(([field, value]) => [field!, bytes(value!)])));
  for (const [key, entries] of Object.entries(sets))
    for (const [member, score] of entries) await client.sendCommand(['ZADD', key, String(score), String(member)]);
  return {
    cookies,
    open: () => RedisStore.open(server.url),
    async writeAsBefore(sid, count) {
      const [key] = await client.keys(`*:s:${sid}`);
      await client.hSet(key!, 'a:count', Buffer.from(count));
      for (const version of ['version', 'va:count']) await client.hIncrBy(key!, version, 1);
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
      await server.stop();
    },
  };
}

async function inPostgres(): Promise<Old> {
  const server = await startPostgres();
  const { cookies, ddl, tables } = records.postgres;
  const client = new pg.Client(server.url);
  await client.connect();
  await client.query(ddl);
  for (const [table, rows] of Object.entries(tables))
    for (const { row } of rows)
      await client.query(`INSERT INTO old.${table} SELECT * FROM jsonb_populate_record(null::old.${table}, $1)`, [row]);
  const nothing = Array.from({ length: 6 }, () => 'null').join();
  return {
    cookies,
    open: () => PostgresStore.open({ url: server.url, schema: 'old' }),
    writeAsBefore: (sid, count) =>
      client.query(
        `SELECT old.commit_session($1, null, null, null, null, '{count}', '{null}', '{1}', ARRAY[length($2::bytea)], $2::bytea, ${nothing.slice(5)})`,
        [sid, Buffer.from(count)],
      ),
    async [Symbol.asyncDispose]() {
      await client.end();
      await server.stop();
    },
  };
}

async function visit<T>(site: Site, cookie: string, work: (session: never) => T): Promise<Awaited<T>> {
  const binding = site.request(cookie);
  try {
    const session = await binding.get();
    expect(session, 'the session').toBeDefined();
    const result = await work(session as never);
    await binding.commit();
    return result;
  } finally {
    binding.release();
  }
}

type Data = {
  owner?: { name: string };
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  update(name: string, change: (count: number) => number): Promise<number>;
};

describe.each([
  ['lmdb', undefined, inLmdb],
  ['redis', redisIsMissing, inRedis],
  ['postgres', postgresMissing, inPostgres],
] as const)('records from before versions had lineages, in %s', (_, missing, make) => {
  let old: Old;
  let stores: SessionStore[];
  let sites: Site[];
  beforeAll(async () => {
    if (missing) return;
    old = await make();
    stores = [await old.open(), await old.open()];
    sites = stores.map(store => createSite(store));
  });
  afterAll(async () => {
    await Promise.all(sites?.map(({ manager }) => manager.close()) ?? []);
    await old?.[Symbol.asyncDispose]();
  });

  test.skipIf(missing)('are read, and become records of now with the next commit', async () => {
    for (const [index, cookie] of old.cookies.entries()) {
      const sid = cookie.split('.')[1]!;
      const before = (await stores[0]!.read(sid))!;
      expect(before.version).toBe(4);
      for (const site of sites) {
        const look = (session: Data) => [session.owner?.name, session.get('count'), session.get('cart')];
        const owner = index === 1 ? 'ann' : undefined;
        expect(await visit(site, cookie, look)).toEqual([owner, 1, { visit: 2, text: 'x'.repeat(400) }]);
      }
      for (const [count, site] of sites.entries())
        expect(await visit(site, cookie, (session: Data) => session.update('count', n => n + 1))).toBe(2 + count);
      await visit(sites[0]!, cookie, (session: Data) => session.set('more', 1));
      const after = (await stores[1]!.read(sid))!;
      expect(Math.floor(after.version / 256)).toBeGreaterThan(0);
      expect(after.attributes.get('cart')).toEqual(before.attributes.get('cart'));
      expect(after.attributes.get('more')!.version).toBe(after.version);
    }
    expect(await stores[1]!.sidsOf('ann')).toEqual([old.cookies[1]!.split('.')[1]]);
  });

  test.skipIf(missing)('go on being shared with processes from before while these are replaced', async () => {
    const [, cookie] = old.cookies;
    const look = (session: Data) => session.get('count') as number;
    const first = await visit(sites[0]!, cookie!, look);
    for (let count = first; count < first + 6; count += 2) {
      expect(await visit(sites[0]!, cookie!, look)).toBe(count);
      expect(await visit(sites[1]!, cookie!, (session: Data) => session.update('count', n => n + 1))).toBe(count + 1);
      await old.writeAsBefore(cookie!.split('.')[1]!, encodeValue('count', count + 2, 100));
    }
    for (const site of sites) expect(await visit(site, cookie!, look)).toBe(first + 6);
  });
});
