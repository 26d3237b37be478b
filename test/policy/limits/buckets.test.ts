import { describe, expect, test } from 'vitest';
import { parseByteRate, parseRate } from '../../../src/base/rate.ts';
import { KeyedBuckets } from '../../../src/policy/limits/keyed-buckets.ts';
import { TokenBucket } from '../../../src/policy/limits/token-bucket.ts';

const rate = (text: string) => parseRate(text)!;

test.each([
  ['20/s', 20, 1_000],
  ['600/m', 600, 60_000],
  ['1000/10m', 1000, 600_000],
  ['5 / 2s', 5, 2_000],
  ['1/h', 1, 3_600_000],
])('%s is a rate', (text, count, windowMs) => {
  expect(parseRate(text)).toEqual({ count, windowMs });
});

test('a rate of bytes has a size', () => {
  expect(parseByteRate('256KiB/s')).toEqual({ count: 262_144, windowMs: 1_000 });
  expect(parseByteRate('1000B/m')).toEqual({ count: 1000, windowMs: 60_000 });
});

test('-1 is no rate', () => {
  expect([parseRate(-1), parseRate('-1'), parseByteRate(-1)]).toEqual([undefined, undefined, undefined]);
});

test.each([
  '',
  '20',
  '20/',
  '/s',
  '0/s',
  '1.5/s',
  '-5/s',
  '5/500ms',
  '5/1.5s',
  '5/-1',
  '5/s/s',
  'x/s',
  '1KiB/s',
  '1e3/s',
  20,
])('%j is no rate, and the message says what one looks like', text => {
  expect(() => parseRate(text as string)).toThrow('write for example "20/s"');
});

describe('a bucket', () => {
  test('gives all at once, and then evenly', () => {
    const bucket = new TokenBucket(rate('3/3s'));
    expect([0, 0, 0, 0].map(now => bucket.take(now))).toEqual([true, true, true, false]);
    expect(bucket.timeUntilNext(0)).toBe(1_000);
    expect([999, 1_000, 1_000, 2_000].map(now => bucket.take(now))).toEqual([false, true, false, true]);
  });

  test('is never fuller than full', () => {
    const bucket = new TokenBucket(rate('2/s'));
    expect([1e9, 1e9, 1e9].map(now => bucket.take(now))).toEqual([true, true, false]);
  });

  test('gives what the rate says, whatever its fractions', () => {
    const bucket = new TokenBucket(rate('7/3s'));
    let taken = 0;
    for (let now = 0; now <= 300_000; now++) if (bucket.take(now)) taken++;
    expect(taken).toBe(707);
  });

  test('pays back what others have taken, of at most a window', () => {
    const bucket = new TokenBucket(rate('10/s'));
    bucket.charge(15, 0);
    expect([599, 600].map(now => bucket.take(now))).toEqual([false, true]);
    bucket.charge(1_000_000, 1_000);
    expect([2_099, 2_100].map(now => bucket.take(now))).toEqual([false, true]);
  });
});

describe('buckets by key', () => {
  test('do not know of each other', () => {
    const buckets = new KeyedBuckets(rate('1/s'));
    expect(['a', 'b', 'a'].map(key => buckets.take(key, 0))).toEqual([true, true, false]);
    expect(buckets.timeUntilNext('a', 250)).toBe(750);
  });

  test('keep one that is not full, however long it takes and whoever comes meanwhile', () => {
    const buckets = new KeyedBuckets(rate('60/m'));
    let taken = 0;
    for (let now = 0; now < 600_000; now += 100) {
      if (buckets.take('a', now)) taken++;
      buckets.take(`other ${now}`, now);
    }
    expect(taken).toBe(659);
  });

  test('forget those that are full', () => {
    const buckets = new KeyedBuckets(rate('5/s'));
    for (let i = 0; i < 1000; i++) buckets.take(`${i}`, i);
    expect(buckets.size).toBe(1000);
    buckets.take('late', 5_500);
    buckets.take('late', 7_600);
    expect(buckets.size).toBe(1);
  });

  test('are of a bounded number, and nobody gets a new one by coming with many others', () => {
    let isFull = 0;
    const buckets = new KeyedBuckets(rate('2/m'), { maxKeys: 1000, onFull: () => isFull++ });
    expect([buckets.take('a', 0), buckets.take('a', 0), buckets.take('a', 0)]).toEqual([true, true, false]);
    let taken = 0;
    for (let i = 0; i < 50_000; i++) if (buckets.take(`flood ${i}`, 1)) taken++;
    expect(buckets.size).toBe(1000);
    expect(buckets.take('a', 2)).toBe(false);
    // 999 buckets of their own, and of the shared ones no more than two for each.
    expect(taken).toBeLessThanOrEqual(999 + 2 * 4_096);
    expect(isFull).toBeGreaterThan(0);
  });

  test('share what is left among those that have none of their own, by more than one bucket', () => {
    const buckets = new KeyedBuckets(rate('1/m'), { maxKeys: 1 });
    buckets.take('first', 0);
    let taken = 0;
    for (let i = 0; i < 200; i++) if (buckets.take(`late ${i}`, 0)) taken++;
    expect(taken).toBeGreaterThan(150);
    expect(buckets.take('late 0', 0)).toBe(false);
  });

  test('take new keys again when there is room', () => {
    const buckets = new KeyedBuckets(rate('1/s'), { maxKeys: 1 });
    buckets.take('first', 0);
    expect([buckets.take('second', 0), buckets.take('second', 0)]).toEqual([true, false]);
    buckets.take('second', 5_000);
    expect(buckets.take('second', 5_000)).toBe(false);
    expect(buckets.size).toBe(1);
  });
});
