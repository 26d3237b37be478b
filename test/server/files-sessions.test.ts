import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineEndpoint } from 'holdfast';
import { MemoryStore, SessionManager } from 'holdfast/session';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ask, knock, type Wire, WiredServer } from './wires.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-files-sessions-'));
mkdirSync(join(folder, 'docs'));
for (const name of ['index.html', 'docs/index.html', 'page.html']) writeFileSync(join(folder, name), '<p>page</p>');
writeFileSync(join(folder, 'script.js'), '1');
afterAll(() => rmSync(folder, { recursive: true }));

/** As browsers say it over TLS. */
const NAVIGATION = { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate', accept: 'text/html' };
const SCRIPT = { 'sec-fetch-dest': 'script', accept: '*/*' };

describe.each<Wire>(['http/1', 'tls', 'http/2'])('a page from files, over %s', wire => {
  let sessions: SessionManager;
  let server: WiredServer;
  beforeEach(async () => {
    sessions = new SessionManager({ store: new MemoryStore(), keys: ['k'.repeat(43)], cookie: { name: 'sid' } });
    server = await WiredServer.start({
      session: sessions,
      routes: [
        { path: '/auto/*', files: folder, session: 'auto' },
        { path: '/existing/*', files: folder, session: 'existing' },
        { path: '/plain/*', files: folder },
        {
          mount: '/app',
          application: { files: folder, fetch: (_, { session }) => new Response(session?.id ?? 'none') },
        },
        { mount: '/static', application: { files: folder } },
        { endpoint: defineEndpoint({ path: '/who', accept: ({ session }) => session !== undefined }) },
      ],
    });
  });
  afterEach(async () => {
    await server.close();
    await sessions.close();
  });
  const get = (path: string, headers: Record<string, string> = NAVIGATION, method = 'GET') =>
    ask(server, wire, { path, headers, method });
  const cookieOf = async (path: string) => (await get(path)).headers['set-cookie']!.split(';')[0]!;

  test.each(['/auto/page.html', '/auto/', '/auto/docs/', '/app/page.html'])(
    'begins a session at %s when a person opens it, and its answer is no page for shared caches',
    async path => {
      const first = await get(path);
      expect([first.status, first.body]).toEqual([200, '<p>page</p>']);
      expect(first.headers).toMatchObject({
        'set-cookie': expect.stringMatching(/^sid=/),
        'cache-control': 'private, no-cache',
        etag: expect.any(String),
      });
      expect(await sessions.count()).toBe(1);
      const cookie = first.headers['set-cookie']!.split(';')[0]!;
      const again = await get(path, { ...NAVIGATION, cookie });
      expect(again.headers).not.toHaveProperty('set-cookie');
      expect(again.headers['cache-control']).toBe('public, max-age=0');
      expect(await sessions.count()).toBe(1);
    },
  );

  test('has what its sockets need', async () => {
    const cookie = await cookieOf('/auto/page.html');
    const origin = `${wire === 'http/1' ? 'http' : 'https'}://public.example`;
    expect((await knock(server, wire, { path: '/who', headers: { cookie, origin } })).status).toBe(101);
    expect((await knock(server, wire, { path: '/who', headers: { origin } })).status).toBe(403);
  });

  test('begins one also where the browser has the page already, or asks for its head or for a part', async () => {
    const { headers } = await get('/auto/page.html');
    const same = await get('/auto/page.html', { ...NAVIGATION, 'if-none-match': headers.etag! });
    const head = await get('/auto/page.html', NAVIGATION, 'HEAD');
    const part = await get('/auto/page.html', { ...NAVIGATION, range: 'bytes=3-6' });
    expect([same, head, part].map(({ status, body }) => [status, body])).toEqual([
      [304, ''],
      [200, ''],
      [206, 'page'],
    ]);
    for (const answer of [same, head, part])
      expect(answer.headers).toMatchObject({
        'set-cookie': expect.stringMatching(/^sid=/),
        'cache-control': 'private, no-cache',
        etag: headers.etag,
      });
    expect(await sessions.count()).toBe(4);
  });

  test('begins none for its scripts, for what is not there, nor for a range that it does not have', async () => {
    for (const [path, asked, status] of [
      ['/auto/script.js', SCRIPT, 200],
      ['/auto/nothing.html', NAVIGATION, 404],
      ['/auto/page.html', { ...NAVIGATION, range: 'bytes=99-' }, 416],
      ['/static/page.html', NAVIGATION, 200],
      ['/plain/page.html', NAVIGATION, 200],
    ] as const) {
      const answer = await get(path, asked);
      expect([path, answer.status, answer.headers['set-cookie']]).toEqual([path, status, undefined]);
    }
    expect((await get('/plain/page.html')).headers['cache-control']).toBe('public, max-age=0');
    expect(await sessions.count()).toBe(0);
  });

  test('gives its parts one and the same session under "existing"', async () => {
    const page = await get('/existing/page.html');
    expect(page.headers).toMatchObject({
      'set-cookie': expect.stringMatching(/^sid-new=/),
      'cache-control': 'private, no-cache',
    });
    expect(await sessions.count()).toBe(0);
    const cookie = page.headers['set-cookie']!.split(';')[0]!;
    const parts = [1, 2].map(() => get('/auto/page.html', { ...NAVIGATION, cookie }));
    const [one, two] = await Promise.all(parts);
    expect(one!.headers['set-cookie']).toBe(two!.headers['set-cookie']);
    expect(await sessions.count()).toBe(1);
  });

  test('and the handler behind the files of an application have the same session', async () => {
    expect((await get('/app/else', SCRIPT)).body).toBe('none');
    const cookie = await cookieOf('/app/page.html');
    const sid = (await get('/app/else', { ...SCRIPT, cookie })).body;
    expect((await sessions.info(sid))?.sid).toBe(sid);
  });
});
