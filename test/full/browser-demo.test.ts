import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

let folder: string;
let browser: BrowserContext;
let demo: Holdfast;
let url: string;
let first: Page;
let second: Page;
const complaints: string[] = [];

async function startDemo(port: string): Promise<void> {
  demo = new Holdfast(['demo', '--port', port, '--data', join(folder, 'data')]);
  url = (await demo.printed(/Open {2}(http:\S+)/))[1]!;
}

async function openTab(): Promise<Page> {
  const page = await browser.newPage();
  page.on('pageerror', error => complaints.push(String(error)));
  page.on('console', message => {
    if (/Content Security Policy|Refused to/.test(message.text())) complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}

const session = (page: Page) => text(page, 'session');
const messages = (page: Page) => page.locator('#messages li');
const text = async (page: Page, id: string) => (await page.locator(`#${id}`).textContent()) ?? '';

async function waitFor(page: Page, id: string, expected: RegExp): Promise<void> {
  await page.locator(`#${id}`).filter({ hasText: expected }).waitFor();
}

const waitConnected = (page: Page) => waitFor(page, 'connection', /^connected$/);

async function say(page: Page, what: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(what);
  await page.getByRole('button', { name: 'Send' }).click();
}

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** What the backend sees of a client that claims another session: the header must not arrive. */
async function backendFacts(page: Page): Promise<{ session?: string; pid: number; requestsOfSession: number }> {
  return page.evaluate(`fetch('/backend/facts', { headers: { 'X-Session-ID': 'forged', X_Session_ID: 'forged' } })
    .then(response => response.json())`);
}

const closeCodes = (page: Page): Promise<string[]> => page.evaluate('closeCodes');

describe.skipIf(isMissing)('the demo in a browser', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-browser-'));
    await startDemo('0');
    browser = await chromium.launchPersistentContext(join(folder, 'profile'), {
      executablePath,
      headless: true,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    // What a page may know of a closed socket is its close code.
    await browser.addInitScript({
      content: `globalThis.closeCodes = [];
        globalThis.WebSocket = class extends WebSocket {
          constructor(url) {
            super(url);
            this.addEventListener('close', event => closeCodes.push(new URL(url).pathname + ' ' + event.code));
          }
        };`,
    });
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    demo?.kill('SIGKILL');
    await demo?.ended;
    rmSync(folder, { recursive: true, force: true });
  });

  test('opens no session for somebody who only looks', async () => {
    first = await openTab();
    await first.getByRole('heading', { name: 'Sign in' }).waitFor();
    expect(await text(first, 'connection')).toBe('signed out');
    expect(await browser.cookies()).toEqual([]);
  });

  test('signs in with a name, and a second tab is signed in with the same session', async () => {
    await first.getByLabel('Your name').fill('Ada');
    await first.getByRole('button', { name: 'Sign in' }).click();
    await waitConnected(first);
    second = await openTab();
    await waitConnected(second);
    expect(await text(second, 'name')).toBe('Ada');
    expect(await session(first)).toMatch(/^[\w-]{8}…$/);
    expect(await session(second)).toBe(await session(first));
  });

  test('keeps the secret from scripts', async () => {
    const cookies = await browser.cookies();
    expect(cookies).toMatchObject([{ name: 'holdfast_demo', httpOnly: true, sameSite: 'Lax' }]);
    expect(await first.evaluate('document.cookie')).toBe('');
  });

  test('shows in one tab what is written in the other, as text', async () => {
    await say(first, 'hello <b>harbour</b>');
    await second.getByText('hello <b>harbour</b>').waitFor();
    expect(await messages(second).first().locator('strong').textContent()).toBe('Ada');
    expect(await text(second, 'roster')).toBe('Ada');
  });

  test('keeps rooms apart', async () => {
    await second.getByRole('link', { name: 'engine-room' }).click();
    await second.locator('#messages:empty').waitFor();
    await waitConnected(second);
    await say(second, 'only down here');
    await second.getByText('only down here').waitFor();
    await say(first, 'up here');
    await first.getByText('up here').waitFor();
    expect(await messages(first).allInnerTexts()).toHaveLength(2);
    expect(await messages(second).allInnerTexts()).toHaveLength(1);
    await second.getByRole('link', { name: 'lobby' }).click();
    await second.getByText('up here').waitFor();
  });

  test('is still signed in after a reload, and shows the last messages', async () => {
    const before = await session(first);
    await first.reload();
    await waitConnected(first);
    expect(await session(first)).toBe(before);
    await first.getByText('hello <b>harbour</b>').waitFor();
  });

  test('is still signed in when the tab was closed and opened again', async () => {
    const before = await session(second);
    await second.close();
    second = await openTab();
    await waitConnected(second);
    expect(await session(second)).toBe(before);
  });

  test('tells the backend the session, and nothing that a client claims', async () => {
    await waitFor(first, 'backend-session', /^[\w-]{20,}$/);
    const sid = await text(first, 'backend-session');
    expect(`${sid.slice(0, 8)}…`).toBe(await session(first));
    expect((await backendFacts(first)).session).toBe(sid);
  });

  test('relays a WebSocket to the backend, which is told the session too', async () => {
    await waitFor(second, 'backend-live', /^open, up \d+ s$/);
    expect(await text(second, 'backend-session')).toBe((await backendFacts(first)).session);
  });

  test('comes back by itself after a cut, in every tab, with the same session', async () => {
    const before = await session(first);
    await first.getByRole('button', { name: 'Cut the connection' }).click();
    for (const page of [first, second]) {
      await waitFor(page, 'reconnects', /^1$/);
      await waitConnected(page);
      expect(await closeCodes(page)).toContain('/chat/lobby 1006');
      expect(await session(page)).toBe(before);
    }
    await say(second, 'still here');
    await first.getByText('still here').waitFor();
  });

  test('starts the backend again when it dies; the session is the same', async () => {
    const before = await backendFacts(first);
    process.kill(before.pid, 'SIGKILL');
    await demo.printed(/the backend is back/);
    await first.getByRole('button', { name: 'Ask again' }).click();
    await waitFor(first, 'backend-pid', new RegExp(`^(?!${before.pid}$)\\d+$`));
    await waitFor(first, 'backend-live', /^open, up \d s$/);
    const after = await backendFacts(first);
    expect(after.session).toBe(before.session);
    expect(await text(first, 'connection')).toBe('connected');
  });

  test('survives kill -9 of the server: still signed in, same session, the sockets come back', async () => {
    const before = await session(first);
    const { pid, session: sid } = await backendFacts(first);
    const reconnects = Number(await text(first, 'reconnects'));
    demo.kill('SIGKILL');
    expect(await demo.ended).toBe('SIGKILL');
    await waitFor(first, 'connection', /^reconnecting$/);
    await expect.poll(() => isAlive(pid), { timeout: 5_000 }).toBe(false);
    await startDemo(new URL(url).port);
    for (const page of [first, second]) {
      await waitConnected(page);
      expect(await session(page)).toBe(before);
    }
    expect(Number(await text(first, 'reconnects'))).toBe(reconnects + 1);
    expect((await backendFacts(first)).session).toBe(sid);
    await first.reload();
    await waitConnected(first);
    expect(await session(first)).toBe(before);
    await say(first, 'back again');
    await second.getByText('back again').waitFor();
  });

  test('does nothing for another origin, also with the cookie', async () => {
    const [cookie] = await browser.cookies();
    for (const path of ['signin', 'signout', 'cut', 'kill-backend']) {
      const response = await fetch(`${url}/${path}`, {
        method: 'POST',
        headers: { Origin: 'https://evil.example', Cookie: `${cookie!.name}=${cookie!.value}` },
      });
      expect([path, response.status]).toEqual([path, 403]);
    }
    expect(await text(first, 'connection')).toBe('connected');
  });

  test('sign out closes the socket of every tab at once with 1008', async () => {
    const [cookie] = await browser.cookies();
    await first.getByRole('button', { name: 'Sign out' }).click();
    for (const page of [first, second]) {
      await page.getByText('You were signed out').waitFor({ timeout: 5_000 });
      expect(await text(page, 'connection')).toBe('signed out');
      expect(await text(page, 'session')).toBe('none');
      await expect
        .poll(async () => (await closeCodes(page)).slice(-2).sort())
        .toEqual(['/backend/live 1008', '/chat/lobby 1008']);
    }
    const replayed = await fetch(`${url}/me`, { headers: { Cookie: `${cookie!.name}=${cookie!.value}` } });
    expect(await replayed.json()).toEqual({ name: null });
  });

  test('signing in again in one tab brings the other one along', async () => {
    await first.getByLabel('Your name').fill('Grace');
    await first.getByRole('button', { name: 'Sign in' }).click();
    for (const page of [first, second]) await waitConnected(page);
    expect(await text(second, 'name')).toBe('Grace');
    expect(await session(second)).toBe(await session(first));
  });

  test('the page caused no script error and no violation of its Content-Security-Policy', () => {
    expect(complaints).toEqual([]);
  });

  test('ends with 0 on SIGTERM, and its backend with it', async () => {
    const { pid } = await backendFacts(first);
    demo.kill('SIGTERM');
    expect(await demo.ended).toBe(0);
    await expect.poll(() => isAlive(pid), { timeout: 5_000 }).toBe(false);
  });
});
