import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const executablePath = process.env.HOLDFAST_CHROMIUM ?? '/usr/bin/chromium';

/** For `describe.skipIf`. Where every service is required, a browser that is missing is a failure. */
export const isBrowserMissing: boolean = !existsSync(executablePath);
if (isBrowserMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`no browser at ${executablePath}`);

/** With an empty profile, and quiet towards everything but the pages of the test. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync'],
    ],
  });
}
