import { expect, test } from 'vitest';
import { SetMap } from '../../src/base/set-map.ts';

test('a set map keeps each value of a key once, and a key as long as it has a value', () => {
  const map = new SetMap<string, number>();
  map.add('a', 1);
  map.add('a', 1);
  map.add('a', 2);
  map.remove('a', 1);
  expect([...map]).toEqual([['a', new Set([2])]]);
  map.remove('a', 2);
  map.remove('a', 2);
  map.remove('b', 2);
  expect(map.size).toBe(0);
});
