import { describe, test } from 'vitest';
import { attacks, expectOthersUnharmed } from '../guard/inflating-attacks.ts';
import { wires } from '../guard/served.ts';

describe.each(wires)('others wait for less than 50 ms over %s', wire => {
  describe.each(attacks)('while small frames inflate to $name', size => {
    test.each([1, 20, 200])('from %i attackers', { retry: 2 }, count => expectOthersUnharmed(wire, size, count, 6));
  });
});
