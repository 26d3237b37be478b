import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Config } from '../../src/index.ts';
import { isBrowserMissing, launchBrowser } from '../services/browser.ts';
import { missing } from '../services/proxies.ts';
import { startApache, startHoldfast } from './apache/comparison.ts';
import { exchange, handshakeBytes, requestBytes } from './apache/exchange.ts';
import { RecordingBackend } from './apache/recording-backend.ts';

// docs/reference/security-examples.md has the examples, and names these tests.
const reason = missing('apache');
const noBrowser = reason ?? (isBrowserMissing ? 'no browser' : undefined);

const backend = new RecordingBackend('backend');
const folder = mkdtempSync(join(tmpdir(), 'holdfast-examples-'));
// Apache reads it as another user.
chmodSync(folder, 0o755);
const passwords = join(folder, '.htpasswd');
// `htpasswd -nbB alice secret`
writeFileSync(passwords, 'alice:$2y$05$OJ52H1IYzmWGzrQtZuGglelw46.HN3QD8q//W86q44AXza5NiccPi\n');

beforeAll(() => backend.listen());
beforeEach(() => {
  backend.requests.length = 0;
});
afterAll(async () => {
  await backend[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const proxy = () => `ProxyPass / http://127.0.0.1:${backend.port}/ upgrade=websocket`;
const location = (lines: string) => `${proxy()}\n<Location />\n${lines}\n</Location>`;
const COOKIE_TO_HEADER = `RewriteEngine On
  RewriteCond %{HTTP:Cookie} ^.*SESSIONID=([^;]+)
  RewriteRule .* - [E=SESSION_ID:%1]
  RequestHeader set X-Session-ID %{SESSION_ID}e`;

const ours = (policy: Config['policy'] = {}, more: Config = {}): Config => ({
  upstreams: { app: { servers: [`http://127.0.0.1:${backend.port}`] } },
  routes: [{ path: '/*', upstream: 'app', policy }],
  ...more,
});
const SESSIONS: Config = { session: { cookie: { name: 'SESSIONID' } } };

/** What became of the bytes: the status, the `X-Session-ID` that the backend was told, and the cookies that were set. */
async function outcome(port: number, bytes: string) {
  const before = backend.requests.length;
  const { status, headers, peer } = await exchange(port, bytes);
  peer.socket.destroy();
  const [told] = backend.requests.slice(before);
  const names = (told?.rawHeaders ?? []).filter((_, index) => index % 2 === 0);
  const at = names.findIndex(name => name.toLowerCase() === 'x-session-id');
  return {
    status,
    isBackendAsked: told !== undefined,
    sessionId: at < 0 ? undefined : told!.rawHeaders[at * 2 + 1],
    cookies: headers.filter(([name]) => name === 'set-cookie').map(([, value]) => value.split(';')[0]),
  };
}

async function both(vhost: string, config: Config, bytes: string) {
  await using apache = await startApache({ vhost });
  await using holdfast = await startHoldfast(config);
  return { apache: await outcome(apache.port, bytes), holdfast: await outcome(holdfast.port, bytes) };
}

const get = (lines: readonly string[]) => requestBytes('GET', '/socket', lines);

describe.skipIf(reason)(reason ?? 'examples that do not hold on Apache', () => {
  test('a cookie whose name ends like that of the session is taken for it, and not by us', async () => {
    const { apache, holdfast } = await both(
      location(COOKIE_TO_HEADER),
      ours({}, SESSIONS),
      handshakeBytes('/socket', ['Cookie: EVILSESSIONID=evil']),
    );
    expect(apache).toMatchObject({ status: 101, sessionId: 'evil' });
    expect(holdfast).toMatchObject({ status: 101, sessionId: undefined });
  });

  test('an invented session reaches the backend as one, and not by us', async () => {
    const bytes = get(['Cookie: SESSIONID=invented']);
    const { apache, holdfast } = await both(location(COOKIE_TO_HEADER), ours({}, SESSIONS), bytes);
    expect(apache.sessionId).toBe('invented');
    expect(holdfast.sessionId).toBeUndefined();
  });

  test('a client without a session has the session (null), and none by us', async () => {
    const { apache, holdfast } = await both(location(COOKIE_TO_HEADER), ours({}, SESSIONS), get([]));
    expect(apache.sessionId).toBe('(null)');
    expect(holdfast.sessionId).toBeUndefined();
  });

  test('a client sends X-Session-ID itself where the header is appended to, and it is removed by us', async () => {
    const append = location('RequestHeader append X-Session-ID %{HTTP:Session-ID}e');
    const { apache, holdfast } = await both(append, ours({}, SESSIONS), get(['X-Session-ID: stolen']));
    expect(apache.sessionId).toBe('stolen, (null)');
    expect(holdfast.sessionId).toBeUndefined();
  });

  test('a client takes the header away by Connection: X-Session-ID, and the backend is told by us', async () => {
    await using apache = await startApache({ vhost: location(COOKIE_TO_HEADER) });
    await using holdfast = await startHoldfast(ours({}, SESSIONS));
    const page = await outcome(holdfast.port, get(['Sec-Fetch-Dest: document']));
    const attack = (cookie: string) => get([`Cookie: ${cookie}`, 'Connection: X-Session-ID']);
    expect((await outcome(apache.port, attack('SESSIONID=good'))).sessionId).toBeUndefined();
    expect((await outcome(holdfast.port, attack(page.cookies[0]!))).sessionId).toMatch(/^[\w-]{22}$/);
  });

  test('the line against fixation gives everybody (null), or the id of the attacker, and a new one by us', async () => {
    const echo = `${COOKIE_TO_HEADER}\nHeader always set Set-Cookie "SESSIONID=%{SESSION_ID}e; Path=/; HttpOnly; Secure"`;
    const seen = [];
    for (const lines of [[], ['Cookie: SESSIONID=attacker']])
      seen.push(await both(location(echo), ours({}, SESSIONS), get([...lines, 'Sec-Fetch-Dest: document'])));
    expect(seen.map(({ apache }) => apache.cookies)).toEqual([['SESSIONID=(null)'], ['SESSIONID=attacker']]);
    for (const { holdfast } of seen)
      expect(holdfast.cookies).toEqual([expect.stringMatching(/^SESSIONID=[\w.-]{40,}$/)]);
  });

  test('CORS headers let a WebSocket of every origin in, and our list of origins does not', async () => {
    const cors = location(
      'Header always set Access-Control-Allow-Origin "https://example.com"\nHeader always set Access-Control-Allow-Credentials "true"',
    );
    const bytes = handshakeBytes('/socket', ['Origin: https://evil.test', 'Cookie: SESSIONID=victim']);
    const { apache, holdfast } = await both(cors, ours({ origins: ['https://example.com'], cors: true }), bytes);
    expect(apache).toMatchObject({ status: 101, isBackendAsked: true });
    expect(holdfast).toMatchObject({ status: 403, isBackendAsked: false });
  });

  test('"Require valid-user" beside "Require all granted" asks nobody (RequireAny), and "auth" asks everybody', async () => {
    const trap = location(
      `Require all granted\nRequire valid-user\nAuthType Basic\nAuthName "WebSocket Authentication"\nAuthUserFile ${passwords}`,
    );
    const asking: Config = ours(
      { auth: 'staff' },
      { auth: { staff: { type: 'basic', realm: 'WebSocket Authentication', file: passwords } } },
    );
    const { apache, holdfast } = await both(trap, asking, handshakeBytes('/socket'));
    expect(apache).toMatchObject({ status: 101, isBackendAsked: true });
    expect(holdfast).toMatchObject({ status: 401, isBackendAsked: false });
  });

  test('who has the password comes in on both', async () => {
    const right = location(
      `Require valid-user\nAuthType Basic\nAuthName "WebSocket Authentication"\nAuthUserFile ${passwords}`,
    );
    const asking: Config = ours(
      { auth: 'staff' },
      { auth: { staff: { type: 'basic', realm: 'WebSocket Authentication', file: passwords } } },
    );
    const authorization = (text: string) => `Authorization: Basic ${Buffer.from(text).toString('base64')}`;
    const good = await both(right, asking, handshakeBytes('/socket', [authorization('alice:secret')]));
    const bad = await both(right, asking, handshakeBytes('/socket', [authorization('alice:guess')]));
    expect([good.apache.status, good.holdfast.status]).toEqual([101, 101]);
    expect([bad.apache.status, bad.holdfast.status]).toEqual([401, 401]);
  });

  test('"Require ip" beside "Require all granted" lets every address in, and "allow" does not', async () => {
    const trap = location('Require all granted\nRequire ip 192.168.0.0/24');
    const { apache, holdfast } = await both(
      trap,
      ours({ addresses: { allow: ['192.168.0.0/24'] } }),
      handshakeBytes('/socket'),
    );
    expect(apache).toMatchObject({ status: 101, isBackendAsked: true });
    expect(holdfast).toMatchObject({ status: 403, isBackendAsked: false });
  });
});

describe.skipIf(noBrowser)(noBrowser ?? 'a page of another origin, in a real browser', () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;

  beforeAll(async () => {
    browser = await launchBrowser();
    stack.defer(() => browser.close());
  });
  afterAll(() => stack.disposeAsync());

  test('opens a WebSocket with the cookie of its visitor through Apache, and none through us', async () => {
    await using apache = await startApache({
      vhost: location(
        'Header always set Access-Control-Allow-Origin "https://example.com"\nHeader always set Access-Control-Allow-Credentials "true"',
      ),
    });
    await using holdfast = await startHoldfast(ours());
    const stranger = http.createServer((_, response) => {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>elsewhere</title>');
    });
    await once(stranger.listen(0, '127.0.0.1'), 'listening');
    const page = await browser.newPage();
    const attempt = async (port: number, from: number) => {
      // The visitor has been there, and has a session.
      await page.goto(`http://localhost:${port}/page`);
      await page.context().addCookies([{ name: 'SESSIONID', value: 'victim', domain: 'localhost', path: '/' }]);
      await page.goto(`http://localhost:${from}/`);
      return await page.evaluate(
        url =>
          new Promise<string>(resolve => {
            const socket = new WebSocket(url);
            socket.onopen = () => resolve('open');
            socket.onerror = () => resolve('refused');
          }),
        `ws://localhost:${port}/socket`,
      );
    };
    const cookieTold = () => {
      const { rawHeaders } = backend.requests.find(({ target }) => target === '/socket')!;
      return rawHeaders[rawHeaders.findIndex(name => name.toLowerCase() === 'cookie') + 1];
    };
    const elsewhere = (stranger.address() as AddressInfo).port;
    expect(await attempt(apache.port, elsewhere)).toBe('open');
    expect(cookieTold()).toBe('SESSIONID=victim');
    backend.requests.length = 0;
    expect(await attempt(holdfast.port, elsewhere)).toBe('refused');
    expect(backend.requests.map(({ target }) => target)).not.toContain('/socket');
    // And the own page may.
    expect(await attempt(holdfast.port, holdfast.port)).toBe('open');
    await page.close();
    stranger.closeAllConnections();
    stranger.close();
  });
});
