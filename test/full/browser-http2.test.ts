import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint, type Server } from 'holdfast';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

/** What a page does: sends messages of several sizes, and asks to be closed. */
const OPEN_AND_ECHO = `async path => {
  const socket = new WebSocket(new URL(path, location.href.replace(/^http/, 'ws')));
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
  const answers = [];
  const done = new Promise(resolve => {
    socket.onmessage = ({ data }) => { answers.push(data.length); if (answers.length === 3) resolve(); };
  });
  for (const length of [1, 1000, 200000]) socket.send('x'.repeat(length));
  await done;
  const closed = new Promise(resolve => { socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean }); });
  socket.send('close');
  return { answers, closed: await closed };
}`;

describe.skipIf(isMissing)('WebSockets of a real browser', () => {
  let folder: string;
  let browser: Browser;
  const backend = http.createServer();
  const sockets = new WebSocketServer({ server: backend });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-browser-http2-'));
    sockets.on('connection', socket =>
      socket.on('message', data => {
        if (String(data) === 'close') socket.close(4001, 'enough');
        else socket.send(String(data));
      }),
    );
    await new Promise<void>(resolve => backend.listen(0, '127.0.0.1', resolve));
    browser = await chromium.launch({
      executablePath,
      headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
    });
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    sockets.close();
    backend.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** A server, a page of it, and what its access log says of sockets: path and protocol. */
  async function serve(http2: boolean | { websocket: boolean }) {
    /** The client's end of each connection that a WebSocket came on. */
    const ports = new Set<number>();
    const lines: string[] = [];
    const echo = defineEndpoint({
      path: '/echo',
      maxMessageSize: '1MiB',
      accept: ({ remotePort }) => {
        ports.add(remotePort);
        return true;
      },
      onMessage(connection, data) {
        if (data === 'close') connection.close(4001, 'enough');
        else connection.send(data);
      },
    });
    const server: Server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1', tls: 'self-signed', http2 }],
        dataFolder: folder,
        session: { store: 'memory:' },
        log: { access: 'json' },
        upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
        routes: [
          { endpoint: echo },
          { path: '/relay', upstream: 'app', websocket: { maxMessageSize: '1MiB' } },
          { path: '/*', fetch: () => new Response('<p>page', { headers: { 'Content-Type': 'text/html' } }) },
        ],
      },
      { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(server.urls[0]!);
    return {
      page,
      ports,
      opened: () =>
        lines
          .map(line => JSON.parse(line) as { event: string; target: string; httpVersion: string })
          .filter(({ event }) => event === 'socket-opened')
          .map(({ target, httpVersion }) => `${target} ${httpVersion}`),
      async [Symbol.asyncDispose]() {
        await context.close();
        await server.stop({ drain: 0 });
      },
    };
  }

  const run = (page: Page, path: string) => page.evaluate(`(${OPEN_AND_ECHO})(${JSON.stringify(path)})`);
  const protocolOf = (page: Page) => page.evaluate(`performance.getEntriesByType('navigation')[0].nextHopProtocol`);
  const expected = { answers: [1, 1000, 200_000], closed: { code: 4001, reason: 'enough', wasClean: true } };

  test('go over the HTTP/2 connection of their page, to an endpoint and to a backend', async () => {
    await using served = await serve(true);
    expect(await protocolOf(served.page)).toBe('h2');
    expect(await run(served.page, '/echo')).toEqual(expected);
    expect(await run(served.page, '/relay')).toEqual(expected);
    expect(served.opened()).toEqual(['/echo 2.0', '/relay 2.0']);
    await Promise.all(Array.from({ length: 10 }, () => run(served.page, '/echo')));
    expect(served.ports.size).toBe(1);
  }, 60_000);

  test('go over connections of HTTP/1.1 where HTTP/2 carries none', async () => {
    await using served = await serve({ websocket: false });
    expect(await protocolOf(served.page)).toBe('h2');
    expect(await run(served.page, '/echo')).toEqual(expected);
    expect(served.opened()).toEqual(['/echo 1.1']);
  }, 60_000);

  test('and their page use HTTP/1.1 where HTTP/2 is off', async () => {
    await using served = await serve(false);
    expect(await protocolOf(served.page)).toBe('http/1.1');
    expect(await run(served.page, '/relay')).toEqual(expected);
    expect(served.opened()).toEqual(['/relay 1.1']);
  }, 60_000);
});
