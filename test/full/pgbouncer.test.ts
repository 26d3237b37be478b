import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer } from '../../src/index.ts';
import { openPostgres, type PgPoolLike } from '../../src/session/stores/postgres.ts';
import { pgbouncerMissing, startPgBouncer } from '../services/pgbouncer.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';

const why = pgbouncerMissing ?? postgresMissing;

describe.skipIf(why)(`behind PgBouncer${why ? ` (skipped: ${why})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  let count = 0;
  const schema = () => `b${count++}`;
  const keys = [Buffer.alloc(32, 7)];

  /** A server as its user starts it: what a visitor's second request reads of the first. */
  async function visitTwice(store: object): Promise<{ status: number; body: string }> {
    const served = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store, keyFiles: [await keyFile()] } as never,
      routes: [
        {
          path: '/',
          session: 'create',
          async fetch(_request, { session }) {
            const before = session!.get('bytes') as Uint8Array | undefined;
            session!.set('bytes', new Uint8Array([0, 0x5c, 0xff]));
            return new Response(String(before));
          },
        },
      ],
    });
    await served.start();
    try {
      const first = await fetch(served.urls[0]!);
      const cookie = first.headers
        .getSetCookie()
        .map(line => line.split(';')[0])
        .join('; ');
      const second = await fetch(served.urls[0]!, { headers: { cookie } });
      return { status: second.status, body: await second.text() };
    } finally {
      await served.stop();
    }
  }

  async function keyFile(): Promise<string> {
    const { mkdtemp, writeFile } = await import('node:fs/promises');
    const { tmpdir } = await import('node:os');
    const folder = await mkdtemp(`${tmpdir()}/holdfast-key-`);
    await writeFile(`${folder}/session.key`, keys[0]!.toString('base64'));
    return `${folder}/session.key`;
  }

  test.each([
    ['as it is installed', {}],
    ['with every value in the other format', { settings: 'bytea_output = escape' }],
  ])(
    'in session mode a server works with the address alone, %s',
    async (_what, { settings }: { settings?: string }) => {
      if (settings) await server.query('ALTER DATABASE postgres SET bytea_output = escape');
      await using pooler = await startPgBouncer(server, { pool_mode: 'session' });
      expect(await visitTwice({ url: pooler.url, schema: schema() })).toEqual({ status: 200, body: '0,92,255' });
      await server.query('ALTER DATABASE postgres RESET bytea_output');
    },
  );

  test('in session mode events arrive, and what we set reaches nobody else', async () => {
    await using pooler = await startPgBouncer(server, { pool_mode: 'session' });
    const own = { url: pooler.url, schema: schema(), notify: true };
    const [one, other] = [await openPostgres(own), await openPostgres(own)];
    const told: string[] = [];
    await one.store.watch!(sid => told.push(sid));
    await one.ledger.subscribe('c', message => told.push(message));
    await other.ledger.publish('c', 'hello');
    await other.store.create('s1', {
      header: { secretHash: 'h', createdAt: 1 },
      version: 1,
      lastAccessedAt: 1,
      attributes: new Map(),
    });
    await other.store.delete('s1');
    await expect.poll(() => told).toEqual(['hello', 's1']);
    await Promise.all([one.close(), other.close()]);
    const client = new pg.Client({ connectionString: pooler.url });
    await client.connect();
    expect((await client.query('SHOW search_path')).rows).toEqual([{ search_path: '"$user", public' }]);
    expect((await client.query('SHOW statement_timeout')).rows).toEqual([{ statement_timeout: '0' }]);
    await client.end();
  });

  test.each([
    ['transaction', {}],
    ['transaction', { server_round_robin: '1', min_pool_size: '3' }],
    ['transaction', { default_pool_size: '1' }],
    ['statement', {}],
  ])('in %s mode it is refused with what to do, and nothing stays set there: %j', async (mode, settings) => {
    await using pooler = await startPgBouncer(server, { pool_mode: mode, ...settings });
    const pool = new pg.Pool({ connectionString: pooler.url, max: 1 });
    for (const place of [{ url: pooler.url }, { pool: pool as PgPoolLike }]) {
      await expect(openPostgres({ ...place, schema: schema() })).rejects.toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        message: expect.stringMatching(/transaction or statement mode.*transactionPooler: true.*listenUrl/),
      });
    }
    await pool.end();
    const client = new pg.Client({ connectionString: pooler.url });
    await client.connect();
    for (const setting of ['search_path', 'statement_timeout', 'lock_timeout']) {
      const [row] = (await client.query(`SELECT setting, reset_val FROM pg_settings WHERE name = '${setting}'`)).rows;
      expect(row.setting).toBe(row.reset_val);
    }
    await client.end();
  });

  test('in transaction mode it works with transactionPooler and listenUrl', async () => {
    await using pooler = await startPgBouncer(server, { pool_mode: 'transaction', default_pool_size: '2' });
    const store = { url: pooler.url, transactionPooler: true, listenUrl: server.url, schema: schema() };
    expect(await visitTwice(store)).toEqual({ status: 200, body: '0,92,255' });
  });

  test('in transaction mode a listenUrl that leads to the pooler is refused, for no event arrives', async () => {
    await using pooler = await startPgBouncer(server, { pool_mode: 'transaction' });
    const own = { url: pooler.url, transactionPooler: true, listenUrl: pooler.url, schema: schema() };
    await expect(openPostgres({ ...own, connectTimeoutMs: 700 })).rejects.toMatchObject({
      code: 'ERR_SESSION_STORE_UNAVAILABLE',
      message: expect.stringMatching(/events do not arrive.*listenUrl to the server itself/),
    });
  });

  test('a pooler that has one connection for us is refused: it says how many there must be', async () => {
    await using pooler = await startPgBouncer(server, { pool_mode: 'session', default_pool_size: '1' });
    await expect(openPostgres({ url: pooler.url, schema: schema(), connectTimeoutMs: 700 })).rejects.toMatchObject({
      code: 'ERR_SESSION_STORE_UNAVAILABLE',
      message: expect.stringMatching(/no second connection at the same time.*at least 2/),
    });
  });
});
