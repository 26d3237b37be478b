import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  openPostgres,
  type PgPoolLike,
  type PostgresOptions,
  PostgresStore,
  postgresDdl,
} from '../../src/session/stores/postgres.ts';
import { storeConformance } from '../../src/testing/store-conformance.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';
import records from '../session/stores/old-records/records.json' with { type: 'json' };

const NOW = Date.UTC(2026, 0, 1);

function record(idleTimeoutMs = 60_000) {
  const attributes = new Map([['a', { value: Buffer.from('x'), version: 1 }]]);
  return { header: { secretHash: 'hash', createdAt: NOW, idleTimeoutMs }, version: 1, lastAccessedAt: NOW, attributes };
}

/** Collects what a store warns of. */
function createLogger() {
  const warnings: string[] = [];
  const nothing = () => {};
  const warn = (_fields: object, message: string) => void warnings.push(message);
  return { warnings, debug: nothing, info: nothing, warn, error: nothing };
}

describe.skipIf(postgresMissing)(`postgres${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  let schemas = 0;
  const options = () => ({ url: server.url, schema: `s${schemas++}`, poolSize: 5 });
  const optionsOf = new WeakMap<object, PostgresOptions>();

  storeConformance(
    'postgres',
    async () => {
      const own = { ...options(), notify: true };
      const store = await PostgresStore.open(own);
      optionsOf.set(store, own);
      return store;
    },
    { describe, test },
    { openSecond: first => PostgresStore.open(optionsOf.get(first)!) },
  );

  describe('its schema', () => {
    test('is made once by stores that open at the same moment', async () => {
      const own = options();
      const stores = await Promise.all(Array.from({ length: 8 }, () => PostgresStore.open({ ...own, poolSize: 1 })));
      expect(await stores[0]!.create('s1', record())).toBe(true);
      for (const store of stores) expect(await store.count()).toBe(1);
      expect(await server.query(`SELECT version FROM ${own.schema}.schema_version`)).toEqual([{ version: 2 }]);
      await Promise.all(stores.map(store => store.close()));
    });

    test('keeps its sessions from those of another one in the same database', async () => {
      const [one, other] = [await PostgresStore.open(options()), await PostgresStore.open(options())];
      expect([await one.create('s', record()), await other.create('s', record())]).toEqual([true, true]);
      expect(await one.delete('s')).toBe(true);
      expect([await one.count(), await other.count()]).toEqual([0, 1]);
      await one.close();
      await other.close();
    });

    test('of a newer version is refused, and left as it is', async () => {
      const own = options();
      await (await PostgresStore.open(own)).close();
      await server.query(`UPDATE ${own.schema}.schema_version SET version = 7`);
      await expect(PostgresStore.open(own)).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringMatching(/version 7, newer than the 2 .* update Holdfast/),
      });
      expect(await server.query(`SELECT version FROM ${own.schema}.schema_version`)).toEqual([{ version: 7 }]);
    });

    test('is brought up by an operator from the version that is there', async () => {
      const own = { ...options(), migrate: false };
      await server.query(records.postgres.ddl.replace(/\bold\b(?=[.;])/g, own.schema));
      await expect(PostgresStore.open(own)).rejects.toMatchObject({
        message: expect.stringContaining(`postgresDdl('${own.schema}', 1)`),
      });
      await server.query(postgresDdl(own.schema, 1));
      const store = await PostgresStore.open(own);
      expect(await store.create('s1', record())).toBe(true);
      await store.close();
      for (const from of [-1, 0.5, 2]) expect(() => postgresDdl('x', from)).toThrow(TypeError);
    });

    test('is made by an operator where the user of the store may not', async () => {
      const own = options();
      const role = `app_${own.schema}`;
      const url = server.url.replace('holdfast@', `${role}@`);
      await server.query(`CREATE ROLE ${role} LOGIN`);
      await expect(PostgresStore.open({ ...own, url })).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        cause: { message: expect.stringContaining('permission denied') },
      });
      await expect(PostgresStore.open({ ...own, url, migrate: false })).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringContaining('the schema is not there; run the DDL'),
      });
      await server.query(postgresDdl(own.schema));
      await server.query(`GRANT USAGE ON SCHEMA ${own.schema} TO ${role}`);
      await server.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${own.schema} TO ${role}`);
      for (const migrate of [false, true]) {
        const { store, ledger, close } = await openPostgres({ ...own, url, migrate, notify: true });
        const feed = await store.watch!(() => {});
        expect(await store.create(`s-${migrate}`, record())).toBe(true);
        expect((await store.commit(`s-${migrate}`, { header: { idleTimeoutMs: 5 } })).status).toBe('committed');
        expect(await store.expired(NOW + 1_000, 1)).toEqual([`s-${migrate}`]);
        expect(await store.delete(`s-${migrate}`, NOW + 1_000)).toBe(true);
        expect(await ledger.increment('n', 1, 60_000)).toBe(migrate ? 2 : 1);
        await feed.close();
        await close();
      }
    });

    test('that is dropped under a store is an outage, not an empty store', async () => {
      const own = options();
      const store = await PostgresStore.open(own);
      await server.query(`DROP SCHEMA ${own.schema} CASCADE`);
      for (const call of [() => store.read('s1'), () => store.count(), () => store.create('s1', record())]) {
        await expect(call()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503 });
      }
      await store.close();
    });

    test.each(['', 'Upper', 'a-b', 'a"; DROP SCHEMA b', 'x'.repeat(41), 'pg_x', '1a'])(
      'cannot be named %j',
      async schema => {
        await expect(PostgresStore.open({ url: server.url, schema })).rejects.toThrow(TypeError);
        expect(() => postgresDdl(schema)).toThrow(TypeError);
      },
    );
  });

  describe('a touch', () => {
    test('rewrites its row in place and no index, so that a million of them leave nothing behind', async () => {
      const own = options();
      const store = await PostgresStore.open(own);
      const sids = Array.from({ length: 200 }, (_, index) => `session-${index}`);
      await Promise.all(sids.map(sid => store.create(sid, record())));
      const sizes = () =>
        server.query(
          `SELECT pg_relation_size('${own.schema}.accesses') AS table_size, pg_indexes_size('${own.schema}.accesses') AS index_size`,
        );
      for (let round = 1; round <= 20; round++) await store.touch(new Map(sids.map(sid => [sid, NOW + round])));
      const early = await sizes();
      for (let round = 21; round <= 60; round++) await store.touch(new Map(sids.map(sid => [sid, NOW + round])));
      expect(await sizes()).toEqual(early);
      expect((await store.glance('session-7'))!.lastAccessedAt).toBe(NOW + 60);
      await store.close();
    });

    test('of more sessions than go into one statement reaches all of them', async () => {
      const store = await PostgresStore.open(options());
      const sids = Array.from({ length: 2_100 }, (_, index) => `session-${index}`);
      for (const sid of [0, 999, 1_000, 2_099].map(index => sids[index]!)) await store.create(sid, record());
      await store.touch(new Map(sids.map(sid => [sid, NOW + 9])));
      for (const sid of [0, 999, 1_000, 2_099].map(index => sids[index]!)) {
        expect((await store.glance(sid))!.lastAccessedAt).toBe(NOW + 9);
      }
      await store.close();
    });
  });

  test('finds what has expired among many more that only looked so', async () => {
    const own = options();
    const store = await PostgresStore.open(own);
    await server.query(`
      INSERT INTO ${own.schema}.sessions SELECT 's' || n, NULL, 1, NULL, '{}' FROM generate_series(1, 6000) n;
      INSERT INTO ${own.schema}.accesses SELECT 's' || n, 1000 + n, 10, NULL, n FROM generate_series(1, 6000) n;
    `);
    expect(await store.expired(900, 10)).toEqual([]);
    expect(await store.expired(1_012, 10)).toEqual(['s1', 's2']);
    expect(await store.expired(8_000, 3)).toEqual(['s1', 's2', 's3']);
    expect(await store.expired(8_000, 10_000)).toHaveLength(6_000);
    await store.close();
  });

  test('waits in no circle when commits, touches of many, deletes and sweeps meet', async () => {
    const own = { ...options(), poolSize: 10 };
    const store = await PostgresStore.open(own);
    const sids = Array.from({ length: 30 }, (_, index) => `session-${index}`);
    const create = () => Promise.all(sids.map(sid => store.create(sid, record(5))));
    await create();
    for (let round = 1; round <= 15; round++) {
      const order = [...sids].sort(() => Math.random() - 0.5);
      await Promise.all([
        ...Array.from({ length: 4 }, (_, index) =>
          store.touch(new Map([...(index % 2 ? order : sids)].map(sid => [sid, NOW + round * 10 + index]))),
        ),
        ...order.map(sid =>
          store.commit(sid, {
            header: { idleTimeoutMs: 5 + round },
            set: new Map([
              ['a', Buffer.from('y')],
              ['b', Buffer.from('z')],
            ]),
          }),
        ),
        ...order
          .slice(0, 10)
          .map(sid => store.commit(sid, { set: new Map([['b', Buffer.from('z')]]), deleted: new Set(['a']) })),
        ...order.slice(5, 15).map(sid => store.delete(sid, NOW + round * 10 + 10)),
        store.expired(NOW + round * 10 + 10, 100),
        store.expired(NOW + round * 10 + 10, 100),
      ]);
      await create();
    }
    expect(await server.query('SELECT sum(deadlocks)::int AS deadlocks FROM pg_stat_database')).toEqual([
      { deadlocks: 0 },
    ]);
    await store.close();
  });

  describe('shared by processes', () => {
    test('loses none of their updates, and each delete has one winner', async () => {
      const own = options();
      const store = await PostgresStore.open(own);
      await store.create('counter', record());
      const sids = Array.from({ length: 40 }, (_, index) => `doomed-${index}`);
      await Promise.all(sids.map(sid => store.create(sid, record())));
      const workers = Array.from({ length: 2 }, () =>
        fork(fileURLToPath(new URL('../session/stores/postgres-worker.ts', import.meta.url)), [JSON.stringify(own)], {
          execArgv: ['-C', 'holdfast-source'],
        }),
      );
      await Promise.all(workers.map(worker => once(worker, 'message'))); // is ready
      for (const worker of workers) worker.send({ updates: 50, sids });
      const answers = await Promise.all(workers.map(worker => once(worker, 'message')));
      const results = answers.map(([result]) => result as { deleted: string[] });
      expect(results.flatMap(({ deleted }) => deleted).sort()).toEqual([...sids].sort());
      const read = await store.read('counter');
      expect(Buffer.from(read!.attributes.get('n')!.value).toString()).toBe('100');
      expect(read!.attributes.get('n')!.version).toBe(read!.version);
      await Promise.all(workers.map(worker => worker.exitCode ?? once(worker, 'exit')));
      await store.close();
    });
  });

  describe('through a pool that the user brings', () => {
    /** A pool of `pg`, and what is sent through it. */
    function createPool() {
      const pool = new pg.Pool({ connectionString: server.url, max: 4 });
      const sent: { name?: string | undefined; text: string }[] = [];
      const connect = pool.connect.bind(pool) as () => Promise<pg.PoolClient>;
      const spied = new Set<pg.PoolClient>();
      Object.assign(pool, {
        async connect() {
          const client = await connect();
          if (!spied.has(client)) {
            const query = client.query.bind(client) as (query: unknown) => unknown;
            Object.assign(client, {
              query(query_: { name?: string; text: string } | string) {
                sent.push(typeof query_ === 'string' ? { text: query_ } : query_);
                return query(query_);
              },
            });
            spied.add(client);
          }
          return client;
        },
      });
      return { pool, sent, asked: pool as PgPoolLike };
    }

    test('asks the server once for each call, with a prepared statement', async () => {
      const { pool, asked, sent } = createPool();
      const { store, ledger, close } = await openPostgres({ pool: asked, schema: `s${schemas++}` });
      await store.create('s1', record());
      const calls: readonly (() => Promise<unknown>)[] = [
        () => store.create('s2', record()),
        () => store.read('s1'),
        () => store.glance('s1'),
        () =>
          store.commit('s1', {
            header: { secretHash: 'y' },
            set: new Map([['a', Buffer.from('y')]]),
            expected: new Map([['a', 1]]),
          }),
        () =>
          store.touch(
            new Map([
              ['s1', NOW + 5],
              ['s2', NOW + 5],
            ]),
          ),
        () => store.sidsOf('ann'),
        () => store.count(),
        () => store.delete('s2'),
        () => store.delete('s1', NOW),
        () => ledger.putIfAbsent('k', 'v', 1_000),
        () => ledger.put('k', 'w', 1_000),
        () => ledger.get('k'),
        () => ledger.take('k'),
        () => ledger.increment('n', 1, 1_000),
        () => ledger.publish('c', 'x'.repeat(100_000)),
      ];
      for (const call of calls) {
        sent.length = 0;
        await call();
        expect(sent, String(call)).toEqual([
          expect.objectContaining({ name: expect.stringMatching(/^s\d+\.[a-z-]+$/) }),
        ]);
      }
      await close();
      await pool.end();
    });

    test('prepares nothing and sets nothing behind a pooler in transaction mode', async () => {
      const { pool, asked, sent } = createPool();
      const schema = `s${schemas++}`;
      await expect(openPostgres({ pool: asked, schema, transactionPooler: true })).rejects.toThrow(/listenUrl/);
      const both = await openPostgres({
        pool: asked,
        schema,
        transactionPooler: true,
        listenUrl: server.url,
        notify: true,
      });
      const { store, ledger } = both;
      sent.length = 0;
      const told: string[] = [];
      const feed = await store.watch!(sid => told.push(sid));
      await ledger.subscribe('c', message => told.push(message));
      await store.create('s1', record());
      await store.commit('s1', { set: new Map([['a', Buffer.from('y')]]) });
      await ledger.publish('c', 'hello');
      await expect.poll(() => told.sort()).toEqual(['hello', 's1']);
      expect(sent.length).toBe(3);
      expect(sent.filter(({ name, text }) => name !== undefined || /^(SET|LISTEN|PREPARE)/i.test(text))).toEqual([]);
      await feed.close();
      await both.close();
      await pool.end();
    });

    test('leaves it open when it closes, and gives every connection back', async () => {
      const { pool, asked } = createPool();
      const { store, close } = await openPostgres({ pool: asked, schema: `s${schemas++}`, notify: true });
      await (await store.watch!(() => {})).close();
      await store.create('s1', record());
      await close();
      const client = await pool.connect();
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
      await expect(store.count()).rejects.toMatchObject({ code: 'ERR_SESSION_STORE_UNAVAILABLE' });
      client.release();
      expect(pool.totalCount).toBe(pool.idleCount);
      await pool.end();
    });

    test("reads rightly whatever the user's type parsers are", async () => {
      const types = { getTypeParser: () => () => 'parsed by the user' };
      const pool = new pg.Pool({ connectionString: server.url, types: types as unknown as pg.CustomTypesConfig });
      const store = await PostgresStore.open({ pool: pool as PgPoolLike, schema: `s${schemas++}` });
      await store.create('s1', record());
      expect(await store.read('s1')).toEqual(record());
      expect(await store.count()).toBe(1);
      await store.close();
      await pool.end();
    });

    test('gets every parallel commit through where transactions are serializable by default', async () => {
      const pool = new pg.Pool({
        connectionString: server.url,
        max: 4,
        options: '-c default_transaction_isolation=serializable',
      });
      const logger = createLogger();
      const store = await PostgresStore.open({ pool: pool as PgPoolLike, schema: `s${schemas++}`, logger });
      expect(logger.warnings).toContainEqual(expect.stringContaining('default_transaction_isolation'));
      await store.create('s1', record());
      const commits = Array.from({ length: 12 }, (_, index) =>
        store.commit('s1', { set: new Map([[`k${index}`, Buffer.from('x')]]) }),
      );
      expect(new Set((await Promise.all(commits)).map(result => JSON.stringify(result))).size).toBe(12);
      expect((await store.read('s1'))!.attributes.size).toBe(13);
      await store.close();
      await pool.end();
    });
  });

  describe('opening it', () => {
    test('works by a Unix socket', async () => {
      const store = await PostgresStore.open({ ...options(), url: server.socketUrl });
      expect(await store.create('s1', record())).toBe(true);
      await store.close();
    });

    test('warns of settings with which a crash of the server loses what was acknowledged', async () => {
      const own = options();
      const logger = createLogger();
      await (await PostgresStore.open({ ...own, logger })).close();
      expect(logger.warnings).toEqual([
        expect.stringContaining('fsync is off'),
        expect.stringContaining('full_page_writes is off'),
      ]);
      const role = `lazy_${own.schema}`;
      await server.query(`CREATE ROLE ${role} SUPERUSER LOGIN`);
      await server.query(`ALTER ROLE ${role} SET synchronous_commit = off`);
      await (await PostgresStore.open({ ...own, url: server.url.replace('holdfast@', `${role}@`), logger })).close();
      expect(logger.warnings).toContainEqual(expect.stringContaining('synchronous_commit is off'));
    });

    test('says where it could not connect, and no password', async () => {
      const urls = [
        'postgres://ann:hunter2@127.0.0.1:1/app?application_name=x',
        'postgres://ann:hunter2@no host/app',
        `postgres://ann:hunter2@127.0.0.1:${server.port}/app`,
      ];
      for (const url of urls) {
        const error = await PostgresStore.open({ url }).catch(reason => reason as Error);
        expect(error).toMatchObject({
          code: 'ERR_SESSION_STORE_UNAVAILABLE',
          message: expect.stringMatching(/at [^@]+\/app/),
        });
        expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/hunter2/);
      }
    });

    test('without a place, with two, or with a number that cannot be one is a mistake', async () => {
      const { url } = server;
      const pool = {} as PgPoolLike;
      for (const wrong of [
        {},
        { url, pool },
        { url, poolSize: 0 },
        { url, queryTimeoutMs: -1 },
        { url, connectTimeoutMs: Number.NaN },
      ]) {
        await expect(PostgresStore.open(wrong)).rejects.toThrow(TypeError);
      }
    });

    test('says what to install where the package pg is missing', async () => {
      const program = `
        import { registerHooks } from 'node:module';
        registerHooks({
          resolve(specifier, context, next) {
            if (specifier !== 'pg') return next(specifier, context);
            throw Object.assign(new Error("Cannot find package 'pg'"), { code: 'ERR_MODULE_NOT_FOUND' });
          },
        });
        const { PostgresStore } = await import(${JSON.stringify(import.meta.resolve('../../src/session/stores/postgres.ts'))});
        await PostgresStore.open({ url: 'postgres://localhost' }).catch(error => console.log(error.code, error.message));
      `;
      const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      expect(await text(child.stdout)).toMatch(/^ERR_SESSION_STORE_UNAVAILABLE .*npm install pg\n$/);
    });
  });
});
