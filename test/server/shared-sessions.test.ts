import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { testClient } from 'holdfast/testing';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';

let folder: string;
const stoppers: (() => Promise<unknown>)[] = [];
const servers: Server[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-shared-'));
  await writeFile(join(folder, 'key'), `${'k'.repeat(43)}\n`);
});
afterEach(() => Promise.all(servers.splice(0).map(server => server.stop())));
afterAll(async () => {
  await Promise.all(stoppers.map(stop => stop()));
  await rm(folder, { recursive: true });
});

/** A server of several that share a store: `/in` signs in, `/who` says who is, `/out` ends the session. */
async function startServer(store: string, coherence: 'strict' | 'relaxed'): Promise<{ server: Server; url: string }> {
  const endpoint = defineEndpoint({
    path: '/socket',
    onMessage: connection => void connection.send(String(connection.session?.id)),
  });
  const server: Server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store, keyFiles: [join(folder, 'key')], coherence },
      routes: [
        { endpoint },
        {
          path: '/:verb',
          fetch: async (request, { params }) => {
            if (params.verb === 'in') {
              const session = await server.sessions.signIn(request, { name: 'ann', roles: [] });
              return new Response(session.id);
            }
            const session = await server.sessions.get(request);
            if (params.verb === 'out') await session?.invalidate();
            return new Response(session && params.verb === 'who' ? session.owner?.name : 'nobody');
          },
        },
      ],
      log: { access: 'off' },
    },
    { logger: silentLogger },
  );
  servers.push(server);
  await server.start();
  return { server, url: server.urls[0]!.replace(/\/$/, '').replace('localhost', '127.0.0.1') };
}

describe.each([
  { name: 'lmdb', missing: undefined, open: async () => `lmdb:${await mkdtemp(join(folder, 'lmdb-'))}` },
  {
    name: 'redis',
    missing: redisIsMissing,
    open: async () => {
      const redis = await startRedis();
      stoppers.push(() => redis.stop());
      return redis.url;
    },
  },
  {
    name: 'postgres',
    missing: postgresMissing,
    open: async () => {
      const postgres = await startPostgres();
      stoppers.push(() => postgres.stop());
      return postgres.url;
    },
  },
])('two servers with sessions in $name', ({ missing, open }) => {
  let store: string;
  beforeAll(async () => {
    if (!missing) store = await open();
  });

  test.skipIf(missing).each(['strict', 'relaxed'] as const)(
    'know the same sessions and end them together (%s)',
    async coherence => {
      const [first, second] = [await startServer(store, coherence), await startServer(store, coherence)];
      const answer = await fetch(`${first.url}/in`);
      const cookie = answer.headers.getSetCookie()[0]!.split(';')[0]!;
      const headers = { cookie };
      expect(await (await fetch(`${second.url}/who`, { headers })).text()).toBe('ann');
      const socket = await testClient(`${first.url.replace('http', 'ws')}/socket`, {
        headers: { ...headers, origin: first.url },
      });
      socket.send('?');
      expect(await socket.receive()).toBe(await answer.text());
      const closed = socket.closed;
      const endedAt = performance.now();
      await fetch(`${second.url}/out`, { headers });
      expect(await closed).toMatchObject({ code: 1008 });
      // Told by the other process: without that it would find out after 5 s.
      expect(performance.now() - endedAt).toBeLessThan(4_000);
      expect(await (await fetch(`${first.url}/who`, { headers })).text()).toBe('nobody');
    },
  );
});
