import { expect, test } from 'vitest';
import { shownTime } from '../../src/cli/doctor/shown.ts';

test('a length of time is rounded before its unit is chosen', () => {
  expect([0.4, 40, 999.4, 999.6, 1_000, 1_234, 9_949, 9_960, 70_000].map(shownTime)).toEqual([
    ...['0 ms', '40 ms', '999 ms', '1.0 s', '1.0 s', '1.2 s', '9.9 s', '10 s', '70 s'],
  ]);
});
