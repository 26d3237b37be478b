import { setTimeout as wait } from 'node:timers/promises';
import { type CustomPolicy, defineEndpoint, type PolicyFacts } from 'holdfast';
import { describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { OwnPolicy } from '../../src/policy/custom.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { ask, knock, Lines, RawBackend, WiredServer, wires } from '../server/wires.ts';

const FACTS = {
  route: '/',
  method: 'GET',
  path: '/',
  query: '',
  params: {},
  host: 'example.com',
  headers: {},
  clientAddress: '203.0.113.1',
  isSecure: false,
  isWebSocket: false,
  clientCertificate: undefined,
  session: undefined,
  user: undefined,
};

const judge = (policy: CustomPolicy, logger = new Lines()) =>
  new OwnPolicy(policy, { clock: new FakeClock(), logger }).judge(FACTS);

describe('a custom policy', () => {
  test('lets in by true, at once or later', async () => {
    expect(await judge(() => true)).toBeUndefined();
    expect(await judge(async () => true)).toBeUndefined();
  });

  test('refuses by false, and by a status with headers and a body of its own', async () => {
    expect(await judge(() => false)).toMatchObject({ status: 403, code: 'ERR_POLICY_CUSTOM' });
    expect(
      await judge(async () => ({ status: 402, headers: { 'X-Price': '5' }, body: 'pay\n', reason: 'no money' })),
    ).toMatchObject({ status: 402, headers: { 'X-Price': '5' }, body: 'pay\n', reason: 'no money' });
  });

  test.each<[string, () => unknown]>([
    [
      'throws',
      () => {
        throw new Error('database is down');
      },
    ],
    ['rejects', () => Promise.reject(new Error('database is down'))],
    ['forgets to return', () => undefined],
    ['answers null', () => null],
    ['answers a text', async () => 'yes'],
    ['answers 1', () => 1],
    ['answers a status that would let in', () => ({ status: 200 })],
    ['answers a status that is none', () => ({ status: 403.5 })],
    ['answers an object of another kind', () => ({ allow: true })],
    ['answers headers that are none', () => ({ status: 403, headers: { 'X-A': 'b\r\nSet-Cookie: c=d' } })],
    ['answers a header whose name begins another', () => ({ status: 403, headers: { 'X-A: b\r\nSet-Cookie': 'c=d' } })],
    ['answers a header that no answer can have', () => ({ status: 403, headers: { 'X-A': '日本' } })],
    ['answers headers of another kind', () => ({ status: 403, headers: 'X-A: b' })],
    ['answers a Content-Length', () => ({ status: 403, headers: { 'Content-Length': '5' } })],
    ['answers a Transfer-Encoding', () => ({ status: 403, headers: { 'transfer-encoding': 'chunked' } })],
    ['answers a Connection header', () => ({ status: 403, headers: { Connection: 'keep-alive' } })],
    ['answers a body that is none', () => ({ status: 403, body: {} })],
  ])('that %s refuses with 503, and the log has why', async (_, policy) => {
    const logger = new Lines();
    expect(await judge(policy as CustomPolicy, logger)).toMatchObject({
      status: 503,
      code: 'ERR_POLICY_CUSTOM',
      headers: { 'Retry-After': '5' },
    });
    expect(logger.all).toMatchObject([
      { level: 'error', fields: { event: 'custom-policy-failed', err: expect.any(Error) } },
    ]);
  });

  test('that does not answer within 5 s, or its own time, refuses with 503 and hears that nobody waits', async () => {
    for (const timeout of [undefined, '200ms'] as const) {
      const clock = new FakeClock();
      let signal: AbortSignal | undefined;
      const never = (facts: PolicyFacts) => {
        signal = facts.signal;
        return new Promise<never>(() => {});
      };
      const policy = new OwnPolicy({ judge: never, ...(timeout && { timeout }) }, { clock, logger: silentLogger });
      const settled = vi.fn();
      const verdict = policy.judge(FACTS);
      verdict.then(settled, settled);
      const ms = timeout ? 200 : 5_000;
      await clock.advance(ms - 100);
      expect(settled).not.toHaveBeenCalled();
      await clock.advance(200);
      await wait(20);
      expect(await verdict).toMatchObject({ status: 503 });
      expect(signal!.aborted).toBe(true);
    }
  });

  test('that answers by something like a promise is heard, and a broken one ends no process', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => void unhandled.push(error);
    process.on('unhandledRejection', note);
    const like = (then: (resolve: (verdict: boolean) => void, reject: (error: unknown) => void) => void) => {
      const clock = new FakeClock();
      const policy = new OwnPolicy(() => ({ then }) as Promise<boolean>, { clock, logger: silentLogger });
      const verdict = policy.judge(FACTS);
      return clock.advance(6_000).then(() => verdict);
    };
    const fails = () => {
      throw new Error('none');
    };
    expect(await like(resolve => resolve(true))).toBeUndefined();
    expect(await like(resolve => resolve(false))).toMatchObject({ status: 403 });
    expect(await like((_, reject) => reject(new Error('none')))).toMatchObject({ status: 503 });
    expect(await like(fails)).toMatchObject({ status: 503 });
    expect(await like(() => {})).toMatchObject({ status: 503 });
    await wait(20);
    process.off('unhandledRejection', note);
    expect(unhandled).toEqual([]);
  });

  test('that answers too late after its time changes nothing, and what it throws then is lost', async () => {
    const clock = new FakeClock();
    const late = Promise.withResolvers<boolean>();
    const verdict = new OwnPolicy(() => late.promise, { clock, logger: silentLogger }).judge(FACTS);
    await clock.advance(6_000);
    await wait(20);
    late.reject(new Error('late'));
    expect(await verdict).toMatchObject({ status: 503 });
  });
});

