import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import type { OidcAuthConfig } from '../../src/config/auth-config.ts';
import type { RouteConfig } from '../../src/config/config.ts';
import { type Config, createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { MemoryLedger } from '../../src/session/ledgers/memory.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { writeSelfSignedCertificate } from '../self-signed-certificate.ts';
import { CookieClient, type Page } from '../services/cookie-client.ts';
import { freePort } from '../services/free-port.ts';
import { CLIENT_ID, CLIENT_SECRET, OidcProvider } from '../services/oidc-provider.ts';
import { Lines } from './wires.ts';

let folder: string;
/** Where the servers of the tests are, one after the other; what browsers call `localhost` is not the provider's host. */
let ports: readonly [number, number];
let provider: OidcProvider;
let log: Lines;
const servers: Server[] = [];
const sockets: WebSocket[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-oidc-'));
  writeFileSync(join(folder, 'secret'), `${CLIENT_SECRET}\n`);
  ports = [await freePort(), await freePort()];
  const clients = ports.flatMap(port => [
    `http://localhost:${port}`,
    `https://localhost:${port}`,
    `http://localhost:${port}/shop`,
  ]);
  provider = await OidcProvider.start({ clients, rotatesRefreshTokens: true, accessTokenTtl: 600 });
});
afterAll(async () => {
  await provider.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  log = new Lines();
  provider.reset();
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate();
  await Promise.all(servers.splice(0).map(server => server.stop({ drain: 0 })));
});

const at = (path: string, port = 0) => `http://localhost:${ports[port]}${path}`;
const idp = (changes: Partial<OidcAuthConfig> = {}): OidcAuthConfig => ({
  ...{ type: 'oidc', issuer: provider.issuer, clientId: CLIENT_ID, clientSecretFile: join(folder, 'secret') },
  rolesClaim: 'groups',
  ...changes,
});
const whoAmI: RouteConfig = {
  path: '/*',
  fetch: (_request, { user, session }) => Response.json({ user, keys: session?.keys(), sid: session?.id }),
};
const socketRoute = (path = '/socket'): RouteConfig => ({ endpoint: defineEndpoint({ path, origins: 'accept' }) });

async function start(
  config: Config = {},
  { port = 0, clock = undefined as FakeClock | undefined } = {},
): Promise<Server> {
  const server = createServer(
    {
      listen: [{ port: ports[port]!, host: '127.0.0.1' }],
      session: {},
      auth: { idp: idp() },
      policy: { auth: 'idp', origins: 'any' },
      routes: [socketRoute(), whoAmI],
      dataFolder: join(folder, `data-${port}`),
      ...config,
    },
    { logger: log, ...(clock && { clock }) },
  );
  servers.push(server);
  await server.start();
  return server;
}

/** Signs in by the provider, as a browser does. */
async function signIn(client = new CookieClient(), path = '/', port = 0): Promise<CookieClient> {
  const page = await client.open(at(path, port));
  expect(page.status).toBe(200);
  return client;
}

/** What the browser brings back from the provider, without having brought it. */
async function answerOf(client: CookieClient, path = '/', port = 0): Promise<URL> {
  const { url } = await client.open(at(path, port), ({ pathname }) => pathname.endsWith('/callback'));
  expect(url.searchParams.get('state')).not.toBeNull();
  return url;
}

async function connect(client: CookieClient, path: string, port = 0): Promise<WebSocket> {
  const opened = new WebSocket(at(path, port).replace('http', 'ws'), {
    headers: { cookie: client.cookieHeader('localhost') },
  });
  sockets.push(opened);
  await once(opened, 'open');
  return opened;
}
const closeCode = async (opened: WebSocket): Promise<number> => (await once(opened, 'close'))[0];
const userOf = ({ body }: Page) => JSON.parse(body).user;
const events = (name: string) => log.all.filter(({ fields }) => fields.event === name).map(({ fields }) => fields);

