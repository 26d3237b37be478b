import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer, type Server } from '../../src/index.ts';
import { accepts, freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

const VITE = fileURLToPath(new URL('../../node_modules/vite/bin/vite.js', import.meta.url));

const FILES = {
  'index.html': '<!doctype html><title>hot</title><p id="text"></p><script type="module" src="/main.js"></script>',
  'main.js': `import { text } from './text.js';
    const show = text => { document.querySelector('#text').textContent = text; };
    show(text);
    import.meta.hot.accept('./text.js', module => show(module.text));`,
  'text.js': "export const text = 'before';",
};

describe.skipIf(isMissing)('a Vite dev server behind us, in a browser', () => {
  let folder: string;
  let vite: ChildProcess;
  let server: Server;
  let browser: Browser;
  let page: Page;
  const sockets: string[] = [];
  const write = (name: string, text: string) => writeFile(join(folder, name), text);

  /**
   * Changes a file until the page shows it: Vite's watcher overlooks a change that follows soon upon another one of the
   * same file.
   */
  async function changesTo(name: string, content: string, selector: string, text: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      await write(name, content);
      try {
        await page.locator(selector).filter({ hasText: text }).waitFor({ timeout: 4_000 });
        return;
      } catch (error) {
        if (attempt === 10) throw error;
      }
    }
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-vite-'));
    for (const [name, text] of Object.entries(FILES)) await write(name, text);
    const port = await freePort();
    vite = spawn(process.execPath, [VITE, '--port', String(port), '--strictPort', '--host', '127.0.0.1'], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await until(() => accepts(port), 30_000);
    server = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      upstreams: { vite: { servers: [`http://127.0.0.1:${port}`] } },
      routes: [{ path: '/*', upstream: 'vite' }],
      session: false,
      log: { level: 'silent' },
    });
    await server.start();
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic'] });
    page = await browser.newPage();
    page.on('websocket', socket => sockets.push(new URL(socket.url()).origin));
    await page.goto(server.urls[0]!);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    if (vite) {
      const exited = once(vite, 'exit');
      vite.kill('SIGKILL');
      await exited;
    }
    await rm(folder, { recursive: true, force: true });
  });

  test('a file that changes is shown without loading the page again, through our relay', async () => {
    await page.locator('#text').filter({ hasText: 'before' }).waitFor();
    // Vite's client would go round us to the dev server when the socket does not come about.
    await expect.poll(() => server.upstreams.get('vite')!.status.servers[0]!.sockets).toBe(1);
    const { origin } = new URL(server.urls[0]!);
    expect(sockets).toEqual([origin.replace('http', 'ws')]);
    await page.evaluate('window.isTheSamePage = true');
    for (const text of ['after', 'later', 'Grüße']) {
      await changesTo('text.js', `export const text = ${JSON.stringify(text)};`, '#text', text);
    }
    expect(await page.evaluate('window.isTheSamePage')).toBe(true);
  });

  test('what cannot be replaced loads the page again, which connects again', async () => {
    await changesTo('index.html', FILES['index.html'].replace('<p', '<h1>new</h1><p'), 'h1', 'new');
    expect(await page.evaluate('window.isTheSamePage')).toBe(undefined);
    await expect.poll(() => server.upstreams.get('vite')!.status.servers[0]!.sockets).toBe(1);
    await changesTo('text.js', "export const text = 'at last';", '#text', 'at last');
  });
});
