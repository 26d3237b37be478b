import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { type Config, defineEndpoint } from '../../src/index.ts';
import type { BansConfig } from '../../src/policy/ban/options.ts';
import { Doorkeeper } from '../../src/server/listen/doorkeeper.ts';
import { FakeClock } from '../../src/testing/fake-clock.ts';
import { connectWebSocket } from '../../src/websocket/protocol/client.ts';
import { AUDIENCE, claimsAt, ISSUER, jwks, sign, signingKey } from '../policy/auth/issuer.ts';
import { closing } from '../services/closing.ts';
import { Http2Client } from './http2-client.ts';
import { ask, knock, Lines, WiredServer, wires } from './wires.ts';

const open = closing();

const routes: Config['routes'] = [
  { path: '/', fetch: () => new Response('hello') },
  { path: '/gone/*', fetch: () => new Response('nothing', { status: 404 }) },
  { endpoint: defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) }) },
];
const traps = { honeypot: { paths: ['/trap'] } };

async function serve(bans: BansConfig, config: Config = {}, log = new Lines()): Promise<WiredServer> {
  const server = await WiredServer.start({ routes, bans, ...config }, log);
  open.push(server);
  return server;
}

/** By a trusted proxy on this machine. */
const from = (address: string) => ({ headers: { 'X-Forwarded-For': address } });
const behindProxy: Config = { trustedProxies: ['127.0.0.1'] };

/** A connection from another address of this machine, with all that came on it. */
async function connectFrom(localAddress: string, port: number, text = '') {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => {});
  const seen = { socket, text: '', isClosed: false };
  socket.on('data', bytes => {
    seen.text += bytes.toString('latin1');
  });
  socket.on('close', () => {
    seen.isClosed = true;
  });
  await once(socket, 'connect');
  if (text) socket.write(text, 'latin1');
  open.push({ close: () => socket.destroy() });
  return seen;
}
const GET = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;

