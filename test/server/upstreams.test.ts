import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Config, createServer, type Server } from 'holdfast';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { silentLogger } from '../../src/base/logger.ts';
import { createAuthority, writeCertificate } from '../self-signed-certificate.ts';
import { closing } from '../services/closing.ts';
import { ask, WiredServer, wires } from './wires.ts';

let dataFolder: string;

beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-upstreams-'));
});
afterEach(() => rm(dataFolder, { recursive: true }));
const open = closing();

interface Backend {
  readonly url: string;
  readonly seen: http.IncomingMessage[];
  close(): Promise<unknown>;
}

/** Answers requests with its name, and takes WebSockets. */
async function backend(name: string, options: { port?: number; tls?: https.ServerOptions } = {}): Promise<Backend> {
  const server = options.tls ? https.createServer(options.tls) : http.createServer();
  const webSockets = new WebSocketServer({ server });
  const seen: http.IncomingMessage[] = [];
  server.on('request', (request, response) => {
    seen.push(request);
    response.end(name);
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const one = {
    url: `http${options.tls ? 's' : ''}://localhost:${(server.address() as AddressInfo).port}`,
    seen,
    close: () => {
      for (const client of webSockets.clients) client.terminate();
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
  open.push(one);
  return one;
}

async function start(config: Config): Promise<Server> {
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      dataFolder,
      log: { access: 'off' },
      routes: [{ path: '/*', upstream: 'app', policy: { origins: 'any' } }],
      ...config,
    },
    { logger: silentLogger },
  );
  await server.start();
  open.push({ close: () => server.stop({ drain: 0 }) });
  return server;
}

interface Visit {
  readonly status: number;
  readonly body: string;
  /** What the client would send next time. */
  readonly cookie: string;
}

async function visit(server: Server, cookie = ''): Promise<Visit> {
  const response = await fetch(server.urls[0]!, {
    headers: { Accept: 'text/html', ...(cookie && { Cookie: cookie }) },
  });
  const set = response.headers.getSetCookie().map(line => line.split(';')[0]!);
  return { status: response.status, body: await response.text(), cookie: set.join('; ') || cookie };
}

test('a session stays with its server from the page that began it, and moves when that is gone', async () => {
  const backends = [await backend('a'), await backend('b'), await backend('c')];
  const server = await start({ upstreams: { app: { servers: backends.map(({ url }) => url) } } });
  const first = await visit(server);
  expect(first.cookie).toMatch(/^holdfast=/);
  for (let i = 0; i < 4; i++) expect((await visit(server, first.cookie)).body).toBe(first.body);
  const home = backends['abc'.indexOf(first.body)]!;
  await home.close();
  const moved = await visit(server, first.cookie);
  expect([moved.status, moved.body]).toEqual([200, expect.not.stringMatching(first.body)]);
  await backend(first.body, { port: Number(new URL(home.url).port) });
  server.upstreams.get('app')!.add({ url: 'http://127.0.0.1:1' });
  expect((await visit(server, first.cookie)).body).toBe(moved.body);
  expect(server.upstreams.get('app')!.status.moves).toBe(1);
});

test('processes that share their sessions agree on where one has moved', async () => {
  const backends = [await backend('a'), await backend('b')];
  const config: Config = {
    session: { store: `lmdb:${join(dataFolder, 'sessions')}` },
    upstreams: { app: { servers: backends.map(({ url }) => url), ejection: { time: '1h', maxTime: '1h' } } },
  };
  const [one, two] = [await start(config), await start(config)];
  const first = await visit(one);
  expect((await visit(two, first.cookie)).body).toBe(first.body);
  const home = backends['ab'.indexOf(first.body)]!;
  await home.close();
  const moved = await visit(one, first.cookie);
  expect(moved.body).not.toBe(first.body);
  // The other one has not noticed that it was gone.
  await backend(first.body, { port: Number(new URL(home.url).port) });
  for (let i = 0; i < 200 && (await visit(two, first.cookie)).body !== moved.body; i++)
    await new Promise(resolve => setTimeout(resolve, 10));
  expect((await visit(two, first.cookie)).body).toBe(moved.body);
  expect(two.upstreams.get('app')!.status).toMatchObject({ moves: 0, servers: [{ failures: 0 }, { failures: 0 }] });
});

test('a client without session stays by a cookie that neither backends nor restarts lose', async () => {
  const backends = [await backend('a'), await backend('b'), await backend('c')];
  const config: Config = {
    session: false,
    upstreams: { app: { servers: backends.map(({ url }) => url), affinity: 'cookie' } },
  };
  const server = await start(config);
  const first = await visit(server);
  expect(first.cookie).toMatch(/^holdfast-app=/);
  expect((await visit(server, first.cookie)).body).toBe(first.body);
  await server.stop({ drain: 0 });
  const again = await start(config);
  for (let i = 0; i < 4; i++) expect((await visit(again, first.cookie)).body).toBe(first.body);
  expect(backends.flatMap(({ seen }) => seen.map(({ headers }) => headers.cookie))).toEqual(Array(6).fill(undefined));
});

test.each(wires)(
  'over %s, the clone ids of WebSphere lead to their server, in a cookie and in the URL, and reach it as they are',
  async wire => {
    const backends = [await backend('first'), await backend('second')];
    const wired = await WiredServer.start({
      dataFolder,
      upstreams: {
        app: {
          servers: backends.map(({ url }, index) => ({ url, route: ['1a2b3c', '4d5e6f'][index]! })),
          affinity: { by: 'route', cookie: 'JSESSIONID' },
        },
      },
      routes: [{ path: '/*', upstream: 'app' }],
    });
    open.push(wired);
    const cookie = 'JSESSIONID=0001abcdefghij:4d5e6f:1a2b3c';
    const path = '/shop;jsessionid=0001klmnopqrst:1a2b3c?x=1';
    for (let i = 0; i < 3; i++) {
      expect((await ask(wired, wire, { headers: { cookie } })).body).toBe('second');
      expect((await ask(wired, wire, { path })).body).toBe('first');
    }
    expect(new Set(backends[0]!.seen.map(({ url }) => url))).toEqual(new Set([path]));
    expect(new Set(backends[1]!.seen.map(({ headers }) => headers.cookie))).toEqual(new Set([cookie]));
    // Its first server is gone: the second that the id names takes it.
    await backends[1]!.close();
    expect((await ask(wired, wire, { headers: { cookie } })).body).toBe('first');
  },
);

test('TLS to a backend is by the files of the configuration', async () => {
  const authority = createAuthority('backend authority');
  const ca = join(dataFolder, 'ca.pem');
  await writeFile(ca, authority.certificate);
  const { certificate, key } = writeCertificate(dataFolder, { name: 'localhost', authority });
  const read = async (path: string) => (await import('node:fs')).readFileSync(path);
  const one = await backend('secure', { tls: { cert: await read(certificate), key: await read(key) } });
  const server = await start({ session: false, upstreams: { app: { servers: [one.url], tls: { ca } } } });
  expect(await visit(server)).toMatchObject({ status: 200, body: 'secure' });
  const strange = await start({ session: false, upstreams: { app: { servers: [one.url] } } });
  expect((await visit(strange)).status).toBe(502);
});

test.each([
  ['that is not there', { ca: '/nowhere/ca.pem' }, /upstreams\.app\.tls\.ca: cannot read \/nowhere\/ca\.pem/],
  ['that is none', { certificate: import.meta.filename, key: import.meta.filename }, /upstream "app": .*tls files/s],
])('a certificate %s is ERR_CONFIG_INVALID at the start', async (_, tls, message) => {
  const upstreams = { app: { servers: ['https://localhost:1'], tls } };
  await expect(start({ session: false, upstreams })).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
    message: expect.stringMatching(message),
  });
});

