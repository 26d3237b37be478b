import { createServer, defineEndpoint, type Server } from 'holdfast';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  arePresent,
  GROUPS,
  MESSAGES,
  RELAYED_MESSAGES,
  type Result,
  replay,
  verdictsOf,
} from './conformance-cases.ts';

/**
 * The cases whose outcome RFC 6455 leaves open: 7.1.6 (a large message racing a close) and 7.13.* (undefined close
 * codes).
 */
const INFORMATIONAL = ['7.1.6', '7.13.1', '7.13.2'];

const echo = defineEndpoint({
  path: '/echo',
  compression: { threshold: 0 },
  maxMessageSize: '64MiB',
  maxFragments: 1_000_000,
  maxBufferedAmount: '64MiB',
  onMessage(connection, data) {
    connection.send(data);
  },
});
const server = createServer({
  listen: [{ port: 0, host: '127.0.0.1' }],
  session: false,
  routes: [{ endpoint: echo }],
  log: { level: 'error', access: 'off' },
});
let relay: Server;

beforeAll(async () => {
  await server.start();
  relay = createServer({
    listen: [{ port: 0, host: '127.0.0.1' }],
    session: false,
    upstreams: { echo: { servers: [server.urls[0]!] } },
    routes: [{ path: '/echo', upstream: 'echo', websocket: { maxMessageSize: '64MiB' } }],
    log: { level: 'error', access: 'off' },
  });
  await relay.start();
});
afterAll(async () => {
  await relay.stop();
  await server.stop();
});

describe.skipIf(!arePresent).each(GROUPS)('%s (%i cases)', (_, count, args) => {
  let direct: readonly Result[];

  test('every case is OK', async () => {
    direct = await replay(new URL('/echo', server.urls[0]).href, args(MESSAGES));
    expect(direct).toHaveLength(count);
    const unexpected = direct.filter(
      ({ id, behavior, close }) =>
        !(behavior === 'OK' || (behavior === 'INFORMATIONAL' && INFORMATIONAL.includes(id))) ||
        !(close === 'OK' || (close === 'INFORMATIONAL' && INFORMATIONAL.includes(id))),
    );
    expect(unexpected).toEqual([]);
  });

  test('every verdict through a relay is that of the direct way', async () => {
    const through = await replay(new URL('/echo', relay.urls[0]).href, args(RELAYED_MESSAGES));
    expect(verdictsOf(through)).toEqual(verdictsOf(direct));
  });
});
