/**
 * Writes `records.json`: what the code of a commit keeps of two sessions in each store, entry by entry. It was run at
 * commit 1115662, the last one at which versions only counted: put it into a checkout of that commit, and there
 *
 *     node -C holdfast-source test/session/stores/old-records/make.ts > records.json
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import { SessionManager } from '../../../../src/session/manager.ts';
import type { SessionStore } from '../../../../src/session/store.ts';
import { LmdbStore } from '../../../../src/session/stores/lmdb.ts';
import { PostgresStore, postgresDdl } from '../../../../src/session/stores/postgres.ts';
import { RedisStore } from '../../../../src/session/stores/redis.ts';
import { startPostgres } from '../../../services/postgres-server.ts';
import { startRedis } from '../../../services/redis-server.ts';

const KEY = 'test key of at least 32 bytes, not secret';

/** Returns the cookies of an anonymous session and of one of ann's. */
async function fill(store: SessionStore): Promise<string[]> {
  const forever = { idleTimeoutMs: Number.POSITIVE_INFINITY, absoluteTimeoutMs: Number.POSITIVE_INFINITY };
  const options = { store, keys: [KEY], cookie: { name: 'sid' }, renewalTimeoutMs: Number.POSITIVE_INFINITY };
  const manager = new SessionManager({ ...options, ...forever });
  const cookies: string[] = [];
  for (const name of ['', 'ann']) {
    let cookie = '';
    for (let visit = 0; visit < 3; visit++) {
      const facts = { cookieHeader: cookie, isSecure: false, isDocumentNavigation: false };
      const binding = manager.bind(facts);
      const session = await binding.open();
      session.set('cart' as never, { visit, text: 'x'.repeat(400) } as never);
      if (visit === 1 && name) await session.renew({ owner: { name, roles: ['user'] } });
      await binding.commit();
      if (visit === 2) await session.update('count' as never, ((count?: number) => (count ?? 0) + 1) as never);
      cookie = binding.responseHeaders()[0]?.value.split(';')[0] ?? cookie;
      binding.release();
    }
    cookies.push(cookie);
  }
  await manager.close();
  return cookies;
}

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');

async function inLmdb() {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-old-'));
  const cookies = await fill(new LmdbStore({ path: folder }));
  const root = open({ path: folder, encoding: 'binary', keyEncoding: 'binary', maxDbs: 16, overlappingSync: false });
  const databases: Record<string, unknown[]> = {};
  const withVersions = { heads: true, values: false, accesses: true, owners: false, expiries: false, meta: true };
  for (const [name, useVersions] of Object.entries(withVersions)) {
    const database = root.openDB({ name, useVersions, encoding: 'binary', keyEncoding: 'binary' });
    databases[name] = Array.from(database.getRange({ versions: true }), entry => {
      const { key, value, version } = entry as unknown as { key: Buffer; value: Buffer; version?: number };
      return [base64(key), base64(value), ...(useVersions ? [version] : [])];
    });
  }
  await root.close();
  await rm(folder, { recursive: true });
  return { cookies, databases };
}

async function inRedis() {
  await using server = await startRedis();
  const cookies = await fill(await RedisStore.open(server.url));
  const { createClient } = await import('redis');
  const client = await createClient({ url: server.url }).connect();
  const bytes = client.withTypeMapping({ 36: Buffer });
  const hashes: Record<string, unknown> = {};
  const sets: Record<string, unknown> = {};
  for (const key of await client.keys('*')) {
    if ((await client.type(key)) === 'hash') {
      const fields = (await bytes.hGetAll(key)) as unknown as Record<string, Buffer>;
      hashes[key] = Object.entries(fields).map(([field, value]) => [field, base64(value)]);
    } else {
      const members = await client.zRangeWithScores(key, 0, -1);
      sets[key] = members.map(({ value, score }) => [value, Number.isFinite(score) ? score : 'inf']);
    }
  }
  client.destroy();
  return { cookies, hashes, sets };
}

async function inPostgres() {
  const server = await startPostgres();
  const cookies = await fill(await PostgresStore.open({ url: server.url, schema: 'old' }));
  const tables: Record<string, unknown> = {};
  for (const table of ['sessions', 'accesses', 'attributes'])
    tables[table] = await server.query(`SELECT to_jsonb(t) AS row FROM old.${table} t ORDER BY 1`);
  await server.stop();
  return { cookies, ddl: postgresDdl('old'), tables };
}

console.log(JSON.stringify({ lmdb: await inLmdb(), redis: await inRedis(), postgres: await inPostgres() }, null, 1));