describe('server.upstreams', () => {
  test('knows how they are, and changes them while sockets are open', async () => {
    const [a, b] = [await backend('a'), await backend('b')];
    const server = await start({
      session: false,
      upstreams: { app: { servers: [a.url], health: { interval: '1h' } } },
    });
    const upstream = server.upstreams.get('app')!;
    expect([...server.upstreams.keys()]).toEqual(['app']);
    const client = new WebSocket(server.urls[0]!.replace('http', 'ws'));
    await once(client, 'open');
    expect(upstream.status).toEqual({
      name: 'app',
      moves: 0,
      retries: 0,
      clientViolations: 0,
      servers: [
        {
          url: a.url,
          weight: 1,
          route: undefined,
          state: 'in-service',
          returnsInMs: 0,
          active: 1,
          sockets: 1,
          requests: 1,
          failures: 0,
          ejections: 0,
        },
      ],
    });
    upstream.add({ url: b.url, weight: 2 });
    const closed = once(client, 'close');
    await upstream.remove(a.url, { over: '10ms' });
    const [code, reason] = await closed;
    expect([code, String(reason)]).toEqual([1012, 'backend server is leaving']);
    expect((await visit(server)).body).toBe('b');
    expect(upstream.status.servers).toMatchObject([{ url: b.url, weight: 2, requests: 1 }]);
  });

  test('is there from the start on', () => {
    expect(() => createServer({ session: false }).upstreams).toThrow(/not running/);
  });
});
