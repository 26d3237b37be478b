import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { accepts, freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const VITE = fileURLToPath(new URL('../../node_modules/vite/bin/vite.js', import.meta.url));

describe.each([false, true])('we behind the proxy of a Vite dev server, with changeOrigin: %s', changeOrigin => {
  let folder: string;
  let vite: ChildProcess;
  let server: Server;
  let devServer: string;

  beforeAll(async () => {
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store: 'memory:' },
      routes: [
        { path: '/api/*', session: 'create', fetch: (_, { session }) => new Response(session!.id) },
        {
          endpoint: defineEndpoint({
            path: '/live',
            onOpen: connection => void connection.send(connection.session?.id ?? 'none'),
          }),
        },
      ],
      log: { level: 'silent' },
    });
    await server.start();
    folder = await mkdtemp(join(tmpdir(), 'holdfast-vite-proxy-'));
    const target = server.urls[0]!.replace('127.0.0.1', 'localhost');
    const proxy = {
      '/api': { target, changeOrigin },
      '/live': { target: target.replace('http', 'ws'), ws: true, changeOrigin },
    };
    await writeFile(join(folder, 'vite.config.js'), `export default ${JSON.stringify({ server: { proxy } })};`);
    await writeFile(join(folder, 'index.html'), '<!doctype html><title>dev</title>');
    const port = await freePort();
    devServer = `localhost:${port}`;
    vite = spawn(process.execPath, [VITE, '--port', String(port), '--strictPort', '--host', '127.0.0.1'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    await until(() => accepts(port), 30_000);
  });
  afterAll(async () => {
    const ended = once(vite, 'exit');
    vite.kill();
    await ended;
    await server.stop({ drain: 0 });
    await rm(folder, { recursive: true });
  });

  test(`a page of it has its session, and its WebSocket is ${changeOrigin ? 'refused with 403' : 'let in'}`, async () => {
    const answer = await fetch(`http://${devServer}/api/x`);
    const sid = await answer.text();
    const cookie = answer.headers.getSetCookie()[0]!.split(';')[0]!;
    const opened = testClient(`ws://${devServer}/live`, { origin: `http://${devServer}`, headers: { Cookie: cookie } });
    if (changeOrigin) return void (await expect(opened).rejects.toMatchObject({ status: 403 }));
    await using client = await opened;
    expect(await client.receive()).toBe(sid);
  });
});
