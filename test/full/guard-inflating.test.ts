import { describe, test } from 'vitest';
import { attacks, expectOthersUnharmed } from '../guard/inflating-attacks.ts';
import { wires } from '../guard/served.ts';

const SECONDS = 3;
const [usual, ...others] = attacks;

// Every attack from 1, 20 and 200: test/soak/inflating.test.ts. On a machine that has other work the scheduler alone
// may take longer, now and then.
describe('others wait for less than 50 ms', () => {
  test.each([...wires.map(wire => [wire, 20] as const), ['http/1', 200] as const])(
    'over %s while small frames of %i attackers inflate to the limit',
    { retry: 2 },
    (wire, count) => expectOthersUnharmed(wire, usual!, count, SECONDS),
  );

  test.each(others)('while small frames of 20 attackers inflate to $name', { retry: 2 }, size =>
    expectOthersUnharmed('http/1', size, 20, SECONDS),
  );
});
