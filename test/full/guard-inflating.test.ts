import { describe, expect, test } from 'vitest';
import { attack, attackedServer } from '../guard/inflating-attack.ts';
import { wires } from '../guard/served.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** What others may wait for an answer, 99 times in 100. Without a budget one attacker made it 0.1 to 0.3 s, and 20 made it more than 5 s. */
const MOST_MS = 50;
const SECONDS = 6;

const sizes = [
  { name: 'the default limit', path: '/attacked', bytes: 64 * KIB },
  { name: 'a limit of 1 MiB', path: '/attacked-1MiB', bytes: MIB },
  { name: 'a limit of 16 MiB', path: '/attacked-16MiB', bytes: 16 * MIB },
  { name: 'nothing, slowly', path: '/attacked', bytes: 0 },
  { name: 'the default limit, each echoed', path: '/attacked-echo', bytes: 64 * KIB },
  { name: 'the default limit, each echoed after an await', path: '/attacked-await', bytes: 64 * KIB },
  { name: 'the default limit, each echoed a turn later', path: '/attacked-later', bytes: 64 * KIB },
];

describe.each(wires)('others wait for less than 50 ms over %s', wire => {
  // Of the sizes, http/1 has all: the wire ends where the budget begins.
  describe.each(wire === 'http/1' ? sizes : sizes.slice(0, 1))(
    'while small frames inflate to $name',
    ({ path, bytes }) => {
      // On a machine that has other work the scheduler alone may take longer, now and then.
      test.each([1, 20, 200])('from %i attackers', { retry: 2 }, async count => {
        await using server = await attackedServer();
        const damage = await attack(server, { wire, count, bytes, path, seconds: SECONDS });
        console.log(wire, path, count, JSON.stringify(damage));
        expect(damage.busy.p99).toBeLessThan(MOST_MS / 2);
        expect(damage.plain.p99).toBeLessThan(MOST_MS);
        expect(damage.compressed.p99).toBeLessThan(MOST_MS);
        expect(damage.grownBytes).toBeLessThan(256 * MIB);
      });
    },
  );
});
