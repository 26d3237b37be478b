import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SessionManager } from '../../src/session/manager.ts';
import type { SessionStore } from '../../src/session/store.ts';
import { openPostgres, type PgPoolLike, PostgresLedger } from '../../src/session/stores/postgres.ts';
import { openRedis, type RedisLike } from '../../src/session/stores/redis.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';
import { KEY } from '../session/fixture.ts';

/** When the sessions were made. */
let now = Date.now();
const MINUTE = 60_000;
const guide = (name: string) => readFile(new URL(`../../docs/guides/${name}.md`, import.meta.url), 'utf8');
const blocks = (text: string, language: string) =>
  Array.from(text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm')), ([, block]) => block!);

/** Hostile names, as anybody may have who registers. */
const NAMES = ['ann', 'zoë', '-', "it's; DROP TABLE", 'a\tb\nc', '\0', '\ud800', '😀', '~tilde', '"quoted"'];

/** Two sessions of ann, one of nobody, one that has just begun, and one of each other name; ages in minutes. */
async function fill(store: SessionStore): Promise<void> {
  now = Date.now();
  const create = (sid: string, age: number, idle: number, name?: string) =>
    store.create(sid, {
      header: {
        secretHash: 'the-secret-hash',
        createdAt: now - age * MINUTE,
        idleTimeoutMs: sid === 'forever' ? 1e300 : 30 * MINUTE,
        ...(name !== undefined && { owner: { name, roles: ['user'] } }),
      },
      version: 1,
      lastAccessedAt: now - idle * MINUTE - 0.25,
      attributes: new Map([['diary', { value: Buffer.from('dear diary'), version: 1 }]]),
    });
  await create('young', 10, 1, 'ann');
  await create('old', 60, 5, 'ann');
  await create('nobodys', 20, 2);
  await create('new', 0, 0);
  await create('forever', 20, 2, 'bob');
  for (const [index, name] of NAMES.entries()) if (index > 0) await create(`named${index}`, 30, 3, name);
}

describe(`in Redis${redisIsMissing ? ` (skipped: ${redisIsMissing})` : ''}`, () => {
  let server: RedisServer;
  beforeAll(async () => {
    if (!redisIsMissing) server = await startRedis();
  });
  afterAll(() => server?.stop());

  const names = async () => {
    const list = await server.cli('CLIENT', 'LIST');
    return Array.from(list.matchAll(/ name=(\S*) /g), ([, name]) => name!).filter(name => name !== '');
  };
  const of = (client: string, ...purposes: string[]) => purposes.map(purpose => `${client}:${process.pid}:${purpose}`);

  test.skipIf(redisIsMissing)(
    'each connection to Redis says its program, process and purpose, also when it was made anew',
    async () => {
      const opened = await openRedis(server.url, { acknowledge: { replicas: 1, timeoutMs: 50 } });
      const sessions = new SessionManager({ ...opened, keys: [KEY], coherence: 'relaxed' });
      await sessions.start();
      await opened.store
        .create('s', {
          header: { secretHash: 'x', createdAt: now },
          version: 1,
          lastAccessedAt: now,
          attributes: new Map(),
        })
        .catch(() => {}); // no replica
      const all = of('holdfast', 'ledger', 'ledger-events', 'store', 'store-events', 'store-writes');
      await expect.poll(async () => [...new Set(await names())].sort()).toEqual(all);
      await server.cli('CLIENT', 'KILL', 'TYPE', 'normal');
      await server.cli('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await expect
        .poll(async () => [...new Set(await names())].sort())
        .toEqual(expect.arrayContaining(of('holdfast', 'ledger', 'ledger-events', 'store', 'store-events')));
      await sessions.close();
    },
  );

  test.skipIf(redisIsMissing)(
    'the program is called on Redis as is asked for, and what cannot be a name is refused',
    async () => {
      const { store, ledger } = await openRedis(server.url, { clientName: 'shop' });
      await expect
        .poll(async () => (await names()).filter(name => name.startsWith('shop:')).sort())
        .toEqual(of('shop', 'ledger', 'store'));
      await store.close();
      await ledger.close();
      for (const clientName of ['', 'my shop', 'a:b', 'x'.repeat(41), 'zoë', 'a\n'])
        await expect(openRedis(server.url, { clientName })).rejects.toThrow(TypeError);
    },
  );

  test.skipIf(redisIsMissing)('a user of Redis who may not name connections has some without names', async () => {
    await server.cli('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-client');
    const url = `redis://plain:secret@127.0.0.1:${server.port}`;
    const { store, ledger } = await openRedis(url, { clientName: 'refused' });
    await fill(store);
    expect(await store.count()).toBeGreaterThan(10);
    const heard: string[] = [];
    await ledger.subscribe('c', message => heard.push(message));
    await ledger.publish('c', 'hello');
    await expect.poll(() => heard).toEqual(['hello']);
    expect((await names()).filter(name => name.startsWith('refused'))).toEqual([]);
    await store.close();
    await ledger.close();
    await server.cli('FLUSHALL');
  });

  test.skipIf(redisIsMissing)(
    'a client of Redis that is brought keeps its name, and so do those that are made like it',
    async () => {
      const client = createClient({ url: server.url, name: 'own-name', disableOfflineQueue: true });
      await client.connect();
      const { store, ledger } = await openRedis(client as unknown as RedisLike, { clientName: 'other' });
      await ledger.subscribe('c', () => {});
      expect((await names()).filter(name => name === 'own-name').length).toBeGreaterThanOrEqual(2);
      expect((await names()).filter(name => name.startsWith('other'))).toEqual([]);
      await store.close();
      await ledger.close();
      client.destroy();
    },
  );

  test.skipIf(redisIsMissing)(
    'the recipe of the guide lists sessions of Redis by user and age, and touches none',
    async () => {
      const { store, ledger } = await openRedis(server.url, { prefix: 'shop' });
      await fill(store);
      const folder = await mkdtemp(join(tmpdir(), 'holdfast-recipe-'));
      const script = join(folder, 'sessions.sh');
      await writeFile(script, blocks(await guide('redis'), 'sh')[0]!);
      const before = await server.cli('DEBUG', 'DIGEST').catch(() => '');
      const { stdout } = await promisify(execFile)('bash', [script, '-p', String(server.port)], {
        env: { ...process.env, PREFIX: 'shop' },
      });
      expect(await server.cli('DEBUG', 'DIGEST').catch(() => '')).toBe(before);
      const rows = stdout
        .trimEnd()
        .split('\n')
        .map(line => line.split('\t'));
      expect(rows).toHaveLength(4 + NAMES.length);
      expect(rows.every(row => row.length === 4)).toBe(true);
      expect(rows.flatMap(([age, idle]) => [age!, idle!]).filter(seconds => !/^\d+$/.test(seconds))).toEqual([]);
      const [anns] = [rows.filter(([, , , owner]) => owner === '{"name":"ann","roles":["user"]}')];
      expect(anns.map(([, , sid]) => sid)).toEqual(['old', 'young']);
      expect(Math.abs(Number(anns[0]![0]) - 3_600)).toBeLessThan(60);
      expect(Math.abs(Number(anns[0]![1]) - 300)).toBeLessThan(60);
      expect(rows.find(([, , sid]) => sid === 'nobodys')![3]).toBe('-');
      const owners = rows.map(([, , , owner]) => owner!).filter(owner => owner !== '-');
      expect(new Set(owners.map(owner => (JSON.parse(owner) as { name: string }).name))).toEqual(
        new Set([...NAMES, 'bob']),
      );
      expect(stdout).not.toMatch(/dear diary|the-secret-hash/);
      expect((await store.glance('old'))?.lastAccessedAt).toBe(now - 5 * MINUTE - 0.25);
      await store.close();
      await ledger.close();
      await rm(folder, { recursive: true });
    },
  );
});

describe(`in PostgreSQL${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    if (!postgresMissing) server = await startPostgres();
  });
  afterAll(() => server?.stop());

  const names = async () => {
    const rows = await server.query(
      `SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY 1`,
    );
    return rows.map(({ name }) => name as string).filter(name => name !== '');
  };
  const of = (client: string, ...purposes: string[]) => purposes.map(purpose => `${client}:${process.pid}:${purpose}`);

  test.skipIf(postgresMissing)(
    'each connection to PostgreSQL says its program, process and purpose, also when it was made anew',
    async () => {
      const opened = await openPostgres({ url: server.url });
      const { close: _, ...both } = opened;
      const sessions = new SessionManager({ ...both, keys: [KEY] });
      await sessions.start();
      expect(await names()).toEqual(of('holdfast', 'store', 'store-events'));
      await server.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast:%'`,
      );
      await expect
        .poll(async () => {
          await opened.store.count().catch(() => {});
          return names();
        })
        .toEqual(of('holdfast', 'store', 'store-events'));
      await sessions.close();
      const ledger = await PostgresLedger.open({ url: server.url, clientName: 'shop' });
      await ledger.subscribe('c', () => {});
      await expect.poll(names).toEqual(of('shop', 'ledger', 'ledger-events'));
      await ledger.close();
    },
  );

  test.skipIf(postgresMissing)(
    'a name that PostgreSQL has from the address, from the environment or from a pool that is brought is kept',
    async () => {
      const named = await openPostgres({ url: `${server.url}?application_name=mine`, clientName: 'other' });
      await named.ledger.subscribe('c', () => {});
      expect(await names()).toEqual(['mine']);
      await named.close();
      process.env.PGAPPNAME = 'from-environment';
      try {
        const { store, close } = await openPostgres({ url: server.url });
        await store.count();
        await expect.poll(names).toEqual(['from-environment']);
        await close();
      } finally {
        delete process.env.PGAPPNAME;
      }
      const pool = new pg.Pool({ connectionString: server.url, application_name: 'pool' });
      const brought = await openPostgres({ pool: pool as PgPoolLike, clientName: 'other' });
      await brought.ledger.subscribe('c', () => {});
      await expect.poll(names).toEqual(['pool']);
      await brought.close();
      await pool.end();
      for (const clientName of ['', 'my shop', 'a:b', 'x'.repeat(41)])
        await expect(openPostgres({ url: server.url, clientName })).rejects.toThrow(TypeError);
    },
  );

  test.skipIf(postgresMissing)('the longest name of a program fits into what PostgreSQL keeps', async () => {
    const clientName = 'x'.repeat(40);
    const ledger = await PostgresLedger.open({ url: server.url, clientName });
    await ledger.subscribe('c', () => {});
    await expect.poll(names).toEqual(of(clientName, 'ledger', 'ledger-events'));
    await ledger.close();
  });

  test.skipIf(postgresMissing)(
    'the view of the guide lists sessions of PostgreSQL by user and age, and touches none',
    async () => {
      const { store, close } = await openPostgres({ url: server.url });
      await fill(store);
      const [activity, view, list] = blocks(await guide('postgres'), 'sql');
      await server.query(activity!);
      await server.query(view!);
      await server.query(view!); // again
      const rows = await server.query(list!);
      expect(rows).toHaveLength(4 + NAMES.length);
      const anns = rows.filter(({ owner }) => owner === 'ann');
      expect(anns.map(({ sid }) => sid)).toEqual(['old', 'young']);
      expect(anns[0]!.age).toMatchObject({ hours: 1 });
      expect(anns[0]!.idle).toMatchObject({ minutes: 5 });
      expect(Math.abs((anns[0]!.ends as Date).getTime() - (now + 25 * MINUTE))).toBeLessThan(MINUTE);
      expect(anns[0]!.bytes).toBe('10');
      expect(rows.find(({ sid }) => sid === 'nobodys')!.owner).toBeNull();
      expect(rows.find(({ sid }) => sid === 'forever')!.ends).toBeNull();
      const names = rows.map(({ owner }) => owner as string | null).filter(owner => owner !== null);
      const read = names.map(owner => (owner.startsWith('{') ? (JSON.parse(owner) as { name: string }).name : owner));
      expect(new Set(read)).toEqual(new Set([...NAMES, 'bob']));
      expect(JSON.stringify(rows)).not.toMatch(/dear diary|the-secret-hash/);
      expect((await store.glance('old'))?.lastAccessedAt).toBe(now - 5 * MINUTE - 0.25);
      // Those who may only look see no secret and no value.
      await server.query('CREATE ROLE watcher; GRANT USAGE ON SCHEMA holdfast TO watcher');
      await server.query('GRANT SELECT ON holdfast.session_list TO watcher');
      const privileges = `SELECT has_table_privilege('watcher', 'holdfast.sessions', 'SELECT') AS sessions, has_table_privilege('watcher', 'holdfast.session_list', 'SELECT') AS list`;
      expect(await server.query(privileges)).toEqual([{ sessions: false, list: true }]);
      // Processes start on a schema with the view as before.
      await close();
      const again = await openPostgres({ url: server.url });
      expect(await again.store.count()).toBe(4 + NAMES.length);
      await again.close();
    },
  );
});
