import { availableParallelism } from 'node:os';
import { defineConfig, mergeConfig } from 'vitest/config';
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
  'session-end-to-close',
  'threads',
  'under-attack',
].map(file);

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
  projects: [
    project('sharing', 0, availableParallelism() + 1, ['test/full/**/*.test.ts'], MEASURING),
    project('measuring', 1, 1, MEASURING),
  ],
};

export default config;
