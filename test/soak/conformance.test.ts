// The same as in CI, with more messages through relays: `vitest.soak.config.ts` says so.
import '../full/conformance.test.ts';
import '../full/relay-conformance.test.ts';
