import { test } from 'vitest';
import { soak } from '../soak/long-run.ts';

// The same for 20 minutes: `npm run test:soak`.
test('after a minute of clients, sessions and reloads nothing is left of them', () =>
  soak({ warmUpMs: 20_000, rounds: 2, roundMs: 20_000, reloadEveryMs: 2_000, each: 2 }));
