import { test } from 'vitest';
import { soak } from './long-run.ts';

test('after each of four times five minutes of clients, sessions and reloads nothing is left of them', () =>
  soak({ warmUpMs: 60_000, rounds: 4, roundMs: 285_000, reloadEveryMs: 5_000, each: 2 }));