describe('a login', () => {
  test('ends at the page that was asked for, with name, roles and claims of the user', async () => {
    await start();
    const client = new CookieClient();
    const page = await client.open(at('/cart?item=1&size=xl'));
    expect([page.status, page.url.href]).toEqual([200, at('/cart?item=1&size=xl')]);
    expect(userOf(page)).toEqual({
      ...{ name: 'alice', roles: ['staff'] },
      claims: {
        ...{ sub: 'alice', iss: provider.issuer, name: 'ALICE', groups: ['staff'] },
        ...{ email: 'alice@example.com', email_verified: true },
      },
    });
    expect(events('login-succeeded')).toMatchObject([{ user: 'alice', scheme: 'idp', address: '127.0.0.1' }]);
  });

  test('leaves no token where applications, backends and the log can see it', async () => {
    await start();
    const client = await signIn();
    expect(JSON.parse((await client.ask(at('/'))).body).keys).toEqual([]);
    const tokens = /eyJ[\w-]+\.eyJ|refresh_token|id_token/;
    expect(JSON.stringify(log.all)).not.toMatch(tokens);
    const { name, value } = new URL(client.opened.find(url => url.includes('code='))!).searchParams
      .entries()
      .map(([name, value]) => ({ name, value }))
      .next().value!;
    expect([name, JSON.stringify(log.all).includes(value)]).toEqual(['code', false]);
  });

  test('renews the secret of the session, and keeps what is in it', async () => {
    await start({
      routes: [
        {
          path: '/put',
          policy: { auth: false },
          session: 'create',
          fetch: (_, { session }) => {
            session!.set('cart' as never, 'pen' as never);
            return new Response(session!.id);
          },
        },
        whoAmI,
      ],
    });
    const client = new CookieClient();
    const sid = (await client.ask(at('/put'))).body;
    const before = client.cookie('localhost', 'holdfast');
    await signIn(client);
    expect(JSON.parse((await client.ask(at('/'))).body)).toMatchObject({ sid, keys: ['cart'] });
    expect(client.cookie('localhost', 'holdfast')).not.toBe(before);
    const old = await new CookieClient().ask(at('/'), { headers: { cookie: `holdfast=${before}` } });
    expect(old.status).toBe(302);
  });

  test('is offered to people only: fetch and WebSockets get 401', async () => {
    await start();
    const headers = { 'sec-fetch-dest': 'empty', 'sec-fetch-mode': 'cors' };
    const fetched = await new CookieClient().ask(at('/'), { headers });
    expect([fetched.status, fetched.headers['www-authenticate'], fetched.headers.location]).toEqual([
      ...[401, 'OpenIdConnect realm="idp"', undefined],
    ]);
    await expect(connect(new CookieClient(), '/socket')).rejects.toThrow('401');
  });

  test('of somebody whom the provider refuses says so, and nothing of what the URL says', async () => {
    await start();
    provider.user = undefined;
    const page = await new CookieClient().open(at('/cart'));
    expect([page.status, page.url.pathname]).toEqual([403, '/oidc/idp/callback']);
    expect(page.url.search).toContain('script');
    expect(page.body).not.toMatch(/script|access_denied/);
    expect(page.body).toContain('href="/oidc/idp/login?return=%2Fcart"');
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
    expect([events('oidc-sign-in-refused'), events('login-failed')]).toMatchObject([[{ scheme: 'idp' }], []]);
  });

  test('has its page in Japanese for who prefers that', async () => {
    await start();
    const page = await new CookieClient().ask(at('/oidc/idp/callback'), {
      headers: { 'accept-language': 'fr, ja;q=0.9, en;q=0.8' },
    });
    expect([page.status, page.body.includes('もう一度サインインする')]).toEqual([400, true]);
  });

  test('can be one of a mounted application, beside its own sessions', async () => {
    await start({
      routes: [
        { mount: '/shop', application: { session: {}, routes: [whoAmI] } },
        { ...whoAmI, policy: { auth: false } },
      ],
    });
    const client = new CookieClient();
    const page = await client.open(at('/shop/cart'));
    expect([page.status, page.url.href, userOf(page).name]).toEqual([200, at('/shop/cart'), 'alice']);
    expect(client.opened.some(url => url.startsWith(at('/shop/oidc/idp/callback')))).toBe(true);
    expect(userOf(await client.ask(at('/')))).toBeUndefined();
  });

  test('goes on by a page of ours where the cookie of the session is strict', async () => {
    await start({ session: { cookie: { sameSite: 'strict' } } });
    const page = await new CookieClient().open(at('/cart?a="b"'));
    expect([page.status, page.url.pathname]).toEqual([200, '/oidc/idp/callback']);
    expect(page.body).toContain('content="0; url=/cart?a=%22b%22"');
  });

  test('of a user without the role is 403, and needs no second login', async () => {
    await start({ routes: [{ ...whoAmI, policy: { roles: ['admin'] } }] });
    const page = await new CookieClient().open(at('/cart'));
    expect([page.status, page.url.pathname]).toEqual([403, '/cart']);
  });
});

