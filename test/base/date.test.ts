import { expect, test } from 'vitest';
import { parseDate } from '../../src/base/date.ts';

test.each([
  ['2027-01-31', Date.UTC(2027, 0, 31)],
  ['2028-02-29', Date.UTC(2028, 1, 29)],
  ['2027-01-31T06:00Z', Date.UTC(2027, 0, 31, 6)],
  ['2027-01-31T06:00:00+01:00', Date.UTC(2027, 0, 31, 5)],
  ['2027-01-31T06:00:00.250Z', Date.UTC(2027, 0, 31, 6, 0, 0, 250)],
])('%s is a date', (text, ms) => {
  expect(parseDate(text)).toBe(ms);
});

test.each([
  '',
  '2027',
  '2027-01',
  '31.01.2027',
  '2027-1-31',
  '2027-06-31',
  '2027-02-29',
  '2027-13-01',
  '2027-01-31T06:00',
  '2027-01-31 06:00Z',
  '2027-01-31T25:00Z',
  'tomorrow',
])('%j is not a date', text => {
  expect(parseDate(text)).toBeUndefined();
});
