import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Config } from 'holdfast';
import { describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { closing } from '../services/closing.ts';
import { Http2Client } from './http2-client.ts';
import { type Wire, WiredServer } from './wires.ts';

const open = closing();

/** Answers requests and WebSockets with its name. */
async function backend(name: string): Promise<{ url: string; close(): Promise<void> }> {
  const server = http.createServer((request, response) => void request.resume().on('end', () => response.end(name)));
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', socket => socket.send(name));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  let closed: Promise<void> | undefined;
  const one = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      closed ??= new Promise(resolve => server.close(() => resolve()));
      return closed;
    },
  };
  open.push(one);
  return one;
}

async function gateway(servers: object[], more: Config = {}, upstream: object = {}): Promise<WiredServer> {
  const server = await WiredServer.start({
    trustedProxies: ['127.0.0.1'],
    upstreams: { app: { servers: servers as never, affinity: 'address', ...upstream } },
    routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
    ...more,
  });
  open.push(server);
  return server;
}

/** The name of the backend that answers a client of this address. */
function asker(server: WiredServer, wire: Wire) {
  const url = server.url(wire);
  const tls = { rejectUnauthorized: false };
  const h2 = wire === 'http/2' ? new Http2Client(url) : undefined;
  if (h2) open.push({ close: () => h2.session.destroy() });
  return {
    async request(address: string, method = 'GET'): Promise<string> {
      const headers = { 'x-forwarded-for': address };
      if (h2) return (await h2.request({ ':path': '/', ':method': method, ...headers })).body;
      const { request } = wire === 'tls' ? https : http;
      const [answer] = await once(request(url, { ...tls, method, headers, agent: false }).end(), 'response');
      return text(answer);
    },
    async socket(address: string): Promise<string> {
      const headers = { 'x-forwarded-for': address };
      if (h2) {
        await using socket = await h2.webSocket('/', headers);
        return String(await socket.receive());
      }
      const socket = new WebSocket(url.replace('http', 'ws'), { ...tls, headers });
      const [name] = await once(socket, 'message');
      socket.terminate();
      return String(name);
    },
  };
}

const addresses = (count: number) => Array.from({ length: count }, (_, i) => `203.0.${i >> 8}.${i & 255}`);
const ask = (ask: (address: string) => Promise<string>, list: readonly string[]) => Promise.all(list.map(a => ask(a)));

describe.each(['http/1', 'tls', 'http/2'] as const)('affinity by address over %s', wire => {
  test('requests and WebSockets of one address reach one server, with and without cookies', async () => {
    const servers = await Promise.all(['one', 'two'].map(backend));
    const { request, socket } = asker(await gateway(servers.map(({ url }) => ({ url }))), wire);
    const all = addresses(24);
    const homes = await ask(request, all);
    expect(new Set(homes)).toEqual(new Set(['one', 'two']));
    expect(await ask(address => request(address, 'POST'), all)).toEqual(homes);
    expect(await ask(socket, all.slice(0, 8))).toEqual(homes.slice(0, 8));
  });

  test('an IPv6 client is known by its /64, and IPv4 written as IPv6 is IPv4', async () => {
    const servers = await Promise.all(['one', 'two', 'three', 'four'].map(backend));
    const { request } = asker(await gateway(servers.map(({ url }) => ({ url }))), wire);
    for (const same of [
      ['2001:db8:1:2::1', '2001:db8:1:2:ffff:1:2:3', '2001:0DB8:0001:0002::9', '[2001:db8:1:2::5]:4711'],
      ['198.51.100.7', '::ffff:198.51.100.7', '::FFFF:c633:6407', '0:0:0:0:0:ffff:198.51.100.7', '198.51.100.7:99'],
    ])
      expect(new Set(await ask(request, same)).size).toBe(1);
    const networks = Array.from({ length: 24 }, (_, i) => `2001:db8:1:${i.toString(16)}::1`);
    expect(new Set(await ask(request, networks)).size).toBeGreaterThan(2);
  });

  test('a server that goes out of service moves only its own clients, and they stay where they moved to', async () => {
    const servers = await Promise.all(['one', 'two', 'three'].map(backend));
    const { request } = asker(await gateway(servers.map(({ url }) => ({ url }))), wire);
    const all = addresses(30);
    const before = await ask(request, all);
    await servers[1]!.close();
    await request(all[before.indexOf('two')]!); // finds out that it is down; all at once would use up the retries
    const after = await ask(request, all);
    for (const [index, home] of before.entries())
      if (home === 'two') expect(after[index]).not.toBe('two');
      else expect(after[index]).toBe(home);
    expect(await ask(request, all)).toEqual(after);
  });
});

test('a server gets its share by weight, and a drained one gives its clients away', async () => {
  const [one, two] = await Promise.all(['one', 'two'].map(backend));
  const server = await gateway([{ url: one!.url }, { url: two!.url, weight: 4 }]);
  const { request } = asker(server, 'http/1');
  const all = addresses(100);
  const homes = await ask(request, all);
  const share = homes.filter(name => name === 'two').length;
  expect(share).toBeGreaterThan(66);
  expect(share).toBeLessThan(94);
  void server.server.upstreams.get('app')!.drain(one!.url, { over: 0 });
  expect(new Set(await ask(request, all))).toEqual(new Set(['two']));
});

test('a header of a client that is not a trusted proxy does not choose its server', async () => {
  const servers = await Promise.all(['one', 'two'].map(backend));
  const { request } = asker(
    await gateway(
      servers.map(({ url }) => ({ url })),
      { trustedProxies: [] },
    ),
    'http/1',
  );
  expect(new Set(await ask(request, addresses(24))).size).toBe(1);
});

test('a client whose server is down gets 503 where affinity is strict, and others are served', async () => {
  const servers = await Promise.all(['one', 'two'].map(backend));
  const server = await gateway(
    servers.map(({ url }) => ({ url })),
    {},
    { affinity: { by: 'address', strict: true } },
  );
  const { request } = asker(server, 'http/1');
  const all = addresses(12);
  const before = await ask(request, all);
  await servers[0]!.close();
  const after = await ask(request, all);
  for (const [index, home] of before.entries())
    expect(after[index]).toMatch(home === 'two' ? /^two$/ : /^Service Unavailable/);
});