describe('what comes back from the provider is refused', () => {
  test('a second time, also when the browser is the same', async () => {
    await start();
    const client = new CookieClient();
    const answer = await answerOf(client, '/cart');
    expect((await client.ask(answer)).headers.location).toBe('/cart');
    client.forget('localhost', 'holdfast');
    const asked = provider.requests.length;
    expect((await client.ask(answer)).status).toBe(400);
    expect(provider.requests.slice(asked)).toEqual([]);
    expect([events('oidc-sign-in-refused'), events('login-failed')]).toMatchObject([[{ scheme: 'idp' }], []]);
  });

  test('in another browser, which is signed in as nobody', async () => {
    await start();
    const answer = await answerOf(new CookieClient());
    const other = new CookieClient();
    await other.ask(at('/oidc/idp/login')); // it has a cookie of its own
    const asked = provider.requests.length;
    const page = await other.ask(answer);
    expect([page.status, other.cookie('localhost', 'holdfast')]).toEqual([400, undefined]);
    expect(provider.requests.slice(asked)).toEqual([]);
    expect((await other.ask(at('/'))).status).toBe(302);
  });

  test.each<[string, (answer: URL) => void]>([
    ['without a state', answer => answer.searchParams.delete('state')],
    [
      'with a state that was changed',
      answer => answer.searchParams.set('state', `${answer.searchParams.get('state')!.slice(0, -2)}AA`),
    ],
    ['with a state that is endless', answer => answer.searchParams.set('state', 'A'.repeat(9_000))],
    ['without a code', answer => answer.searchParams.delete('code')],
    ['with a code that was made up', answer => answer.searchParams.set('code', 'made-up')],
    ['of another issuer', answer => answer.searchParams.set('iss', 'https://evil.example')],
    ['without its issuer, which the provider always names', answer => answer.searchParams.delete('iss')],
  ])('%s', async (_, change) => {
    await start();
    const client = new CookieClient();
    const answer = await answerOf(client);
    change(answer);
    const page = await client.ask(answer);
    expect([400, 403]).toContain(page.status);
    expect(events('login-failed')).toHaveLength(page.status === 403 ? 1 : 0);
    expect(client.cookie('localhost', 'holdfast')).toBeUndefined();
  });

  test('when it was for another scheme', async () => {
    await start({ auth: { idp: idp(), other: idp() }, routes: [{ ...whoAmI, policy: { auth: ['idp', 'other'] } }] });
    const client = new CookieClient();
    await client.ask(at('/oidc/other/login'));
    const begun = await client.ask(at('/oidc/other/login'));
    const state = new URL(begun.headers.location!).searchParams.get('state')!;
    const answer = await answerOf(client, '/oidc/idp/login');
    answer.searchParams.set('state', state);
    expect((await client.ask(answer)).status).toBe(400);
  });

  test('after ten minutes', async () => {
    const clock = new FakeClock(Date.now());
    await start({}, { clock });
    const client = new CookieClient();
    const answer = await answerOf(client);
    await clock.advance(600_001);
    expect((await client.ask(answer)).status).toBe(400);
  });

  test('unless who brings it is signed in already: then it goes on without it', async () => {
    await start();
    const client = new CookieClient();
    const answer = await answerOf(client, '/cart');
    await client.ask(answer);
    const again = await client.ask(answer);
    expect([again.status, again.headers.location]).toEqual([303, '/cart']);
  });
});

