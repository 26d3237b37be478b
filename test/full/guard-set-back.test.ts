import { testClient } from 'holdfast/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { postgresMissing, startPostgres } from '../services/postgres-server.ts';
import { redisIsMissing, startRedis } from '../services/redis-server.ts';

const application = `
const owner = { name: 'ann', roles: [] };
const socket = defineEndpoint({
  path: '/socket',
  onMessage: connection => void connection.send(JSON.stringify([connection.session?.owner?.name, connection.session?.get('value')])),
});
const handle = async (request, { session, params }) => {
  const to = new URL(request.url).searchParams.get('to');
  if (params.verb === 'login') await session?.renew({ owner });
  if (to) session?.set('value', to);
  return Response.json([session?.owner?.name, session?.get('value')]);
};
export default defineConfig({
  listen,
  session: { store: process.env.STORE, keyFiles: ['key'], cookie: { name: 'sid' } },
  routes: [
    { endpoint: socket },
    { path: '/in/:verb', session: 'create', fetch: handle },
    { path: '/:verb', session: 'existing', fetch: handle },
  ],
  log: { access: 'off' },
});`;

/** A store of which the latest writes can be lost. */
interface Losable {
  readonly url: string;
  readonly missing: string | undefined;
  /** What is there now is what will be there after `lose`. */
  keep(): Promise<void>;
  lose(): Promise<void>;
  stop(): Promise<void>;
}

const NOTHING = [null, null];

/** The master dies before its replica has the latest writes, which takes its place at the same address. */
async function failover(): Promise<Losable> {
  const redis = await startRedis({ dbfilename: 'kept.rdb' });
  return {
    url: redis.url,
    missing: undefined,
    keep: async () => void (await redis.cli('SAVE')),
    async lose() {
      await redis.kill();
      await redis.restart();
    },
    stop: () => redis.stop(),
  };
}

/** Its tables are restored while the processes run and stay connected. */
async function restore(): Promise<Losable> {
  const postgres = await startPostgres();
  const tables = ['sessions', 'accesses', 'attributes'];
  return {
    url: postgres.url,
    missing: undefined,
    async keep() {
      for (const table of tables) await postgres.query(`DROP TABLE IF EXISTS kept_${table}`);
      for (const table of tables) await postgres.query(`CREATE TABLE kept_${table} AS TABLE holdfast.${table}`);
    },
    async lose() {
      await postgres.query(
        `DO $$ BEGIN TRUNCATE holdfast.sessions CASCADE; ${tables
          .map(table => `INSERT INTO holdfast.${table} TABLE kept_${table};`)
          .join(' ')} END $$`,
      );
    },
    stop: () => postgres.stop(),
  };
}

describe.each([
  ['a redis that has failed over without the latest writes', redisIsMissing, failover],
  ['a postgres whose backup was restored', postgresMissing, restore],
] as const)('two processes on %s', (_, missing, open) => {
  let store: Losable;
  let served: Served[];
  beforeAll(async () => {
    if (missing) return;
    store = await open();
    const options = { files: { key: 'k'.repeat(43) }, env: { STORE: store.url } };
    served = await Promise.all([Served.module(application, options), Served.module(application, options)]);
  });
  afterAll(async () => {
    await Promise.all(served?.map(each => each[Symbol.asyncDispose]()) ?? []);
    await store?.stop();
  });

  /** What both processes answer to this path, one after the other. */
  async function ask(process: number, path: string, cookie: string): Promise<{ answer: unknown; cookie: string }> {
    const url = `${served[process]!.url('http/1')}${path}`;
    const response = await fetch(url, { headers: cookie ? { cookie } : {} });
    expect(response.status, path).toBe(200);
    return { answer: await response.json(), cookie: response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie };
  }
  const both = async (cookie: string) => [
    (await ask(0, '/read', cookie)).answer,
    (await ask(1, '/read', cookie)).answer,
  ];
  async function works(cookie: string): Promise<void> {
    for (const each of served)
      await expect
        .poll(async () => (await fetch(`${each.url('http/1')}/read`, { headers: { cookie } })).status, {
          timeout: 15_000,
        })
        .toBe(200);
  }

  test.skipIf(missing)('agree on every session, and on who may open it', { timeout: 60_000 }, async () => {
    const { cookie: old } = await ask(0, '/in/read?to=kept', '');
    expect(await both(old)).toEqual([
      [null, 'kept'],
      [null, 'kept'],
    ]);
    await store.keep();

    const { cookie: lost } = await ask(0, '/login?to=lost', old);
    expect(await both(lost)).toEqual([
      ['ann', 'lost'],
      ['ann', 'lost'],
    ]);
    expect(await both(old)).toEqual([NOTHING, NOTHING]);
    const sockets = await Promise.all(
      served.map(each => {
        const origin = each.url('http/1');
        return testClient(`${origin.replace('http', 'ws')}/socket`, { headers: { cookie: lost, origin } });
      }),
    );
    for (const socket of sockets) {
      socket.send('?');
      expect(await socket.receive()).toBe('["ann","lost"]');
    }

    await store.lose();
    await works(old);
    // The login is lost for all: nobody is ann by the record of before, or by the secret of after.
    expect(await both(old)).toEqual([
      [null, 'kept'],
      [null, 'kept'],
    ]);
    expect(await both(lost)).toEqual([NOTHING, NOTHING]);
    for (const socket of sockets) expect((await socket.closed).code).toBe(1012);

    const { cookie: renewed } = await ask(1, '/login?to=new', old);
    for (let round = 0; round < 3; round++) {
      expect(await both(renewed)).toEqual([
        ['ann', 'new'],
        ['ann', 'new'],
      ]);
      expect(await both(old)).toEqual([NOTHING, NOTHING]);
      expect(await both(lost)).toEqual([NOTHING, NOTHING]);
    }
  });
});
