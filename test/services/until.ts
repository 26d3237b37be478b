import { setTimeout as wait } from 'node:timers/promises';

/**
 * Waits until there is something to see, and returns it. For helpers, and for tests that run side by side, which cannot
 * poll by `expect`.
 */
export async function until<T>(
  look: () => T | Promise<T>,
  atMostMs = 15_000,
): Promise<Exclude<T, undefined | null | false>> {
  for (const end = performance.now() + atMostMs; ; await wait(20)) {
    const seen = await look();
    if (seen) return seen as Exclude<T, undefined | null | false>;
    if (performance.now() > end) throw new Error(`not within ${atMostMs} ms: ${look}`);
  }
}