describe.each(wires)('over %s', wire => {
  test('a banned client is refused on every route, and others are not', async () => {
    const server = await serve({ action: 'refuse', jails: traps }, behindProxy);
    const [good, bad] = [from('192.0.2.1'), from('192.0.2.66')];
    expect(await ask(server, wire, { path: '/trap', ...bad })).toMatchObject({ status: 403 });
    expect(await ask(server, wire, bad)).toMatchObject({ status: 403, body: 'This address is banned for now.\n' });
    expect(await knock(server, wire, { path: '/echo', ...bad })).toMatchObject({ status: 403 });
    expect(await ask(server, wire, { path: '/nothing', ...bad })).toMatchObject({ status: 403 });
    expect(await ask(server, wire, good)).toMatchObject({ status: 200 });
    expect(await knock(server, wire, { path: '/echo', ...good })).toMatchObject({ status: 101 });
    expect(server.server.bans.list()).toMatchObject([{ client: '192.0.2.66', jail: 'honeypot' }]);
    await server.server.bans.remove('192.0.2.66');
    expect(await ask(server, wire, bad)).toMatchObject({ status: 200 });
  });

  test('a WebSocket of a client that is banned closes with 1008, at once', async () => {
    const server = await serve({ action: 'refuse', allow: [] });
    const client =
      wire === 'http/2'
        ? await (await http2(server)).webSocket('/echo')
        : await connectWebSocket(`${server.url(wire)}/echo`, { tls: { rejectUnauthorized: false } });
    client.send('there?');
    await client.receive();
    await server.server.bans.add('127.0.0.1');
    expect(await client.closed).toMatchObject({ code: 1008, reason: 'banned' });
  });

  test('an answer to a client that a trusted proxy brings is cut within a second of its ban', async () => {
    const running = new Map<string, ReadableStreamDefaultController>();
    const fetch = (request: Request) =>
      new Response(
        new ReadableStream({
          start: controller => {
            running.set(request.headers.get('x-forwarded-for')!, controller);
            controller.enqueue(new TextEncoder().encode('begun'));
          },
          cancel: () => void running.delete(request.headers.get('x-forwarded-for')!),
        }),
      );
    const server = await serve({ action: 'refuse' }, { ...behindProxy, routes: [{ path: '/events', fetch }] });
    const [bad, good] = ['192.0.2.66', '192.0.2.1'].map(client =>
      ask(server, wire, { path: '/events', ...from(client) }),
    );
    bad!.catch(() => {});
    await expect.poll(() => [...running.keys()].sort()).toEqual(['192.0.2.1', '192.0.2.66']);
    await server.server.bans.add('192.0.2.66');
    await expect.poll(() => [...running.keys()], { timeout: 2_000 }).toEqual(['192.0.2.1']);
    running.get('192.0.2.1')!.close();
    expect(await good).toMatchObject({ status: 200, body: 'begun' });
  });

  test('what a page of another site makes its visitors send counts in no jail', async () => {
    expect(await jailsAfter('cross-site')).toEqual([]);
    expect(await jailsAfter('same-origin')).toEqual(['scan', 'protocol', 'rate', 'handshake', 'honeypot']);
  });

  /** Which jails have banned somebody for requests that a browser says come from a page of such a site. */
  async function jailsAfter(site: string) {
    const one = { failures: 1 };
    const jails = { scan: one, protocol: one, rate: one, handshake: one, ...traps };
    const limits = { requestsPerAddress: '1/1h' };
    const server = await serve(
      { action: 'refuse', jails },
      { ...behindProxy, routes: [...routes!, { path: '/few', fetch: () => new Response(), policy: { limits } }] },
    );
    const sent = (from: string) => ({ headers: { 'X-Forwarded-For': from, 'Sec-Fetch-Site': site } });
    await ask(server, wire, { path: '/nothing', ...sent('192.0.2.1') });
    await ask(server, wire, { path: '/%zz', ...sent('192.0.2.2') });
    for (let i = 0; i < 2; i++) await ask(server, wire, { path: '/few', ...sent('192.0.2.3') });
    const { headers } = sent('192.0.2.4');
    await knock(server, wire, { path: '/', headers: { ...headers, 'Sec-WebSocket-Version': '7' } });
    await ask(server, wire, { path: '/trap', ...sent('192.0.2.5') });
    const banned = server.server.bans.list().map(({ jail }) => jail);
    await server.close();
    return banned;
  }
});

test('heads that are too large, and TLS where HTTP is spoken, count in no jail: pages can cause both', async () => {
  const log = new Lines();
  const server = await serve({ action: 'refuse', allow: [], jails: { protocol: { failures: 1 } } }, {}, log);
  const port = server.port('http/1');
  const tooLarge = await connectFrom('127.0.0.2', port, GET(`/?${'a'.repeat(20_000)}`));
  await expect.poll(() => tooLarge.text).toMatch(/^HTTP\/1\.1 431/);
  const secure = await connectFrom('127.0.0.3', port, `\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03${'x'.repeat(200)}`);
  await expect.poll(() => secure.text).toMatch(/^HTTP\/1\.1 400/);
  expect(server.server.bans.list()).toEqual([]);
  await connectFrom('127.0.0.4', port, 'GARBAGE\r\n\r\n');
  await expect.poll(() => server.server.bans.list()).toMatchObject([{ client: '127.0.0.4' }]);
});

