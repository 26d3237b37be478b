import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'holdfast';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { developmentCertificate } from '../../src/server/listen/development-certificate.ts';
import { FaultyStore } from '../session/fixture.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

describe.skipIf(isMissing)('a page of ours within pages of other sites, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-partitioned-'));
  const stack = new AsyncDisposableStack();
  let around: number;
  let browser: Browser;

  beforeAll(async () => {
    const files = developmentCertificate(folder, Date.now(), silentLogger);
    const tls = { cert: readFileSync(files.certificate), key: readFileSync(files.key) };
    const server = https.createServer(tls, (request, response) => {
      const to = new URL(request.url!, 'https://host').searchParams.get('to');
      response.setHeader('Content-Type', 'text/html');
      response.end(`<iframe name=inner src="${to}"></iframe>`);
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    around = (server.address() as AddressInfo).port;
    stack.defer(() => {
      server.closeAllConnections();
      server.close();
    });
    browser = await chromium.launch({
      executablePath,
      headless: true,
      args: [
        ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
        ...['--host-resolver-rules=MAP *.test 127.0.0.1', '--test-third-party-cookie-phaseout'],
      ],
    });
    stack.defer(() => browser.close());
  }, 60_000);
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  async function shop(partitioned: boolean, store = new FaultyStore()): Promise<Server> {
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', tls: 'self-signed' }],
        session: { store, cookie: { name: 'sid', sameSite: 'none', partitioned } },
        dataFolder: folder,
        routes: [
          { path: '/page', session: 'create', fetch: (request, { session }) => show(request, session!) },
          {
            path: '/in',
            fetch: async request => show(request, await server.sessions.signIn(request, { name: 'ann', roles: [] })),
          },
          {
            path: '/out',
            fetch: async (_request, { session }) => {
              await session?.invalidate();
              return new Response('out', { headers: { 'Content-Type': 'text/html' } });
            },
          },
        ],
        log: { access: 'off' },
      },
      { logger: silentLogger },
    );
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
    return server;
  }

  /** The id of the session, its owner, and how many cookies of the name have come. */
  function show(request: Request, session: { id: string; owner: { name: string } | undefined }): Response {
    const count = (request.headers.get('cookie') ?? '').split('sid=').length - 1;
    return new Response(`${session.id} ${session.owner?.name} ${count}`, { headers: { 'Content-Type': 'text/html' } });
  }

  function seen(text: string) {
    const [id, owner, cookies] = text.trim().split(' ');
    return { id, owner, cookies: Number(cookies) };
  }

  async function visitor() {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    stack.defer(() => context.close());
    const page: Page = await context.newPage();
    return {
      async within(site: string, server: Server, path = '/page') {
        const to = `https://shop.test:${new URL(server.urls[0]!).port}${path}`;
        await page.goto(`https://${site}:${around}/?to=${encodeURIComponent(to)}`);
        return seen((await page.frame({ name: 'inner' })!.textContent('body'))!);
      },
      async alone(server: Server, path = '/page') {
        await page.goto(`https://shop.test:${new URL(server.urls[0]!).port}${path}`);
        return seen((await page.textContent('body'))!);
      },
    };
  }

  test('loses its session at once where cookies of third parties are blocked', async () => {
    const server = await shop(false);
    const { within } = await visitor();
    const [first, second] = [await within('a.test', server), await within('a.test', server)];
    expect([first.cookies, second.cookies]).toEqual([0, 0]);
    expect(second.id).not.toBe(first.id);
  });

  test('keeps one for each site around it when the cookie is partitioned, and none of them after a logout', async () => {
    const server = await shop(true);
    const { within, alone } = await visitor();
    const first = await within('a.test', server);
    expect(await within('a.test', server)).toEqual({ ...first, cookies: 1 });
    const other = await within('b.test', server);
    expect(other.id).not.toBe(first.id);
    const own = await alone(server);
    expect([first.id, other.id]).not.toContain(own.id);
    const signedIn = await within('a.test', server, '/in');
    expect([signedIn.id, signedIn.owner]).toEqual([first.id, 'ann']);
    expect(await within('a.test', server)).toEqual({ id: first.id, owner: 'ann', cookies: 1 });
    expect((await within('b.test', server)).owner).toBe('undefined');
    await within('a.test', server, '/out');
    const after = await within('a.test', server);
    expect([after.id === first.id, after.cookies]).toEqual([false, 0]);
    expect((await within('b.test', server)).id).toBe(other.id);
  });

  test('goes on with its session when a release makes the cookie partitioned, and has one cookie in the end', async () => {
    const store = new FaultyStore();
    store.close = async () => {};
    const before = await shop(false, store);
    const { alone } = await visitor();
    const first = await alone(before);
    const after = await shop(true, store);
    expect(await alone(after)).toEqual({ ...first, cookies: 1 });
    // The login sets the other cookie beside it, the next one takes the former back.
    expect((await alone(after, '/in')).id).toBe(first.id);
    expect(await alone(after)).toEqual({ id: first.id, owner: 'ann', cookies: 2 });
    await alone(after, '/in');
    expect(await alone(after)).toEqual({ id: first.id, owner: 'ann', cookies: 1 });
  });
});
