import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { type Config, defineEndpoint } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { AdminClient } from '../../../src/cli/admin-client.ts';
import { LiveTraces, type TraceQuery } from '../../../src/server/tracing/live-traces.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { testClient } from '../../../src/testing/test-client.ts';
import { closing } from '../../services/closing.ts';
import { AdminServer } from '../admin-server.ts';

const open = closing();

interface Line {
  readonly id: string;
  readonly step: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly text: string;
}

async function start(config: Config): Promise<AdminServer> {
  const server = await AdminServer.start(config);
  open.push(server);
  return server;
}

/** Follows until the test is over. */
async function follow(server: AdminServer, query: Record<string, string> = {}): Promise<Line[]> {
  const lines: Line[] = [];
  const ended = new AbortController();
  const client = new AdminClient(server.server.adminSocket!);
  const following = client.follow('/v1/trace', query, line => lines.push(line as unknown as Line), ended.signal);
  following.catch(() => {});
  open.push({ close: () => ended.abort() });
  // The stream has begun when a request has its lines.
  await expect
    .poll(async () => {
      await (await fetch(`${server.server.urls[0]}/begin`)).text();
      return lines.length > 0 || query.session !== undefined || query.path !== undefined || query.address !== undefined;
    })
    .toBe(true);
  await new Promise(resolve => setTimeout(resolve, 50));
  lines.length = 0;
  return lines;
}

const steps = (lines: readonly Line[]) => lines.map(({ step }) => step);
const textOf = (lines: readonly Line[], step: string) => lines.find(line => line.step === step)?.text;
const until = (lines: readonly Line[], step: string) => expect.poll(() => steps(lines)).toContain(step);

const home = { path: '/*', name: 'home', session: 'create' as const, fetch: () => new Response('hello') };

