import { hash } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import type { FormAuthConfig } from '../../src/config/auth-config.ts';
import type { Config, RouteConfig } from '../../src/config/config.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { type Answered, type Asked, ask, Lines, type Wire, WiredServer, wires } from './wires.ts';

/** The quickest hash that there is. */
const line = (user: string, password: string) => `${user}:{SHA}${hash('sha1', password, 'base64')}\n`;
const NAVIGATION = { 'Sec-Fetch-Dest': 'document', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Site': 'same-origin' };
const me: RouteConfig = {
  path: '/*',
  fetch: (_request, { user }) => new Response(user ? `${user.name}:${user.roles.join(',')}` : 'nobody'),
};

let folder: string;
let file: string;
let server: WiredServer;
let log: Lines;

/** For tests that ask for nothing special: starting one takes longer than most of them. */
let shared: { readonly server: WiredServer; readonly log: Lines } | undefined;
let sharedFolder: string;

async function start(
  form?: Partial<FormAuthConfig>,
  config: Config = {},
  clock?: Parameters<typeof WiredServer.start>[2],
): Promise<void> {
  if (form === undefined) {
    shared ??= await startAnew({}, {}, undefined, join(sharedFolder, 'users'));
    shared.log.all.length = 0;
    ({ server, log } = shared);
  } else ({ server, log } = await startAnew(form, config, clock, file));
}

async function startAnew(
  form: Partial<FormAuthConfig>,
  config: Config,
  clock: Parameters<typeof WiredServer.start>[2],
  users: string,
) {
  const lines = new Lines();
  const scheme: FormAuthConfig = {
    type: 'form',
    ...(!form.verify && { file: users }),
    roles: { user: ['*'] },
    ...form,
  };
  const started = await WiredServer.start(
    { session: {}, auth: { staff: scheme }, policy: { auth: 'staff' }, routes: [me], ...config },
    lines,
    clock,
  );
  return { server: started, log: lines };
}

function rewrite(...lines: string[]): void {
  writeFileSync(`${file}.new`, lines.join(''));
  renameSync(`${file}.new`, file);
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-form-'));
  file = join(folder, 'users');
  writeFileSync(file, line('alice', 'secret') + line('bob', 'other'));
});
beforeAll(() => {
  sharedFolder = mkdtempSync(join(tmpdir(), 'holdfast-form-'));
  writeFileSync(join(sharedFolder, 'users'), line('alice', 'secret') + line('bob', 'other'));
});
afterEach(async () => {
  if (server !== shared?.server) await server.close();
  rmSync(folder, { recursive: true });
});
afterAll(async () => {
  await shared?.server.close();
  rmSync(sharedFolder, { recursive: true });
});

/** A browser without JavaScript: keeps cookies, and says whose page has sent a request. */
class Browser {
  readonly cookies = new Map<string, string>();
  readonly #wire: Wire;

  constructor(wire: Wire = 'http/1') {
    this.#wire = wire;
  }