test('request heads, bodies and TLS handshakes that are late count in no jail: bad networks cause them', async () => {
  const log = new Lines();
  const jail = { failures: 1 };
  const server = await serve(
    { action: 'refuse', allow: [], jails: { protocol: jail, handshake: jail, rate: jail } },
    {
      routes: [{ path: '/read', fetch: async request => new Response(await request.text()) }],
      ...{ headerTimeout: '50ms', clientTimeout: '50ms' },
    },
    log,
  );
  const [plain, secure] = [server.port('http/1'), server.port('tls')];
  const late = [
    await connectFrom('127.0.0.2', plain),
    await connectFrom('127.0.0.3', plain, 'GET / HTTP/1.1\r\nHost: localhost\r\n'),
    await connectFrom('127.0.0.4', plain, 'POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx'),
    await connectFrom('127.0.0.5', secure),
  ];
  await expect.poll(() => late.map(({ isClosed }) => isClosed)).toEqual([true, true, true, true]);
  expect(late.map(({ text }) => text.slice(9, 12))).toEqual(['408', '408', '408', '']);
  const slow = log.all.filter(({ fields }) => fields.event === 'slow-client').map(({ fields }) => fields.address);
  expect(slow.sort()).toEqual(['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5']);
  expect(log.all.filter(({ fields }) => fields.event === 'bad-request')).toEqual([]);
  expect(server.server.bans.list()).toEqual([]);
});

async function http2(server: WiredServer): Promise<Http2Client> {
  const client = await Http2Client.connect(server.url('http/2'));
  open.push({ close: () => client[Symbol.dispose]() });
  return client;
}

test.each(wires)('404 of a handler counts as a scan, over %s', async wire => {
  const jails = { scan: { failures: 3 } };
  const server = await serve({ action: 'refuse', jails }, behindProxy);
  const statuses: number[] = [];
  for (const path of ['/gone/a', '/gone/b', '/nothing', '/'])
    statuses.push((await ask(server, wire, { path, ...from('192.0.2.66') })).status);
  // What makes the ban is still answered.
  expect(statuses).toEqual([404, 404, 404, 403]);
});

test('a relayed WebSocket of a client that is banned closes with 1008, and its backend hears it', async () => {
  const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(backend, 'listening');
  open.push({ close: () => new Promise(resolve => backend.close(resolve)) });
  const codes: number[] = [];
  backend.on('connection', socket => socket.on('close', code => codes.push(code)));
  const { port } = backend.address() as net.AddressInfo;
  const server = await serve(
    { action: 'drop', allow: [] },
    { upstreams: { app: { servers: [`http://127.0.0.1:${port}`] } }, routes: [{ path: '/*', upstream: 'app' }] },
  );
  const client = await connectWebSocket(`${server.url('http/1')}/`);
  await server.server.bans.add('127.0.0.1');
  expect(await client.closed).toMatchObject({ code: 1008 });
  await expect.poll(() => codes).toEqual([1008]);
});

test('a WebSocket whose client does not answer the close frame is cut within a second', async () => {
  const server = await serve({ action: 'refuse', allow: [] });
  const more = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ';
  const text = GET('/echo', `${more}dGhlIHNhbXBsZSBub25jZQ==\r\n`);
  const client = await connectFrom('127.0.0.2', server.port('http/1'), text);
  await expect.poll(() => client.text).toMatch(/^HTTP\/1\.1 101/);
  await server.server.bans.add('127.0.0.2');
  await expect.poll(() => client.text).toMatch(/banned$/);
  await expect.poll(() => client.isClosed, { timeout: 1_200 }).toBe(true);
});

