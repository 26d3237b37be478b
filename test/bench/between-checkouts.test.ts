import { expect, test } from 'vitest';
import { betweenCheckouts, type Comparison, compare, type Effort } from '../../bench/comparison.ts';

const effort: Effort = { pairs: 3, warmUpMs: 0, measureMs: 0 };

/** Our side takes twice as long in this checkout as in any other. */
function comparison(row: string, peer: string, more: Partial<Comparison> = {}): Comparison {
  const ours = async ({ checkout }: Effort) => (checkout === undefined ? 20 : 10);
  const theirs = () => Promise.reject(new Error('a peer was measured'));
  return { row, peer, unit: 'µs', limit: 0.5, ours, theirs, ...more };
}

test('between two checkouts each row is measured once, and no peer is started', async () => {
  const suite = {
    title: '',
    comparisons: [comparison('echo', 'ws'), comparison('echo', 'Bun'), comparison('memory', 'ws')],
  };
  const rows = betweenCheckouts(suite, '/some/where/before', 1.02);
  expect(rows.map(({ row, peer, limit }) => [row, peer, limit])).toEqual([
    ['echo', 'before', 1.02],
    ['memory', 'before', 1.02],
  ]);
  const { row, ratios } = await compare('engine', rows[0]!, effort);
  expect(row).toMatchObject({ ours: 20, theirs: 10, ratio: 2 });
  expect(ratios).toEqual([2, 2, 2]);
});

test('between two checkouts a row that compares peers only is left out', () => {
  const suite = { title: '', comparisons: [comparison('5,000 against 100 connections', 'itself', { about: 'peers' })] };
  expect(betweenCheckouts(suite, '/before', 1.02)).toEqual([]);
});
