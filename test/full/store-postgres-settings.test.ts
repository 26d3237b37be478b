import { inspect } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Logger } from '../../src/base/logger.ts';
import { openPostgres, type PgPoolLike, type PostgresOptions } from '../../src/session/stores/postgres.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';

/** A time that needs every digit of a double. */
const NOW = 1_767_225_600_123.457;
/** Bytes that each way of writing them as text writes differently. */
const VALUE = Buffer.from([0, 1, 0x5c, 0x78, 0x27, 0x7f, 0x80, 0xff, 0x41, 0x0a]);
/** Names that go as they are, and that do not. */
const NAMES = ['plain', "it's", 'back\\slash', '{"a",NULL}', 'NULL', 'null', 'umlaut ü', 'zero \0'];
const SIDS = ['NULL', 'ü', "a'b\\c"];

/** With these what is read was wrong, or nothing worked. */
const HARMFUL = [
  ['bytea_output', 'escape'],
  ['extra_float_digits', '-15'],
  ['array_nulls', 'off'],
  // Statements of ours that take longer have another limit; the first, which sets it, has to come through.
  ['statement_timeout', '100'],
] as const;

/** All at once: none of them makes a difference. */
const HARMLESS = [
  ['DateStyle', "'SQL, DMY'"],
  ['IntervalStyle', 'sql_standard'],
  ['TimeZone', "'Pacific/Apia'"],
  ['standard_conforming_strings', 'off'],
  ['backslash_quote', 'off'],
  ['client_encoding', 'latin1'],
  ['transform_null_equals', 'on'],
  ['row_security', 'off'],
  ['quote_all_identifiers', 'on'],
  ['check_function_bodies', 'off'],
  ['plpgsql.variable_conflict', 'use_variable'],
  ['plpgsql.extra_errors', "'all'"],
  ['lock_timeout', '1'],
  ['default_transaction_isolation', "'repeatable read'"],
  ['default_transaction_deferrable', 'on'],
] as const;

/** Writes and reads everything there is, and closes it. */
async function expectAllIsRight(options: PostgresOptions): Promise<void> {
  const { store, ledger, close } = await openPostgres(options);
  const attributes = new Map(NAMES.map(name => [name, { value: VALUE, version: 7 }]));
  const header = { secretHash: 'h', createdAt: NOW, idleTimeoutMs: 60_000.5, owner: { name: 'ü', roles: [] } };
  for (const sid of SIDS) {
    expect(await store.create(sid, { header, version: 7, lastAccessedAt: NOW, attributes })).toBe(true);
    expect(await store.create(sid, { header, version: 7, lastAccessedAt: NOW, attributes })).toBe(false);
    expect(await store.read(sid)).toEqual({ header, version: 7, lastAccessedAt: NOW, attributes });
    expect(await store.glance(sid)).toEqual({ version: 7, lastAccessedAt: NOW });
    const set = new Map(NAMES.map(name => [name, Buffer.concat([VALUE, VALUE])]));
    const result = await store.commit(sid, { set, expected: new Map([['NULL', 7]]), follows: 7 });
    expect(result).toEqual({ status: 'committed', version: 8, previous: 7 });
    expect(await store.commit(sid, { set, expected: new Map([['NULL', 7]]) })).toEqual({ status: 'conflict' });
    expect((await store.read(sid))!.attributes.get('NULL')).toEqual({ value: set.get('NULL'), version: 8 });
    await store.touch(new Map([[sid, NOW + 1]]));
    expect((await store.glance(sid))!.lastAccessedAt).toBe(NOW + 1);
  }
  expect((await store.sidsOf('ü')).sort()).toEqual([...SIDS].sort());
  expect((await Array.fromAsync(store.sids())).sort()).toEqual([...SIDS].sort());
  expect(await store.count()).toBe(SIDS.length);
  expect(await store.countAnonymous()).toBe(0);
  expect(Math.abs((await store.time()) - Date.now())).toBeLessThan(60_000);
  expect(await store.expired(NOW, 10)).toEqual([]);
  expect((await store.expired(NOW + 100_000, 10)).sort()).toEqual([...SIDS].sort());
  expect(await store.delete(SIDS[0]!, NOW)).toBe(false);
  for (const sid of SIDS) expect(await store.delete(sid, NOW + 100_000)).toBe(true);
  expect(await store.delete(SIDS[0]!)).toBe(false);
  expect(await store.read(SIDS[0]!)).toBe(undefined);

  const told: string[] = [];
  await ledger.subscribe('c', message => told.push(message));
  expect(await ledger.putIfAbsent('k', 'NULL', 60_000)).toBe(true);
  expect(await ledger.putIfAbsent('k', 'x', 60_000)).toBe(false);
  expect(await ledger.get('k')).toBe('NULL');
  await ledger.put('k', 'ü\\\'"', 60_000);
  expect(await ledger.take('k')).toBe('ü\\\'"');
  expect(await ledger.increment('n', 2 ** 40, 60_000)).toBe(2 ** 40);
  expect(await ledger.increment('n', -1, 60_000)).toBe(2 ** 40 - 1);
  await ledger.publish('c', 'NULL');
  await expect.poll(() => told).toEqual(['NULL']);
  await close();
}

