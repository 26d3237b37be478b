import { setTimeout as wait } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PostgresLedger } from '../../../src/session/stores/postgres.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { ledgerConformance } from '../../../src/testing/ledger-conformance.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../../services/postgres-server.ts';

describe.skipIf(postgresMissing)(`postgres${postgresMissing ? ` (skipped: ${postgresMissing})` : ''}`, () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  let schemas = 0;
  const options = () => ({ url: server.url, schema: `s${schemas++}`, poolSize: 5 });

  ledgerConformance(
    'postgres',
    async () => {
      const own = options();
      return {
        ledger: await PostgresLedger.open(own),
        second: await PostgresLedger.open(own),
        advance: ms => wait(ms),
      };
    },
    { describe, test },
  );

  test('removes facts whose time is over from the table, in batches, and keeps the others', async () => {
    const own = options();
    const clock = new FakeClock();
    const ledger = await PostgresLedger.open({ ...own, clock });
    await ledger.putIfAbsent('kept', 'v', 60_000);
    await server.query(`
      INSERT INTO ${own.schema}.facts SELECT 'old' || n, '1', now() - interval '1 second' FROM generate_series(1, 2500) n
    `);
    await clock.advance(90_000);
    const keys = () => server.query(`SELECT key FROM ${own.schema}.facts`);
    await expect.poll(keys).toEqual([{ key: 'kept' }]);
    await server.query(`INSERT INTO ${own.schema}.facts VALUES ('old', '1', now() - interval '1 second')`);
    await clock.advance(90_000);
    await expect.poll(keys).toEqual([{ key: 'kept' }]);
    await ledger.close();
  });

  test('tells equal messages as often as they were published', async () => {
    const ledger = await PostgresLedger.open(options());
    const heard: string[] = [];
    await ledger.subscribe('c', message => heard.push(message));
    await Promise.all(Array.from({ length: 5 }, () => ledger.publish('c', 'again')));
    await expect.poll(() => heard).toEqual(Array.from({ length: 5 }, () => 'again'));
    await ledger.close();
  });

  test('is not confused by what others notify on its channels', async () => {
    const own = options();
    const ledger = await PostgresLedger.open(own);
    const heard: string[] = [];
    await ledger.subscribe('c', message => heard.push(message));
    const [row] = await server.query(`SELECT query FROM pg_stat_activity WHERE query LIKE 'LISTEN "${own.schema}.%'`);
    const channel = /"(.*)"/.exec((row as { query: string } | undefined)?.query ?? '')?.[1] ?? '';
    for (const payload of ['', 'x', 'a 0 {', 'a 0 7', 'a 3 "half', 'b 0 alf"']) {
      await server.query('SELECT pg_notify($1, $2)', [channel || `${own.schema}.x`, payload]);
    }
    await ledger.publish('c', 'ours');
    await expect.poll(() => heard).toEqual(['ours']);
    await ledger.close();
  });

  test('refuses to count on a text that is no number, and keeps it', async () => {
    const ledger = await PostgresLedger.open(options());
    await ledger.putIfAbsent('text', 'secret words', 60_000);
    await ledger.putIfAbsent('digits', '41', 60_000);
    const error = await ledger.increment('text', 1, 60_000).catch(reason => reason as Error);
    expect(error).toBeInstanceOf(TypeError);
    expect(inspect(error)).not.toContain('secret words');
    expect(await ledger.get('text')).toBe('secret words');
    expect(await ledger.increment('digits', 1, 60_000)).toBe(42);
    expect(await ledger.get('digits')).toBe('42');
    await ledger.close();
  });
});
