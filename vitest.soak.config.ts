import full from './vitest.full.config.ts';

// What takes minutes because it waits out real limits, builds something large, or has to run for long before it could fail.
const { projects, ...test } = full.test;
full.test = {
  ...test,
  include: ['test/soak/**/*.test.ts'],
  fileParallelism: false,
  testTimeout: 1_800_000,
  provide: { attackMs: 60_000, relayedMessages: 50 },
};

export default full;
