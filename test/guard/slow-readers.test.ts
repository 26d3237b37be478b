import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Served } from './served.ts';
import { fill, flood, serveSlowReaders, warmUp } from './slow-reader-server.ts';
import { allowedGrowth, beginPeak, MIB, peakBytes, SilentBackend, SlowClients } from './slow-readers.ts';

const LIMIT = MIB;

let backend: SilentBackend;
let server: Served;
/** Resident memory before anything waits. What an earlier test has left counts as well: memory is not given back at once. */
let before = 0;

beforeAll(async () => {
  backend = await SilentBackend.listen();
  server = await serveSlowReaders(LIMIT, backend);
  await warmUp(server);
  before = server.residentBytes();
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await backend?.[Symbol.asyncDispose]();
});

// Every wire, way, policy and size with every other: test/soak/slow-readers.test.ts.
test.each([
  // First, as it has the least for what the process itself needs: what a test leaves counts against the next one.
  ['http/2, shared', 200, 'wait', 'send', 100, 3_000],
  ['http/1', 20, 'wait', 'send', 1, 20_000],
  ['tls', 20, 'drop', 'broadcast', 1, 20_000],
  ['http/2', 20, 'conflate', 'stream', 100, 20_000],
] as const)(
  'over %s, %i clients that read nothing cost at most twice their limit and 64 KiB each (policy %s, %s of messages of %i bytes)',
  async (wire, count, policy, way, size, most) => {
    using clients = await SlowClients.open(server, wire, `/${policy}`, count);
    await fill(server, policy);
    beginPeak(server);
    const { sent } = await flood(server, policy, way, size, most);
    await wait(50);
    expect(sent).toBeGreaterThan(50);
    expect(peakBytes(server) - before).toBeLessThan(allowedGrowth(LIMIT, clients));
  },
);
