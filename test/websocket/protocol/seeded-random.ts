/**
 * A small generator with a seed, so that a failure can be repeated: each call gives a whole number from 0 to `below` -
 * 1.
 */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return below => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
