import type { Effort, Measured } from './comparison.ts';
import type { LoadResult } from './load/window.ts';
import type { Program } from './program.ts';
import { median } from './statistics.ts';

export const TURN_MS = 300;
/** At the beginning of each turn, before it counts. */
const SETTLE_MS = 50;

/**
 * CPU time for one message of two servers that run beside each other and are put under load by turns, in µs.
 *
 * @param our A load that waits for its turns (`inTurns`), as the other.
 *
 * Each turn is compared with its neighbour. Who comes first in a pair changes, so that neither always has the machine as
 * the other has left it.
 */
export async function inTurns(our: Program, their: Program, effort: Effort): Promise<Measured> {
  const figures = { ours: [] as number[], theirs: [] as number[] };
  for (const load of [their, our]) await turnOf(load, effort.warmUpMs);
  const ours = async () => void figures.ours.push(await turnOf(our, SETTLE_MS));
  const theirs = async () => void figures.theirs.push(await turnOf(their, SETTLE_MS));
  for (let turn = 0; turn < effort.measureMs / TURN_MS; turn++) {
    for (const side of turn % 2 === 0 ? [theirs, ours] : [ours, theirs]) await side();
  }
  const ratios = figures.ours.map((our, turn) => our / figures.theirs[turn]!);
  return { ours: median(figures.ours), theirs: median(figures.theirs), ratio: median(ratios) };
}

async function turnOf(load: Program, warmUpMs: number): Promise<number> {
  load.tell(String(warmUpMs));
  return perMessage(await load.next());
}

/** CPU time for one message, in µs. */
export function perMessage({ cpuNs, messages }: LoadResult): number {
  return cpuNs / messages / 1000;
}