describe('a trace', () => {
  test('has a line for each arrow of the flow, with what it found', async () => {
    const server = await start({ session: { store: 'memory:' }, routes: [home] });
    const lines = await follow(server);
    await (await fetch(`${server.server.urls[0]}/page?token=SECRET`)).text();
    await until(lines, 'answer');
    expect(steps(lines)).toEqual(['head', 'entry', 'route', 'policies', 'authenticate', 'session', 'answer']);
    expect(new Set(lines.map(({ id }) => id)).size).toBe(1);
    expect(textOf(lines, 'head')).toMatch(/^GET \/page\?token=\*\*\* for http:\/\/localhost:\d+, from 127\.0\.0\.1$/);
    expect(textOf(lines, 'route')).toBe('home → a handler');
    expect(textOf(lines, 'authenticate')).toBe('the route asks for nobody');
    expect(textOf(lines, 'session')).toMatch(/^[\w-]{8}, new$/);
    expect(textOf(lines, 'answer')).toBe('200');
    expect(lines.every(({ ok, ms }) => ok && ms >= 0)).toBe(true);
    expect(JSON.stringify(lines)).not.toContain('SECRET');
  });

  test('has what is not a request, also where one address is followed', async () => {
    const server = await start({ session: false, routes: [{ path: '/*', fetch: () => new Response('hello') }] });
    // One after the other: each begins with a request, which those before see, too.
    const ofOne = await follow(server, { address: '127.0.0.1' });
    const ofAnother = await follow(server, { address: '192.0.2.1' });
    const ofPath = await follow(server, { path: '/x' });
    const all = await follow(server);
    ofOne.length = 0;
    for (const bytes of ['garbage\r\n\r\n', 'GET /x?token=SECRET HTTP/1.1\r\nno header\r\n\r\n']) {
      const socket = net.connect(Number(new URL(server.server.urls[0]!).port), '127.0.0.1');
      socket.end(bytes);
      await once(socket.resume(), 'close');
    }
    const why = '400 ERR_HTTP_BAD_REQUEST: the request cannot be read';
    for (const lines of [all, ofOne]) {
      await expect.poll(() => steps(lines)).toEqual(['head', 'answer', 'head', 'answer']);
      expect(lines.map(({ text }) => text)).toEqual([
        `${why}; from 127.0.0.1`,
        '400: ERR_HTTP_BAD_REQUEST, the request cannot be read',
        `${why}; GET /x?token=***, from 127.0.0.1`,
        '400: ERR_HTTP_BAD_REQUEST, the request cannot be read',
      ]);
    }
    expect([...ofAnother, ...ofPath]).toEqual([]);
  });

  test('says why there is no session: no cookie, another cookie, a bad signature, an unknown key, one that has ended', async () => {
    const existing = { ...home, session: 'existing' as const, path: '/seen' };
    const server = await start({ session: { store: 'memory:' }, routes: [existing, { ...home, path: '/begin' }] });
    const url = server.server.urls[0]!;
    const made = (await fetch(`${url}/begin`)).headers.getSetCookie()[0]!.split(';')[0]!;
    const [name, ticket] = made.split('=') as [string, string];
    const sid = ticket.split('.')[1]!;
    const lines = await follow(server);
    const sessionOf = async (cookie?: string) => {
      lines.length = 0;
      await (await fetch(`${url}/seen`, cookie === undefined ? {} : { headers: { cookie } })).text();
      await until(lines, 'answer');
      return textOf(lines, 'session');
    };
    expect(await sessionOf()).toBe(`none: no cookie ${name}`);
    expect(await sessionOf('other=1')).toBe(`none: no cookie ${name}`);
    expect(await sessionOf(`${name}=JSESSION.1`)).toBe(`none: cookie ${name}: not a ticket of Holdfast`);
    const changed = `${ticket.slice(0, -1)}${ticket.endsWith('A') ? 'B' : 'A'}`;
    expect(await sessionOf(`${name}=${changed}`)).toContain(`cookie ${name}: its signature is not good`);
    const parts = ticket.split('.');
    parts[3] = [...parts[3]!].reverse().join('');
    expect(await sessionOf(`${name}=${parts.join('.')}`)).toContain('signed with a key that this server does not have');
    expect(await sessionOf(made)).toBe(`${sid.slice(0, 8)}, by cookie ${name}`);
    await server.server.sessions.end(sid, 'admin');
    expect(await sessionOf(made)).toBe(
      `none: cookie ${name}: a genuine ticket; ${sid.slice(0, 8)}: not in the store: it has ended, or its time was over`,
    );
    // Neither the secret nor the whole sid is in any line.
    expect(JSON.stringify(lines)).not.toContain(sid);
  });

  test('says that a secret was replaced by a login', async () => {
    const routes: Config['routes'] = [
      { ...home, path: '/begin' },
      { ...home, session: 'existing', path: '/seen' },
      {
        path: '/login',
        fetch: async request => {
          await server.server.sessions.signIn(request, { name: 'alice', roles: [] });
          return new Response('hello alice');
        },
      },
    ];
    const server: AdminServer = await start({ session: { store: 'memory:' }, routes });
    const url = server.server.urls[0]!;
    const cookie = (await fetch(`${url}/begin`)).headers.getSetCookie()[0]!.split(';')[0]!;
    await (await fetch(`${url}/login`, { headers: { cookie } })).text();
    const lines = await follow(server);
    await (await fetch(`${url}/seen`, { headers: { cookie } })).text();
    await until(lines, 'answer');
    expect(lines.find(({ step }) => step === 'session')?.text).toContain('replaced by a login a moment ago');
  });

  test('names the nearest routes where there is none', async () => {
    const routes = [
      { path: '/socket', name: '/socket', fetch: () => new Response('') },
      { path: '/begin', fetch: () => new Response('') },
    ];
    const server = await start({ session: false, routes });
    const lines = await follow(server);
    await (await fetch(`${server.server.urls[0]}/sockett`)).text();
    await until(lines, 'answer');
    const line = lines.find(({ step }) => step === 'route')!;
    expect(line).toMatchObject({ ok: false });
    expect(line.text).toMatch(/^404 ERR_ROUTE_NOT_FOUND: .*; nearest: \/socket$/);
  });

  test('does not show subprotocols that a client offers, among which may be a token', async () => {
    const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(backend, 'listening');
    open.push({ close: () => backend.close() });
    const server = await start({
      session: false,
      upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
    });
    const lines = await follow(server, { path: '/socket' });
    const url = `${server.server.urls[0]!.replace('http', 'ws')}/socket`;
    await using _ = await testClient(url, { subprotocols: ['chat', 'bearer.TOKEN'] });
    await until(lines, 'headers');
    expect(textOf(lines, 'headers')).toMatch(/Sec-WebSocket-Protocol/i);
    expect(JSON.stringify(lines)).not.toContain('TOKEN');
  });

  test.each<[string, TraceQuery, string[]]>([
    ['anybody', {}, ['answer']],
    ['a path', { path: '/mine' }, []],
    ['an address', { address: '192.0.2.1' }, []],
    ['a session', { session: 'abcd' }, []],
  ])('of %s has only what surely fits, when a request is answered before it is looked at', (_, query, expected) => {
    const lines: string[] = [];
    const onLine = ({ step }: { step: string }) => void lines.push(step);
    const traces = new LiveTraces({ query, onLine, clock: new FakeClock(), routeNames: () => [] });
    const request = { headers: {}, method: 'GET', url: '/other' } as http.IncomingMessage;
    // As a server that drains does.
    traces.begin(request, 'request').ended({ status: 503, complete: true });
    expect(lines).toEqual(expected);
  });

  test('says which policy refuses a handshake', async () => {
    const endpoint = defineEndpoint({ path: '/socket' });
    const server = await start({
      session: false,
      routes: [
        { endpoint, policy: { origins: ['https://example.com'] } },
        { ...home, session: 'none' },
      ],
    });
    const lines = await follow(server);
    const headers = { Origin: 'https://evil.example' };
    await expect(testClient(`${server.server.urls[0]!.replace('http', 'ws')}/socket`, { headers })).rejects.toThrow();
    await until(lines, 'answer');
    expect(lines.find(({ ok }) => !ok)).toMatchObject({
      step: 'policies',
      text: expect.stringContaining('403 ERR_POLICY_ORIGIN'),
    });
  });

  test('of a relayed WebSocket has the server, what it is sent, and how the socket closes', async () => {
    const backend = http.createServer();
    const sockets = new WebSocketServer({ server: backend });
    await new Promise<void>(resolve => backend.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
    open.push({
      close: () => {
        for (const client of sockets.clients) client.terminate();
        return new Promise(resolve => backend.close(resolve));
      },
    });
    const server = await start({
      session: false,
      upstreams: { app: { servers: [url] } },
      routes: [
        { path: '/live', name: 'live', upstream: 'app', websocket: true, policy: { origins: 'any' } },
        { ...home, session: 'none' },
      ],
    });
    const lines = await follow(server);
    const headers = { Cookie: 'secret=SECRET', Authorization: 'Bearer SECRET' };
    const client = await testClient(`${server.server.urls[0]!.replace('http', 'ws')}/live`, { headers });
    client.close(1000, 'bye');
    await until(lines, 'close');
    expect(steps(lines).slice(-5)).toEqual(['headers', 'server', 'answer', 'open', 'close']);
    expect(textOf(lines, 'route')).toBe('live → upstream app');
    expect(textOf(lines, 'server')).toBe(`app: ${url} (no affinity; balance round-robin)`);
    expect(textOf(lines, 'headers')).toMatch(/X-Forwarded-For: 127\.0\.0\.1/);
    expect(textOf(lines, 'headers')).toMatch(/and .*Cookie.*Authorization|and .*Authorization.*Cookie/);
    expect(textOf(lines, 'answer')).toBe(`101 from ${url}`);
    expect(textOf(lines, 'close')).toMatch(/^1000 "bye"/);
    expect(JSON.stringify(lines)).not.toContain('SECRET');
  });

  test('by path, address and session has only what fits', async () => {
    const server = await start({ session: { store: 'memory:' }, trustedProxies: ['127.0.0.1'], routes: [home] });
    const url = server.server.urls[0]!;
    const cookie = (await fetch(`${url}/begin`)).headers.getSetCookie()[0]!.split(';')[0]!;
    const sid = cookie.split('.')[1]!;
    const byPath = await follow(server, { path: '/shop' });
    const byAddress = await follow(server, { address: '192.0.2.7' });
    const bySession = await follow(server, { session: sid.slice(0, 8) });
    await (await fetch(`${url}/shop/cart`)).text();
    await (await fetch(`${url}/other`, { headers: { 'X-Forwarded-For': '192.0.2.7' } })).text();
    await (await fetch(`${url}/mine`, { headers: { cookie } })).text();
    for (const lines of [byPath, byAddress, bySession]) await until(lines, 'answer');
    expect(byPath.filter(({ step }) => step === 'head').map(({ text }) => text.split(' ')[1])).toEqual(['/shop/cart']);
    expect(byAddress.filter(({ step }) => step === 'head').map(({ text }) => text)).toEqual([
      expect.stringMatching(/\/other .* from 192\.0\.2\.7, as the trusted proxy 127\.0\.0\.1 says$/),
    ]);
    expect(bySession.filter(({ step }) => step === 'head').map(({ text }) => text.split(' ')[1])).toEqual(['/mine']);
    expect(bySession[0]!.step).toBe('head');
  });
});
