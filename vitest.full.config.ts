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
/** Which measure times or memory, or keep the machine busy on purpose. */
const MEASURING = [
  'bad-input-at-scale',
  'bans-of-processes',
  'broadcast-fairness',
  'busy',
  'guard-descriptors',
  'guard-inflating',
  'guard-session-sockets',
  'killed-backend',
  'large-attribute',
  'large-bodies',
  'lmdb-at-scale',
  'postgres-outage',
  'redis-cluster',
  'relay-faults',
  'reload-under-load',
  'drain-of-many',
  'session-end-to-close',
  'soak-short',
  'threads',
  'under-attack',
].map(file);

/** Which take longest. They begin first: what begins last has cores for itself that nobody else uses. */
const LONG = [
  'relay-conformance',
  'guard-cross-site-browser',
  'conformance',
  'dist',
  'redis-sentinel',
  'last-words',
  'limits',
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

// Many wait for the clock or for programs most of the time, and others compute meanwhile. What measures has the machine
// for itself.
config.test = {
  ...test,
  sequence: { sequencer: LongestFirst },
  projects: [
    project('sharing', 0, availableParallelism() + 1, ['test/full/**/*.test.ts'], MEASURING),
    project('measuring', 1, 1, MEASURING),
  ],
};

export default config;
