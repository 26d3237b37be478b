import { expect, test } from 'vitest';
import { ClientPace } from '../../src/server/listen/client-pace.ts';

const limits = { silenceMs: 60_000, bytesPerSecond: 500 };

/** Seconds until a client is too slow that moves so many bytes in each; undefined when it is not within ten minutes. */
function secondsOf(bytes: (second: number) => number, held = limits, pace = new ClientPace()): number | undefined {
  for (let second = 1; second <= 600; second++) if (pace.owed(1_000, bytes(second), held) !== undefined) return second;
  return undefined;
}

test.each([
  ['nothing from the start', () => 0, 20],
  ['a byte a second', () => 1, 21],
  ['half of the rate', () => 250, 40],
  ['the rate', () => 500, undefined],
  ['twice the rate, but in lumps a minute apart', (second: number) => (second % 50 === 1 ? 50_000 : 0), undefined],
  ['much at first and then nothing', (second: number) => (second === 1 ? 1e9 : 0), 61],
  ['much at first and then a byte a second', (second: number) => (second === 1 ? 1e9 : 1), 62],
])('a client that moves %s is too slow after its time', (_, bytes, expected) => {
  expect(secondsOf(bytes)).toBe(expected);
});

test('a silence shorter than the 20 s of the rate counts first', () => {
  expect(secondsOf(() => 0, { ...limits, silenceMs: 5_000 })).toBe(5);
  expect(secondsOf(second => second % 2, { ...limits, silenceMs: 5_000 })).toBe(21);
});

test('without a rate only silence counts, and without a silence nothing does', () => {
  expect(secondsOf(() => 1, { ...limits, bytesPerSecond: 0 })).toBeUndefined();
  expect(secondsOf(() => 0, { ...limits, bytesPerSecond: 0 })).toBe(60);
  expect(secondsOf(() => 0, { ...limits, silenceMs: Number.POSITIVE_INFINITY })).toBeUndefined();
});

test('a client that has caught up begins anew', () => {
  const pace = new ClientPace();
  for (let second = 0; second < 19; second++) expect(pace.owed(1_000, 1, limits)).toBeUndefined();
  pace.caughtUp();
  expect(secondsOf(() => 0, limits, pace)).toBe(20);
});
