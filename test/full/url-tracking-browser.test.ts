import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'holdfast';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

/** Of an application that knows nothing of tickets. */
const PAGES: Readonly<Record<string, string>> = {
  '/start': '<a id=next href="two?x=1&amp;y=2#z">on</a>',
  '/two': '<form method=post><input name=a value=1><button id=next>on</button></form>',
  '/three': '<meta http-equiv=refresh content="0; url=/four"><p>wait</p>',
  '/four': '<form action="/search"><input name=q value=tea><button id=next>on</button></form>',
  '/search':
    '<p title="<a href=/no>"></p><a id=next href="?q=coffee">on</a><script>var link = \'<a href="/no">\';</script>',
};

describe.skipIf(isMissing)('an application that knows no tickets, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-url-browser-'));
  const stack = new AsyncDisposableStack();
  const seen: IncomingMessage[] = [];
  /** Requests to another site. */
  const elsewhere: IncomingMessage[] = [];
  let server: Server;
  let away: string;

  async function listen(handler: http.RequestListener): Promise<string> {
    const one = http.createServer(handler).listen(0, '127.0.0.1');
    await once(one, 'listening');
    stack.defer(() => {
      one.closeAllConnections();
      one.close();
    });
    return `http://127.0.0.1:${(one.address() as AddressInfo).port}`;
  }

  beforeAll(async () => {
    away = await listen((request, response) => {
      elsewhere.push(request);
      response.end('elsewhere');
    });
    const backend = await listen((request, response) => {
      if (request.url !== '/favicon.ico') seen.push(request);
      if (request.method === 'POST') return void response.writeHead(303, { Location: '/three' }).end();
      const path = request.url!.split('?')[0]!;
      response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Set-Cookie': 'own=1' });
      response.end(
        `<!DOCTYPE html><title>${path}</title><h1>${request.url}</h1>${PAGES[path] ?? ''}<a id=away href="${away}/x">away</a>`,
      );
    });
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: { tracking: ['cookie', 'url'] },
      upstreams: { app: { servers: [backend] } },
      routes: [{ path: '/*', upstream: 'app', rewriteLinks: true }],
      log: { level: 'silent' },
    });
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
  });
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  /** @param cookies 2: blocked, as a person blocks them in the settings. */
  async function browse(
    name: string,
    cookies: 1 | 2,
  ): Promise<{ context: BrowserContext; page: Page; origin: string }> {
    const profile = join(folder, name);
    mkdirSync(join(profile, 'Default'), { recursive: true });
    const settings = { profile: { default_content_setting_values: { cookies } } };
    writeFileSync(join(profile, 'Default', 'Preferences'), JSON.stringify(settings));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath,
      headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    });
    stack.defer(() => context.close());
    seen.length = 0;
    elsewhere.length = 0;
    return {
      context,
      page: await context.newPage(),
      origin: server.urls[0]!.replace(/\/$/, '').replace('localhost', '127.0.0.1'),
    };
  }

  async function follow(page: Page, to: string): Promise<void> {
    await Promise.all([page.waitForURL(url => url.pathname.split(';')[0] === to), page.click('#next')]);
  }

  async function goRound(page: Page, origin: string): Promise<void> {
    await page.goto(`${origin}/start`);
    await follow(page, '/two');
    expect(await page.textContent('h1')).toBe('/two?x=1&y=2');
    // By the form, the redirect of its answer, and the refresh of the page that follows.
    await follow(page, '/four');
    await follow(page, '/search');
    expect(await page.textContent('h1')).toBe('/search?q=tea');
    await Promise.all([page.waitForURL(/q=coffee/), page.click('#next')]);
    expect(await page.textContent('h1')).toBe('/search?q=coffee');
  }

  const VISITED = ['/start', '/two?x=1&y=2', '/two?x=1&y=2', '/three', '/four', '/search?q=tea', '/search?q=coffee'];

  test('a browser without cookies goes by links, forms and redirects of an application, in one session', async () => {
    const { page, origin } = await browse('without', 2);
    await goRound(page, origin);
    expect(seen.map(({ url }) => url)).toEqual(VISITED);
    expect(seen.filter(({ headers }) => headers.cookie !== undefined)).toEqual([]);
    expect(new Set(seen.map(({ headers }) => headers['x-session-id'])).size).toBe(1);
    expect(page.url()).toContain(';holdfast=v1.');
    expect(await page.evaluate('link')).toBe('<a href="/no">');
    await Promise.all([page.waitForURL(/\/x$/), page.click('#away')]);
    expect(elsewhere.map(({ url, headers }) => [url, headers.referer]).filter(([url]) => url === '/x')).toEqual([
      ['/x', undefined],
    ]);
  }, 60_000);

  test('a browser with cookies has no ticket in its address bar after the second page', async () => {
    const { page, origin } = await browse('with', 1);
    await goRound(page, origin);
    expect(seen.map(({ url }) => url)).toEqual(VISITED);
    expect(new Set(seen.map(({ headers }) => headers['x-session-id'])).size).toBe(1);
    expect(page.url()).toBe(`${origin}/search?q=coffee`);
    expect(seen.filter(({ headers }) => headers['holdfast-url-ticket'] !== undefined).map(({ url }) => url)).toEqual([
      '/start',
    ]);
  }, 60_000);
});
