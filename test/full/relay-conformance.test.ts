import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { createServer, defineEndpoint, type Server } from '../../src/index.ts';
import { arePresent, GROUPS, type Result, replay } from './conformance-cases.ts';

/**
 * The cases whose outcome RFC 6455 leaves open, and in which the relay judges before the backend does: 7.1.6, 7.13.1
 * and 7.13.2.
 */
const UNDECIDED = /^(?:7\.1\.6|7\.13\.\d)$/;

const LIMIT = 64 * 1024 * 1024;

const echo = defineEndpoint({
  path: '/echo',
  compression: { threshold: 0 },
  maxMessageSize: LIMIT,
  maxFragments: 1_000_000,
  maxBufferedAmount: LIMIT,
  onMessage(connection, data) {
    connection.send(data);
  },
});
const own = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint: echo }],
  log: { level: 'silent' },
});
const ws = new WebSocketServer({
  port: 0,
  host: '127.0.0.1',
  maxPayload: LIMIT,
  perMessageDeflate: { threshold: 0 },
});
ws.on('connection', socket => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
await once(ws, 'listening');
let relay: Server;

beforeAll(async () => {
  await own.start();
  relay = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: {
      own: { servers: [own.urls[0]!] },
      ws: { servers: [`http://127.0.0.1:${(ws.address() as AddressInfo).port}`] },
    },
    routes: [
      { path: '/echo', upstream: 'own', websocket: { maxMessageSize: LIMIT } },
      { path: '/ws', upstream: 'ws', websocket: { maxMessageSize: LIMIT } },
    ],
    log: { level: 'silent' },
  });
  await relay.start();
});

afterAll(async () => {
  await relay.stop();
  await own.stop();
  for (const client of ws.clients) client.terminate();
  ws.close();
});

async function verdicts(url: string, args: readonly string[]): Promise<Pick<Result, 'id' | 'behavior' | 'close'>[]> {
  return (
    (await replay(url, args))
      .filter(({ id }) => !UNDECIDED.test(id))
      .map(({ id, behavior, close }) => ({ id, behavior, close }))
      // Several run at once, and end in any order.
      .sort((a, b) => a.id.localeCompare(b.id))
  );
}

describe.skipIf(!arePresent).each([
  ['our own echo', () => new URL('/echo', own.urls[0]).href, '/echo'],
  ['ws', () => `http://127.0.0.1:${(ws.address() as AddressInfo).port}/`, '/ws'],
] as const)('every verdict through the relay to %s is that of the direct way', (_, direct, path) => {
  test.each(GROUPS)('%s (%i cases)', async (_name, count, args) => {
    const through = await verdicts(new URL(path, relay.urls[0]).href, args);
    expect(through.length).toBeGreaterThanOrEqual(count - 3);
    expect(through).toEqual(await verdicts(direct(), args));
  });
});
