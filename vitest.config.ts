import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { conditions: ['holdfast-source'] },
  ssr: { resolve: { conditions: ['holdfast-source'] } },
  test: {
    include: ['test/**/*.test.ts'],
    // Slow suites that need programs beyond npm (peers, browser, faults at scale) run from .ci/run only.
    exclude: ['test/full/**', '**/node_modules/**'],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    execArgv: ['-C', 'holdfast-source'],
  },
});
