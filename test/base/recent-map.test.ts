import { expect, test } from 'vitest';
import { RecentMap } from '../../src/base/recent-map.ts';

test('a recent map forgets the entry that was set longest ago, and not one that was set again', () => {
  const map = new RecentMap<string, number>(3).set('a', 1).set('b', 2).set('c', 3).set('a', 4);
  map.get('b');
  map.set('d', 5);
  expect([...map]).toEqual([
    ['c', 3],
    ['a', 4],
    ['d', 5],
  ]);
});

test('a recent map has room for one entry when its cap is 1, and for none when it is 0', () => {
  expect([...new RecentMap<string, number>(1).set('a', 1).set('b', 2)]).toEqual([['b', 2]]);
  expect([...new RecentMap<string, number>(0).set('a', 1)]).toEqual([]);
});

test('a large recent map never has more entries than its cap, and forgets at most a 64th too many', () => {
  const map = new RecentMap<number, number>(1_000);
  for (let i = 0; i < 10_000; i++) {
    map.set(i, i);
    expect(map.size).toBeLessThanOrEqual(1_000);
    if (i >= 1_000) expect(map.size).toBeGreaterThan(1_000 - 1_000 / 64 - 1);
  }
  expect([...map.keys()]).toEqual(Array.from({ length: map.size }, (_, i) => 10_000 - map.size + i));
});
