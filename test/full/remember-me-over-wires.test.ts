import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { ask, Lines, WiredServer, wires } from '../server/wires.ts';
import { FaultyStore } from '../session/fixture.ts';

const DAY = 86_400_000;

describe.each(wires)('over %s', wire => {
  let server: WiredServer;
  let backend: http.Server;
  let clock: FakeClock;
  let log: Lines;

  beforeEach(async () => {
    backend = http.createServer((request, response) => {
      const control = request.headers['x-control'];
      response.writeHead(200, control === undefined ? {} : { 'Holdfast-Session': control });
      response.end(String(request.headers['x-forwarded-user']));
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    clock = new FakeClock();
    log = new Lines();
    server = await WiredServer.start(
      {
        session: {
          store: new FaultyStore(),
          cookie: { name: 'sid' },
          sweep: { every: '1d' },
          rememberMe: { idleTimeout: '14d', absoluteTimeout: '90d' },
        },
        upstreams: {
          app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`], controlsSession: true },
        },
        routes: [
          {
            path: '/in',
            methods: ['POST'],
            fetch: async request => {
              const persistent = new URL(request.url).searchParams.get('remember') === 'on';
              await server.server.sessions.signIn(request, { name: 'ann', roles: [] }, { persistent });
              return new Response('in');
            },
          },
          { path: '/who', fetch: (_request, { session }) => new Response(String(session?.owner?.name)) },
          { path: '/backend', upstream: 'app' },
        ],
        log: { access: 'off' },
      },
      log,
      clock,
    );
  });
  afterEach(async () => {
    await server.close();
    backend.closeAllConnections();
    backend.close();
  });

  const visit = async (path: string, cookie?: string, control?: string) => {
    const answer = await ask(server, wire, {
      path,
      method: path.startsWith('/in') ? 'POST' : 'GET',
      headers: { ...(cookie && { cookie }), ...(control && { 'x-control': control }) },
    });
    const line = /sid=v1[^,]*/.exec(answer.headers['set-cookie'] ?? '')?.[0];
    return {
      ...answer,
      cookie: line?.split(';')[0] ?? cookie,
      maxAge: line && Number(/; Max-Age=(\d+)/.exec(line)?.[1] ?? Number.NaN),
    };
  };

  test.each([
    ['a handler', (cookie?: string) => visit('/in?remember=on', cookie), (cookie?: string) => visit('/in', cookie)],
    [
      'a backend',
      (cookie?: string) => visit('/backend', cookie, 'renew; user=ann; persistent'),
      (cookie?: string) => visit('/backend', cookie, 'renew; user=ann'),
    ],
  ])(
    'a visitor who is remembered, by %s, is there days later, and at the next login without is not',
    async (_who, remember, login) => {
      const first = await remember();
      expect(first.maxAge).toBe(7_776_000);
      await clock.advance(10 * DAY);
      const later = await visit('/who', first.cookie);
      expect([later.body, later.maxAge]).toEqual(['ann', 6_912_000]);
      expect((await visit('/backend', later.cookie)).body).toBe('ann');
      const again = await login(later.cookie);
      expect(again.maxAge).toBeNaN();
      expect((await visit('/who', again.cookie)).body).toBe('ann');
      await clock.advance(DAY);
      expect((await visit('/who', again.cookie)).body).toBe('undefined');
    },
  );

  test('a backend asks for times of its own in seconds', async () => {
    const { cookie, maxAge } = await visit(
      '/backend',
      undefined,
      'renew; user=ann; persistent; idle-timeout=86400; absolute-timeout=604800',
    );
    expect(maxAge).toBe(604_800);
    const [info] = await server.server.sessions.ofUser('ann');
    expect(info).toMatchObject({ isPersistent: true, idleTimeoutMs: DAY });
    await clock.advance(DAY);
    expect((await visit('/who', cookie)).body).toBe('undefined');
  });

  test.each([
    'renew; user=ann; absolute-timeout=7776001',
    'renew; user=ann; persistent; idle-timeout=1209601',
    'renew; persistent; idle-timeout=1209601',
  ])('a backend that asks for more than is allowed (%s) signs nobody in, and the log says why', async control => {
    const { status, maxAge } = await visit('/backend', undefined, control);
    expect([status, maxAge]).toEqual([502, undefined]);
    expect(await server.server.sessions.ofUser('ann')).toEqual([]);
    expect(log.of('error').join()).toMatch(/asks for too much .*rememberMe/);
  });
});
