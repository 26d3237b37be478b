import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { fill, flood, serveSlowReaders, warmUp } from '../guard/slow-reader-server.ts';
import { allowedGrowth, beginPeak, MIB, peakBytes, SilentBackend, SlowClients } from '../guard/slow-readers.ts';

const LIMIT = MIB;

// Every wire, way, policy and size with every other: test/soak/slow-readers.test.ts.
test.concurrent.each([
  ['http/2, shared', 200, 'wait', 'send', 100, 3_000],
  ['http/1', 20, 'wait', 'send', 1, 20_000],
  ['tls', 20, 'drop', 'broadcast', 1, 20_000],
  ['http/2', 20, 'conflate', 'stream', 100, 20_000],
] as const)(
  'over %s, %i clients that read nothing cost at most twice their limit and 64 KiB each (policy %s, %s of messages of %i bytes)',
  // A collection of garbage just before makes a process small: it grows then for other reasons. Too much grows each time.
  { retry: 2 },
  async (wire, count, policy, way, size, most) => {
    // A process of its own: memory is not given back at once, and would count against the next one.
    await using backend = await SilentBackend.listen();
    await using server = await serveSlowReaders(LIMIT, backend);
    await warmUp(server);
    const before = server.residentBytes();
    using clients = await SlowClients.open(server, wire, `/${policy}`, count);
    await fill(server, policy);
    beginPeak(server);
    const { sent } = await flood(server, policy, way, size, most);
    await wait(50);
    expect(sent).toBeGreaterThan(50);
    expect(peakBytes(server) - before).toBeLessThan(allowedGrowth(LIMIT, clients));
  },
);
