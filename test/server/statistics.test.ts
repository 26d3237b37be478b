import { afterEach, expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { createServer, type Server } from '../../src/server/server.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';

const clock = new FakeClock();
const running: Server[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop({ drain: 0 });
});

async function start(config: Config): Promise<Server> {
  const server = createServer(
    { listen: [{ host: '127.0.0.1', port: 0 }], log: { access: 'off' }, ...config },
    { clock },
  );
  await server.start();
  running.push(server);
  return server;
}

const page = { path: '/page', session: 'create', fetch: () => new Response() } as const;
const visit = async (server: Server, path: string, cookie = '') => {
  const answer = await fetch(new URL(path, server.urls[0]), { headers: { cookie } });
  await answer.text();
  return answer.headers.getSetCookie()[0]?.split(';')[0];
};

test('a server counts all its sessions together, its own, and those of each mounted application', async () => {
  const shop = { routes: [page], session: { store: 'memory:' } };
  const server = await start({ routes: [page, { mount: '/shop', application: shop }], session: { store: 'memory:' } });
  for (const path of ['/page', '/page', '/shop/page']) await visit(server, path);
  await clock.advance(60_000);
  await visit(server, '/shop/page');
  const { statistics, history, contexts } = server.statistics();
  expect(statistics).toMatchObject({ created: 4, liveNow: 4, writes: { count: 4 } });
  expect(history.map(({ created, live }) => [created, live.last])).toEqual([
    [3, 3],
    [1, 4],
  ]);
  expect(Object.keys(contexts)).toEqual(['/', '/shop']);
  expect(contexts['/']).toMatchObject({ statistics: { created: 2 }, history: [{ created: 2 }, { created: 0 }] });
  expect(contexts['/shop']).toMatchObject({ statistics: { created: 2 }, history: [{ created: 1 }, { created: 1 }] });
  expect(contexts['/shop']!.statistics).toEqual(server.sessionsOf('/shop').statistics());
  expect(contexts['/']!.history).toEqual(server.sessions.history());
});

test('applications that have one manager are counted once', async () => {
  const session = new SessionManager({ store: new MemoryStore(), keys: [new Uint8Array(32)] });
  const routes = [page, { mount: '/shop', application: { routes: [page], session } }];
  const server = await start({ routes, session });
  for (const path of ['/page', '/shop/page']) await visit(server, path);
  const { statistics, contexts } = server.statistics();
  expect([statistics.created, contexts['/']!.statistics.created, contexts['/shop']!.statistics.created]).toEqual([
    2, 2, 2,
  ]);
  await server.stop({ drain: 0 });
  await session.close();
});

test('a server without sessions has counters that are 0', async () => {
  const server = await start({ session: false });
  expect(server.statistics()).toMatchObject({ statistics: { created: 0, slowest: [] }, history: [], contexts: {} });
});

test('two servers that share store and ledger have one sum', async () => {
  const [store, ledger, keyFiles] = [new MemoryStore(), new MemoryLedger(), undefined];
  const config = { routes: [page], session: { store, ledger, keyFiles } } as unknown as Config;
  const [one, two] = [await start(config), await start(config)];
  const cookie = await visit(one, '/page');
  for (let turn = 0; turn < 4; turn++) await visit(turn % 2 === 0 ? two : one, '/page', cookie);
  const { sum, processes } = await one.sessions.statisticsOfAll();
  expect(sum).toMatchObject({ created: 1, affinityBreaks: 4 });
  expect(processes.map(({ statistics }) => statistics.affinityBreaks)).toEqual([2, 2]);
});
