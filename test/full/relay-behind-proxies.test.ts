import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { type Config, createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { missing, type ProxyName, type RunningProxy, startProxy } from '../services/proxies.ts';

const guide = readFileSync(new URL('../../docs/guides/behind-a-proxy.md', import.meta.url), 'utf8');

/** Of the snippets in the guide. Default: the name of the program. */
const LANGUAGES: Readonly<Partial<Record<ProxyName, string>>> = { varnish: 'vcl' };

/** What the guide says for a program, with our ports. */
function snippet(name: ProxyName, port: number, ours: number): string {
  const block = new RegExp(`^\`\`\`${LANGUAGES[name] ?? name}\\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(guide)?.[1];
  if (block === undefined) throw new Error(`the guide has no snippet for ${name}`);
  const text = block
    .replace('<VirtualHost *:80>', `<VirtualHost 127.0.0.1:${port}>`)
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('bind :80', `bind 127.0.0.1:${port}`)
    .replaceAll('127.0.0.1:8080', `127.0.0.1:${ours}`)
    .replace('"8080"', `"${ours}"`)
    .replace('"port" => 8080', `"port" => ${ours}`);
  expect(text).not.toMatch(/:80\b|8080/);
  return text;
}

/** The lines without which the request to upgrade is lost. HAProxy needs none. */
const UPGRADE_LINES: Readonly<Partial<Record<ProxyName, RegExp>>> = {
  apache: / upgrade=websocket/,
  lighttpd: /^proxy\.header .*\n/,
  varnish: /^ +if .* return \(pipe\).*\n/,
  nginx: /^ +proxy_(?:http_version|set_header (?:Upgrade|Connection)) .*\n/gm,
};

/** For programs that are known for it: how one loses the port of `Host`, and how it forwards it then. */
const PORTLESS: Readonly<Partial<Record<ProxyName, readonly [lost: [RegExp, string], forwarded: [RegExp, string]]>>> = {
  apache: [
    [/ProxyAddHeaders On/, 'ProxyAddHeaders Off\n  RequestHeader edit Host ":\\\\d+$" ""'],
    [/RequestHeader unset X-Forwarded-Port early/, 'RequestHeader set X-Forwarded-Port expr=%{SERVER_PORT}'],
  ],
  nginx: [
    [/\$http_host/g, '$$host'],
    [/X-Forwarded-Port ''/, 'X-Forwarded-Port $$server_port'],
  ],
  haproxy: [
    [/(X-Forwarded-Host) %\[req.hdr\(Host\)\]/, '$1 %[req.hdr(Host),field(1,:)]'],
    [/del-header X-Forwarded-Port/, 'set-header X-Forwarded-Port %[dst_port]'],
  ],
};

const lines: string[] = [];
const note = (_: object, message: string) => void lines.push(message);
const logger = { debug: note, info: note, warn: note, error: note };

const backend = new WebSocketServer({
  port: 0,
  host: '127.0.0.1',
  handleProtocols: protocols => protocols.values().next().value ?? false,
});
await once(backend, 'listening');
backend.on('connection', (socket, request) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    if (String(data) === 'headers') socket.send(JSON.stringify(request.headers));
    else if (String(data) === 'close') socket.close(4001, 'signed out');
    else socket.send(data, { binary: isBinary });
  });
  socket.on('close', (code, reason) => closes.push([code, String(reason)]));
});
const closes: [code: number, reason: string][] = [];

const facts = defineEndpoint({
  path: '/facts',
  onMessage(connection) {
    connection.send(JSON.stringify({ address: connection.remoteAddress, isSecure: connection.isSecure }));
  },
});

let server: Server;
let ours: number;

beforeAll(async () => {
  const config: Config = {
    listen: [{ port: 0, host: '127.0.0.1' }],
    trustedProxies: ['127.0.0.1'],
    session: false,
    upstreams: { app: { servers: [`http://127.0.0.1:${(backend.address() as AddressInfo).port}`] } },
    routes: [
      { endpoint: facts },
      { path: '/page', fetch: () => new Response('hello') },
      { path: '/*', upstream: 'app' },
    ],
  };
  server = createServer(config, { logger });
  await server.start();
  ours = Number(new URL(server.urls[0]!).port);
});