describe('connections of a client, when it is banned', () => {
  test('end where they are idle, are cut within a second where they are not, and those of others stay', async () => {
    const server = await serve(
      { action: 'refuse', allow: [] },
      { routes: [...routes!, { path: '/slow', fetch: () => new Promise<Response>(() => {}) }] },
    );
    const port = server.port('http/1');
    const idle = await connectFrom('127.0.0.2', port, GET('/'));
    const busy = await connectFrom('127.0.0.2', port, GET('/slow'));
    const other = await connectFrom('127.0.0.3', port, GET('/'));
    const secure = await connectFrom('127.0.0.2', server.port('tls')); // no handshake yet
    await expect.poll(() => idle.text.endsWith('hello') && other.text.endsWith('hello')).toBe(true);
    await server.server.bans.add('127.0.0.2');
    await expect.poll(() => [idle.isClosed, secure.isClosed]).toEqual([true, true]);
    expect(busy.isClosed).toBe(false);
    await expect.poll(() => busy.isClosed, { timeout: 1_000 }).toBe(true);
    other.socket.write(GET('/'));
    await expect.poll(() => other.text.split('hello').length).toBe(3);
  });

  test('end over HTTP/2', async () => {
    const server = await serve({ action: 'refuse', allow: [] });
    const client = await http2(server);
    await client.request({ ':path': '/' });
    const closed = once(client.session, 'close');
    await server.server.bans.add('127.0.0.1');
    await closed;
  });
});

