import { expect, test } from 'vitest';
import { firstVersion, isLater, nextVersion } from '../../src/session/record/version.ts';

const LARGEST = Number.MAX_SAFE_INTEGER;

test('a version is a whole number that every store can keep, also after the last lineage', () => {
  let version = firstVersion();
  const wrong: number[] = [];
  for (let round = 0; round < 300_000; round++) {
    version = nextVersion(version, round % 3 ? version : undefined);
    if (!Number.isSafeInteger(version) || version <= 0) wrong.push(version);
  }
  expect(wrong).toEqual([]);
  for (const version of [LARGEST, LARGEST - 1, LARGEST - 256, 0, 1, 255, 256])
    for (const follows of [undefined, version]) {
      const next = nextVersion(version, follows);
      expect(Number.isSafeInteger(next) && next > 0 && next !== version).toBe(true);
    }
});

test('a new lineage is above the one before, for processes that only know numbers', () => {
  let version = 7; // of a record from before there were lineages
  for (let round = 0; round < 1_000; round++) {
    const next = nextVersion(version, undefined);
    expect(next).toBeGreaterThan(version);
    expect([isLater(next, version), isLater(version, next)]).toEqual([false, false]);
    version = next;
  }
});

test('versions have an order within their lineage only', () => {
  const first = nextVersion(firstVersion(), undefined);
  const second = nextVersion(first, first);
  expect(second).toBe(first + 1);
  expect([isLater(second, first), isLater(first, second), isLater(first, first)]).toEqual([true, false, false]);
  const other = nextVersion(second, first);
  expect([isLater(other, second), isLater(second, other)]).toEqual([false, false]);
});

test('the same step taken twice gives two versions', () => {
  const before = firstVersion();
  const steps = new Set(Array.from({ length: 1_000 }, () => nextVersion(before, undefined)));
  expect(steps.size).toBeGreaterThan(998); // one in a thousand million is the same
  expect(new Set(Array.from({ length: 1_000 }, firstVersion)).size).toBe(1_000);
});
