import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Comparison, Effort, Measurement, Suite } from '../comparison.ts';
import type { SessionOptions } from '../load/session.ts';
import type { LoadResult } from '../load/window.ts';
import { startRedis } from '../peers/redis.ts';
import { type Server, startLoad, startNodeServer, startServerOf } from '../program.ts';

const PEER = 'express-session';

export const suite: Suite = {
  title: 'HTTP requests that read and write a session, durable on return, on plain node:http',
  comparisons: [
    counted(256, 0.65),
    counted(256, null, 'with redis-server'),
    counted(64, null),
    counted(16, null),
    counted(1, null),
  ],
};

/**
 * @param redis Whether the CPU time of redis-server counts as the peer's; with a limit it does not: it might run on
 * another machine.
 */
function counted(connections: number, limit: number | null, redis?: 'with redis-server'): Comparison {
  const row = `counting request, ${connections} in flight${redis ? `, ${redis}` : ''}`;
  const theirs = withRedis(connections, redis !== undefined);
  const comparison = { row, peer: PEER, unit: 'µs CPU/request', limit, ours: withLmdb(connections), theirs };
  return redis ? { ...comparison, about: 'peers' } : comparison;
}

/**
 * CPU time of our server for one request, in µs: its threads that write to disk included, because all of lmdb runs in
 * its process.
 */
function withLmdb(connections: number): Measurement {
  return async effort => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-lmdb-'));
    try {
      await using server = await startServerOf(effort.checkout, 'holdfast-session.ts', folder);
      return await cpuTimePerRequest(server, connections, effort);
    } finally {
      await rm(folder, { recursive: true });
    }
  };
}

/** CPU time of the peer's server for one request, in µs. */
function withRedis(connections: number, doesRedisCount: boolean): Measurement {
  return async effort => {
    await using redis = await startRedis();
    await using server = await startNodeServer('express-session.ts', redis.url);
    return await cpuTimePerRequest(server, connections, effort, doesRedisCount ? [redis.pid] : []);
  };
}

async function cpuTimePerRequest(
  { port, pid }: Server,
  connections: number,
  { warmUpMs, measureMs }: Effort,
  alsoPids: readonly number[] = [],
): Promise<number> {
  const options: SessionOptions = { port, pid, alsoPids, connections, warmUpMs, measureMs };
  await using load = startLoad('session.ts', options);
  const { cpuNs, messages } = await load.next<LoadResult>();
  return cpuNs / messages / 1000;
}
