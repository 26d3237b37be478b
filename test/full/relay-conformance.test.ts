import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { createServer, type Server } from '../../src/index.ts';
import { arePresent, GROUPS, RELAYED_MESSAGES, replay, verdictsOf } from './conformance-cases.ts';

const LIMIT = 64 * 1024 * 1024;

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
  relay = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: {
      ws: { servers: [`http://127.0.0.1:${(ws.address() as AddressInfo).port}`] },
    },
    routes: [{ path: '/ws', upstream: 'ws', websocket: { maxMessageSize: LIMIT } }],
    log: { level: 'silent' },
  });
  await relay.start();
});

afterAll(async () => {
  await relay.stop();
  for (const client of ws.clients) client.terminate();
  ws.close();
});

// The relay to our own echo: conformance.test.ts. More messages: test/soak/conformance.test.ts.
describe.skipIf(!arePresent)('every verdict through the relay to ws is that of the direct way', () => {
  test.each(GROUPS)('%s (%i cases)', async (_name, count, argsFor) => {
    const args = argsFor(RELAYED_MESSAGES);
    const through = verdictsOf(await replay(new URL('/ws', relay.urls[0]).href, args));
    expect(through.length).toBeGreaterThanOrEqual(count - 3);
    const direct = await replay(`http://127.0.0.1:${(ws.address() as AddressInfo).port}/`, args);
    expect(through).toEqual(verdictsOf(direct));
  });
});
