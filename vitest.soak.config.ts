import full from './vitest.full.config.ts';

// What takes minutes because it waits out real limits, or has to run for long before it could fail.
full.test.include = ['test/soak/**/*.test.ts'];
full.test.testTimeout = 1_800_000;

export default full;
