import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, defineEndpoint, type Server } from 'holdfast';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { isBrowserMissing, launchBrowser } from '../services/browser.ts';
import { freePort } from '../services/free-port.ts';
import { CLIENT_ID, CLIENT_SECRET, OidcProvider } from '../services/oidc-provider.ts';

const HTML = { headers: { 'Content-Type': 'text/html' } };

describe.skipIf(isBrowserMissing)('OpenID Connect in a real browser, with the pages of a real provider', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-oidc-browser-'));
  const stack = new AsyncDisposableStack();
  let origin: string;
  let port: number;
  let provider: OidcProvider;
  let backend: WebSocketServer;
  let browser: Browser;
  let context: BrowserContext;
  let server: Server;

  beforeAll(async () => {
    port = await freePort();
    origin = `http://localhost:${port}`;
    writeFileSync(join(folder, 'secret'), CLIENT_SECRET);
    provider = await OidcProvider.start({ clients: [origin], hasPages: true });
    stack.defer(() => provider.close());
    backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(backend, 'listening');
    stack.defer(() => void backend.close());
    browser = await launchBrowser();
    stack.defer(() => browser.close());
  });
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(async () => {
    await context.close();
    await server.stop({ drain: 0 });
  });

  async function start(session: Config['session'] = {}): Promise<Page> {
    const at = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
    server = createServer({
      listen: [{ port, host: '127.0.0.1' }],
      dataFolder: folder,
      session,
      auth: {
        idp: {
          ...{ type: 'oidc', issuer: provider.issuer, clientId: CLIENT_ID, afterLogout: '/bye' },
          clientSecretFile: join(folder, 'secret'),
        },
      },
      policy: { auth: 'idp' },
      upstreams: { app: { servers: [at] } },
      routes: [
        { endpoint: defineEndpoint({ path: '/socket' }) },
        { path: '/relay', upstream: 'app' },
        { path: '/bye', fetch: () => new Response('<title>bye</title>', HTML), policy: { auth: false } },
        { path: '/*', fetch: (_request, { user }) => new Response(`<title>${user!.name}</title>`, HTML) },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    context = await browser.newContext();
    return context.newPage();
  }

  /** As a person does, at the provider. */
  async function signIn(page: Page, name: string): Promise<void> {
    await page.locator('input[name=login]').fill(name);
    await page.locator('input[name=password]').fill('any');
    await page.locator('button[type=submit]').click();
    await page.locator('button[type=submit]').click(); // consent
    await page.waitForURL(url => url.origin === origin);
  }

  /** Opens sockets of a page. @returns how to learn the codes with which they close, and when. */
  async function openSockets(page: Page): Promise<() => Promise<{ codes: number[]; at: number }>> {
    await page.evaluate(async () => {
      const sockets = ['/socket', '/relay'].map(path => new WebSocket(path));
      await Promise.all(sockets.map(socket => new Promise(resolve => socket.addEventListener('open', resolve))));
      const closed = sockets.map(
        socket => new Promise<number>(resolve => socket.addEventListener('close', ({ code }) => resolve(code))),
      );
      Object.assign(globalThis, {
        socketEnds: Promise.all(closed).then(codes => ({ codes, at: Date.now() })),
      });
    });
    return () => page.evaluate(() => (globalThis as unknown as { socketEnds: Promise<never> }).socketEnds);
  }

  test('a login leads back to the page, and a logout at the provider closes the sockets of two tabs', async () => {
    const first = await start();
    await first.goto(`${origin}/cart?item=1`);
    expect(new URL(first.url()).origin).toBe(provider.issuer);
    await signIn(first, 'alice');
    expect([first.url(), await first.title()]).toEqual([`${origin}/cart?item=1`, 'alice']);
    const second = await context.newPage();
    await second.goto(`${origin}/other`);
    expect(await second.title()).toBe('alice');
    const ends = [await openSockets(first), await openSockets(second)];

    const third = await context.newPage();
    await third.goto(`${provider.issuer}/session/end`);
    const before = Date.now();
    await third.locator('button[name=logout]').click();
    for (const end of ends) {
      const { codes, at } = await end();
      expect(codes).toEqual([1008, 1008]);
      expect(at - before).toBeLessThan(1_000);
    }
    expect(provider.logoutAnswers).toEqual([200]);
    await second.reload();
    expect(new URL(second.url()).origin).toBe(provider.issuer);
  });

  test('our page to sign out leads over the provider to the page after it', async () => {
    const page = await start();
    await page.goto(`${origin}/`);
    await signIn(page, 'bob');
    const end = await openSockets(page);
    const other = await context.newPage();
    await other.goto(`${origin}/oidc/idp/logout`);
    await other.getByRole('button', { name: 'Sign out' }).click();
    await other.waitForURL(url => url.origin === provider.issuer);
    expect((await end()).codes).toEqual([1008, 1008]);
    await other.locator('button[name=logout]').click();
    await other.waitForURL(`${origin}/bye`);
    expect(await other.title()).toBe('bye');
    await other.goto(`${origin}/`);
    expect(new URL(other.url()).origin).toBe(provider.issuer);
  });

  test('a login works with a session cookie that is strict, which comes with no redirect of the provider', async () => {
    const page = await start({ cookie: { sameSite: 'strict' } });
    await page.goto(`${origin}/cart?item=2`);
    await signIn(page, 'carol');
    await page.waitForURL(`${origin}/cart?item=2`);
    expect(await page.title()).toBe('carol');
    const cookies = await context.cookies(origin);
    expect(cookies.find(({ name }) => name === 'holdfast')?.sameSite).toBe('Strict');
  });

  test('who cancels at the provider sees our page, and can begin again', async () => {
    const page = await start();
    await page.goto(`${origin}/cart`);
    await page.getByText('Cancel').click();
    await page.waitForURL(url => url.origin === origin);
    expect(await page.locator('p').first().textContent()).toBe('You were not signed in.');
    await page.getByText('Sign in again').click();
    await page.waitForURL(url => url.origin === provider.issuer);
    await signIn(page, 'dave');
    expect([page.url(), await page.title()]).toEqual([`${origin}/cart`, 'dave']);
  });
});
