import { availableParallelism } from 'node:os';
import { defineConfig, mergeConfig } from 'vitest/config';
import quick from './vitest.config.ts';

const config = mergeConfig(
  quick,
  // A worker for each file: some measure the memory of their process.
  defineConfig({ test: { isolate: true, testTimeout: 300_000, hookTimeout: 300_000 } }),
);
const { include, exclude, ...test } = config.test;
/** Which wait for the clock or for programs of their own most of the time, and measure nothing. */
const WAITING = [
  'affinity-on-stores',
  'database-tools',
  'demo',
  'example-notifications',
  'example-sensors',
  'example-shop-cart',
  'example-stock-ticker',
  'guard-full-disk',
  'guard-half-closed',
  'guard-half-closed-clients',
  'guard-inflate-turns',
  'guard-log-outputs',
  'guard-logs',
  'guard-slow-clients',
  'guard-slow-readers',
  'keep-alive',
  'last-words',
  'lmdb-namespaces',
  'one-login',
  'pgbouncer',
  'polling',
  'postgres-tls',
  'redis-full',
  'redis-sentinel',
  'running-requests',
  'session-races',
  'statistics-of-processes',
].map(file);
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
].map(file);

function file(name: string): string {
  return `test/full/${name}.test.ts`;
}

/** Files of one kind, which run when those of the kind before have ended. */
function project(name: string, groupOrder: number, maxWorkers: number, include: string[], exclude: string[] = []) {
  const own = { name, include, exclude: ['**/node_modules/**', ...exclude], maxWorkers };
  return { extends: true as const, test: { ...own, sequence: { groupOrder } } };
}

const cores = availableParallelism();
// What waits shares the cores, what computes has one each, and what measures has the machine for itself.
config.test = {
  ...test,
  projects: [
    project('waiting', 0, cores + 1, WAITING),
    project('computing', 1, cores, ['test/full/**/*.test.ts'], [...WAITING, ...MEASURING]),
    project('measuring', 2, 1, MEASURING),
  ],
};

export default config;
