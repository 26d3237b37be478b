import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { defineEndpoint } from 'holdfast';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { parseRate } from '../../src/base/rate.ts';
import type { Config, LimitsConfig } from '../../src/config/config.ts';
import { KeyedBuckets, MAX_KEYS } from '../../src/policy/limits/keyed-buckets.ts';
import { testClient, type WebSocketClient } from '../../src/testing/test-client.ts';
import { Holdfast } from '../cli/run-holdfast.ts';
import { Http2Client } from '../server/http2-client.ts';
import { Lines, type Wire, WiredServer, wires } from '../server/wires.ts';
import { SHARED_PLACES, skipNote } from '../session/race-stores.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(config: Config): Promise<{ server: WiredServer; logger: Lines }> {
  const logger = new Lines();
  const server = await WiredServer.start(config, logger);
  closing.push(() => server.close());
  return { server, logger };
}

const fetch = () => new Response('in');
const echo = (path = '/socket') =>
  defineEndpoint({ path, onMessage: (connection, data) => void connection.send(data) });

/** The WebSocket, or the status. */
async function open(
  server: WiredServer,
  wire: Wire,
  path: string,
  headers: Record<string, string> = {},
): Promise<WebSocketClient | number | undefined> {
  if (wire === 'http/2') {
    const client = await Http2Client.connect(server.url(wire));
    closing.push(() => client[Symbol.dispose]());
    return client.webSocket(path, headers).catch(error => Number(/\d+$/.exec(error.message)?.[0]));
  }
  const url = server.url(wire).replace('http', 'ws') + path;
  try {
    const client = await testClient(url, { headers, tls: { rejectUnauthorized: false } });
    closing.push(() => client[Symbol.asyncDispose]());
    return client;
  } catch (error) {
    return (error as { status?: number }).status;
  }
}

async function opened(...[server, wire, path, headers]: Parameters<typeof open>): Promise<WebSocketClient> {
  const client = await open(server, wire, path, headers);
  if (typeof client !== 'object') throw new Error(`the server answered ${client}`);
  return client;
}

/** A backend that sends back what it gets, and counts it. */
async function echoBackend() {
  const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  const received: string[] = [];
  sockets.on('connection', socket =>
    socket.on('message', (data, isBinary) => {
      received.push(data.toString());
      socket.send(data, { binary: isBinary });
    }),
  );
  closing.push(() => {
    for (const client of sockets.clients) client.terminate();
    sockets.close();
  });
  await once(sockets, 'listening');
  return { url: `http://127.0.0.1:${(sockets.address() as AddressInfo).port}`, received };
}

/** An endpoint, and a relay to one. */
async function bothKinds(limits: LimitsConfig, where: 'route' | 'server' = 'route'): Promise<Config> {
  const { url } = await echoBackend();
  const policy = where === 'route' ? { policy: { limits } } : {};
  return {
    ...(where === 'server' && { policy: { limits } }),
    upstreams: { app: { servers: [url] } },
    routes: [
      { endpoint: echo('/endpoint'), ...policy },
      { path: '/relay', upstream: 'app', ...policy },
      { path: '/page', fetch },
    ],
  };
}

const until = async (isSo: () => boolean) => {
  for (let i = 0; i < 200 && !isSo(); i++) await sleep(10);
};

describe.each(wires)('over %s', wire => {
  test.each(['/endpoint', '/relay'])('wait: at %s everything arrives, in its time', async path => {
    const { server } = await start(await bothKinds({ messages: '40/s' }));
    const client = await opened(server, wire, path);
    const begin = performance.now();
    for (let i = 0; i < 60; i++) client.send(`${i} ${'y'.repeat(i * 20)}`);
    for (let i = 0; i < 60; i++) expect(await client.receive()).toBe(`${i} ${'y'.repeat(i * 20)}`);
    const took = performance.now() - begin;
    expect(took).toBeGreaterThan(450);
    client.close();
    expect(await client.closed).toMatchObject({ code: 1000 });
  });

  test.each(['/endpoint', '/relay'])('wait: bytes at %s, also of messages larger than the rate', async path => {
    const { server } = await start(await bothKinds({ bytes: '40KiB/s' }));
    const client = await opened(server, wire, path);
    const begin = performance.now();
    for (let i = 0; i < 3; i++) client.send('z'.repeat(20_000 + i));
    for (let i = 0; i < 3; i++) expect((await client.receive())!.length).toBe(20_000 + i);
    client.send('last');
    expect(await client.receive()).toBe('last');
    expect(performance.now() - begin).toBeGreaterThan(350);
  });
});

test('drop: what is compressed arrives right after what was dropped, at an endpoint and, uncompressed, at a backend', async () => {
  const { url } = await echoBackend();
  const policy = { limits: { messages: '2/s', whenExceeded: 'drop' as const } };
  const endpoint = defineEndpoint({
    path: '/endpoint',
    compression: { contextTakeover: true } as object,
    onMessage: (connection, data) => void connection.send(data),
  });
  const { server } = await start({
    upstreams: { app: { servers: [url] } },
    routes: [
      { endpoint, policy },
      { path: '/relay', upstream: 'app', policy },
    ],
  });
  for (const path of ['/endpoint', '/relay']) {
    const client = new WebSocket(`ws://127.0.0.1:${server.port('http/1')}${path}`, {
      perMessageDeflate: { threshold: 0 },
    });
    closing.push(() => client.terminate());
    await once(client, 'open');
    expect([path, client.extensions !== '']).toEqual([path, path === '/endpoint']);
    const received: string[] = [];
    client.on('message', data => received.push(data.toString()));
    const text = (i: number) => `message ${i} of many that are like each other `.repeat(20);
    for (let i = 0; i < 20; i++) client.send(text(i));
    await until(() => received.length === 2);
    await sleep(600);
    client.send(text(100));
    await until(() => received.length === 3);
    expect([path, received]).toEqual([path, [text(0), text(1), text(100)]]);
  }
});

