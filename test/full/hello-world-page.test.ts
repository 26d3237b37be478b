import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ExampleProcess } from '../examples/example-process.ts';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';
const isMissing = !existsSync(executablePath);
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

const example = new ExampleProcess('hello-world-page');
let browser: Browser;
let page: Page;
const errors: string[] = [];

const text = (id: string) => page.locator(`#${id}`).textContent();
const waitFor = (id: string, expected: RegExp) => page.locator(`#${id}`).filter({ hasText: expected }).waitFor();

async function sendName(name: string): Promise<void> {
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button', { name: 'send' }).click();
}

describe.skipIf(isMissing)('the hello-world page in a browser', () => {
  beforeAll(async () => {
    await example.start();
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic'] });
    page = await browser.newPage();
    page.on('pageerror', error => errors.push(String(error)));
    await page.goto(example.origin);
  }, 60_000);

  afterAll(async () => {
    await browser?.close();
    await example.dispose();
  });

  test('is found under its prefix, and connects', async () => {
    expect(page.url()).toBe(example.url('/websocket-helloworld-wls/'));
    await waitFor('status', /^OPEN$/);
    expect(await text('short_msg')).toBe('');
  });

  test('shows the answer to the name that was typed', async () => {
    await sendName('Ada');
    await waitFor('short_msg', /^Message "Ada" has been received by server\.$/);
  });

  test('shows what the server sends as text, whatever it says', async () => {
    await sendName('<b>Bob</b>');
    await waitFor('short_msg', /<b>Bob<\/b>/);
    expect(await page.locator('#short_msg b').count()).toBe(0);
    expect(await text('reason')).toBe('');
  });

  test('says that it cannot send once the connection is closed', async () => {
    await page.getByRole('button', { name: 'close' }).click();
    await waitFor('status', /^CLOSED$/);
    await sendName('Cid');
    expect(await text('reason')).toBe("Not connected can't send msg");
    expect(await text('short_msg')).toContain('Bob');
    expect(errors).toEqual([]);
  });
});
