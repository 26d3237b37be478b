import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer } from '../../src/index.ts';
import { openPostgres, type PgPoolLike } from '../../src/session/stores/postgres.ts';
import { createAuthority, createCertificate } from '../self-signed-certificate.ts';
import { pgbouncerMissing, startPgBouncer } from '../services/pgbouncer.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';

const PASSWORD = 'p@ss/w?rd:';

describe.skipIf(postgresMissing)(`PostgreSQL by TLS${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-postgres-tls-'));
  const authority = createAuthority('the database');
  const ca = join(folder, 'ca.pem');
  let server: PostgresServer;
  let address: string;
  beforeAll(async () => {
    writeFileSync(ca, authority.certificate);
    writeFileSync(join(folder, 'session.key'), 'k'.repeat(43));
    server = await startPostgres(undefined, createCertificate({ name: 'localhost', authority }));
    await server.query(`CREATE ROLE secure SUPERUSER LOGIN PASSWORD '${PASSWORD}'`);
    address = `postgres://secure:${encodeURIComponent(PASSWORD)}@localhost:${server.port}/postgres`;
  }, 60_000);
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  let count = 0;
  const schema = () => `t${count++}`;
  const connections = () =>
    server.query(`SELECT ssl, count(*)::int AS count FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE usename = 'secure' GROUP BY ssl`);

  /** Events pass, and every connection, that for events too, is encrypted. */
  async function expectEncrypted(options: object): Promise<void> {
    const { store, ledger, close } = await openPostgres({ ...options, schema: schema() });
    const told: string[] = [];
    await ledger.subscribe('c', message => told.push(message));
    await ledger.publish('c', 'hello');
    await expect.poll(() => told).toEqual(['hello']);
    expect(await store.count()).toBe(0);
    expect(await connections()).toEqual([{ ssl: true, count: 2 }]);
    await close();
  }

  test('a server keeps its sessions, with the authority in the address', async () => {
    const url = `${address}?sslmode=verify-full&sslrootcert=${ca}`;
    const served = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store: { url, schema: schema() }, keyFiles: [join(folder, 'session.key')] },
      routes: [
        {
          path: '/',
          session: 'create',
          fetch: async (_request, { session }) =>
            new Response(String(await session!.update('n', n => Number(n ?? 0) + 1))),
        },
      ],
    });
    await served.start();
    const first = await fetch(served.urls[0]!);
    const cookie = first.headers.getSetCookie()[0]!.split(';')[0]!;
    expect(await (await fetch(served.urls[0]!, { headers: { cookie } })).text()).toBe('2');
    expect(await connections()).toEqual([{ ssl: true, count: expect.any(Number) }]);
    await served.stop();
  });

  test('events too, by an address, by a pool of one connection, and by an address of their own', async () => {
    const url = `${address}?sslmode=verify-full&sslrootcert=${ca}`;
    await expectEncrypted({ url });
    const ssl = { ca: authority.certificate };
    const { port } = server;
    const password = async () => PASSWORD;
    const pool = new pg.Pool({ host: 'localhost', port, database: 'postgres', user: 'secure', password, ssl, max: 1 });
    await expectEncrypted({ pool: pool as PgPoolLike });
    await expectEncrypted({ pool: pool as PgPoolLike, listenUrl: url });
    await pool.end();
  });

  test('a server of another authority, and an address without TLS, are refused, and no password is told', async () => {
    for (const [query, why] of [
      ['?sslmode=verify-full', /verify|self.signed/],
      ['', /no pg_hba.conf entry|rejects connection/],
    ] as const) {
      const failed: Error & { cause?: Error } = await openPostgres({ url: address + query, schema: schema() }).catch(
        error => error,
      );
      expect(failed).toMatchObject({
        code: 'ERR_SESSION_STORE_UNAVAILABLE',
        cause: { message: expect.stringMatching(why) },
      });
      expect(failed.message + failed.cause!.message).not.toMatch(/p@ss|p%40ss/);
    }
  });

  test.skipIf(pgbouncerMissing)('so does PgBouncer in session mode, with a certificate of its own', async () => {
    const files = createCertificate({ name: 'localhost', authority });
    const key = join(folder, 'pooler.key');
    writeFileSync(key, files.key, { mode: 0o644 });
    writeFileSync(join(folder, 'pooler.crt'), files.certificate);
    const { chmodSync } = await import('node:fs');
    chmodSync(folder, 0o755);
    await using pooler = await startPgBouncer(server, {
      pool_mode: 'session',
      client_tls_sslmode: 'require',
      client_tls_key_file: key,
      client_tls_cert_file: join(folder, 'pooler.crt'),
    });
    const { store, close } = await openPostgres({
      url: `${pooler.url}?sslmode=verify-full&sslrootcert=${ca}`,
      schema: schema(),
    });
    expect(await store.count()).toBe(0);
    await close();
  });
});
