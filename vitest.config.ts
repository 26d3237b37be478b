import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['holdfast-source'] },
  ssr: { resolve: { conditions: ['holdfast-source'] } },
  test: {
    include: ['test/**/*.test.ts'],
    // Slow suites that need programs beyond npm (peers, browser, faults at scale) run from .ci/run only.
    exclude: ['test/full/**', 'test/soak/**', '**/node_modules/**'],
    // Most tests wait for sockets, processes and the clock: with a worker for each core and one more, a third of the time
    // is idle.
    maxWorkers: availableParallelism() + 2,
    // A worker for each file would load all modules anew for each: a third of the time of all tests.
    isolate: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // How long something may take that is waited for, not how fast it is: a busy machine must not fail a test.
    // And looked for often, as hundreds of tests wait for a moment each.
    expect: { poll: { timeout: 15_000, interval: 10 } },
    globalSetup: ['test/compile-cache.ts'],
    execArgv: ['-C', 'holdfast-source'],
  },
});