/** One that is told by the disk, and one over the network. */
const PLACES = SHARED_PLACES.filter(({ name }) => name === 'lmdb' || name === 'redis');

describe.each(PLACES.map(place => ({ ...place, title: `${place.name}${skipNote(place)}` })))(
  'two processes of "holdfast serve" on $title',
  ({ missing, open: openPlace }) => {
    test.skipIf(missing)('hold a client to one rate and one count with "scope: all"', async () => {
      await using stack = new AsyncDisposableStack();
      const folder = await mkdtemp(join(tmpdir(), 'holdfast-limits-'));
      stack.defer(() => rm(folder, { recursive: true }));
      const place = await openPlace();
      stack.defer(() => place.close());
      const backend = await echoBackend();
      await writeFile(join(folder, 'key'), 'k'.repeat(43));
      await writeFile(
        join(folder, 'holdfast.yaml'),
        `listen: [{ port: 0, host: 127.0.0.1 }]
session: { store: '${place.address}', keyFiles: [key] }
upstreams:
  app: { servers: ['${backend.url}'] }
policy:
  limits: { requestsPerAddress: 20/h, connectionsPerAddress: 3, scope: all }
routes: [{ path: /*, upstream: app }]
`,
      );
      const serve = async () => {
        const program = new Holdfast(['serve'], { cwd: folder });
        stack.defer(async () => {
          program.kill('SIGKILL');
          await program.ended;
        });
        const [, url] = await program.printed(/listening on (http:\/\/\S+)/);
        return { program, url: url! };
      };
      const statusOf = (url: string) =>
        new Promise<number>(resolve => {
          const client = new WebSocket(url.replace('http', 'ws'));
          stack.defer(() => client.terminate());
          client.on('open', () => resolve(101)).on('error', error => resolve(Number(/\d{3}/.exec(error.message)?.[0])));
        });
      const [one, two] = await Promise.all([serve(), serve()]);
      expect([await statusOf(one.url), await statusOf(two.url), await statusOf(one.url)]).toEqual([101, 101, 101]);
      await sleep(600);
      expect([await statusOf(one.url), await statusOf(two.url)]).toEqual([429, 429]);
      // One that starts later knows of them, and those of a process that is gone come to an end.
      const three = await serve();
      await sleep(600);
      expect(await statusOf(three.url)).toBe(429);
      one.program.kill('SIGTERM');
      await one.program.ended;
      await sleep(600);
      expect([await statusOf(three.url), await statusOf(two.url)]).toEqual([101, 101]);
      await sleep(600);
      expect(await statusOf(three.url)).toBe(429);
      // Of 20, nine were handshakes: so many are left for all.
      const taken: number[] = [];
      for (const { url } of [two, three]) {
        const answers = await Promise.all(Array.from({ length: 8 }, () => globalThis.fetch(url)));
        taken.push(answers.filter(({ status }) => status !== 429).length);
        await sleep(600);
      }
      expect(taken).toEqual([8, 3]);
    });
  },
);

// 10,000 of them attack in under-attack.test.ts.
test('2,000 addresses by the PROXY protocol have a rate of their own each', async () => {
  const { server } = await start({
    listen: [{ port: 0, host: '127.0.0.1', proxyProtocol: 'required' }],
    trustedProxies: ['127.0.0.1'],
    policy: { limits: { requestsPerAddress: '1/h' } },
    routes: [{ path: '/*', fetch }],
  });
  const port = server.port('http/1');
  const statusesOf = async (i: number) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`PROXY TCP4 198.18.${i >> 8}.${i & 255} 192.0.2.1 3000 80\r\n`);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    return [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status).join(' ');
  };
  const statuses = new Map<string, number>();
  for (let i = 0; i < 2_000; i += 100) {
    const batch = await Promise.all(Array.from({ length: 100 }, (_, k) => statusesOf(i + k)));
    for (const status of batch) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  expect(Object.fromEntries(statuses)).toEqual({ '200 429': 2_000 });
  // Their buckets are not full: the first ones are as they were.
  expect(await statusesOf(0)).toBe('429 429');
});

test('a million addresses take at most 10 MiB of one limit', () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
  const before = process.memoryUsage().heapUsed;
  const buckets = new KeyedBuckets(parseRate('10/h')!);
  for (let i = 0; i < 1_000_000; i++)
    buckets.take(`2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::/64`, i + 0.5);
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  expect(buckets.size).toBe(MAX_KEYS);
  expect(heapUsed - before + Math.min(arrayBuffers, 32_768)).toBeLessThan(10 * 1024 * 1024);
  console.log(`a limit with ${buckets.size} keys: ${Math.round((heapUsed - before) / 1024)} KiB`);
});
