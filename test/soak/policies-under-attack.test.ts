// The same as in CI, with a minute for each attack: `vitest.soak.config.ts` says so.
import '../full/under-attack.test.ts';