afterAll(async () => {
  await server.stop();
  for (const client of backend.clients) client.terminate();
  backend.close();
});

async function open(port: number, path: string, options: WebSocket.ClientOptions & { protocol?: string } = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, options.protocol, options);
  await once(socket, 'open');
  return socket;
}

async function answerTo(socket: WebSocket, message: string | Buffer): Promise<Buffer> {
  socket.send(message);
  const [data] = await once(socket, 'message');
  return data as Buffer;
}

async function closed(socket: WebSocket): Promise<[code: number, reason: string]> {
  const [code, reason] = await once(socket, 'close');
  return [code, String(reason)];
}

/** What travels through, whatever stands between client and backend. */
async function carries(port: number): Promise<void> {
  const socket = await open(port, '/socket', { protocol: 'chat.v1', perMessageDeflate: true });
  expect(socket.protocol).toBe('chat.v1');
  expect(String(await answerTo(socket, 'Grüße'))).toBe('Grüße');
  const large = Buffer.alloc(60_000, 'x1y2');
  expect((await answerTo(socket, large)).equals(large)).toBe(true);
  closes.length = 0;
  socket.close(4002, 'by the client');
  expect(await closed(socket)).toEqual([4002, 'by the client']);
  await expect.poll(() => closes).toEqual([[4002, 'by the client']]);

  const second = await open(port, '/socket');
  second.send('close');
  expect(await closed(second)).toEqual([4001, 'signed out']);
}

const TITLES = { apache: 'Apache', nginx: 'nginx', haproxy: 'HAProxy', lighttpd: 'lighttpd', varnish: 'Varnish' };

