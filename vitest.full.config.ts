import { defineConfig, mergeConfig } from 'vitest/config';
import quick from './vitest.config.ts';

// A worker for each file: some measure the memory of their process.
const config = mergeConfig(quick, defineConfig({ test: { isolate: true, testTimeout: 300_000, hookTimeout: 300_000 } }));
const { include, exclude, ...test } = config.test;
const ALL = ['test/full/**/*.test.ts'];
/** Which wait for the clock or for programs of their own most of the time, and measure nothing. */
const WAITING = [
  'affinity-on-stores',
  'bad-input',
  'database-tools',
  'demo',
  'example-notifications',
  'example-sensors',
  'example-shop-cart',
  'example-stock-ticker',
  'guard-full-disk',
  'guard-half-closed',
  'guard-inflate-turns',
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
].map(name => `test/full/${name}.test.ts`);
const EXCLUDED = ['**/node_modules/**'];

// One file at a time, as these suites measure, start programs and load the machine; then what waits, side by side.
config.test = {
  ...test,
  projects: [
    {
      extends: true,
      test: {
        name: 'one by one',
        include: ALL,
        exclude: [...EXCLUDED, ...WAITING],
        fileParallelism: false,
        sequence: { groupOrder: 0 },
      },
    },
    { extends: true, test: { name: 'side by side', include: WAITING, exclude: EXCLUDED, sequence: { groupOrder: 1 } } },
  ],
};

export default config;
