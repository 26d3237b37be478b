import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import type { SchemePage, SessionScheme } from '../../src/policy/auth/scheme.ts';
import { Schemes } from '../../src/server/assembly/schemes.ts';
import { ask, WiredServer, wires } from './wires.ts';

/** Signs in whoever a POST names, without asking for a password. */
const page: SchemePage = {
  path: '/enter',
  methods: ['GET', 'POST'],
  async handle(request, { head, session, place }) {
    if (head.method === 'GET') return new Response(`${place.prefix} ${session?.owner?.name ?? 'nobody'}`);
    const name = await request.text();
    await place.sessions.signIn(request, { name, roles: [], scheme: 'login', credential: 'c1' });
    return new Response('in');
  },
};

function schemeOf(pages: readonly SchemePage[]): SessionScheme {
  return {
    isShownByRequest: false,
    name: 'login',
    challenge: (_head, place) => ({ location: `${place!.prefix}/enter` }),
    recognize: ({ name, roles, scheme, credential }) =>
      scheme === 'login' ? { name, roles, scheme, credential } : undefined,
    pages: () => pages,
  };
}

const NAVIGATION = { 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Site': 'same-origin' };
const WHO = {
  fetch: (_request: Request, { user }: { user: { name: string } | undefined }) => new Response(user?.name),
};

let server: WiredServer;

async function start(config: Config, pages: readonly SchemePage[] = [page]) {
  vi.spyOn(Schemes.prototype, 'get').mockReturnValue(schemeOf(pages));
  server = await WiredServer.start({ session: {}, auth: { login: { type: 'session' } }, ...config });
}
afterEach(async () => {
  vi.restoreAllMocks();
  await server.close();
});

const cookieIn = (headers: Readonly<Record<string, string>>) => /holdfast=[^;]+/.exec(headers['set-cookie'] ?? '')?.[0];

describe.each(wires)('over %s', wire => {
  beforeEach(() => start({ policy: { auth: 'login' }, routes: [{ path: '/*', ...WHO }] }));

  test('a page of a scheme is open to everybody, signs in, and the session is known to it and to the routes', async () => {
    expect((await ask(server, wire, { path: '/enter' })).body).toBe(' nobody');
    const { status, headers } = await ask(server, wire, { method: 'POST', path: '/enter', body: 'alice' });
    expect(status).toBe(200);
    const Cookie = cookieIn(headers)!;
    expect((await ask(server, wire, { path: '/', headers: { Cookie } })).body).toBe('alice');
    expect((await ask(server, wire, { path: '/enter', headers: { Cookie } })).body).toBe(' alice');
  });

  test('a method that a page does not take is 405, a larger body than a form has 413', async () => {
    expect((await ask(server, wire, { method: 'PUT', path: '/enter' })).status).toBe(405);
    const body = 'x'.repeat(64 * 1024 + 1);
    expect((await ask(server, wire, { method: 'POST', path: '/enter', body })).status).toBe(413);
  });
});

test('a page lies beside the sessions that it is for: of the server, or of a mounted application with its own', async () => {
  await start({
    routes: [
      { path: '/', ...WHO, policy: { auth: 'login' } },
      { mount: '/same', application: { routes: [{ path: '/*', ...WHO, policy: { auth: 'login' } }] } },
      { mount: '/own', application: { session: {}, routes: [{ path: '/*', ...WHO, policy: { auth: 'login' } }] } },
      { mount: '/open', application: { session: {}, routes: [{ path: '/x', ...WHO }] } },
    ],
  });
  const led = async (path: string) => (await ask(server, 'http/1', { path, headers: NAVIGATION })).headers.location;
  expect([await led('/'), await led('/same/x'), await led('/own/x')]).toEqual(['/enter', '/enter', '/own/enter']);
  const bodies = async (path: string) => {
    const { status, body } = await ask(server, 'http/1', { path });
    return status === 200 ? body : status;
  };
  expect([await bodies('/enter'), await bodies('/own/enter'), await bodies('/open/enter')]).toEqual([
    ' nobody',
    '/own nobody',
    404,
  ]);
});

test('a page lies where browsers send the cookie of its sessions', async () => {
  await start({
    session: { cookie: { path: '/app' } },
    routes: [{ path: '/app/*', ...WHO, policy: { auth: 'login' } }],
  });
  expect((await ask(server, 'http/1', { path: '/app/enter' })).body).toBe('/app nobody');
  expect((await ask(server, 'http/1', { path: '/enter' })).status).toBe(404);
});

test('a page is there on the hosts whose routes take the scheme', async () => {
  await start({
    routes: [
      { path: '/*', host: 'a.example', ...WHO, policy: { auth: 'login' } },
      { path: '/*', host: 'b.example', ...WHO },
    ],
  });
  const status = async (host: string, path: string) => (await ask(server, 'http/1', { host, path })).status;
  expect([await status('a.example', '/enter'), await status('c.example', '/enter')]).toEqual([200, 404]);
  expect((await ask(server, 'http/1', { host: 'b.example', path: '/enter' })).body).toBe('');
});

test('addresses and transport of what it lies in hold for a page', async () => {
  await start({
    policy: { auth: 'login', transport: 'confidential' },
    routes: [
      { path: '/*', ...WHO },
      {
        mount: '/own',
        policy: { addresses: { deny: ['127.0.0.1'] } },
        application: { session: {}, routes: [{ path: '/*', ...WHO }] },
      },
    ],
  });
  expect((await ask(server, 'http/1', { path: '/enter' })).status).toBe(403);
  expect((await ask(server, 'tls', { path: '/enter' })).status).toBe(200);
  expect((await ask(server, 'tls', { path: '/own/enter' })).status).toBe(403);
});

test('a login that a page of another site sends is taken by a page that expects it, and by no other', async () => {
  const callback: SchemePage = { ...page, path: '/callback', isCrossSiteSignIn: true };
  await start({ policy: { auth: 'login' }, routes: [{ path: '/*', ...WHO }] }, [page, callback]);
  const headers = { ...NAVIGATION, 'Sec-Fetch-Site': 'cross-site' };
  const post = (path: string) => ask(server, 'http/1', { method: 'POST', path, body: 'alice', headers });
  expect([(await post('/enter')).status, (await post('/callback')).status]).toEqual([403, 200]);
});

test('limits of the application whose sessions a page is for hold for it, and so do those around', async () => {
  await start({
    routes: [
      { path: '/', ...WHO, policy: { auth: 'login' } },
      {
        mount: '/own',
        policy: { auth: 'login', limits: { requestsPerAddress: '2/h' } },
        application: {
          session: {},
          routes: [
            { path: '/*', ...WHO },
            { mount: '/inner', application: { session: {}, routes: [{ path: '/*', ...WHO }] } },
          ],
        },
      },
    ],
  });
  const status = async (path: string) => (await ask(server, 'http/1', { path })).status;
  expect([await status('/own/enter'), await status('/own/inner/enter'), await status('/own/enter')]).toEqual([
    200, 200, 429,
  ]);
  expect([await status('/own/inner/enter'), await status('/own/x'), await status('/enter')]).toEqual([429, 429, 200]);
});

describe('where only a constraint asks for a user who signs in', () => {
  const constraints = [{ paths: ['/admin/*', '/own/*', '/shop/*'], auth: 'login' }];
  const led = async (path: string, host?: string) => {
    const { status, headers } = await ask(server, 'http/1', { path, headers: NAVIGATION, ...(host && { host }) });
    return headers.location ?? status;
  };

  test('the page lies beside the sessions of the route, and a login there counts', async () => {
    await start({
      constraints,
      routes: [
        { path: '/*', ...WHO },
        { mount: '/own', application: { session: {}, routes: [{ path: '/*', ...WHO }] } },
        { mount: '/shop', application: { routes: [{ path: '/*', ...WHO }] } },
        { mount: '/beside', application: { session: {}, routes: [{ path: '/*', ...WHO }] } },
      ],
    });
    expect([await led('/admin/x'), await led('/shop/x'), await led('/own/x')]).toEqual([
      '/enter',
      '/enter',
      '/own/enter',
    ]);
    const { headers } = await ask(server, 'http/1', { method: 'POST', path: '/own/enter', body: 'alice' });
    const Cookie = cookieIn(headers)!;
    expect((await ask(server, 'http/1', { path: '/own/x', headers: { Cookie } })).body).toBe('alice');
    expect(await led('/beside/enter')).toBe(200);
    expect((await ask(server, 'http/1', { path: '/beside/enter' })).body).toBe('');
  });

  test('the page is there on the hosts of the routes that it concerns', async () => {
    await start({
      constraints,
      routes: [
        { path: '/*', host: 'a.example', ...WHO },
        { path: '/open', host: 'b.example', ...WHO },
      ],
    });
    const status = async (host: string) => (await ask(server, 'http/1', { path: '/enter', host })).status;
    expect([await led('/admin/x', 'a.example'), await status('a.example'), await status('b.example')]).toEqual([
      '/enter',
      200,
      404,
    ]);
  });
});
