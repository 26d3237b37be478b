import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';

/** A server of sessions that can be killed and started again with what it has acknowledged. */
interface Service {
  readonly url: string;
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

describe.each([
  {
    name: 'redis',
    missing: redisIsMissing,
    start: async (): Promise<Service> => startRedis({ appendonly: 'yes', appendfsync: 'always' }),
  },
  {
    name: 'postgres',
    missing: postgresMissing,
    start: async (): Promise<Service> => {
      const server = await startPostgres();
      return {
        url: server.url,
        kill: () => server.kill(),
        restart: () => server.start(),
        stop: () => server.stop(),
      };
    },
  },
])('while $name is away', ({ missing, start }) => {
  let folder: string;
  let service: Service;
  let server: Server;
  let url: string;
  let cookie: string;

  beforeAll(async () => {
    if (missing) return;
    folder = await mkdtemp(join(tmpdir(), 'holdfast-outage-'));
    await writeFile(join(folder, 'key'), 'k'.repeat(43));
    service = await start();
    server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: { store: service.url, keyFiles: [join(folder, 'key')] },
        routes: [
          { path: '/plain', session: 'none', fetch: () => new Response('plain') },
          {
            path: '/',
            fetch: async request => {
              const session = await server.sessions.open(request);
              return new Response(session.id);
            },
          },
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    url = server.urls[0]!;
  });
  afterAll(async () => {
    if (missing) return;
    await server.stop({ drain: 0 });
    await service.stop();
    await rm(folder, { recursive: true });
  });

  test.skipIf(missing)(
    'clients get 503 at once and are never taken for strangers, and all goes on when it is back',
    async () => {
      const first = await fetch(url);
      const sid = await first.text();
      cookie = first.headers.getSetCookie()[0]!.split(';')[0]!;
      await service.kill();
      for (const headers of [{ cookie }, {}] as Record<string, string>[]) {
        const askedAt = performance.now();
        const answer = await fetch(url, { headers });
        expect(performance.now() - askedAt).toBeLessThan(4_500); // a call may take 5 s
        expect(answer.status).toBe(503);
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
        expect(answer.headers.getSetCookie()).toEqual([]);
      }
      expect(await (await fetch(new URL('/plain', url))).text()).toBe('plain');
      await service.restart();
      const back = async () => (await fetch(url, { headers: { cookie } })).text();
      await expect.poll(back, { timeout: 10_000, interval: 100 }).toBe(sid);
    },
  );
});
