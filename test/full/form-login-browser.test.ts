import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isBrowserMissing, launchBrowser } from '../services/browser.ts';

/** `secret`, by `htpasswd -nbB -C 5`. */
const ALICE = 'alice:$2y$05$R/8oV0aQRJ//LwXLLX.q7.jdGdst/sKSkZPbNbiX4tfqLVIWlqsEW\n';

describe.skipIf(isBrowserMissing)('a login on a page, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-form-browser-'));
  const file = join(folder, 'users');
  const stack = new AsyncDisposableStack();
  let backend: Server;
  let server: Server;
  let browser: Browser;
  let base: string;

  const echo = (path: string) =>
    defineEndpoint({ path, origins: 'accept', accept: () => true, onOpen: connection => void connection.send('open') });
  const page = (title: string, body: string) => () =>
    new Response(`<!doctype html><title>${title}</title><h1>${title}</h1>${body}`, {
      headers: { 'Content-Type': 'text/html' },
    });

  beforeAll(async () => {
    writeFileSync(file, ALICE);
    backend = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      routes: [{ endpoint: echo('/relay') }, { endpoint: echo('/shop/relay') }],
      log: { level: 'silent' },
    });
    await backend.start();
    stack.defer(() => backend.stop({ drain: 0 }));
    const form =
      '<form method="post" action="/shop/j_security_check">' +
      '<input name="j_username"><input name="j_password" type="password"><button>Go</button></form>';
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: { store: 'memory:', rememberMe: { idleTimeout: '7d', absoluteTimeout: '30d' } },
      auth: {
        staff: { type: 'form', file },
        customers: { type: 'form', file, loginPage: '/signin', errorPage: '/wrong' },
      },
      upstreams: { app: { servers: [backend.urls[0]!] } },
      routes: [
        { path: '/public', fetch: page('Public', '') },
        { endpoint: echo('/socket'), policy: { auth: 'staff' } },
        { path: '/relay', upstream: 'app', policy: { auth: 'staff' } },
        {
          path: '/*',
          policy: { auth: 'staff' },
          fetch: (request, { user }) => page(`Hello ${user!.name}`, new URL(request.url).search)(),
        },
        {
          mount: '/shop',
          application: {
            session: {},
            routes: [
              { path: '/signin', fetch: page('Shop', form) },
              { path: '/wrong', fetch: page('Wrong', form) },
              {
                path: '/*',
                policy: { auth: 'customers' },
                fetch: (request, { user }) =>
                  page(
                    `Welcome ${user!.name}`,
                    `${new URL(request.url).search}<form method="post" action="/shop/logout"><button>Out</button></form>`,
                  )(),
              },
            ],
          },
        },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
    base = server.urls[0]!.replace('127.0.0.1', 'localhost');
    browser = await launchBrowser();
    stack.defer(() => browser.close());
  });
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  const problems: string[] = [];
  async function open(context: BrowserContext, path: string): Promise<Page> {
    const opened = await context.newPage();
    opened.on('console', message => {
      if (/Content Security Policy/.test(message.text())) problems.push(message.text());
    });
    await opened.goto(base + path);
    return opened;
  }
  const heading = (opened: Page) => opened.textContent('h1');
  async function signIn(opened: Page, password = 'secret'): Promise<void> {
    await opened.fill('[name=j_username]', 'alice');
    await opened.fill('[name=j_password]', password);
    await Promise.all([opened.waitForNavigation(), opened.click('button')]);
  }
  /** @returns resolves with the close code. */
  async function socket(opened: Page, path: string): Promise<{ readonly closed: Promise<unknown> }> {
    await opened.evaluate(
      url =>
        new Promise((resolve, reject) => {
          const ws = new WebSocket(url);
          const codes = globalThis as unknown as { codes?: Promise<number>[] };
          codes.codes ??= [];
          codes.codes.push(new Promise(close => ws.addEventListener('close', ({ code }) => close(code))));
          ws.onmessage = resolve;
          ws.onerror = reject;
        }),
      base.replace('http', 'ws') + path,
    );
    return {
      closed: opened.evaluate(() => (globalThis as unknown as { codes: Promise<number>[] }).codes.pop()),
    };
  }

  test.each([true, false])('on our page leads to what was asked for (JavaScript: %s)', async javaScriptEnabled => {
    const context = await browser.newContext({ javaScriptEnabled });
    const opened = await open(context, '/report?year=2026');
    expect(await heading(opened)).toBe('Sign in');
    await signIn(opened, 'wrong');
    expect(await opened.textContent('[role=alert]')).toBe('The user name or the password is not right.');
    await signIn(opened);
    expect(new URL(opened.url()).pathname + new URL(opened.url()).search).toBe('/report?year=2026');
    expect(await heading(opened)).toBe('Hello alice');
    expect(problems).toEqual([]);
    await context.close();
  });

  test('our page is in the language of the browser, with labels, and has its style', async () => {
    const context = await browser.newContext({
      locale: 'ja-JP',
      extraHTTPHeaders: { 'Accept-Language': 'ja-JP,ja;q=0.9' },
    });
    const opened = await open(context, '/x');
    expect(await heading(opened)).toBe('サインイン');
    expect(await opened.getAttribute('html', 'lang')).toBe('ja');
    await opened.getByLabel('ユーザー名').fill('alice');
    await opened.getByLabel('パスワード').fill('x');
    await Promise.all([opened.waitForNavigation(), opened.getByRole('button', { name: 'サインイン' }).click()]);
    expect(await opened.getByRole('alert').textContent()).toBe('ユーザー名またはパスワードが正しくありません。');
    expect(await opened.evaluate('getComputedStyle(document.body).display')).toBe('grid');
    expect(problems).toEqual([]);
    await context.close();
  });

  test("on the application's page leads to what was asked for, and to its page of errors, and out again", async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const opened = await open(context, '/shop/order?step=2');
    expect(await heading(opened)).toBe('Shop');
    await signIn(opened, 'wrong');
    expect(await heading(opened)).toBe('Wrong');
    await signIn(opened);
    expect(opened.url()).toBe(`${base}/shop/order?step=2`);
    expect(await heading(opened)).toBe('Welcome alice');
    await Promise.all([opened.waitForNavigation(), opened.click('button')]);
    expect(await heading(opened)).toBe('Shop');
    await context.close();
  });

  test('signing out in one tab closes the sockets of another, of endpoint and backend', async () => {
    const context = await browser.newContext();
    const one = await open(context, '/x');
    await signIn(one);
    const other = await open(context, '/y');
    expect(await heading(other)).toBe('Hello alice');
    const sockets = [await socket(other, '/socket'), await socket(other, '/relay')];
    await one.goto(`${base}/logout`);
    await Promise.all([one.waitForNavigation(), one.click('button')]);
    expect(await one.textContent('[role=status]')).toBe('You have signed out.');
    expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual([1008, 1008]);
    await other.reload();
    expect(await heading(other)).toBe('Sign in');
    await context.close();
  });

  test('two tabs that wait for a login may both be sent', async () => {
    const context = await browser.newContext();
    const [one, other] = [await open(context, '/one'), await open(context, '/two')];
    await signIn(one);
    await signIn(other);
    expect([one.url(), other.url()]).toEqual([`${base}/one`, `${base}/two`]);
    await one.reload();
    expect(await heading(one)).toBe('Hello alice');
    await context.close();
  });

  test('a page of another site can neither sign in nor out', async () => {
    const context = await browser.newContext();
    const victim = await open(context, '/x');
    await signIn(victim);
    for (const path of ['/logout', '/j_security_check']) {
      const evil = await context.newPage();
      await evil.goto(`${base.replace('localhost', '127.0.0.1')}/public`);
      await Promise.all([
        evil.waitForNavigation(),
        evil.setContent(
          `<form method="post" action="${base}${path}"><input name="j_username" value="alice">` +
            '<input name="j_password" value="secret"></form><script>document.forms[0].submit()</script>',
        ),
      ]);
      expect(await evil.textContent('body')).toContain('has to be sent by a page of this site');
    }
    await victim.reload();
    expect(await heading(victim)).toBe('Hello alice');
    await context.close();
  });

  test('is kept when the browser is closed, where it was asked for', async () => {
    const context = await browser.newContext();
    const opened = await open(context, '/x');
    await opened.check('[name=remember]');
    await signIn(opened);
    const cookie = (await context.cookies()).find(({ name }) => name === 'holdfast');
    expect(cookie!.expires * 1_000).toBeGreaterThan(Date.now() + 29 * 86_400_000);
    await context.close();
  });

  test('is over everywhere within a second of a password that changes', async () => {
    const context = await browser.newContext();
    const opened = await open(context, '/x');
    await signIn(opened);
    const sockets = [await socket(opened, '/socket'), await socket(opened, '/relay')];
    const startedAt = performance.now();
    writeFileSync(`${file}.new`, ALICE.replace('qsEW', 'qsEO'));
    renameSync(`${file}.new`, file);
    expect(await Promise.all(sockets.map(({ closed }) => closed))).toEqual([1008, 1008]);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    await opened.reload();
    expect(await heading(opened)).toBe('Sign in');
    writeFileSync(file, ALICE);
    await context.close();
  });
});
