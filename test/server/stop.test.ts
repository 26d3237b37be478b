import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Config, createServer, defineEndpoint } from 'holdfast';
import { MemoryStore } from 'holdfast/session';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/logger.ts';
import { gate } from '../websocket/journal.ts';
import { closeFrame, RawClient } from '../websocket/raw-client.ts';

let dataFolder: string;
beforeAll(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'holdfast-stop-'));
});
afterAll(() => rm(dataFolder, { recursive: true }));

const create = (config: Config) =>
  createServer(
    { listen: [{ port: 0, host: '127.0.0.1' }], session: false, dataFolder, log: { access: 'off' }, ...config },
    { logger: silentLogger },
  );

test('the process lives until stop has done everything, although nothing else keeps it alive', async () => {
  const program = `
    import { createServer, defineEndpoint } from 'holdfast';
    const endpoint = defineEndpoint({ path: '/', destroy: () => console.log('destroyed') });
    const server = createServer({
      session: false,
      listen: [{ port: 0, host: '127.0.0.1' }],
      routes: [{ endpoint }],
      log: { level: 'silent', access: 'off' },
    });
    await server.start();
    const socket = new WebSocket(server.urls[0]);
    socket.onopen = () => server.stop().then(() => console.log('stopped'));
  `;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['-C', 'holdfast-source', '--input-type=module', '--eval', program],
    { cwd: fileURLToPath(new URL('../..', import.meta.url)) },
  );
  expect(stdout).toBe('destroyed\nstopped\n');
});

test('a stop during the start waits for it, and nothing is left open', async () => {
  const initialising = gate();
  const calls: string[] = [];
  const endpoint = defineEndpoint({
    path: '/',
    init: () => initialising.promise,
    destroy: () => void calls.push('destroyed'),
  });
  const server = create({ routes: [{ endpoint }] });
  const started = server.start();
  const stopped = Promise.all([server.stop(), server.stop()]);
  initialising.resolve();
  await started;
  await stopped;
  expect(calls).toEqual(['destroyed']);
  await expect(fetch(server.urls[0]!)).rejects.toThrow('fetch failed');
  await expect(server.start()).rejects.toMatchObject({ code: 'ERR_SERVER_STATE' });
});

test('an endpoint whose destroy fails keeps nothing else from closing', async () => {
  const closed: string[] = [];
  class Store extends MemoryStore {
    override async close() {
      closed.push('store');
      await super.close();
    }
  }
  const failing = defineEndpoint({
    path: '/a',
    async destroy() {
      throw new Error('no');
    },
  });
  const other = defineEndpoint({ path: '/b', destroy: () => void closed.push('other') });
  const server = create({ session: { store: new Store() }, routes: [{ endpoint: failing }, { endpoint: other }] });
  await server.start();
  await expect(server.stop()).rejects.toThrow('no');
  expect(closed).toEqual(['other', 'store']);
});

test('a handshake that waits for the session store when the time is over is cut, and opens nothing later', async () => {
  const reading = gate();
  const answering = gate();
  class Store extends MemoryStore {
    override async glance(sid: string) {
      reading.resolve();
      await answering.promise;
      return super.glance(sid);
    }
  }
  const calls: string[] = [];
  const endpoint = defineEndpoint({ path: '/', accept: () => calls.push('accept') > 0 });
  const server = create({
    session: { store: new Store() },
    routes: [
      { endpoint },
      {
        path: '/in',
        fetch: async request => {
          await server.sessions.open(request);
          return new Response();
        },
      },
    ],
  });
  await server.start();
  const [cookie] = (await fetch(new URL('/in', server.urls[0]))).headers.getSetCookie()[0]!.split(';');
  const url = server.urls[0]!.replace('http', 'ws').replace('localhost', '127.0.0.1');
  using client = await RawClient.knock(url, { headers: [`Cookie: ${cookie}`, `Origin: ${url.replace('ws', 'http')}`] });
  await reading.promise;
  const stopped = server.stop({ drain: '50ms' });
  await client.ended();
  answering.resolve();
  await stopped;
  expect(calls).toEqual([]);
  expect(client.head).toBe('');
});

test('a connection that accept admits while the server drains is closed with 1001', async () => {
  const asked = gate();
  const thinking = gate();
  const endpoint = defineEndpoint({
    path: '/',
    async accept() {
      asked.resolve();
      await thinking.promise;
      return true;
    },
  });
  const server = create({ routes: [{ endpoint }] });
  await server.start();
  const url = server.urls[0]!.replace('http', 'ws').replace('localhost', '127.0.0.1');
  using client = await RawClient.knock(url);
  await asked.promise;
  const stopped = server.stop({ drain: '1h' });
  thinking.resolve();
  expect((await client.next())!.payload.readUInt16BE()).toBe(1001);
  client.send(closeFrame(1001));
  client.socket.end();
  await stopped;
});

test('an attach that fails lets go of the server', async () => {
  const own = http.createServer();
  const endpoint = defineEndpoint({
    path: '/',
    init() {
      throw new Error('no');
    },
  });
  await expect(create({ routes: [{ endpoint }] }).attach(own)).rejects.toThrow('no');
  expect(own.listenerCount('upgrade')).toBe(0);
});

test('a client that connected just before the server began to stop is answered, and its connection is the last', async () => {
  const server = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    routes: [{ path: '/', fetch: () => new Response('served') }],
    log: { level: 'silent' },
  });
  await server.start();
  const socket = connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  await once(socket, 'connect');
  // It is accepted when a request that came later is answered.
  await fetch(server.urls[0]!).then(response => response.text());
  const stopped = server.stop();
  let received = '';
  socket.on('data', data => {
    received += data;
  });
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await Promise.all([once(socket, 'close'), stopped]);
  expect(received).toMatch(/^HTTP\/1\.1 200 [\s\S]*Connection: close\r\n[\s\S]*served$/);
});

test('a connection that brings no request holds up a stop for a second', async () => {
  const server = createServer({ listen: [{ port: 0, host: '127.0.0.1' }], session: false, log: { level: 'silent' } });
  await server.start();
  const socket = connect(Number(new URL(server.urls[0]!).port), '127.0.0.1');
  await once(socket, 'connect');
  await fetch(server.urls[0]!).then(response => response.text());
  const closed = once(socket.resume(), 'close');
  const started = performance.now();
  await server.stop({ drain: '30s' });
  await closed;
  expect(performance.now() - started).toBeLessThan(5_000);
});
