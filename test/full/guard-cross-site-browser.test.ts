import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type FetchHandler, type Server } from 'holdfast';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { developmentCertificate } from '../../src/server/listen/development-certificate.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

type SameSite = 'lax' | 'strict' | 'none';

/** Of the other site: a form or link to `to`, which is sent when the page has loaded or when the test asks for it. */
function foreignPage(url: URL): string {
  const to = url.searchParams.get('to') ?? '';
  switch (url.pathname) {
    case '/form':
      return `<form method=post action="${to}"><input name=code value=c0de></form><script>document.forms[0].submit()</script>`;
    case '/window':
      return `<form method=post action="${to}" target=other></form><script>
        const other = window.open('about:blank', 'other'); document.forms[0].submit();</script>`;
    case '/frame':
      return `<iframe name=inner></iframe><form method=post action="${to}" target=inner></form><script>document.forms[0].submit()</script>`;
    case '/fetch':
      return `<script>fetch("${to}", { method: 'POST', mode: 'no-cors', credentials: 'include', body: 'a=1' }).finally(() => document.title = 'sent')</script>`;
    case '/link':
      return `<a href="${to}" rel="noreferrer">more</a>`;
    default:
      return 'nothing here';
  }
}

describe.skipIf(isMissing)('another site, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-cross-site-browser-'));
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  const foreign = { http: 0, https: 0 };
  const servers = new Map<SameSite, Server>();

  beforeAll(async () => {
    const files = developmentCertificate(folder, Date.now(), silentLogger);
    const tls = { cert: readFileSync(files.certificate), key: readFileSync(files.key) };
    const answer: http.RequestListener = (request, response) => {
      response.setHeader('Content-Type', 'text/html');
      response.end(foreignPage(new URL(request.url!, 'http://host')));
    };
    for (const [scheme, server] of [
      ['http', http.createServer(answer)],
      ['https', https.createServer(tls, answer)],
    ] as const) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      foreign[scheme] = (server.address() as AddressInfo).port;
      stack.defer(() => {
        server.closeAllConnections();
        server.close();
      });
    }
    for (const sameSite of ['lax', 'strict', 'none'] as const) servers.set(sameSite, await shop(sameSite));
    browser = await chromium.launch({
      executablePath,
      headless: true,
      args: [
        ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
        '--host-resolver-rules=MAP *.test 127.0.0.1',
      ],
    });
    stack.defer(() => browser.close());
  }, 60_000);
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  async function shop(sameSite: SameSite): Promise<Server> {
    const html = (text: string, headers = {}) =>
      new Response(text, { headers: { 'Content-Type': 'text/html', ...headers } });
    /** Who is signed in, and the beginning of the session. */
    const page: FetchHandler = (_, { session }) =>
      html(session ? `${session.owner?.name ?? 'anonymous'} ${session.id}` : 'no session');
    const server = createServer(
      {
        listen: [
          { port: 0, host: '127.0.0.1' },
          { port: 0, host: '127.0.0.1', tls: 'self-signed' },
        ],
        session: { cookie: { sameSite } },
        dataFolder: folder,
        routes: [
          { path: ['/', '/page'], fetch: page },
          { path: '/who', session: 'existing', fetch: page },
          {
            path: '/hidden-form',
            session: 'existing',
            fetch: request =>
              html(
                `<form method=post action="${new URL(request.url).searchParams.get('to')}"></form><script>document.forms[0].submit()</script>`,
                { 'Referrer-Policy': 'no-referrer' },
              ),
          },
          { path: '/create', session: 'create', fetch: page },
          {
            path: '/in',
            session: 'create',
            fetch: async (_, { session }) => {
              await session!.renew({ owner: { name: 'ann', roles: [] } });
              return html('signed in');
            },
          },
          {
            path: '/login',
            fetch: async request => {
              await server.sessions.signIn(request, { name: 'mallory', roles: [] });
              return html('signed in');
            },
          },
          {
            path: '/callback',
            crossSiteSignIn: true,
            fetch: async request => {
              await server.sessions.signIn(request, { name: 'bob', roles: [] });
              return html('signed in');
            },
          },
          // The two ways of the guide that need no permission.
          {
            path: '/redirected',
            fetch: () => new Response(null, { status: 303, headers: { Location: '/finish?code=c0de' } }),
          },
          {
            path: '/refreshed',
            fetch: () => html('<meta http-equiv="refresh" content="0; url=/finish?code=c0de">'),
          },
          {
            path: '/finish',
            fetch: async (request, { session }) => {
              const before = session?.id;
              const after = await server.sessions.signIn(request, { name: 'bob', roles: [] });
              return html(before === after.id ? 'the same session' : 'another session');
            },
          },
        ],
      },
      { logger: silentLogger },
    );
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
    return server;
  }

  /** The places that two sites are at, and what browsers say of them. */
  const PLACES = [
    { name: 'http on this machine', scheme: 'http', ours: '127.0.0.1', theirs: 'localhost' },
    { name: 'plain http', scheme: 'http', ours: 'shop.test', theirs: 'evil.test' },
    { name: 'https', scheme: 'https', ours: 'shop.test', theirs: 'evil.test' },
  ] as const;
  type Place = (typeof PLACES)[number];

  interface Visitor {
    readonly page: Page;
    readonly ours: string;
    /** Opens a page of the other site, which sends the visitor to us. */
    lure(how: string, path: string): Promise<void>;
    /** What our page says when its address is typed in. */
    typed(path: string): Promise<string>;
    said(): Promise<string>;
  }

  async function visitor(place: Place, sameSite: SameSite): Promise<Visitor & AsyncDisposable> {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    const port = new URL(servers.get(sameSite)!.urls[place.scheme === 'http' ? 0 : 1]!).port;
    const ours = `${place.scheme}://${place.ours}:${port}`;
    const theirs = `${place.scheme}://${place.theirs}:${foreign[place.scheme]}`;
    const said = () => page.innerText('body');
    return {
      page,
      ours,
      said,
      async lure(how, path) {
        await page.goto(`${theirs}/${how}?to=${encodeURIComponent(ours + path)}`);
      },
      async typed(path) {
        await page.goto(ours + path);
        return said();
      },
      [Symbol.asyncDispose]: () => context.close(),
    };
  }

  /** Arrives at our page by a form of the other site. */
  async function byForm({ lure, page, said, ours }: Visitor, path: string): Promise<string> {
    await lure('form', path);
    await page.waitForURL(url => url.origin === new URL(ours).origin);
    await page.waitForLoadState();
    return said();
  }

  async function byLink({ lure, page, said, ours }: Visitor, path: string): Promise<string> {
    await lure('link', path);
    await page.click('a');
    await page.waitForURL(url => url.origin === new URL(ours).origin);
    return said();
  }

  const cases = PLACES.flatMap(place =>
    (['lax', 'strict'] as const).map(sameSite => ({ place, sameSite, at: place.name })),
  );

  test.each(cases)(
    'signs nobody out, by form, window, frame, fetch or link: $at, $sameSite',
    async ({ place, sameSite }) => {
      await using one = await visitor(place, sameSite);
      expect(await one.typed('/in')).toBe('signed in');
      const mine = await one.typed('/who');
      expect(mine).toMatch(/^ann /);
      for (const path of ['/page', '/create', '/login', '/who']) {
        const seen = await byForm(one, path);
        expect(seen).not.toContain('ann');
        expect(await one.typed('/who')).toBe(mine);
      }
      for (const how of ['window', 'frame', 'fetch']) {
        for (const path of how === 'window' ? ['/page', '/login'] : ['/create']) {
          const answered = one.page.context().waitForEvent('response', response => response.url().endsWith(path));
          await one.lure(how, path);
          await answered;
          await one.page.waitForLoadState();
          expect(await one.typed('/who')).toBe(mine);
        }
      }
      expect(await byLink(one, '/page')).toBe(sameSite === 'lax' ? mine : 'no session');
      expect(await one.typed('/who')).toBe(mine);
      // From our own page the cookie comes with everything.
      await one.page.evaluate(
        `document.body.innerHTML = '<form method=post action=/page></form>'; document.forms[0].submit()`,
      );
      await one.page.waitForURL('**/page');
      expect(await one.said()).toBe(mine);
    },
  );

  test.each(cases)('a first visit by a link begins a session: $at, $sameSite', async ({ place, sameSite }) => {
    await using one = await visitor(place, sameSite);
    const first = await byLink(one, '/page');
    expect(first).toMatch(/^anonymous /);
    expect(await one.typed('/who')).toBe(first);
    expect(await byLink(one, '/page')).toBe(sameSite === 'lax' ? first : 'no session');
    expect(await one.typed('/who')).toBe(first);
  });

  test.each(cases)('a page of ours that hides where it is signs in: $at, $sameSite', async ({ place, sameSite }) => {
    await using one = await visitor(place, sameSite);
    await one.page.goto(`${one.ours}/hidden-form?to=/login`);
    await one.page.waitForURL('**/login');
    await one.page.waitForLoadState();
    expect(await one.said()).toBe('signed in');
    expect(await one.typed('/who')).toMatch(/^mallory /);
    await one.page.context().clearCookies();
    await one.page.goto(`${one.ours}/hidden-form?to=/create`);
    await one.page.waitForURL('**/create');
    await one.page.waitForLoadState();
    expect(await one.said()).toMatch(/^anonymous /);
    // That of another site cannot say the same.
    const mine = await one.typed('/who');
    expect(await byForm(one, '/login')).not.toContain('signed in');
    expect(await one.typed('/who')).toBe(mine);
  });

  const named = cases.filter(({ place }) => place !== PLACES[0]);
  test.each(named)('the callback of a login by form_post signs in: $at, $sameSite', async ({ place, sameSite }) => {
    await using one = await visitor(place, sameSite);
    await one.typed('/page');
    expect(await byForm(one, '/callback')).toBe('signed in');
    expect(await one.typed('/who')).toMatch(/^bob /);
  });

  test.each(named)(
    'a form_post that goes on to a page of ours signs in with the session that was there: $at, $sameSite',
    async ({ place, sameSite }) => {
      await using one = await visitor(place, sameSite);
      const before = (await one.typed('/page')).split(' ')[1];
      await one.lure('form', sameSite === 'lax' ? '/redirected' : '/refreshed');
      await one.page.waitForURL('**/finish?code=c0de');
      await one.page.waitForLoadState();
      expect(await one.said()).toBe('the same session');
      expect(await one.typed('/who')).toBe(`bob ${before}`);
    },
  );

  test('under none, over https, the cookie comes with the form of another site', async () => {
    await using one = await visitor(PLACES[2], 'none');
    await one.typed('/in');
    const mine = await one.typed('/who');
    expect(await byForm(one, '/page')).toBe(mine);
    expect(await one.typed('/who')).toBe(mine);
  });
});