describe.each(Object.entries(TITLES) as [ProxyName, string][])('behind %s, as the guide says it', (name, title) => {
  const reason = missing(name);
  const skip = test.skipIf(reason);
  let proxy: RunningProxy;

  beforeAll(async () => {
    if (!reason) proxy = await startProxy(name, port => snippet(name, port, ours));
  });
  afterAll(() => proxy?.[Symbol.asyncDispose]());

  skip(`${reason ?? title}: messages, subprotocol, compression, close codes and reasons pass`, () =>
    carries(proxy.port));

  skip(`${reason ?? title}: pages pass`, async () => {
    expect(await (await fetch(`http://127.0.0.1:${proxy.port}/page`)).text()).toBe('hello');
  });

  skip(`${reason ?? title}: a page's own origin is let in, a foreign one is not`, async () => {
    const origin = `http://127.0.0.1:${proxy.port}`;
    (await open(proxy.port, '/socket', { origin })).terminate();
    await expect(open(proxy.port, '/socket', { origin: 'http://evil.test' })).rejects.toThrow('403');
  });

  skip(`${reason ?? title}: the client's address is its own, whatever it says`, async () => {
    const headers = {
      'X-Forwarded-For': '6.6.6.6',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'evil.test',
      'X-Forwarded-Port': '6666',
      Forwarded: 'for=6.6.6.6;proto=https;host=evil.test',
    };
    const socket = await open(proxy.port, '/facts', { headers, localAddress: '127.0.0.2' });
    expect(JSON.parse(String(await answerTo(socket, '?')))).toEqual({ address: '127.0.0.2', isSecure: false });
    socket.terminate();
    // And the backend behind us is told the same.
    const relayed = await open(proxy.port, '/socket', { headers, localAddress: '127.0.0.2' });
    const seen = JSON.parse(String(await answerTo(relayed, 'headers')));
    expect(seen['x-forwarded-for'].split(', ')).toContain('127.0.0.2');
    expect(seen['x-forwarded-host']).toBe(`127.0.0.1:${proxy.port}`);
    expect(seen['x-forwarded-port']).toBe(String(proxy.port));
    expect(seen['x-forwarded-proto']).toBe('http');
    relayed.terminate();
  });

  const [portless, withPort] = PORTLESS[name] ?? [];
  const skipPortless = test.skipIf(reason || !portless);
  skipPortless(
    `${reason ?? title}: a port that Host has lost on the way is refused, unless it is forwarded`,
    async () => {
      const text = (port: number) => snippet(name, port, ours).replace(...portless!);
      await using lost = await startProxy(name, text);
      const page = (port: number) => open(port, '/socket', { origin: `http://127.0.0.1:${port}` });
      await expect(page(lost.port)).rejects.toThrow('403');
      expect(lines.at(-1)).toContain('only the port differs');
      await using forwarded = await startProxy(name, port => text(port).replace(...withPort!));
      (await page(forwarded.port)).terminate();
      await expect(open(forwarded.port, '/socket', { origin: 'http://127.0.0.1' })).rejects.toThrow('403');
      const relayed = await open(forwarded.port, '/socket');
      const seen = JSON.parse(String(await answerTo(relayed, 'headers')));
      expect([seen.host, seen['x-forwarded-port']]).toEqual([`127.0.0.1:${forwarded.port}`, String(forwarded.port)]);
      relayed.terminate();
    },
  );

  skip(`${reason ?? title}: a proxy that dies leaves nothing open behind us`, async () => {
    const own = await startProxy(name, port => snippet(name, port, ours));
    const sockets = await Promise.all(Array.from({ length: 20 }, () => open(own.port, '/socket')));
    for (const socket of sockets) socket.on('error', () => {});
    const before = backend.clients.size;
    await own[Symbol.asyncDispose]();
    // Others, of the test before, may end meanwhile.
    await expect.poll(() => backend.clients.size, { timeout: 10_000 }).toBeLessThanOrEqual(before - 20);
  });

  const upgradeLines = UPGRADE_LINES[name];
  if (upgradeLines === undefined) return; // it passes upgrades on without being told
  skip(`${reason ?? title}: without the lines for upgrades: 426 that says so`, async () => {
    await using own = await startProxy(name, port =>
      snippet(name, port, ours).replaceAll(new RegExp(upgradeLines, 'gm'), ''),
    );
    const socket = net.connect(own.port, '127.0.0.1');
    socket.write(
      'GET /socket HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    );
    let answer = '';
    socket.on('data', chunk => {
      answer += chunk;
    });
    await expect.poll(() => answer, { timeout: 5_000 }).toContain('a proxy in front does not pass it on');
    expect(answer).toMatch(/^HTTP\/1.1 426 /);
    socket.destroy();
  });
});

const apacheReason = missing('apache');
describe('in front of Apache, which is in front of the application', () => {
  test.skipIf(apacheReason)(apacheReason ?? 'messages, close codes and pages pass', async () => {
    const { port: app } = backend.address() as AddressInfo;
    await using apache = await startProxy(
      'apache',
      port => `<VirtualHost 127.0.0.1:${port}>\nProxyPass / ws://127.0.0.1:${app}/\n</VirtualHost>`,
    );
    await using front = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: { app: { servers: [`http://127.0.0.1:${apache.port}`] } },
      routes: [{ path: '/*', upstream: 'app' }],
      log: { level: 'silent' },
    });
    await front.start();
    const { port } = new URL(front.urls[0]!);
    await carries(Number(port));
    // `ws` has no pages, and says so through Apache and us.
    expect((await fetch(`http://127.0.0.1:${port}/page`)).status).toBe(426);
  });

  test.skipIf(apacheReason)(apacheReason ?? 'Apache refuses: its answer is passed on', async () => {
    await using apache = await startProxy(
      'apache',
      port => `<VirtualHost 127.0.0.1:${port}>\n<Location />\nRequire all denied\n</Location>\n</VirtualHost>`,
    );
    await using front = createServer({
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: false,
      upstreams: { app: { servers: [`http://127.0.0.1:${apache.port}`] } },
      routes: [{ path: '/*', upstream: 'app' }],
      log: { level: 'silent' },
    });
    await front.start();
    await expect(open(Number(new URL(front.urls[0]!).port), '/socket')).rejects.toThrow('403');
  });
});
