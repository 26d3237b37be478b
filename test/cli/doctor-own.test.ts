import { afterEach, expect, test } from 'vitest';
import { type Config, createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { freePort } from '../services/free-port.ts';
import { doctorOf } from './doctor-of.ts';
import { echoServer, rawServer } from './doctor-servers.ts';

let server: Server | undefined;
afterEach(async () => {
  await server?.stop({ drain: 0 });
  server = undefined;
});

/** The URL of a WebSocket of Holdfast with this configuration. */
async function holdfast(config: Config): Promise<string> {
  server = createServer({ listen: [{ port: 0, host: '127.0.0.1' }], log: { level: 'silent' }, ...config });
  await server.start();
  return `${server.urls[0]!.replace('http', 'ws')}/socket`;
}

const echo = (options: { idleTimeout?: string; heartbeat?: string | false; accept?: () => boolean } = {}) =>
  defineEndpoint({ path: '/socket', onMessage: (connection, data) => void connection.send(data), ...options });

const gateway = (port: number): Config => ({
  session: false,
  upstreams: { app: { servers: [`http://127.0.0.1:${port}`], answerTimeout: '500ms', handshakeTimeout: '500ms' } },
  routes: [{ path: '/*', upstream: 'app' }],
});

test('nothing is wrong with an endpoint as it is by default, and pages of other sites do not open it', async () => {
  const url = await holdfast({ session: { store: 'memory:' }, routes: [{ endpoint: echo() }] });
  const { codes, said } = await doctorOf(url, { idleMs: 500, sendsMessages: true });
  expect(codes).toEqual([]);
  expect(said('origin')).toBe('ok own: 101, none: 101, foreign: 403');
  expect(said('size')).toBe('note 64 KiB: echoed; 1 MiB: refused with 1009');
});

test('nothing is wrong with a gateway in front of a WebSocket', async () => {
  await using backend = await echoServer();
  const { codes } = await doctorOf(await holdfast(gateway(backend.port)), { idleMs: 500 });
  expect(codes).toEqual([]);
});

test('the backend of a gateway does not run: 503', async () => {
  const { codes } = await doctorOf(await holdfast(gateway(await freePort())));
  expect(codes).toEqual(['backend-unavailable']);
});

test('the backend of a gateway hangs up: 502', async () => {
  await using hangsUp = await rawServer(socket => void socket.once('data', () => socket.end()));
  const { codes } = await doctorOf(await holdfast(gateway(hangsUp.port)));
  expect(codes).toEqual(['backend-broken']);
});

test('the backend of a gateway does not answer: 504', async () => {
  await using hangs = await rawServer(socket => void socket.resume());
  const { codes } = await doctorOf(await holdfast(gateway(hangs.port)), { timeoutMs: 5_000 });
  expect(codes).toEqual(['backend-slow']);
});

test('an endpoint without a heartbeat closes what is silent for its idle timeout', async () => {
  const url = await holdfast({ session: false, routes: [{ endpoint: echo({ idleTimeout: '1s', heartbeat: false }) }] });
  const { codes, said } = await doctorOf(url, { idleMs: 3_000 });
  expect(codes).toEqual(['idle-closed']);
  expect(said('idle')).toMatch(/^fail closed with 1001 .*after \d\.\d s of silence; .*no ping came from the server$/);
});

test('the heartbeat of an endpoint is seen', async () => {
  const url = await holdfast({ session: false, routes: [{ endpoint: echo({ heartbeat: '300ms' }) }] });
  const { codes, said } = await doctorOf(url, { idleMs: 1_500 });
  expect(codes).toEqual([]);
  expect(said('idle')).toMatch(/; the server sends a ping every \d+ ms$/);
});

test('a path without a route, an application that refuses, and a page of another site', async () => {
  const url = await holdfast({ session: false, routes: [{ endpoint: echo({ accept: () => false }) }] });
  expect((await doctorOf(url.replace('/socket', '/other'))).codes).toEqual(['path-unknown']);
  expect((await doctorOf(url)).codes).toEqual(['forbidden']);
  await server!.stop({ drain: 0 });
  const open = await holdfast({ session: false, routes: [{ endpoint: echo() }] });
  expect((await doctorOf(open, { origin: 'https://example.com' })).codes).toEqual(['origin-refused']);
});
