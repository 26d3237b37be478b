import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  openPostgres,
  type PgPoolLike,
  type Postgres,
  type PostgresOptions,
} from '../../src/session/stores/postgres.ts';
import { closing } from '../services/closing.ts';
import { type PostgresServer, postgresMissing, startPostgres } from '../services/postgres-server.ts';

const NOW = Date.UTC(2026, 0, 1);
const UNAVAILABLE = { code: 'ERR_SESSION_STORE_UNAVAILABLE', status: 503, closeCode: 1013 };

function record() {
  const header = { secretHash: 'hash', createdAt: NOW, idleTimeoutMs: 60_000 };
  return { header, version: 1, lastAccessedAt: NOW, attributes: new Map() };
}

/** What stands between a store and its server: can fall silent, as a network does whose cable is pulled. */
async function createLink(port: number) {
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server = createServer(near => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', chunk => isSilent || to.write(chunk));
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        if (!isSilent) to.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as { port: number }).port,
    /** Nothing passes any more, and nobody is told; connections made now pass nothing either. */
    silence() {
      isSilent = true;
    },
    /** What is connected from now on works. */
    mend() {
      isSilent = false;
      for (const socket of sockets) socket.destroy();
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Less than the 2 s that a call may take by default, and enough for a busy machine. */
const ENDS_SOON = 1_800;

async function timed(call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await expect(call()).rejects.toMatchObject(UNAVAILABLE);
  return performance.now() - start;
}

describe.skipIf(postgresMissing)(
  `postgres${postgresMissing ? ` (skipped: ${postgresMissing})` : ''} in an outage`,
  () => {
    let server: PostgresServer;
    beforeAll(async () => {
      // Its data must survive a kill of the server, not one of the machine: fsync may be off.
      server = await startPostgres();
    }, 60_000);
    afterAll(() => server?.stop());

    const opened = closing<Postgres>();
    let schemas = 0;
    async function open(options: PostgresOptions = { url: server.url }): Promise<Postgres> {
      const postgres = await openPostgres({ schema: `s${schemas++}`, notify: true, poolSize: 5, ...options });
      opened.push(postgres);
      return postgres;
    }

    test('refuses at once while the server is down, and works again when it is back', async () => {
      const { store, ledger } = await open();
      const told: string[] = [];
      const heard: string[] = [];
      const feed = await store.watch!(sid => told.push(sid));
      await ledger.subscribe('c', message => heard.push(message));
      await store.create('s1', record());
      await ledger.putIfAbsent('k', 'v', 60_000);
      expect(feed.isCurrent).toBe(true);
      const { gaps } = feed;

      await server.kill();
      const calls: readonly (() => Promise<unknown>)[] = [
        () => store.read('s1'),
        () => store.glance('s1'),
        () => store.commit('s1', { header: { secretHash: 'x' } }),
        () => store.create('s2', record()),
        () => store.delete('s1'),
        () => store.touch(new Map([['s1', NOW + 1]])),
        () => store.expired(NOW, 1),
        () => store.sidsOf('ann'),
        () => store.sids()[Symbol.asyncIterator]().next(),
        () => store.count(),
        () => ledger.get('k'),
        () => ledger.putIfAbsent('k2', 'v', 1_000),
        () => ledger.take('k'),
        () => ledger.increment('n', 1, 1_000),
        () => ledger.publish('c', 'lost'),
        () => ledger.subscribe('d', () => {}),
        () => store.watch!(() => {}),
      ];
      for (const call of calls) expect(await timed(call), String(call)).toBeLessThan(ENDS_SOON);
      expect(feed.isCurrent).toBe(false);
      expect(feed.gaps).toBeGreaterThan(gaps);

      await server.start();
      expect((await store.read('s1'))!.version).toBe(1);
      expect(await ledger.get('k')).toBe('v');
      await expect.poll(() => feed.isCurrent).toBe(true);
      expect((await store.commit('s1', { header: { secretHash: 'x' } })).status).toBe('committed');
      await ledger.publish('c', 'back');
      await expect.poll(() => [...told, ...heard]).toEqual(['s1', 'back']);
    });

    test('survives the end of all its connections, and reads without an error', async () => {
      const { store, ledger } = await open();
      const told: string[] = [];
      const feed = await store.watch!(sid => told.push(sid));
      await store.create('s1', record());
      let version = 1;
      for (let round = 0; round < 3; round++) {
        await Promise.all(Array.from({ length: 10 }, () => store.glance('s1'))); // every connection is in use
        const { gaps } = feed;
        const { interruptions } = store;
        await server.query(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name LIKE $1',
          ['holdfast:%'],
        );
        const header = { secretHash: `x${round}` };
        expect((await store.read('s1'))!.version).toBe(version);
        await expect.poll(() => feed.isCurrent && feed.gaps > gaps).toBe(true);
        expect(store.interruptions).toBeGreaterThan(interruptions);
        const result = await store.commit('s1', { header, follows: version });
        expect(result).toEqual({ status: 'committed', version: ++version, previous: version - 1 });
        expect(await ledger.increment('n', 1, 60_000)).toBe(round + 1);
        await expect.poll(() => told.splice(0)).toEqual(['s1']);
      }
    });

    test('notices a silent connection: calls end after their time, and the feed says so within a second', async () => {
      const link = await createLink(server.port);
      const url = `postgres://holdfast@127.0.0.1:${link.port}/postgres`;
      const { store } = await open({ url, queryTimeoutMs: 400, connectTimeoutMs: 300 });
      const told: string[] = [];
      const feed = await store.watch!(sid => told.push(sid));
      await store.create('s1', record());
      const { gaps } = feed;

      link.silence();
      const took = await Promise.all([
        timed(() => store.read('s1')),
        timed(() => store.commit('s1', { header: { secretHash: 'x' } })),
      ]);
      for (const ms of took) expect(ms).toBeLessThan(ENDS_SOON);
      expect(await timed(() => store.glance('s1')), 'when no connection can be made').toBeLessThan(ENDS_SOON);
      await expect.poll(() => feed.isCurrent).toBe(false);
      await expect.poll(() => feed.gaps).toBeGreaterThan(gaps);

      link.mend();
      await expect.poll(() => feed.isCurrent).toBe(true);
      expect((await store.commit('s1', { header: { secretHash: 'y' } })).status).toBe('committed');
      await expect.poll(() => told).toEqual(['s1']);
      link.close();
    });

    test('says within a second of silence that the feed is not current', async () => {
      const link = await createLink(server.port);
      const { store } = await open({ url: `postgres://holdfast@127.0.0.1:${link.port}/postgres` });
      const feed = await store.watch!(() => {});
      for (let round = 0; round < 3; round++) {
        await expect.poll(() => feed.isCurrent).toBe(true);
        await new Promise(resolve => setTimeout(resolve, 200 * round)); // wherever between two signs of life
        link.silence();
        await new Promise(resolve => setTimeout(resolve, 1_500)); // half a second for a busy machine
        expect(feed.isCurrent).toBe(false);
        link.mend();
      }
      link.close();
    });

    test('gives up on a server that accepts and says nothing', async () => {
      const mute = createServer(() => {}).listen(0, '127.0.0.1');
      await once(mute, 'listening');
      const { port } = mute.address() as { port: number };
      const url = `postgres://holdfast@127.0.0.1:${port}/postgres`;
      expect(await timed(() => openPostgres({ url, connectTimeoutMs: 200 }))).toBeLessThan(ENDS_SOON);
      mute.close();
    });

    test('ends the process neither with its own pool nor with a brought one', async () => {
      const pool = new pg.Pool({ connectionString: server.url, max: 3, application_name: 'holdfast' });
      const { store } = await open({ pool: pool as PgPoolLike });
      await store.watch!(() => {});
      await Promise.all(Array.from({ length: 6 }, () => store.count()));
      await server.kill();
      expect(await timed(() => store.count())).toBeLessThan(ENDS_SOON);
      await server.start();
      expect(await store.count()).toBe(0);
      await opened.pop()!.close();
      await pool.end();
    });
  },
);
