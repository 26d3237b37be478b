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
].map(name => `test/full/${name}.test.ts`);
const EXCLUDED = ['**/node_modules/**'];

// What waits for the clock or for programs of its own, side by side; then what needs the machine for itself.
config.test = {
  ...test,
  projects: [
    {
      extends: true,
      test: {
        name: 'side by side',
        include: ['test/full/**/*.test.ts'],
        exclude: [...EXCLUDED, ...MEASURING],
        sequence: { groupOrder: 0 },
      },
    },
    {
      extends: true,
      test: {
        name: 'one by one',
        include: MEASURING,
        exclude: EXCLUDED,
        fileParallelism: false,
        sequence: { groupOrder: 1 },
      },
    },
  ],
};

export default config;
