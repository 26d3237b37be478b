import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isBrowserMissing, launchBrowser } from '../services/browser.ts';

/** A front end on another site, whose API key stands in a header that no WebSocket of a browser can have. */
describe.skipIf(isBrowserMissing)('a page of another site, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-ticket-browser-'));
  const stack = new AsyncDisposableStack();
  let server: Server;
  let relayed: Server;
  let browser: Browser;
  let pages: { listed: string; stranger: string };

  async function pageAt(host: string): Promise<string> {
    const one = http.createServer((_, response) => {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>front end</title>');
    });
    await once(one.listen(0, '127.0.0.1'), 'listening');
    stack.defer(() => {
      one.closeAllConnections();
      one.close();
    });
    return `http://${host}:${(one.address() as AddressInfo).port}`;
  }

  beforeAll(async () => {
    pages = { listed: await pageAt('localhost'), stranger: await pageAt('localhost') };
    relayed = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      routes: [
        {
          endpoint: defineEndpoint({
            path: '/relay',
            origins: 'accept',
            accept: ({ headers, url }) => ({ data: `${headers['x-forwarded-user']} ${url.search}` }),
            onOpen: connection => void connection.send(String(connection.data)),
          }),
        },
      ],
      log: { level: 'silent' },
    });
    await relayed.start();
    stack.defer(() => relayed.stop({ drain: 0 }));
    const policy = { auth: 'key', tickets: true, cors: { headers: ['X-Key'] }, origins: [pages.listed] };
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: { store: 'memory:' },
      auth: {
        key: {
          type: 'function',
          authenticate: ({ headers }) =>
            headers['x-key'] === undefined ? undefined : { name: String(headers['x-key']) },
        },
      },
      upstreams: { app: { servers: [relayed.urls[0]!] } },
      routes: [
        {
          endpoint: defineEndpoint({
            path: '/socket',
            onOpen: connection => void connection.send(`${connection.user?.name} ${connection.url.search}`),
          }),
          policy,
        },
        { path: '/relay', upstream: 'app', policy },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
    browser = await launchBrowser();
    stack.defer(() => browser.close());
  });
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(origin: string): Promise<Page> {
    const page = await (await browser.newContext()).newPage();
    await page.goto(origin);
    return page;
  }

  function ticketFor(page: Page, path: string): Promise<string> {
    return page.evaluate(async url => {
      const response = await fetch(`${url}/ticket`, { method: 'POST', headers: { 'X-Key': 'alice' } });
      return ((await response.json()) as { ticket: string }).ticket;
    }, server.urls[0]! + path);
  }

  /** The first message, or the code of the end. */
  function connect(page: Page, path: string): Promise<unknown> {
    return page.evaluate(
      url =>
        new Promise(resolve => {
          const ws = new WebSocket(url);
          ws.onmessage = ({ data }) => resolve(data);
          ws.onclose = ({ code }) => resolve(code);
        }),
      server.urls[0]!.replace('http', 'ws') + path,
    );
  }

  test.each(['/socket', '/relay'])('opens %s with a ticket, once, and without one not at all', async path => {
    const page = await open(pages.listed);
    const ticket = await ticketFor(page, path);
    expect(await connect(page, `${path}?room=1&ticket=${ticket}`)).toBe('alice ?room=1');
    expect(await connect(page, `${path}?ticket=${ticket}`)).toBe(1006);
    expect(await connect(page, path)).toBe(1006);
  });

  test('that is not listed gets no ticket, and cannot use one of another page', async () => {
    const stranger = await open(pages.stranger);
    await expect(ticketFor(stranger, '/socket')).rejects.toThrow(/Failed to fetch/);
    const ticket = await ticketFor(await open(pages.listed), '/socket');
    expect(await connect(stranger, `/socket?ticket=${ticket}`)).toBe(1006);
  });
});