  get cookie(): string {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  async ask(asked: Asked): Promise<Answered> {
    const headers = { ...NAVIGATION, ...(this.cookies.size > 0 && { Cookie: this.cookie }), ...asked.headers };
    const answered = await ask(server, this.#wire, { ...asked, headers });
    for (const [, name, value] of (answered.headers['set-cookie'] ?? '').matchAll(/(?:^|, )([\w-]+)=([^;,]*)/g))
      if (value === '') this.cookies.delete(name!);
      else this.cookies.set(name!, value!);
    return answered;
  }

  /** The hidden fields of a page. */
  async open(path: string, headers: Record<string, string> = {}): Promise<Record<string, string>> {
    const { body } = await this.ask({ path, headers });
    const fields = [...body.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)">/g)];
    return Object.fromEntries(fields.map(([, name, value]) => [name!, decoded(value!)]));
  }

  post(path: string, fields: Record<string, string>, headers: Record<string, string> = {}): Promise<Answered> {
    const body = new URLSearchParams(fields).toString();
    const type = { 'Content-Type': 'application/x-www-form-urlencoded' };
    return this.ask({ method: 'POST', path, body, headers: { ...type, ...headers } });
  }

  async signIn(name = 'alice', password = 'secret', more: Record<string, string> = {}): Promise<Answered> {
    const fields = await this.open('/login');
    return this.post('/j_security_check', { ...fields, j_username: name, j_password: password, ...more });
  }
}

function decoded(html: string): string {
  return html.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
}

const events = (name: string) => log.all.filter(({ fields }) => fields.event === name).map(({ fields }) => fields);

describe.each(wires)('over %s', wire => {
  beforeEach(() => start());

  test('a person is led to the page, signs in there, and comes to what they have asked for', async () => {
    const browser = new Browser(wire);
    const led = await browser.ask({ path: '/report?year=2026&of=%C3%A9' });
    expect([led.status, led.headers.location]).toEqual([302, '/login?next=%2Freport%3Fyear%3D2026%26of%3D%25C3%25A9']);
    const fields = await browser.open(led.headers.location!);
    expect(fields.next).toBe('/report?year=2026&of=%C3%A9');
    const answer = await browser.post('/j_security_check', { ...fields, j_username: 'alice', j_password: 'secret' });
    expect([answer.status, answer.headers.location, answer.headers['cache-control']]).toEqual([
      303,
      '/report?year=2026&of=%C3%A9',
      'no-store',
    ]);
    expect((await browser.ask({ path: '/report' })).body).toBe('alice:user');
    expect(events('login-succeeded')).toMatchObject([{ user: 'alice', scheme: 'staff', address: '127.0.0.1' }]);
  });

  test('a wrong password and a user that does not exist are told the same, and logged as what they are', async () => {
    const [wrong, unknown] = [await new Browser(wire).signIn('alice', 'x'), await new Browser(wire).signIn('eve', 'x')];
    expect([wrong.status, wrong.headers.location]).toEqual([303, '/login?failed']);
    expect([unknown.status, unknown.headers.location, unknown.body]).toEqual([303, '/login?failed', wrong.body]);
    const page = await new Browser(wire).ask({ path: '/login?failed' });
    expect(page.body).toContain('role="alert">The user name or the password is not right.');
    expect(events('login-failed')).toMatchObject([
      { user: 'alice', scheme: 'staff', address: '127.0.0.1', path: '/j_security_check' },
      { user: 'eve' },
    ]);
    expect(JSON.stringify(log.all)).not.toContain('secret');
  });

  test('signing out is a form, ends the session, and leads to the page to sign in on', async () => {
    const browser = new Browser(wire);
    await browser.signIn();
    const { cookie } = browser;
    const fields = await browser.open('/logout');
    const answer = await browser.post('/logout', fields);
    expect([answer.status, answer.headers.location]).toEqual([303, '/login?signed-out']);
    expect((await ask(server, wire, { path: '/', headers: { Cookie: cookie } })).status).toBe(401);
    expect(events('logout')).toMatchObject([{ user: 'alice', scheme: 'staff' }]);
    expect((await browser.ask({ path: '/login?signed-out' })).body).toContain('role="status">You have signed out.');
  });

  test('GET of what forms are sent to is 405, whatever its query says', async () => {
    const { status, headers } = await new Browser(wire).ask({
      path: '/j_security_check?j_username=alice&j_password=secret',
    });
    expect([status, headers.allow]).toEqual([405, 'POST']);
  });

  test('a WebSocket and fetch get 401 and no page', async () => {
    const { status, headers } = await ask(server, wire, { path: '/x', headers: { 'Sec-Fetch-Mode': 'cors' } });
    expect([status, headers['www-authenticate'], headers.location]).toEqual([401, 'Form realm="staff"', undefined]);
  });
});

describe('a form that is sent', () => {
  const login = { j_username: 'alice', j_password: 'secret' };

  test.each([
    ['of another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['of a sibling host', { 'Sec-Fetch-Site': 'same-site' }],
    [
      'of another origin, as browsers without Sec-Fetch-Site say',
      { 'Sec-Fetch-Site': '', Origin: 'https://evil.example' },
    ],
  ])('by a page %s is 403, with a good token too', async (_, headers) => {
    await start();
    const browser = new Browser();
    const fields = await browser.open('/login');
    const sent = Object.fromEntries(Object.entries({ ...NAVIGATION, ...headers }).filter(([, value]) => value !== ''));
    const Cookie = browser.cookie;
    const asked = {
      method: 'POST',
      path: '/j_security_check',
      body: new URLSearchParams({ ...fields, ...login }).toString(),
      headers: { 'Content-Type': 'application/x-www-form-urlencoded', Cookie, ...sent },
    };
    const { status, headers: answered } = await ask(server, 'http/1', asked);
    expect([status, answered['set-cookie']]).toEqual([403, undefined]);
    expect(events('refused')).toMatchObject([{ status: 403, scheme: 'staff', path: '/j_security_check' }]);
    expect(events('login-failed')).toEqual([]);
  });

  test('by nobody knows whom needs the token with its cookie; one of the same origin none', async () => {
    await start();
    const post = (fields: Record<string, string>, headers: Record<string, string>) =>
      ask(server, 'http/1', {
        method: 'POST',
        path: '/j_security_check',
        body: new URLSearchParams({ ...login, ...fields }).toString(),
        headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...headers },
      });
    const browser = new Browser();
    const { token } = await browser.open('/login');
    const Cookie = browser.cookie;
    expect((await post({}, {})).status).toBe(403);
    expect((await post({}, { Origin: 'null' })).status).toBe(403);
    expect((await post({ token: token! }, {})).headers.location).toBe('/login?expired');
    expect((await post({ token: token! }, { Cookie })).headers.location).toBe('/');
    expect((await post({ token: `${token!.slice(0, -1)}_` }, { Cookie })).headers.location).toBe('/login?expired');
    const Origin = 'http://public.example';
    expect((await post({}, { Origin })).headers.location).toBe('/');
    expect((await post({ token: 'x' }, { Origin })).headers.location).toBe('/login?expired');
  });

  test('after 8 hours is asked for again, and until then by every tab', async () => {
    const clock = new FakeClock();
    await start({}, {}, clock);
    const browser = new Browser();
    const [one, other] = [await browser.open('/login'), await browser.open('/login')];
    await clock.advance(8 * 3_600_000 - 1);
    expect((await browser.post('/j_security_check', { ...one, ...login })).headers.location).toBe('/');
    expect((await browser.post('/j_security_check', { ...other, ...login })).headers.location).toBe('/');
    await clock.advance(2);
    expect((await browser.post('/j_security_check', { ...one, ...login })).headers.location).toBe('/login?expired');
  });

  test.each([
    ['https://evil.example/'],
    ['//evil.example/'],
    ['/\\evil.example/'],
    ['/\t/evil.example/'],
    ['/..//evil.example'],
    ['/%0d%0aX: y/ z'],
    ['javascript:alert(1)'],
    [`/${'x'.repeat(2_048)}`],
  ])('leads nowhere but within the site: %j', async next => {
    await start();
    const browser = new Browser();
    const answer = await browser.signIn('alice', 'secret', { next });
    expect([answer.status, answer.headers.location]).toEqual([303, '/']);
    expect(await browser.open(`/login?next=${encodeURIComponent(next)}`)).not.toHaveProperty('next');
  });

  test('leads back to the page that it stands in, when it was no GET that asked for a login', async () => {
    await start();
    const Referer = 'http://public.example/order?step=2';
    const led = await new Browser().ask({ method: 'POST', path: '/order', body: 'x=1', headers: { Referer } });
    expect([led.status, led.headers.location]).toEqual([303, '/login?next=%2Forder%3Fstep%3D2']);
    const elsewhere = await new Browser().ask({
      method: 'POST',
      path: '/order',
      headers: { Referer: 'https://evil.example/order' },
    });
    expect(elsewhere.headers.location).toBe('/login');
  });

  test('by a script is answered for a script', async () => {
    await start();
    const headers = { 'Sec-Fetch-Mode': 'cors', 'Sec-Fetch-Dest': 'empty' };
    const browser = new Browser();
    const wrong = await browser.post('/j_security_check', { ...login, j_password: 'x' }, headers);
    expect([wrong.status, wrong.headers['www-authenticate']]).toEqual([401, 'Form realm="staff"']);
    expect((await browser.post('/j_security_check', login, headers)).status).toBe(204);
    expect((await browser.ask({ path: '/', headers })).body).toBe('alice:user');
    expect((await browser.post('/logout', {}, headers)).status).toBe(204);
    expect((await browser.ask({ path: '/', headers })).status).toBe(401);
  });

  test('of another type, or larger than a form is, is refused', async () => {
    await start();
    const browser = new Browser();
    const multipart = { 'Content-Type': 'multipart/form-data; boundary=x' };
    expect((await browser.post('/j_security_check', login, multipart)).status).toBe(415);
    expect((await browser.post('/j_security_check', { ...login, more: 'x'.repeat(65_536) })).status).toBe(413);
  });

  test('with what no user can have is wrong like any other, and the log has no password in place of a name', async () => {
    await start();
    const names = ['', 'a\u0000b', 'x'.repeat(257)];
    for (const name of names)
      expect((await new Browser().signIn(name, 'secret')).headers.location).toBe('/login?failed');
    expect((await new Browser().signIn('alice', '')).headers.location).toBe('/login?failed');
    expect(events('login-failed').map(({ user }) => user)).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe('our page', () => {
  test('loads and runs nothing, is kept by nobody, and is shown in no frame', async () => {
    await start();
    const { headers, body } = await new Browser().ask({ path: '/login' });
    const style = /<style>([^<]*)<\/style>/.exec(body)![1]!;
    expect(headers).toMatchObject({
      'content-security-policy': `default-src 'none'; style-src 'sha256-${hash('sha256', style, 'base64')}'; img-src 'self' data:; font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'same-origin',
      'cache-control': 'no-store',
      'content-type': 'text/html; charset=utf-8',
    });
    expect(body).not.toMatch(/<script|onclick/);
  });

  test.each([
    [undefined, 'en', 'Sign in'],
    ['ja', 'ja', 'サインイン'],
    ['en-US,en;q=0.9,ja;q=0.8', 'en', 'Sign in'],
    ['fr, ja-JP;q=0.8, en;q=0.7', 'ja', 'サインイン'],
    ['de', 'en', 'Sign in'],
    ['ja;q=0', 'en', 'Sign in'],
  ])('for Accept-Language %s is in %s', async (accept, language, heading) => {
    await start();
    const { headers, body } = await new Browser().ask({
      path: '/login',
      headers: accept === undefined ? {} : { 'Accept-Language': accept },
    });
    expect(body).toContain(`<html lang="${language}">`);
    expect(Buffer.from(body, 'latin1').toString()).toContain(`<h1>${heading}</h1>`);
    expect([headers['content-language'], headers.vary]).toEqual([language, 'Accept-Language']);
  });

  test('is there for GET alone where a route of every method has its path, which check warns of', async () => {
    await start({}, { routes: [{ path: '/login', fetch: () => new Response('mine'), policy: { auth: false } }, me] });
    const browser = new Browser();
    expect((await browser.ask({ path: '/login' })).body).toContain('name="j_password"');
    expect((await browser.ask({ method: 'POST', path: '/login' })).body).toBe('mine');
  });

  test('makes no session, and its cookie is bound to the host where it can be', async () => {
    await start();
    const before = await server.server.sessions.count();
    const plain = await new Browser('http/1').ask({ path: '/login' });
    expect(plain.headers['set-cookie']).toMatch(/\bholdfast-form=[\w-]{43}; Path=\/; HttpOnly; SameSite=Lax/);
    const secure = await new Browser('tls').ask({ path: '/login' });
    expect(secure.headers['set-cookie']).toMatch(
      /\b__Host-holdfast-form=[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Lax/,
    );
    expect(await server.server.sessions.count()).toBe(before);
  });

  test('has the title and the style of the configuration, as they are written now', async () => {
    const style = join(folder, 'sign-in.css');
    writeFileSync(style, 'body { color: red }');
    await start({ page: { title: 'Staff <only>', style } });
    const { body } = await new Browser().ask({ path: '/login' });
    expect(body).toContain('<h1>Staff &#60;only&#62;</h1>');
    expect(body).toContain('<style>body { color: red }</style>');
    writeFileSync(style, 'body { color: blue }');
    await expect
      .poll(async () => (await new Browser().ask({ path: '/login' })).body, { timeout: 2_000 })
      .toContain('blue');
  });

  test('whose style would end early is no start', async () => {
    await start();
    const style = join(folder, 'sign-in.css');
    writeFileSync(style, 'p {} </style><script>');
    const bad = WiredServer.start({
      session: {},
      auth: { staff: { type: 'form', file, page: { style } } },
      routes: [{ ...me, policy: { auth: 'staff' } }],
    });
    await expect(bad).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  });

  test('asks whether to remember only where sessions can be remembered, and does so', async () => {
    await start({}, { session: { rememberMe: { idleTimeout: '7d', absoluteTimeout: '30d' } } });
    expect((await new Browser().ask({ path: '/login' })).body).toContain('name="remember"');
    const remembered = await new Browser().signIn('alice', 'secret', { remember: 'yes' });
    expect(remembered.headers['set-cookie']).toMatch(/holdfast=[^;]+; Max-Age=2592000/);
    const forgotten = await new Browser().signIn();
    expect(forgotten.headers['set-cookie']).not.toMatch(/Max-Age/);
    await server.close();
    await start();
    expect((await new Browser().ask({ path: '/login' })).body).not.toContain('name="remember"');
    expect((await new Browser().signIn('alice', 'secret', { remember: 'yes' })).headers['set-cookie']).not.toMatch(
      /Max-Age/,
    );
  });

  test('lies where the configuration says, below the mount of its sessions', async () => {
    const paths = { login: '/in', check: '/in/check', logout: '/out' };
    await start(
      { paths, landingPage: '/home' },
      {
        policy: {},
        routes: [{ mount: '/shop', application: { session: {}, routes: [{ ...me, policy: { auth: 'staff' } }] } }],
      },
    );
    const browser = new Browser();
    expect((await browser.ask({ path: '/shop/x' })).headers.location).toBe('/shop/in?next=%2Fshop%2Fx');
    const fields = await browser.open('/shop/in');
    const login = { j_username: 'alice', j_password: 'secret' };
    expect((await browser.post('/shop/in/check', { ...fields, ...login })).headers.location).toBe('/shop/home');
    expect((await browser.ask({ path: '/shop/' })).body).toBe('alice:user');
    const out = await browser.post('/shop/out', await browser.open('/shop/out'));
    expect(out.headers.location).toBe('/shop/in?signed-out');
  });
});

describe("the application's pages", () => {
  const login = { j_username: 'alice', j_password: 'secret' };
  const page: RouteConfig = { path: '/signin.html', fetch: () => new Response('page'), policy: { auth: false } };
  const wrong: RouteConfig = { path: '/wrong.html', fetch: () => new Response('wrong'), policy: { auth: false } };
  const from = (path: string) => ({ Referer: `http://public.example${path}` });

  test('are led to, and lead on to what was asked for by the URL that the form was sent from', async () => {
    await start({ loginPage: '/signin.html', errorPage: '/wrong.html' }, { routes: [me, page, wrong] });
    const browser = new Browser();
    const led = await browser.ask({ path: '/report?a=1' });
    expect(led.headers.location).toBe('/signin.html?next=%2Freport%3Fa%3D1');
    const failed = await browser.post('/j_security_check', { ...login, j_password: 'x' }, from(led.headers.location!));
    expect(failed.headers.location).toBe('/wrong.html?next=%2Freport%3Fa%3D1');
    const good = await browser.post('/j_security_check', login, from(failed.headers.location!));
    expect(good.headers.location).toBe('/report?a=1');
    expect((await browser.post('/logout', {})).headers.location).toBe('/signin.html');
    expect((await browser.ask({ path: '/login' })).headers.location).toBe('/signin.html?next=%2Flogin');
  });

  test('may say themselves what was asked for, and there may be one page for all', async () => {
    await start({ loginPage: '/signin.html' }, { routes: [me, page] });
    const browser = new Browser();
    const failed = await browser.post('/j_security_check', { ...login, j_password: 'x', next: '/a' });
    expect(failed.headers.location).toBe('/signin.html?failed&next=%2Fa');
    expect((await browser.post('/j_security_check?next=/b', login)).headers.location).toBe('/b');
  });

  test('that ask for a login themselves are 401, and no circle', async () => {
    await start({ loginPage: '/signin.html' });
    expect((await new Browser().ask({ path: '/signin.html' })).status).toBe(401);
  });
});

describe('a session', () => {
  test('that was there before keeps its attributes, and gets a new secret', async () => {
    const cart: RouteConfig = {
      path: '/cart',
      session: 'create',
      policy: { auth: false },
      fetch: async (request, { session }) => {
        if (new URL(request.url).search === '?add') session!.set('cart', 'pen');
        return new Response(String(session!.get('cart')));
      },
    };
    await start({}, { routes: [me, cart] });
    const browser = new Browser();
    await browser.ask({ path: '/cart?add' });
    const before = browser.cookies.get('holdfast')!;
    await browser.signIn();
    expect((await browser.ask({ path: '/cart' })).body).toBe('pen');
    const old = await ask(server, 'http/1', { path: '/', headers: { Cookie: `holdfast=${before}` } });
    expect(old.status).toBe(401);
  });

  test('of another user ends by a login', async () => {
    await start({});
    const browser = new Browser();
    await browser.signIn();
    const before = browser.cookies.get('holdfast')!;
    await browser.signIn('bob', 'other');
    expect((await browser.ask({ path: '/' })).body).toBe('bob:user');
    expect((await ask(server, 'http/1', { path: '/', headers: { Cookie: `holdfast=${before}` } })).status).toBe(401);
    expect(await server.server.sessions.ofUser('alice')).toEqual([]);
  });

  test('that another scheme has signed in, or the application, is none for this one', async () => {
    const enter: RouteConfig = {
      path: '/enter',
      methods: ['POST'],
      policy: { auth: false },
      fetch: async request => {
        await server.server.sessions.signIn(request, { name: 'alice', roles: [] });
        return new Response('in');
      },
    };
    await start({}, { routes: [me, enter] });
    const browser = new Browser();
    await browser.ask({ method: 'POST', path: '/enter' });
    expect((await browser.ask({ path: '/' })).status).toBe(302);
  });
});

describe('a user whose password changes, or who is removed', () => {
  const socket: RouteConfig = {
    endpoint: defineEndpoint({ path: '/socket', origins: 'accept', accept: () => true }),
  };
  const open = async (path: string, cookie: string) => {
    const ws = new WebSocket(`${server.url('http/1').replace('http', 'ws')}${path}`, { headers: { Cookie: cookie } });
    const closed = new Promise<number>(resolve => ws.on('close', resolve));
    await new Promise((resolve, reject) => ws.on('open', resolve).on('error', reject));
    return { ws, closed };
  };

  test.each([
    ['is signed out everywhere', () => rewrite(line('alice', 'new'), line('bob', 'other'))],
    ['is signed out everywhere when gone', () => rewrite(line('bob', 'other'))],
    [
      'is signed out everywhere when locked',
      () => rewrite(line('alice', 'secret').replace(':', ':!'), line('bob', 'other')),
    ],
  ])('%s, and sockets close within a second; nobody else is', async (_, change) => {
    const relayed = await WiredServer.start({
      routes: [{ endpoint: defineEndpoint({ path: '/relay', origins: 'accept', accept: () => true }) }],
    });
    await start(
      {},
      {
        upstreams: { app: { servers: [relayed.url('http/1')] } },
        routes: [me, socket, { path: '/relay', upstream: 'app', policy: { origins: 'any' } }],
      },
    );
    const [alice, bob] = [new Browser(), new Browser()];
    await alice.signIn();
    await bob.signIn('bob', 'other');
    const sockets = [await open('/socket', alice.cookie), await open('/relay', alice.cookie)];
    const ofBob = [await open('/socket', bob.cookie), await open('/relay', bob.cookie)];
    const startedAt = performance.now();
    change();
    expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual([1008, 1008]);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    await expect.poll(() => server.server.sessions.ofUser('alice')).toEqual([]);
    expect(events('session-end')).toMatchObject([{ reason: 'security' }]);
    expect((await alice.ask({ path: '/' })).status).toBe(302);
    expect((await bob.ask({ path: '/' })).body).toBe('bob:user');
    for (const { ws } of ofBob) {
      expect(ws.readyState).toBe(WebSocket.OPEN);
      ws.terminate();
    }
    await relayed.close();
  });

  test('while no server runs is signed out with the next request', async () => {
    const store = `lmdb:${join(folder, 'sessions')}`;
    const dataFolder = join(folder, 'data');
    await start({}, { session: { store }, dataFolder });
    const browser = new Browser();
    await browser.signIn();
    await server.close();
    await start({}, { session: { store }, dataFolder });
    expect((await browser.ask({ path: '/' })).body).toBe('alice:user');
    await server.close();
    rewrite(line('alice', 'new'));
    await start({}, { session: { store }, dataFolder });
    expect((await browser.ask({ path: '/' })).status).toBe(302);
    await expect.poll(() => server.server.sessions.ofUser('alice')).toEqual([]);
  });
});

describe('what else is asked of a path', () => {
  const constraints = [{ paths: ['/*'], methods: ['GET'], auth: 'staff', transport: 'confidential' as const }];

  test('asks of our pages for transport, and for no login and no method', async () => {
    await start({}, { policy: {}, constraints });
    expect((await new Browser('http/1').ask({ path: '/login' })).status).toBe(403);
    const browser = new Browser('tls');
    expect((await browser.ask({ path: '/x' })).headers.location).toBe('/login?next=%2Fx');
    expect((await browser.signIn()).headers.location).toBe('/');
    expect((await browser.ask({ path: '/' })).body).toBe('alice:user');
  });

  test('may be a choice of several ways to sign in', async () => {
    const more = { type: 'session', loginPage: '/elsewhere' } as const;
    const staff = { type: 'form', file, label: 'Name and password' } as const;
    await start({}, { auth: { staff, more }, policy: { auth: ['staff', 'more'] } });
    const { status, body } = await new Browser().ask({ path: '/x' });
    expect([status, body.includes('href="/login?next=%2Fx"'), body.includes('Name and password')]).toEqual([
      401,
      true,
      true,
    ]);
  });
});

describe('a function', () => {
  test('may say who it is', async () => {
    const verify: FormAuthConfig['verify'] = async (name, password, { clientAddress }) =>
      password === 'right' && { name: name.toLowerCase(), roles: ['staff', clientAddress] };
    await start({ verify, roles: { user: ['group:staff'] }, rolesClaim: 'x' });
    const browser = new Browser();
    expect((await browser.signIn('Alice', 'wrong')).headers.location).toBe('/login?failed');
    await browser.signIn('Alice', 'right');
    expect((await browser.ask({ path: '/' })).body).toBe('alice:user');
  });

  test.each<[string, FormAuthConfig['verify']]>([
    ['throws', () => Promise.reject(new Error('the directory is down'))],
    ['does not answer in time', () => new Promise(() => {})],
    ['returns what is no user', () => 7 as never],
  ])('that %s is 503 on our page, and no failed login', async (_, verify) => {
    await start({ verify, timeout: '50ms' });
    const { status, headers, body } = await new Browser().signIn();
    expect([status, headers['retry-after']]).toEqual([503, '5']);
    expect(body).toContain('Nobody can be signed in at the moment.');
    expect(events('login-failed')).toEqual([]);
  });
});

test('a script that signs in learns where the login leads, with its session where that is in the URL', async () => {
  await start({}, { session: { tracking: 'url' } });
  const { status, headers } = await ask(server, 'http/1', {
    method: 'POST',
    path: '/j_security_check',
    headers: {
      'Content-Type': 'application/x-www-form-urlencoded',
      ...{ 'Sec-Fetch-Mode': 'cors', 'Sec-Fetch-Dest': 'empty', 'Sec-Fetch-Site': 'same-origin' },
    },
    body: 'j_username=alice&j_password=secret&next=%2Freport',
  });
  expect([status, headers.location]).toEqual([204, expect.stringMatching(/^\/report;holdfast=v1\./)]);
  expect((await ask(server, 'http/1', { path: headers.location! })).body).toBe('alice:user');
});
