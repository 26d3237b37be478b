import { createServer, defineEndpoint } from 'holdfast';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { arePresent, GROUPS, replay } from './conformance-cases.ts';

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

beforeAll(() => server.start());
afterAll(() => server.stop());

test.skipIf(!arePresent).each(GROUPS)('every %s case is OK (%i cases)', async (_, count, args) => {
  const results = await replay(new URL('/echo', server.urls[0]).href, args);
  expect(results).toHaveLength(count);
  const unexpected = results.filter(
    ({ id, behavior, close }) =>
      !(behavior === 'OK' || (behavior === 'INFORMATIONAL' && INFORMATIONAL.includes(id))) ||
      !(close === 'OK' || (close === 'INFORMATIONAL' && INFORMATIONAL.includes(id))),
  );
  expect(unexpected).toEqual([]);
});
