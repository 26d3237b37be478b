import { defineConfig, mergeConfig } from 'vitest/config';
import quick from './vitest.config.ts';

const config = mergeConfig(quick, defineConfig({ test: { testTimeout: 300_000, hookTimeout: 300_000 } }));
// Lists are joined by merging, and these two replace those of `npm test`. One file at a time: these suites measure,
// start programs and load the machine.
config.test.include = ['test/full/**/*.test.ts'];
config.test.exclude = ['**/node_modules/**'];
config.test.fileParallelism = false;

export default config;