describe('several providers', () => {
  test('are offered on a page to people, and none of them gets the names of another', async () => {
    await start({
      auth: { idp: idp({ label: 'The <Firm>' }), guests: idp({ userPrefix: 'guests:' }) },
      policy: { auth: ['idp', 'guests'] },
      routes: [whoAmI],
    });
    const page = await new CookieClient().open(at('/cart'));
    expect([page.status, page.headers['content-type'], page.headers['cache-control']]).toEqual([
      ...[401, 'text/html; charset=utf-8', 'no-store'],
    ]);
    expect(page.body).toContain('<a href="/oidc/idp/login?return=%2Fcart">Sign in with The &#60;Firm&#62;</a>');
    expect(page.body).toContain('<a href="/oidc/guests/login?return=%2Fcart">Sign in with guests</a>');
    expect(page.headers['www-authenticate']).toBe('OpenIdConnect realm="idp", OpenIdConnect realm="guests"');
  });
});

describe('a logout', () => {
  test('ends the session, its sockets and the session at the provider, and comes back', async () => {
    const relayed = await start({ auth: {}, policy: { origins: 'any' }, routes: [socketRoute()] }, { port: 1 });
    await start({
      auth: { idp: idp({ afterLogout: '/bye' }) },
      upstreams: { app: { servers: [relayed.urls[0]!] } },
      routes: [
        socketRoute(),
        { path: '/relay', upstream: 'app', rewrite: '/socket' },
        { path: '/bye', fetch: () => new Response('bye'), policy: { auth: false } },
        whoAmI,
      ],
    });
    const client = await signIn();
    const open = [await connect(client, '/socket'), await connect(client, '/relay')];
    const codes = Promise.all(open.map(closeCode));
    expect((await client.ask(at('/oidc/idp/logout'))).body).toContain('<form method="post" action="/oidc/idp/logout">');
    const left = await client.ask(at('/oidc/idp/logout'), { form: {}, headers: { 'sec-fetch-site': 'same-origin' } });
    expect([left.status, await codes]).toEqual([303, [1008, 1008]]);
    expect((await client.ask(at('/'))).status).toBe(302);
    const confirm = await client.open(left.headers.location!);
    const xsrf = /name="xsrf" value="(\w+)"/.exec(confirm.body)![1]!;
    const asked = await client.ask(`${provider.issuer}/session/end/confirm`, { form: { xsrf, logout: 'yes' } });
    expect((await client.open(asked.headers.location!)).url.href).toBe(at('/bye'));
    expect(events('logout')).toMatchObject([{ user: 'alice', scheme: 'idp', address: '127.0.0.1' }]);
  });

  test('is no wish of a page of another site', async () => {
    await start();
    const client = await signIn();
    const headers = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' };
    expect((await client.ask(at('/oidc/idp/logout'), { form: {}, headers })).status).toBe(403);
    expect((await client.ask(at('/'))).status).toBe(200);
  });

  test('by fetch says where to go on', async () => {
    await start();
    const client = await signIn();
    const headers = { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' };
    const { status, body } = await client.ask(at('/oidc/idp/logout'), { form: {}, headers });
    const location = new URL(JSON.parse(body).location);
    expect([status, location.origin + location.pathname]).toEqual([200, `${provider.issuer}/session/end`]);
    expect(location.searchParams.get('id_token_hint')).toMatch(/^eyJ/);
  });
});

describe('on two servers with one store', () => {
  let shared: Config;
  beforeEach(() => {
    const own = mkdtempSync(join(folder, 'shared-'));
    shared = { session: { store: `lmdb:${own}/sessions` }, dataFolder: own };
  });

  test('a login that began on one ends on the other, and counts on both', async () => {
    await start(shared);
    await start(shared, { port: 1 });
    const client = new CookieClient();
    const answer = await answerOf(client);
    // As a balancer would: the URL is the same, the process is not.
    const there = new URL(answer.href.replace(String(ports[0]), String(ports[1])));
    const page = await client.ask(there, { headers: { host: `localhost:${ports[0]}` } });
    expect(page.status).toBe(303);
    expect(userOf(await client.ask(at('/', 1))).name).toBe('alice');
    expect(userOf(await client.ask(at('/', 0))).name).toBe('alice');
  });

  test('a login survives a restart, also between its halves', async () => {
    const first = await start(shared);
    const client = new CookieClient();
    const answer = await answerOf(client);
    await first.stop({ drain: 0 });
    const second = await start(shared);
    expect((await client.ask(answer)).status).toBe(303);
    await second.stop({ drain: 0 });
    await start(shared);
    expect(userOf(await client.ask(at('/'))).claims.email).toBe('alice@example.com');
    expect((await client.ask(answer)).status).toBe(303); // used, and signed in
    client.forget('localhost', 'holdfast');
    expect((await client.ask(answer)).status).toBe(400);
  });

  test('a logout at the provider ends the sessions of that login, and their sockets, within a second on both', async () => {
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(backend, 'listening');
    onTestFinished(() => backend.close());
    const relayed = {
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
    };
    const routes = (): RouteConfig[] => [socketRoute(), { path: '/relay', upstream: 'app' }, whoAmI];
    await start({ ...shared, ...relayed, routes: routes() });
    await start({ ...shared, ...relayed, routes: routes() }, { port: 1 });
    const client = await signIn();
    const elsewhere = await signIn(); // the same user, in another session of the provider's
    provider.user = 'bob';
    const bob = await signIn();
    const open = await Promise.all([
      ...[connect(client, '/socket'), connect(client, '/socket', 1)],
      ...[connect(client, '/relay'), connect(client, '/relay', 1)],
    ]);
    const others = [await connect(elsewhere, '/socket'), await connect(bob, '/socket', 1)];
    const codes = Promise.all(open.map(closeCode));
    const began = performance.now();
    await logOutAt(provider, client);
    expect(await codes).toEqual([1008, 1008, 1008, 1008]);
    expect(performance.now() - began).toBeLessThan(1_500);
    expect(provider.logoutAnswers).toEqual([200]);
    expect((await client.ask(at('/'))).status).toBe(302);
    expect([(await elsewhere.ask(at('/'))).status, (await bob.ask(at('/', 1))).status]).toEqual([200, 200]);
    expect(others.map(({ readyState }) => readyState)).toEqual([WebSocket.OPEN, WebSocket.OPEN]);
    expect(events('logout')).toMatchObject([{ user: 'alice', scheme: 'idp' }]);
    // The token was used: whoever has seen it can do nothing with it.
    const again = await new CookieClient().ask(at('/oidc/idp/backchannel-logout'), {
      form: { logout_token: provider.logoutTokens[0]! },
    });
    expect([again.status, again.headers['cache-control']]).toEqual([400, 'no-store']);
    expect(events('oidc-logout-refused')).toMatchObject([{ reason: 'the logout token was used before' }]);
  });
});

/** As a user does who goes to the provider's own page to sign out. */
async function logOutAt({ issuer }: OidcProvider, client: CookieClient): Promise<void> {
  const page = await client.ask(`${issuer}/session/end`);
  const xsrf = /name="xsrf" value="(\w+)"/.exec(page.body)![1]!;
  await client.ask(`${issuer}/session/end/confirm`, { form: { xsrf, logout: 'yes' } });
}

describe('with lifetime: tokens', () => {
  const LIFE = 600_000;
  const offline = () => ({
    idp: idp({ lifetime: 'tokens' as const, scopes: ['profile', 'offline_access'], parameters: { prompt: 'consent' } }),
  });
  const tokenRequests = () => provider.requests.filter(path => path === '/token').length;

  test('tokens are renewed once for all requests of both servers, with the roles of now', async () => {
    const clock = new FakeClock(Date.now());
    const own = mkdtempSync(join(folder, 'shared-'));
    const shared = { session: { store: `lmdb:${own}/sessions` }, dataFolder: own, auth: offline() };
    await start(shared, { clock });
    await start(shared, { clock, port: 1 });
    const client = await signIn();
    expect(tokenRequests()).toBe(1);
    provider.groups = ['admin'];
    await clock.advance(LIFE - 20_000);
    const asked = [0, 1, 0, 1, 0, 1].map(async port => userOf(await client.ask(at('/', port))).roles);
    const settled = Promise.all(asked);
    const turning = setInterval(() => void clock.advance(100), 20);
    expect(await settled.finally(() => clearInterval(turning))).toEqual(Array(6).fill(['admin']));
    expect(tokenRequests()).toBe(2);
    await clock.advance(LIFE - 40_000);
    expect((await client.ask(at('/'))).status).toBe(200);
    expect(tokenRequests()).toBe(2);
  });

  test('an open socket goes on while they are renewed, and closes when the provider refuses', async () => {
    const clock = new FakeClock(Date.now());
    await start({ auth: offline() }, { clock });
    const client = await signIn();
    const open = await connect(client, '/socket');
    const code = closeCode(open);
    // The clock of the test runs ahead of the network: it waits for the renewal.
    await clock.advance(LIFE - 20_000);
    await expect.poll(tokenRequests).toBe(2);
    await client.ask(at('/'));
    await clock.advance(60_000);
    expect(open.readyState).toBe(WebSocket.OPEN);
    await provider.revokeAll();
    const turning = setInterval(() => void clock.advance(10_000), 10);
    expect(await code.finally(() => clearInterval(turning))).toBe(1008);
    expect((await client.ask(at('/'))).status).toBe(302);
    expect(events('oidc-login-over')).toHaveLength(1);
  });

  test('a provider that is down ends no login before its tokens do; then nobody can tell: 503', async () => {
    const clock = new FakeClock(Date.now());
    await start({ auth: offline() }, { clock });
    const client = await signIn();
    provider.isDown = true;
    await clock.advance(LIFE - 10_000);
    expect((await client.ask(at('/'))).status).toBe(200);
    await clock.advance(20_000);
    const page = await client.ask(at('/'));
    expect([page.status, page.headers['retry-after']]).toEqual([503, '5']);
    provider.isDown = false;
    expect((await client.ask(at('/'))).status).toBe(200);
  });

  test('without a refresh token the login is over with the tokens', async () => {
    const clock = new FakeClock(Date.now());
    await start({ auth: { idp: idp({ lifetime: 'tokens' }) } }, { clock });
    const client = await signIn();
    const code = closeCode(await connect(client, '/socket'));
    await clock.advance(LIFE - 1_000);
    expect((await client.ask(at('/'))).status).toBe(200);
    await clock.advance(2_000);
    expect(await code).toBe(1008);
    expect((await client.ask(at('/'))).status).toBe(302);
  });
});

describe('a provider that does not answer', () => {
  test('keeps no server from starting: 503 until it answers', async () => {
    const clock = new FakeClock(Date.now());
    provider.isDown = true;
    await start({}, { clock });
    const client = new CookieClient();
    const page = await client.open(at('/cart'));
    expect([page.status, page.url.pathname, page.headers['retry-after']]).toEqual([503, '/oidc/idp/login', '5']);
    expect(page.body).toContain('href="/oidc/idp/login?return=%2Fcart"');
    provider.isDown = false;
    await clock.advance(1_000);
    await expect.poll(() => events('oidc-provider-found')).toHaveLength(1);
    expect((await client.open(at('/cart'))).status).toBe(200);
  });

  test('in the moment of the code is 503, and no failed login', async () => {
    await start();
    const client = new CookieClient();
    const answer = await answerOf(client);
    provider.isDown = true;
    const page = await client.ask(answer);
    expect([page.status, events('login-failed')]).toEqual([503, []]);
    expect(events('oidc-provider-unavailable')).toHaveLength(1);
  });
});

test('by form_post a login ends with the form of another site, bound to its browser by a cookie for https', async () => {
  const tls = writeSelfSignedCertificate(folder);
  await start({
    listen: [{ port: ports[0], host: '127.0.0.1', tls }],
    auth: { idp: idp({ responseMode: 'form_post' }) },
  });
  const client = new CookieClient();
  const login = await client.ask(`https://localhost:${ports[0]}/oidc/idp/login?return=/cart`);
  expect(login.headers['set-cookie']![0]).toMatch(
    /^__Host-holdfast-oidc=.*; HttpOnly; Secure; SameSite=None$|^__Host-holdfast-oidc=.*Secure.*SameSite=None/,
  );
  const form = await client.open(login.headers.location!);
  const fields = Object.fromEntries(
    [...form.body.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name!, value!]),
  );
  const headers = { 'sec-fetch-site': 'cross-site', origin: provider.issuer };
  const page = await client.ask(`https://localhost:${ports[0]}/oidc/idp/callback`, { form: fields, headers });
  expect([page.status, page.headers.location]).toEqual([303, '/cart']);
  expect(userOf(await client.ask(`https://localhost:${ports[0]}/cart`)).name).toBe('alice');
  const other = await new CookieClient().ask(`https://localhost:${ports[0]}/oidc/idp/callback`, {
    form: fields,
    headers,
  });
  expect([other.status, other.headers['set-cookie']]).toEqual([400, undefined]);
});