describe.skipIf(postgresMissing)(`postgres${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  let count = 0;
  /** A role with these settings, and the address by which it connects. */
  async function asRole(...settings: (readonly [name: string, value: string])[]): Promise<string> {
    const role = `r${count++}`;
    await server.query(`CREATE ROLE ${role} SUPERUSER LOGIN`);
    for (const [name, value] of settings) await server.query(`ALTER ROLE ${role} SET ${name} = ${value}`);
    return server.url.replace('holdfast@', `${role}@`);
  }
  const schema = () => `s${count++}`;

  describe('reads and writes rightly', () => {
    test.each(HARMFUL)('where the role has %s = %s', async (name, value) => {
      await expectAllIsRight({ url: await asRole([name, value]), schema: schema() });
    });

    test('where the address says all of these', async () => {
      const all = HARMFUL.map(([name, value]) => `-c ${name}=${value}`).join(' ');
      await expectAllIsRight({ url: `${server.url}?options=${encodeURIComponent(all)}`, schema: schema() });
    });

    test('where the role has other formats, names and rules for everything else', async () => {
      for (const path of ["''", 'nowhere', 'public, pg_catalog'])
        await expectAllIsRight({ url: await asRole(...HARMLESS, ['search_path', path]), schema: schema() });
    });

    test('where the database has other settings than the server', async () => {
      await server.query('CREATE DATABASE other');
      await server.query('ALTER DATABASE other SET bytea_output = escape');
      await server.query('ALTER DATABASE other SET extra_float_digits = -3');
      await expectAllIsRight({ url: server.url.replace(/postgres$/, 'other'), schema: schema() });
    });

    test('where a setting is changed while it is open', async () => {
      const url = await asRole();
      const { store, close } = await openPostgres({ url, schema: schema(), poolSize: 1 });
      const attributes = new Map([['a', { value: VALUE, version: 1 }]]);
      const record = {
        header: { secretHash: 'h', createdAt: NOW, idleTimeoutMs: 1_000 },
        version: 1,
        lastAccessedAt: NOW,
      };
      await store.create('s1', { ...record, attributes });
      await server.query(`ALTER ROLE ${new URL(url).username} SET bytea_output = escape`);
      await server.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${new URL(url).username}'`,
      );
      expect((await store.read('s1'))!.attributes.get('a')!.value).toEqual(VALUE);
      await close();
    });

    test("where the user's pool parses, or asks for bytes", async () => {
      const types = { getTypeParser: () => () => 'parsed by the user' } as unknown as pg.CustomTypesConfig;
      for (const own of [{ types }, { binary: true }, { options: '-c bytea_output=escape' }]) {
        const pool = new pg.Pool({ connectionString: server.url, max: 3, ...own });
        await expectAllIsRight({ pool: pool as PgPoolLike, schema: schema() });
        await pool.end();
      }
    });

    test('where the program has set type parsers for all of pg', async () => {
      const parsers = [16, 17, 20, 25, 701, 1700].map(oid => [oid, pg.types.getTypeParser(oid)] as const);
      const { parseInt8 } = pg.defaults;
      try {
        for (const [oid] of parsers) pg.types.setTypeParser(oid, () => 'parsed by the program');
        await expectAllIsRight({ url: server.url, schema: schema() });
        pg.defaults.parseInt8 = true;
        await expectAllIsRight({ url: server.url, schema: schema() });
      } finally {
        pg.defaults.parseInt8 = parseInt8!;
        for (const [oid, parse] of parsers) pg.types.setTypeParser(oid, parse as never);
      }
    });

    test('where a client ignores that it shall not parse, as the native one of pg does', async () => {
      const pool = new pg.Pool({ connectionString: server.url, max: 3 });
      const connect = pool.connect.bind(pool) as () => Promise<pg.PoolClient>;
      const known = new WeakSet<object>();
      Object.assign(pool, {
        async connect() {
          const client = await connect();
          if (known.has(client)) return client;
          known.add(client);
          const query = client.query.bind(client) as (query: unknown) => unknown;
          const withoutTypes = (asked: object | string) =>
            query(typeof asked === 'string' ? asked : { ...asked, types: undefined });
          return Object.assign(client, { query: withoutTypes });
        },
      });
      await expectAllIsRight({ pool: pool as PgPoolLike, schema: schema() });
      await pool.end();
    });
  });

  describe('refuses when it is opened', () => {
    test.each([
      ['default_transaction_read_only', 'on', /default_transaction_read_only is on.*ALTER ROLE/],
      ['session_replication_role', 'replica', /session_replication_role is replica.*ALTER ROLE/],
    ])('a role with %s = %s', async (name, value, message) => {
      const url = await asRole([name, value]);
      await expect(openPostgres({ url, schema: schema() })).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringMatching(message),
      });
    });

    test('a client in the place of a pool', async () => {
      const client = new pg.Client({ connectionString: server.url });
      await expect(openPostgres({ pool: client as unknown as PgPoolLike, schema: schema() })).rejects.toThrow(
        new TypeError(
          'postgres: pool must be a Pool of pg, or what works like one; a Client is one connection: new pg.Pool({ … })',
        ),
      );
      for (const pool of [{}, 'postgres://localhost', null]) {
        await expect(openPostgres({ pool: pool as unknown as PgPoolLike })).rejects.toThrow(/pool must be a Pool/);
      }
    });

    test('a pool that has no second connection, and that cannot be asked for one apart', async () => {
      const pool = new pg.Pool({ connectionString: server.url, max: 1 });
      const connect = () => pool.connect() as unknown as ReturnType<PgPoolLike['connect']>;
      const wrapped: PgPoolLike = { connect, on: pool.on.bind(pool), off: pool.off.bind(pool) } as PgPoolLike;
      const own = { pool: wrapped, schema: schema(), connectTimeoutMs: 150 };
      await expect(openPostgres(own)).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringMatching(/one connection of the pool is kept for events.*at least 2.*listenUrl/),
      });
      await expect.poll(() => pool.waitingCount).toBe(0);
      await expectAllIsRight({ ...own, listenUrl: server.url });
      await pool.end();
    });

    test.each(['url', 'listenUrl'])('a %s that is no address, without telling its password', async option => {
      const bad = { [option]: 'postgres://shop:topsecret@localhost:99999/sessions' };
      const failed: Error = await openPostgres({ url: server.url, ...bad, schema: schema() }).catch(error => error);
      expect(failed).toBeInstanceOf(TypeError);
      expect(failed.message).toMatch(new RegExp(`postgres: ${option}.*localhost:99999/sessions.*write postgres://`));
      expect(inspect(failed, { depth: 9 })).not.toContain('topsecret');
    });

    test('an address for events that leads elsewhere', async () => {
      await server.query('CREATE DATABASE elsewhere');
      const listenUrl = server.url.replace(/postgres$/, 'elsewhere');
      const own = { url: server.url, listenUrl, schema: schema(), connectTimeoutMs: 500 };
      await expect(openPostgres(own)).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringMatching(/events do not arrive.*127\.0\.0\.1:\d+\/elsewhere.*same database/),
      });
    });
  });

  describe('a pool that the user brings', () => {
    test.each([
      ['of one connection', { max: 1 }],
      ['of two', { max: 2 }],
      ['that replaces each connection after one use', { max: 1, maxUses: 1 }],
      ['whose connections have a short life', { max: 1, maxLifetimeSeconds: 1 }],
      ['that keeps some, and lets the process end', { max: 3, min: 2, allowExitOnIdle: true }],
    ])('%s is enough', async (_what, options) => {
      const pool = new pg.Pool({ connectionString: server.url, ...options });
      await expectAllIsRight({ pool: pool as PgPoolLike, schema: schema() });
      expect(pool.waitingCount).toBe(0);
      await pool.end();
    });

    test('still brings events when the application holds all its connections', async () => {
      const pool = new pg.Pool({ connectionString: server.url, max: 1 });
      const own = schema();
      const [mine, other] = [
        await openPostgres({ pool: pool as PgPoolLike, schema: own, connectTimeoutMs: 200 }),
        await openPostgres({ url: server.url, schema: own }),
      ];
      const held = await pool.connect();
      const told: string[] = [];
      await mine.ledger.subscribe('c', message => told.push(message));
      await other.ledger.publish('c', 'hello');
      await expect.poll(() => told).toEqual(['hello']);
      await expect(mine.store.count()).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        cause: { message: expect.stringMatching(/no connection within 200 ms.*pool/) },
      });
      held.release();
      expect(await mine.store.count()).toBe(0);
      await Promise.all([mine.close(), other.close()]);
      await pool.end();
    });
  });

  test('warns of transactions that are not read committed only where it cannot set that', async () => {
    const warnings: string[] = [];
    const nothing = () => {};
    const warn = (_fields: object, message: string) => void warnings.push(message);
    const logger = { debug: nothing, info: nothing, warn, error: nothing } as unknown as Logger;
    const url = await asRole(['default_transaction_isolation', 'serializable']);
    await expectAllIsRight({ url, schema: schema(), logger });
    expect(warnings.filter(text => text.includes('isolation'))).toEqual([]);
    const pool = new pg.Pool({ connectionString: url });
    await expectAllIsRight({ pool: pool as PgPoolLike, schema: schema(), logger });
    await pool.end();
    expect(warnings.filter(text => text.includes('isolation'))).toHaveLength(1);
  });
});
