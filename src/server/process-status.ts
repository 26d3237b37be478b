import type { Status } from '../admin/shapes.ts';
import type { Clock } from '../base/clock.ts';

/** What the status of a process says that does not change, and who it asks for the rest. */
export interface ProcessFacts {
  /** Of the package. */
  readonly version: string;
  readonly clock: Clock;
  readonly startedAt: number;
  /** Where its configuration stands. */
  readonly configFile: string | undefined;
  /** What became of the last reload. */
  lastReload(): Status['lastReload'];
}

type ProcessStatus = Pick<
  Status,
  'version' | 'node' | 'pid' | 'startedAt' | 'uptimeMs' | 'configFile' | 'memory' | 'cpu' | 'lastReload'
>;

/** What every process says of itself, whatever it serves. */
export function processStatus({ version, clock, startedAt, configFile, lastReload }: ProcessFacts): ProcessStatus {
  const { rss, heapUsed, heapTotal, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const last = lastReload();
  return {
    version,
    node: process.versions.node,
    pid: process.pid,
    startedAt,
    uptimeMs: Math.max(0, clock.now() - startedAt),
    ...(configFile !== undefined && { configFile }),
    memory: { residentBytes: rss, heapUsedBytes: heapUsed, heapTotalBytes: heapTotal, externalBytes: external },
    cpu: { userMs: user / 1_000, systemMs: system / 1_000 },
    ...(last && { lastReload: last }),
  };
}
