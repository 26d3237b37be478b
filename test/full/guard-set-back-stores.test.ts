import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Served } from '../guard/served.ts';
import { type RedisServer, redisIsMissing, startRedis } from '../services/redis-server.ts';

/**
 * An application on sessions in Redis: `/in` begins one, `/login` signs in, `/set?to=` writes, `/add` counts up,
 * `/read` tells what is there.
 */
const application = `
const named = new Map(Object.entries({
  in: () => {},
  login: async session => void (await session.renew({ owner: { name: 'ann', roles: [] } })),
  set: (session, to) => session.set('value', to),
  add: async session => void (await session.update('count', count => (count ?? 0) + 1)),
  read: () => {},
}));
const handle = async (request, { session, params }) => {
  if (!session) return Response.json({ visitor: 'unknown' });
  await named.get(params.verb)(session, new URL(request.url).searchParams.get('to'));
  return Response.json({ sid: session.id, owner: session.owner?.name, value: session.get('value'), count: session.get('count') });
};
export default defineConfig({
  listen,
  session: { store: process.env.STORE, keyFiles: ['key'], cookie: { name: 'sid' } },
  routes: [
    { path: '/in/:verb', session: 'create', fetch: handle },
    { path: '/:verb', session: 'existing', fetch: handle },
  ],
  log: { access: 'off' },
});`;

interface Answer {
  readonly sid?: string;
  readonly owner?: string;
  readonly value?: string;
  readonly count?: number;
  readonly visitor?: string;
}

/** A browser that uses two processes of one site. */
class Visitor {
  readonly #processes: Readonly<Record<string, Served>>;
  cookie = '';

  constructor(processes: Readonly<Record<string, Served>>) {
    this.#processes = processes;
  }

  /** @param request Process and path: `a/read`. */
  async does(request: string, cookie = this.cookie): Promise<Answer> {
    const [name, ...path] = request.split('/');
    const url = `${this.#processes[name!]!.url('http/1')}/${path.join('/')}`;
    const answer = await fetch(url, { headers: cookie ? { cookie } : {} });
    expect(answer.status, request).toBe(200);
    if (cookie === this.cookie) this.cookie = answer.headers.getSetCookie()[0]?.split(';')[0] ?? cookie;
    return (await answer.json()) as Answer;
  }
}

describe.skipIf(redisIsMissing)('two processes whose redis was set back', () => {
  let redis: RedisServer;
  let processes: Record<string, Served>;
  beforeAll(async () => {
    redis = await startRedis();
    const options = { files: { key: 'k'.repeat(43) }, env: { STORE: redis.url } };
    const [a, b] = await Promise.all([Served.module(application, options), Served.module(application, options)]);
    processes = { a, b };
  });
  afterAll(async () => {
    await Promise.all(Object.values(processes ?? {}).map(served => served[Symbol.asyncDispose]()));
    await redis?.stop();
  });

  const visitor = () => new Visitor(processes);
  const recordOf = async (sid: string) => {
    const [key] = (await redis.cli('--scan', '--pattern', `*s:${sid}`)).trim().split('\n');
    return key!;
  };
  const keep = async (sid: string) => {
    const key = await recordOf(sid);
    expect((await redis.cli('COPY', key, `${key}:kept`, 'REPLACE')).trim()).toBe('1');
  };
  const setBack = async (sid: string) => {
    const key = (await recordOf(sid)).replace(/:kept$/, '');
    expect((await redis.cli('COPY', `${key}:kept`, key, 'REPLACE')).trim()).toBe('1');
    await redis.cli('DEL', `${key}:kept`);
  };

  test.each([
    ['both know what was lost', ['a/set?to=lost', 'b/read'], ['a/set?to=new'], 'new'],
    ['both know it, and the other one writes', ['a/set?to=lost', 'b/read'], ['b/set?to=new'], 'new'],
    ['only the one that reads wrote it', ['b/set?to=lost'], ['a/set?to=new'], 'new'],
    ['both have seen that it was lost', ['a/set?to=lost', 'b/read'], ['a/read', 'b/read', 'a/set?to=new'], 'new'],
    [
      'several were lost',
      ['a/set?to=x', 'b/set?to=y', 'a/set?to=lost', 'b/read'],
      ['a/set?to=1', 'b/set?to=2', 'a/set?to=new'],
      'new',
    ],
    [
      'each writes as often as before',
      ['a/set?to=x', 'a/set?to=lost', 'b/read'],
      ['a/set?to=1', 'a/set?to=new'],
      'new',
    ],
    ['nobody has written since', ['a/set?to=lost', 'b/read'], [], 'kept'],
  ])('read the same when %s', async (_, lost, since, value) => {
    const visits = visitor();
    const { sid } = await visits.does('a/in/in');
    await visits.does('a/set?to=kept');
    await visits.does('b/read');
    await keep(sid!);
    for (const request of lost) await visits.does(request);
    await setBack(sid!);
    for (const request of since) await visits.does(request);
    for (const name of ['a', 'b', 'a', 'b']) expect(await visits.does(`${name}/read`), name).toMatchObject({ value });
  });

  test.each([
    ['the process that knows what was lost', 'b', 'b'],
    ['the process that does not', 'b', 'a'],
    ['the process that has seen it', 'a', 'b'],
  ])('open no session by the secret from before a login in %s', async (_, writer, signer) => {
    const visits = visitor();
    const { sid } = await visits.does('a/in/in');
    const planted = visits.cookie;
    await visits.does('b/read');
    await keep(sid!);
    await visits.does(`${writer}/set?to=lost`);
    await visits.does(`${writer === 'a' ? 'b' : 'a'}/read`);
    await setBack(sid!);
    await visits.does(`${signer}/login`);
    expect(visits.cookie).not.toBe(planted);
    for (const name of ['a', 'b', 'a', 'b']) {
      expect(await visits.does(`${name}/read`, planted), `the old secret in ${name}`).toEqual({ visitor: 'unknown' });
      expect(await visits.does(`${name}/read`), `the new secret in ${name}`).toMatchObject({ sid, owner: 'ann' });
    }
  });

  test('count what was counted since, and not what was lost', async () => {
    const visits = visitor();
    const { sid } = await visits.does('a/in/in');
    await visits.does('a/add');
    await keep(sid!);
    for (const name of ['a', 'b', 'a']) await visits.does(`${name}/add`);
    await setBack(sid!);
    for (const name of ['b', 'a', 'b', 'a']) await visits.does(`${name}/add`);
    for (const name of ['a', 'b']) expect(await visits.does(`${name}/read`)).toMatchObject({ count: 5 });
  });
});
