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

interface Sent {
  readonly method?: string;
  readonly credentials?: 'include' | 'omit';
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

describe.skipIf(isBrowserMissing)('a front end on another origin, in a real browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-cors-browser-'));
  const stack = new AsyncDisposableStack();
  let api: string;
  let server: Server;
  let browser: Browser;
  /** Their origins: of the same site and listed, of the same site, of another site. */
  let pages: { listed: string; beside: string; stranger: string };

  async function pagesAt(host: string): Promise<string> {
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
    pages = {
      listed: await pagesAt('localhost'),
      beside: await pagesAt('localhost'),
      stranger: await pagesAt('127.0.0.1'),
    };
    const backend = http.createServer((request, response) => {
      response
        .setHeader('Access-Control-Allow-Origin', '*')
        .end(`${request.method} ${request.headers['x-csrf'] ?? ''}`);
    });
    await once(backend.listen(0, '127.0.0.1'), 'listening');
    stack.defer(() => {
      backend.closeAllConnections();
      backend.close();
    });
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      session: { store: 'memory:' },
      policy: { origins: [pages.listed], cors: { expose: ['X-Count'] } },
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [
        {
          path: '/cart',
          methods: ['PUT'],
          session: 'create',
          fetch: async (request, { session }) => {
            const count = Number(session!.get('count' as never) ?? 0) + Number(await request.json());
            session!.set('count' as never, count as never);
            return Response.json(count, { headers: { 'X-Count': String(count) } });
          },
        },
        { path: '/nobody', fetch: () => new Response('who are you?', { status: 401 }) },
        { path: '/app/*', upstream: 'app' },
        {
          endpoint: defineEndpoint({
            path: '/live',
            onOpen: connection => void connection.send(`count ${connection.session?.get('count' as never)}`),
          }),
        },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    stack.defer(() => server.stop({ drain: 0 }));
    api = server.urls[0]!.replace('127.0.0.1', 'localhost');
    browser = await launchBrowser();
    stack.defer(() => browser.close());
  });
  afterAll(async () => {
    await stack.disposeAsync();
    rmSync(folder, { recursive: true, force: true });
  });

  async function open(origin: string): Promise<Page> {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(origin);
    return page;
  }

  /** What a script learns of an answer. */
  function call(page: Page, path: string, init: Sent = {}) {
    return page.evaluate(
      async ([url, options]) => {
        try {
          const response = await fetch(url, options);
          return [response.status, await response.text(), response.headers.get('x-count')];
        } catch (error) {
          return [(error as Error).name];
        }
      },
      [api + path, init] as const,
    );
  }

  function socket(page: Page): Promise<unknown> {
    return page.evaluate(
      url =>
        new Promise(resolve => {
          const ws = new WebSocket(url);
          ws.onmessage = ({ data }) => resolve(data);
          ws.onerror = () => resolve('error');
        }),
      `${api.replace('http', 'ws')}/live`,
    );
  }

  const PUT: Sent = {
    method: 'PUT',
    credentials: 'include',
    headers: { 'content-type': 'application/json' },
    body: '2',
  };

  test('has one session over fetch and WebSocket, and reads what is exposed and why it is refused', async () => {
    const page = await open(pages.listed);
    expect(await call(page, '/cart', PUT)).toEqual([200, '2', '2']);
    expect(await call(page, '/cart', PUT)).toEqual([200, '4', '4']);
    expect(await socket(page)).toBe('count 4');
    expect(await call(page, '/nobody', { credentials: 'include' })).toEqual([401, 'who are you?', null]);
    expect(
      await call(page, '/app/x', { method: 'DELETE', credentials: 'include', headers: { 'X-CSRF': 'yes' } }),
    ).toEqual([200, 'DELETE yes', null]);
    expect(await server.sessions.count()).toBe(1);
  });

  test.each(['beside', 'stranger'] as const)(
    'that is not listed (%s) reads nothing, changes nothing and opens no socket',
    async which => {
      const before = await server.sessions.count();
      const page = await open(pages[which]);
      for (const path of ['/nobody', '/app/x'])
        for (const credentials of ['include', 'omit'] as const)
          expect(await call(page, path, { credentials })).toEqual(['TypeError']);
      expect(await call(page, '/cart', PUT)).toEqual(['TypeError']);
      expect(await socket(page)).toBe('error');
      expect(await server.sessions.count()).toBe(before);
    },
  );
});
