import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, defineEndpoint } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { LogControl } from '../../src/server/log/log-control.ts';
import { listenTcp } from '../gateway/gateway-server.ts';
import { gate } from '../websocket/journal.ts';

// That a client has left is known after four seconds.
test.concurrent('a client that leaves while the session store is asked has its line, with status 499', async ({
  expect,
}) => {
  const dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-access-'));
  const reading = gate();
  const answering = gate();
  class Store extends MemoryStore {
    override async glance(sid: string) {
      reading.resolve();
      await answering.promise;
      return super.glance(sid);
    }
  }
  const lines: string[] = [];
  try {
    await using server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: { store: new Store() },
        dataFolder,
        log: { access: 'json' },
        routes: [{ path: '/*', session: 'create', fetch: () => new Response('ok') }],
      },
      { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const first = await fetch(new URL('/first', server.urls[0]));
    const cookie = first.headers.getSetCookie()[0]!.split(';')[0]!;
    const leaving = new AbortController();
    const answer = fetch(new URL('/left', server.urls[0]), { headers: { cookie }, signal: leaving.signal });
    await reading.promise;
    leaving.abort();
    await expect(answer).rejects.toThrow();
    const line = () => lines.map(text => JSON.parse(text)).find(({ target }) => target === '/left');
    await expect.poll(line).toMatchObject({ event: 'request', status: 499 });
    answering.resolve();
  } finally {
    await rm(dataFolder, { recursive: true });
  }
});

test.concurrent('lines have their bytes where only a follower of the access log gets any', async ({ expect }) => {
  const lines: string[] = [];
  const logs = LogControl.open({ level: 'silent', access: 'off' });
  const routes = [{ path: '/*', fetch: () => new Response('hello') }];
  await using server = createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], session: false, log: { level: 'silent', access: 'off' }, routes },
    { logs },
  );
  await server.start();
  const stop = logs.follow({ kinds: ['access'] }, ({ text }) => lines.push(text));
  await (await fetch(server.urls[0]!)).text();
  await expect.poll(() => lines.map(line => JSON.parse(line).bytesSent)).toEqual([5]);
  stop();
});

test.concurrent('a WebSocket that ends while it opens has the line of its opening first', async ({ expect }) => {
  const lines: string[] = [];
  const endpoint = defineEndpoint({ path: '/socket', onOpen: connection => connection.terminate() });
  await using server = createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], session: false, log: { access: 'json' }, routes: [{ endpoint }] },
    { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
  );
  await server.start();
  const { host, port } = new URL(server.urls[0]!);
  const client = net.connect(Number(port), '127.0.0.1');
  client.on('error', () => {});
  const handshake = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13'];
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  client.write(['GET /socket HTTP/1.1', `Host: ${host}`, ...handshake, key, '', ''].join('\r\n'));
  await expect.poll(() => lines.map(line => JSON.parse(line).event)).toEqual(['socket-opened', 'socket-closed']);
  client.destroy();
});

test.concurrent('a client that leaves before its backend has answered has its line, with status 499', async ({
  expect,
}) => {
  const asked = gate();
  const backend = await listenTcp(socket => socket.once('data', () => asked.resolve()));
  const lines: string[] = [];
  try {
    await using server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: false,
        log: { access: 'json' },
        upstreams: { app: { servers: [backend.url] } },
        routes: [{ path: '/*', upstream: 'app' }],
      },
      { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const client = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
    client.write('GET /left HTTP/1.1\r\nHost: a\r\n\r\n');
    await asked.promise;
    client.destroy();
    await once(client, 'close');
    const line = () => lines.map(text => JSON.parse(text)).find(({ target }) => target === '/left');
    await expect.poll(line).toMatchObject({ event: 'request', status: 499 });
  } finally {
    await backend.close();
  }
});

test.concurrent.for([0, 50])(
  'the requests that a server cuts, stopping with a drain of %d ms, have their lines when it has stopped',
  async (drain, { expect }) => {
    const asked = gate();
    const lines: string[] = [];
    const server = createServer(
      {
        listen: [{ port: 0, host: '127.0.0.1' }],
        session: false,
        log: { access: 'json' },
        routes: [
          {
            path: '/*',
            fetch: () => {
              asked.resolve();
              return new Promise<Response>(() => {});
            },
          },
        ],
      },
      { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
    );
    await server.start();
    const client = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
    client.on('error', () => {}).write('GET /cut HTTP/1.1\r\nHost: a\r\n\r\n');
    await asked.promise;
    await server.stop({ drain });
    expect(lines.map(line => JSON.parse(line))).toMatchObject([{ target: '/cut', status: 499, complete: false }]);
    client.destroy();
  },
);

test.concurrent('the handshakes that a stopping server cuts have their lines when it has stopped', async ({
  expect,
}) => {
  const asked = gate();
  const store = new MemoryStore();
  store.create = () => {
    asked.resolve();
    return new Promise(() => {});
  };
  const lines: string[] = [];
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store, storeTimeout: '2s' },
      log: { access: 'json' },
      upstreams: { app: { servers: ['http://127.0.0.1:9'] } },
      routes: [{ path: '/*', upstream: 'app', websocket: true, session: 'create' }],
    },
    { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
  );
  await server.start();
  const client = net.connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n';
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
  client.on('error', () => {}).write(`GET /cut HTTP/1.1\r\nHost: a\r\n${upgrade}${key}\r\n`);
  await asked.promise;
  await server.stop({ drain: 0 });
  expect(lines.map(line => JSON.parse(line))).toMatchObject([{ target: '/cut', status: 499, complete: false }]);
  client.destroy();
});

test.concurrent('a backend whose answer was withheld, because the session could not be stored, is in the access log', async ({
  expect,
}) => {
  const store = new MemoryStore();
  store.create = () => Promise.reject(new Error('away'));
  const backend = await listenTcp(socket =>
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')),
  );
  const lines: string[] = [];
  const server = createServer(
    {
      listen: [{ port: 0, host: '127.0.0.1' }],
      session: { store },
      log: { access: 'json' },
      upstreams: { app: { servers: [backend.url] } },
      routes: [{ path: '/*', upstream: 'app', session: 'create' }],
    },
    { logger: silentLogger, accessLog: { write: line => lines.push(line) } },
  );
  await server.start();
  try {
    expect((await fetch(`${server.urls[0]}/lost`)).status).toBe(503);
    await expect.poll(() => lines.length).toBe(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({ target: '/lost', status: 503, upstream: 'app', server: backend.url });
  } finally {
    await server.stop({ drain: 0 });
    await backend.close();
  }
});
