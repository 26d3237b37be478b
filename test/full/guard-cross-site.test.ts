import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import { createServer } from 'holdfast';
import { attachSession, MemoryStore, SessionManager } from 'holdfast/session';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Answer, ask } from '../guard/ask.ts';
import { Served, wires } from '../guard/served.ts';

/** A backend that signs in at `/login`, and keeps what it gets as `Cookie`. */
async function startBackend() {
  const cookies: (string | undefined)[] = [];
  const server = http.createServer((request, response) => {
    cookies.push(request.headers.cookie);
    if (request.url!.endsWith('/login')) response.setHeader('Holdfast-Session', 'renew; user=alice');
    if (request.url!.endsWith('/logout')) response.setHeader('Holdfast-Session', 'end');
    response.end(String(request.headers['x-session-id'] ?? 'no session'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cookies,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

const stack = new AsyncDisposableStack();
let backend: Awaited<ReturnType<typeof startBackend>>;
let server: Served;

beforeAll(async () => {
  backend = stack.use(await startBackend());
  const mounts = ['lax', 'strict', 'none'].map(
    sameSite => `
  - mount: /${sameSite}
    application:
      session: { cookie: { sameSite: ${sameSite} } }
      routes:
        - { path: /auto, upstream: app }
        - { path: /create, upstream: app, session: create }
        - { path: /existing, upstream: app, session: existing }
        - { path: /login, upstream: app }
        - { path: /logout, upstream: app }
        - { path: /callback/login, upstream: app, crossSiteSignIn: true }`,
  );
  server = stack.use(
    await Served.yaml(`
session: false
trustedProxies: [127.0.0.2]
upstreams:
  app: { servers: ['${backend.url}'], controlsSession: true, affinity: none }
  sticky: { servers: ['${backend.url}'], affinity: cookie }
routes:
  - { path: /sticky, upstream: sticky }${mounts.join('')}
`),
  );
});
afterAll(() => stack.disposeAsync());

const NAVIGATION = ['Sec-Fetch-Mode', 'navigate', 'Sec-Fetch-Dest', 'document', 'Accept', 'text/html'];
/** What a browser sends with a form or link of another site; over plain http it says less. */
const FORM = [...NAVIGATION, 'Sec-Fetch-Site', 'cross-site', 'Origin', 'https://evil.test'];
const LINK = [...NAVIGATION, 'Sec-Fetch-Site', 'cross-site'];
const PLAIN_FORM = ['Accept', 'text/html', 'Origin', 'http://evil.test'];
const PLAIN_LINK = ['Accept', 'text/html,*/*;q=0.8'];
const SANDBOXED_FORM = ['Accept', 'text/html', 'Origin', 'null'];
/**
 * What browsers send over plain http with the form of a page that hides where it is (`Referrer-Policy: no-referrer`),
 * ours or not.
 */
const HIDDEN_FORM = ['Accept', 'text/html', 'Origin', 'null'];
const OWN_FORM = [...NAVIGATION, 'Sec-Fetch-Site', 'same-origin'];
const TYPED = [...NAVIGATION, 'Sec-Fetch-Site', 'none'];
const MARKER = ['Cookie', 'holdfast-there=1'];

/** The cookies that an answer sets, without their values. */
const namesOf = ({ setCookies }: Answer) => setCookies.map(line => line.slice(0, line.indexOf('=')));

describe.each(wires)('over %s, another site', wire => {
  const post = (path: string, headers: readonly string[]) => ask(server, wire, { path, method: 'POST', headers });
  const get = (path: string, headers: readonly string[]) => ask(server, wire, { path, headers });

  test.each([
    ['a form', FORM],
    ['a form over plain http', PLAIN_FORM],
    ['a sandboxed form', SANDBOXED_FORM],
    ['a form, and a cookie that a sibling domain has planted', [...FORM, 'Cookie', 'holdfast=planted']],
  ])('signs nobody out by %s: no cookie is set, under lax and strict', async (_what, headers) => {
    for (const sameSite of ['lax', 'strict']) {
      const answers = [
        await post(`/${sameSite}/auto`, headers),
        await post(`/${sameSite}/existing`, headers),
        await post(`/${sameSite}/create`, headers),
        await post(`/${sameSite}/login`, headers),
      ];
      expect(answers.map(namesOf)).toEqual([[], [], [], []]);
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 403, 403]);
      expect([answers[0]!.body, answers[1]!.body]).toEqual(['no session', 'no session']);
    }
    expect(namesOf(await post('/sticky', headers))).toEqual([]);
  });

  test('signs nobody out by a link, under lax', async () => {
    // A browser sends the cookie with it: without one there is none.
    for (const headers of [LINK, PLAIN_LINK]) expect(namesOf(await get('/lax/auto', headers))).toEqual(['holdfast']);
    expect(namesOf(await get('/sticky', LINK))).toEqual(['holdfast-sticky']);
  });

  test('signs nobody out by a link, under strict, and first visits by a link still begin a session', async () => {
    for (const headers of [LINK, PLAIN_LINK]) {
      const names = ['holdfast', 'holdfast-there'];
      expect(namesOf(await get('/strict/auto', headers))).toEqual(names);
      expect(namesOf(await get('/strict/create', headers))).toEqual(names);
      expect(namesOf(await get('/strict/existing', headers))).toEqual(['holdfast-new']);
      const again = [...headers, ...MARKER];
      expect(namesOf(await get('/strict/auto', again))).toEqual([]);
      expect(namesOf(await get('/strict/existing', again))).toEqual([]);
      expect(await get('/strict/create', again)).toMatchObject({ status: 403, setCookies: [] });
      expect(await get('/strict/login', again)).toMatchObject({ status: 403, setCookies: [] });
    }
  });

  test('begins sessions as ever where the cookie comes with everything (none)', async () => {
    for (const path of ['/none/auto', '/none/create', '/none/login'])
      expect(namesOf(await post(path, FORM)).slice(0, 1)).toEqual(['holdfast']);
  });

  test('signs in where the callback of a login is expected, and only by signing in', async () => {
    for (const sameSite of ['lax', 'strict']) {
      const answer = await post(`/${sameSite}/callback/login`, FORM);
      expect(answer.status).toBe(200);
      expect(namesOf(answer)[0]).toBe('holdfast');
      const cookie = answer.setCookies.map(line => line.split(';')[0]).join('; ');
      expect((await get(`/${sameSite}/existing`, [...TYPED, 'Cookie', cookie])).body).not.toBe('no session');
    }
  });

  test('our own pages and typed addresses begin sessions, whatever the marker says', async () => {
    for (const sameSite of ['lax', 'strict']) {
      expect(namesOf(await post(`/${sameSite}/auto`, OWN_FORM))[0]).toBe('holdfast');
      expect(namesOf(await post(`/${sameSite}/login`, OWN_FORM))[0]).toBe('holdfast');
      expect(namesOf(await get(`/${sameSite}/auto`, [...TYPED, ...MARKER]))[0]).toBe('holdfast');
      const origin = `${wire === 'http/1' ? 'http' : 'https'}://localhost`;
      expect(namesOf(await post(`/${sameSite}/create`, ['Origin', origin]))[0]).toBe('holdfast');
    }
    expect(namesOf(await post('/sticky', OWN_FORM))).toEqual(['holdfast-sticky']);
  });

  test.each(['lax', 'strict'])(
    'a page of ours that hides where it is sends its forms like any other, under %s',
    async sameSite => {
      const begins = async (cookie: string, headers = HIDDEN_FORM) => {
        const answers: [number, string | undefined][] = [];
        for (const path of ['create', 'login']) {
          const answer = await post(`/${sameSite}/${path}`, [...headers, 'Cookie', cookie]);
          answers.push([answer.status, namesOf(answer)[0]]);
        }
        return answers;
      };
      const [begun, refused] = [Array(2).fill([200, 'holdfast']), Array(2).fill([403, undefined])];
      const page = await get(`/${sameSite}/existing`, PLAIN_LINK);
      const nonce = page.setCookies[0]!.split(';')[0]!;
      expect(await begins(nonce)).toEqual(begun);
      // Also where the session has ended while the page was open.
      const { setCookies } = await get(`/${sameSite}/auto`, TYPED);
      const cookie = setCookies[0]!.split(';')[0]!;
      await post(`/${sameSite}/logout`, [...OWN_FORM, 'Cookie', cookie]);
      expect(await begins(cookie)).toEqual(begun);

      for (const headers of [FORM, PLAIN_FORM, [...FORM, 'Origin', 'null']])
        for (const shown of [nonce, cookie]) expect(await begins(shown, headers)).toEqual(refused);
      const other = await get(`/${sameSite === 'lax' ? 'strict' : 'lax'}/existing`, PLAIN_LINK);
      expect(await begins(other.setCookies[0]!.split(';')[0]!)).toEqual(refused);
    },
  );

  test('the place that a trusted proxy names is ours, and the one that it asks for is not', async () => {
    const proxied = (origin: string) =>
      ask(server, wire, {
        ...{ path: '/lax/create', method: 'POST', host: 'backend:8080', from: '127.0.0.2' },
        headers: ['X-Forwarded-Host', 'shop.test', 'X-Forwarded-Proto', 'https', 'Origin', origin],
      });
    const origins = ['https://shop.test', 'http://shop.test', 'https://backend:8080', 'https://www.shop.test'];
    const statuses = [];
    for (const origin of origins) statuses.push((await proxied(origin)).status);
    expect(statuses).toEqual([200, 403, 403, 403]);
  });

  test('programs, which say nothing of a site, begin sessions', async () => {
    expect(namesOf(await post('/lax/create', []))).toEqual(['holdfast']);
    expect(namesOf(await post('/strict/create', []))).toEqual(['holdfast', 'holdfast-there']);
  });

  test('a session that is shown is used and renewed wherever the request comes from', async () => {
    const first = await get('/lax/auto', TYPED);
    const cookie = first.setCookies[0]!.split(';')[0]!;
    const { setCookies, status } = await post('/lax/login', [...FORM, 'Cookie', cookie]);
    expect([status, setCookies.length]).toEqual([200, 1]);
    expect(setCookies[0]!.split(';')[0]).not.toBe(cookie);
  });
});

test('neither marker nor session reach a backend', async () => {
  const { setCookies } = await ask(server, 'http/1', { path: '/strict/auto', headers: TYPED });
  const cookie = setCookies.map(line => line.split(';')[0]).join('; ');
  await ask(server, 'http/1', { path: '/strict/auto', headers: [...TYPED, 'Cookie', `a=1; ${cookie}; b=2`] });
  expect(backend.cookies.at(-1)).toBe('a=1; b=2');
});

describe('what an application asks for by itself', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-cross-site-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** `open` and `signIn` at paths of these names, `signIn` also where it is expected. */
  async function program(): Promise<AsyncDisposable & { readonly url: string }> {
    const own = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder: folder,
      routes: [
        { path: '/form', session: 'existing', fetch: () => new Response('a form') },
        { path: '/open', fetch: async request => new Response((await own.sessions.open(request)).id) },
        ...['/sign-in', '/callback'].map(path => ({
          path,
          crossSiteSignIn: path === '/callback',
          fetch: async (request: Request) =>
            new Response((await own.sessions.signIn(request, { name: 'ann', roles: [] })).owner?.name),
        })),
      ],
    });
    await own.start();
    return { url: own.urls[0]!, [Symbol.asyncDispose]: () => own.stop({ drain: 0 }) };
  }

  async function expressApplication(): Promise<AsyncDisposable & { readonly url: string }> {
    const sessions = new SessionManager({ store: new MemoryStore(), keys: ['k'.repeat(32)] });
    const app = express();
    app.use((req, res, next) => {
      attachSession(sessions, req, res, { isCrossSiteSignIn: req.path === '/callback' });
      next();
    });
    app.get('/form', async (req, res) => {
      await attachSession(sessions, req, res).existing();
      res.send('a form');
    });
    app.use('/open', async (req, res) => void res.send((await sessions.open(req)).id));
    app.use(['/sign-in', '/callback'], async (req, res) => {
      res.send((await sessions.signIn(req, { name: 'ann', roles: [] })).owner?.name);
    });
    app.use((error: { status?: number }, _req: unknown, res: express.Response, _next: unknown) => {
      res.status(error.status ?? 500).end();
    });
    const listening = app.listen(0, '127.0.0.1');
    await once(listening, 'listening');
    return {
      url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`,
      async [Symbol.asyncDispose]() {
        listening.closeAllConnections();
        await new Promise(resolve => listening.close(resolve));
        await sessions.close();
      },
    };
  }

  const programs = [
    ['createServer', program],
    ['Express with attachSession', expressApplication],
  ] as const;

  test.each(programs)('its own form signs in from a page that hides where it is: %s', async (_what, start) => {
    await using own = await start();
    const page = await fetch(`${own.url}/form`, { headers: { accept: 'text/html' } });
    const [cookie] = page.headers.getSetCookie()[0]!.split(';');
    const post = (headers: Record<string, string>) => fetch(`${own.url}/sign-in`, { method: 'POST', headers });
    expect((await post({ origin: 'null', cookie: cookie! })).status).toBe(200);
    expect((await post({ origin: 'null' })).status).toBe(403);
  });

  test.each(programs)(
    'another site makes it set no cookie but at the callback of a login: %s',
    async (_what, start) => {
      await using own = await start();
      const post = async (path: string, headers: Record<string, string>) => {
        const { status, headers: received } = await fetch(own.url + path, { method: 'POST', headers });
        return [status, received.getSetCookie().map(line => line.split('=')[0])];
      };
      const fromElsewhere: Record<string, string>[] = [
        { 'sec-fetch-site': 'cross-site' },
        { origin: 'http://evil.test' },
      ];
      for (const headers of fromElsewhere) {
        expect(await post('/open', headers)).toEqual([403, []]);
        expect(await post('/sign-in', headers)).toEqual([403, []]);
        expect(await post('/callback', headers)).toEqual([200, ['holdfast']]);
      }
      const others: Record<string, string>[] = [{ 'sec-fetch-site': 'same-origin' }, { origin: own.url }, {}];
      for (const headers of others) {
        expect(await post('/open', headers)).toEqual([200, ['holdfast']]);
        expect(await post('/sign-in', headers)).toEqual([200, ['holdfast']]);
      }
    },
  );
});