describe('after a reload', () => {
  const config = (more: Config = {}): Config => ({
    listen: [{ port: ports[0], host: '127.0.0.1' }],
    auth: { idp: idp() },
    policy: { auth: 'idp' },
    routes: [whoAmI],
    ...more,
  });

  test('logins are sealed with the keys of now: a server that has these alone knows them', async () => {
    const own = mkdtempSync(join(folder, 'keys-'));
    const keys = ['a', 'b'].map(name => join(own, name));
    for (const [index, file] of keys.entries()) writeFileSync(file, `${index}`.repeat(48));
    const withKey = (index: number): Config => ({
      dataFolder: own,
      session: { store: `lmdb:${own}/sessions`, keyFiles: [keys[index]!] },
    });
    const server = await start(config(withKey(0)));
    await server.reload(config(withKey(1)));
    await start({ ...withKey(1), routes: [whoAmI] }, { port: 1 });
    const client = await signIn();
    expect(userOf(await client.ask(at('/', 1)))).toMatchObject({ name: 'alice' });
  });

  test('a login is looked for where sessions are now, and not where they were in configurations of before', async () => {
    const ledger = new MemoryLedger();
    const reads: string[] = [];
    const get = ledger.get.bind(ledger);
    ledger.get = key => {
      reads.push(key);
      return get(key);
    };
    const session = { store: new MemoryStore(), ledger };
    const server = await start(config({ session }));
    const readsOfLogout = async () => {
      const client = await signIn();
      reads.length = 0;
      await logOutAt(provider, client);
      expect((await client.ask(at('/'))).status).toBe(302);
      return reads.length;
    };
    const before = await readsOfLogout();
    expect(before).toBeGreaterThan(0);
    for (const index of [1, 2, 3]) {
      const routes = [{ path: `/${index}`, redirect: '/' }, whoAmI];
      await server.reload(config({ session, routes }));
      const refused = config({ session, routes, listen: [{ socket: '/nowhere/at/all.sock' }] });
      await expect(server.reload(refused)).rejects.toThrow('there is no folder');
    }
    expect(await readsOfLogout()).toBe(before);
  });
});
