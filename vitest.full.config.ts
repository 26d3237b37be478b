import { availableParallelism } from 'node:os';
import { defineConfig, mergeConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import quick from './vitest.config.ts';

const config = mergeConfig(
  quick,
  // A worker for each file: some measure the memory of their process.
  defineConfig({ test: { isolate: true, testTimeout: 300_000, hookTimeout: 300_000 } }),
);
const { include, exclude, ...test } = config.test;
/** Which measure times of milliseconds or keep all cores busy on purpose: one at a time. */
const MEASURING = [
  'bad-input-at-scale',
  'bans-of-processes',
  'broadcast-fairness',
  'drain-of-many',
  'guard-inflating',
  'killed-backend',
  'large-attribute',
  'large-bodies',
  'lmdb-at-scale',
  'reload-under-load',
  'threads-beside',
  'under-attack',
].map(file);

/** Which measure times of a second or more, or what one process has and does, and wait most of the time: one a core. */
const WAITING = [
  'busy',
  'guard-descriptors',
  'guard-session-sockets',
  'guard-slow-readers',
  'postgres-outage',
  'redis-cluster',
  'relay-faults',
  'session-end-to-close',
  'soak-short',
  'threads',
].map(file);

/** Which take longest. They begin first: what begins last has cores for itself that nobody else uses. */
const LONG = [
  'workers',
  'dist',
  'keep-alive',
  'last-words',
  'conformance',
  'guard-cross-site-browser',
  'guard-slow-clients',
  'relay-conformance',
  'running-requests',
  'session-crash',
  'redis-sentinel',
  'cli-admin',
  'limits',
  'soak-short',
  'busy',
].map(file);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONG.findIndex(name => moduleId.endsWith(name));
      return at === -1 ? LONG.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

function file(name: string): string {
  return `test/full/${name}.test.ts`;
}

/** Files of one kind, which run when those of the kind before have ended. */
function project(name: string, groupOrder: number, maxWorkers: number, include: string[], exclude: string[] = []) {
  const own = { name, include, exclude: ['**/node_modules/**', ...exclude], maxWorkers };
  return { extends: true as const, test: { ...own, sequence: { groupOrder } } };
}

// Many wait for the clock or for programs most of the time, and others compute meanwhile.
config.test = {
  ...test,
  sequence: { sequencer: LongestFirst },
  projects: [
    project('sharing', 0, availableParallelism() + 2, ['test/full/**/*.test.ts'], [...WAITING, ...MEASURING]),
    project('waiting', 1, Math.min(availableParallelism(), 4), WAITING),
    project('measuring', 2, 1, MEASURING),
  ],
};

export default config;
