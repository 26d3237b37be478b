import { expect } from 'vitest';
import { attack, attackedServer } from './inflating-attack.ts';
import type { Wire } from './served.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/**
 * What others may wait for an answer, 99 times in 100. Without a budget one attacker made it 0.3 s, and 20 made it more
 * than 5 s.
 */
const MOST_MS = 50;

/** What small frames inflate to, and what the endpoint does with it. The first is that of the default limit. */
export const attacks = [
  { name: 'the default limit', path: '/attacked', bytes: 64 * KIB },
  { name: 'a limit of 1 MiB', path: '/attacked-1MiB', bytes: MIB },
  { name: 'a limit of 16 MiB', path: '/attacked-16MiB', bytes: 16 * MIB },
  { name: 'nothing, slowly', path: '/attacked', bytes: 0 },
  { name: 'the default limit, each echoed', path: '/attacked-echo', bytes: 64 * KIB },
  { name: 'the default limit, each echoed after an await', path: '/attacked-await', bytes: 64 * KIB },
  { name: 'the default limit, each echoed a turn later', path: '/attacked-later', bytes: 64 * KIB },
];

/**
 * What handing on one message of this size takes the machine, apart from inflating it: its bytes in one piece, and their
 * text. A machine that must first be given the memory needs 20 times as long for it as one that has it, and no program
 * can do it in parts.
 */
function handingOnMs(bytes: number): number {
  const message = Buffer.alloc(bytes, 'a');
  const times = Array.from({ length: 5 }, () => {
    const start = performance.now();
    Buffer.concat([message]).toString('utf8');
    return performance.now() - start;
  });
  return Math.max(...times);
}

/** Others are answered within 50 ms, or one message, while so many attack. */
export async function expectOthersUnharmed(
  wire: Wire,
  { path, bytes }: (typeof attacks)[number],
  count: number,
  seconds: number,
): Promise<void> {
  const most = Math.max(MOST_MS, MOST_MS / 2 + handingOnMs(bytes));
  await using server = await attackedServer();
  const damage = await attack(server, { wire, count, bytes, path, seconds });
  console.log(wire, path, count, JSON.stringify({ most, ...damage }));
  expect(damage.busy.p99).toBeLessThan(MOST_MS / 2);
  expect(damage.plain.p99).toBeLessThan(most);
  expect(damage.compressed.p99).toBeLessThan(most);
  expect(damage.grownBytes).toBeLessThan(256 * MIB);
}