describe('a banned client that connects', () => {
  test.each(['http/1', 'tls'] as const)('is cut under "drop" over %s, before anything is read', async wire => {
    const log = new Lines();
    const server = await serve({ action: 'drop', allow: [] }, {}, log);
    await server.server.bans.add('127.0.0.2');
    const seen = await connectFrom('127.0.0.2', server.port(wire), GET('/'));
    await expect.poll(() => seen.isClosed).toBe(true);
    expect(seen.text).toBe('');
    expect(log.all.filter(({ fields }) => fields.event === 'refused')).toEqual([]);
    const other = await connectFrom('127.0.0.3', server.port('http/1'), GET('/'));
    await expect.poll(() => other.text).toMatch(/hello$/);
  });

  test('is known by its PROXY header, and its proxy is not cut', async () => {
    const server = await serve(
      { action: 'drop' },
      { ...behindProxy, listen: [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required' }] },
    );
    await server.server.bans.add('192.0.2.66');
    const port = server.port('http/1');
    const proxied = (address: string) =>
      connectFrom('127.0.0.1', port, `PROXY TCP4 ${address} 127.0.0.1 4711 80\r\n${GET('/')}`);
    const [bad, good] = [await proxied('192.0.2.66'), await proxied('192.0.2.1')];
    await expect.poll(() => bad.isClosed).toBe(true);
    expect(bad.text).toBe('');
    await expect.poll(() => good.text).toMatch(/hello$/);
    await server.server.bans.add('192.0.2.1');
    await expect.poll(() => good.isClosed).toBe(true);
  });

  test('is refused under "drop" where a trusted proxy brings it, as the connection is of others, too', async () => {
    const server = await serve({ action: 'drop' }, behindProxy);
    await server.server.bans.add('192.0.2.66');
    const proxy = await connectFrom('127.0.0.1', server.port('http/1'), GET('/', 'X-Forwarded-For: 192.0.2.66\r\n'));
    await expect.poll(() => proxy.text).toMatch(/^HTTP\/1\.1 403/);
    proxy.socket.write(GET('/', 'X-Forwarded-For: 192.0.2.1\r\n'));
    await expect.poll(() => proxy.text).toMatch(/hello$/);
  });

  test('is held in the tarpit, at most a hundred at a time and for a minute', async () => {
    const clock = new FakeClock();
    const keeper = new Doorkeeper(
      () => 'tarpit',
      address => address === '192.0.2.66',
      clock,
    );
    const sockets = Array.from({ length: 101 }, () => new net.Socket());
    expect(keeper.turnsAway(sockets[0]!, '192.0.2.1')).toBe(false);
    for (const socket of sockets) expect(keeper.turnsAway(socket, '192.0.2.66')).toBe(true);
    expect(sockets.map(({ destroyed }) => destroyed).indexOf(true)).toBe(100);
    expect(keeper.held).toBe(100);
    sockets[0]!.destroy();
    await clock.advance(60_000);
    expect(sockets.every(({ destroyed }) => destroyed)).toBe(true);
    await expect.poll(() => keeper.held).toBe(0);
  });

  test('hears nothing in the tarpit, and keeps no server from stopping', async () => {
    const server = await serve({ action: 'tarpit', allow: [] });
    await server.server.bans.add('127.0.0.2');
    const seen = await connectFrom('127.0.0.2', server.port('http/1'), GET('/'));
    const other = await connectFrom('127.0.0.3', server.port('http/1'), GET('/'));
    await expect.poll(() => other.text).toMatch(/hello$/);
    expect(seen).toMatchObject({ text: '', isClosed: false });
    await server.server.stop({ drain: 0 });
    await expect.poll(() => seen.isClosed).toBe(true);
  });
});

test('a WebSocket whose handshake was waiting when its client was banned closes, too', async () => {
  const [waiting, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const endpoint = defineEndpoint({
    path: '/late',
    accept: async () => {
      waiting.resolve();
      await goOn.promise;
      return {};
    },
  });
  const server = await serve({ action: 'refuse' }, { routes: [{ endpoint }], ...behindProxy });
  const client = connectWebSocket(`${server.url('http/1')}/late`, { headers: { 'X-Forwarded-For': '192.0.2.66' } });
  await waiting.promise;
  await server.server.bans.add('192.0.2.66');
  goOn.resolve();
  expect(await (await client).closed).toMatchObject({ code: 1008 });
});

test('bad handshakes, garbage and broken sockets are counted by the address of the connection', async () => {
  const log = new Lines();
  const jails = { protocol: { failures: 2 }, handshake: { failures: 1 } };
  const server = await serve({ action: 'refuse', allow: [], jails }, {}, log);
  const port = server.port('http/1');
  await connectFrom('127.0.0.2', port, 'GARBAGE\r\n\r\n');
  await connectFrom('127.0.0.2', port, 'GARBAGE\r\n\r\n');
  await connectFrom('127.0.0.3', port, GET('/echo', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'));
  await expect
    .poll(() => server.server.bans.list())
    .toMatchObject([
      { client: '127.0.0.2', jail: 'protocol' },
      { client: '127.0.0.3', jail: 'handshake' },
    ]);
});

test('tokens that have ended ban nobody, and are told apart in the log; forged ones do', async () => {
  const key = signingKey('ES256');
  const folder = mkdtempSync(join(tmpdir(), 'bans-'));
  open.push({ close: () => rmSync(folder, { recursive: true }) });
  const jwksFile = join(folder, 'keys.json');
  writeFileSync(jwksFile, JSON.stringify(await jwks(key)));
  const log = new Lines();
  const server = await serve(
    { action: 'refuse' },
    {
      ...behindProxy,
      auth: { api: { type: 'jwt', issuer: ISSUER, audience: AUDIENCE, jwksFile } },
      routes: [{ path: '/', fetch: () => new Response(), policy: { auth: 'api' } }],
    },
    log,
  );
  const show = async (address: string, token: string) => {
    const headers = { 'X-Forwarded-For': address, Authorization: `Bearer ${token}` };
    return (await ask(server, 'http/1', { headers })).status;
  };
  const ended = await sign(key, claimsAt(Date.now() - 3_600_000));
  for (let i = 0; i < 20; i++) expect(await show('192.0.2.1', ended)).toBe(401);
  const forged = `${await sign(key, claimsAt(Date.now()))}`.replace(/.{8}$/, 'AAAAAAAA');
  for (let i = 0; i < 5; i++) expect(await show('192.0.2.2', forged)).toBe(401);
  expect(await show('192.0.2.2', forged)).toBe(403);
  expect(server.server.bans.list()).toMatchObject([{ client: '192.0.2.2', jail: 'login' }]);
  const of = (event: string) => log.all.filter(({ fields }) => fields.event === event).map(({ level }) => level);
  expect(of('credentials-expired')).toEqual(Array(20).fill('info'));
  expect(of('login-failed')).toEqual(Array(5).fill('warn'));
});