test('requests, handshakes of endpoints and relayed ones are judged with the same facts on every wire', async () => {
  const backend = await RawBackend.listen();
  const seen: PolicyFacts[] = [];
  const custom: CustomPolicy = async facts => {
    seen.push(facts);
    return facts.headers['x-pass'] === 'yes' || { status: 402, reason: 'no pass' };
  };
  const server = await WiredServer.upstream(backend, {
    session: {},
    policy: { custom },
    routes: [
      { path: '/page/:id', name: 'page', session: 'create', fetch: () => new Response('ok') },
      { endpoint: defineEndpoint({ path: '/socket', origins: 'any' }) },
      { path: '/*', upstream: 'app', policy: { origins: 'any' } },
      { path: '/free', policy: { custom: () => true }, fetch: () => new Response('ok') },
    ],
  });
  const pass = { 'X-Pass': 'yes' };
  const statuses = [];
  for (const wire of wires)
    statuses.push([
      (await ask(server, wire, { path: '/page/7?a=b' })).status,
      (await ask(server, wire, { path: '/page/7', headers: pass })).status,
      (await ask(server, wire, { path: '/other', method: 'POST', body: 'x' })).status,
      (await ask(server, wire, { path: '/other', method: 'POST', body: 'x', headers: pass })).status,
      (await knock(server, wire, { path: '/socket' })).status,
      (await knock(server, wire, { path: '/socket', headers: pass })).status,
      (await knock(server, wire, { path: '/relayed' })).status,
      (await ask(server, wire, { path: '/free' })).status,
    ]);
  const sizes = await server.server.sessions.statistics();
  await Promise.all([server.close(), backend.close()]);
  expect(statuses).toEqual(wires.map(() => [402, 200, 402, 200, 402, 101, 402, 200]));
  expect(backend.requests.length).toBe(wires.length);
  expect(seen[0]).toMatchObject({
    route: 'page',
    method: 'GET',
    path: '/page/7',
    query: 'a=b',
    params: { id: '7' },
    host: 'public.example',
    clientAddress: '127.0.0.1',
    isSecure: false,
    isWebSocket: false,
    user: undefined,
  });
  expect(seen.some(facts => facts.isWebSocket && facts.isSecure)).toBe(true);
  // Those who were refused have begun none.
  expect(sizes.created).toBe(wires.length);
});

test('a custom policy knows the session and whose it is, and what it writes is kept when it lets in', async () => {
  const server: WiredServer = await WiredServer.start({
    session: {},
    routes: [
      {
        path: '/sign-in',
        session: 'create',
        fetch: async request => {
          await server.server.sessions.signIn(request, { name: 'alice', roles: ['staff'] });
          return new Response('ok');
        },
      },
      {
        path: '/staff',
        policy: {
          custom: ({ session, user }) => {
            session?.set('seen', true);
            return user?.roles.includes('staff') ?? false;
          },
        },
        fetch: (_, { session }) => new Response(String(session!.get('seen'))),
      },
    ],
  });
  const signedIn = await ask(server, 'tls', { path: '/sign-in' });
  const cookie = signedIn.headers['set-cookie']!.split(';')[0]!;
  const seen = [
    await ask(server, 'tls', { path: '/staff' }),
    await ask(server, 'tls', { path: '/staff', headers: { Cookie: cookie } }),
  ];
  await server.close();
  expect(seen.map(({ status, body }) => [status, body])).toEqual([
    [403, 'Forbidden\n'],
    [200, 'true'],
  ]);
});
