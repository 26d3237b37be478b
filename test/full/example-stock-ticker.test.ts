import { expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { connect, start } from '../examples/example-client.ts';
import { type Tab, Visitor } from '../examples/visitor.ts';

interface Board {
  number: number;
  prices: Record<string, number>;
}

const numberOf = (board: unknown) => Number(/^\{"number":(\d+),/.exec(String(board))![1]);

/** Calls back for the number of each board. */
function read(socket: WebSocket, onNumber: (number: number) => void): void {
  socket.on('message', board => onNumber(numberOf(board)));
}

test('stock-ticker: what is watched is the same in all tabs, and survives a cut connection and kill -9', async () => {
  const example = await start('stock-ticker', { TICK_MS: '20' });
  const visitor = new Visitor(example);
  expect(await visitor.navigate()).toContain('<title>Stock ticker</title>');
  const list = (tab: Tab) => tab.next<string[]>();
  const [first, second] = [await visitor.tab('/watchlist'), await visitor.tab('/watchlist')];
  expect(await list(first)).toEqual([]);
  first.send({ share: 'AAC', isWatched: true });
  second.send({ share: 'AAA', isWatched: true });
  for (const tab of [first, second]) while (!(await tab.next<string[]>()).includes('AAC') || tab.received.length < 3);
  expect([first.received.at(-1), second.received.at(-1)]).toEqual([
    ['AAA', 'AAC'],
    ['AAA', 'AAC'],
  ]);
  await first.cut();
  expect(await list(await visitor.tab('/watchlist'))).toEqual(['AAA', 'AAC']);

  // Killed in the middle of changes: what was told is a beginning of what was kept.
  const shares = Array.from({ length: 20 }, (_, index) => `AA${String.fromCharCode(68 + index)}`);
  for (const share of shares) second.send({ share, isWatched: true });
  while (!(await list(second)).includes('AAF'));
  await example.kill();
  await second.closed;
  await example.start();
  const kept = await list(await visitor.tab('/watchlist'));
  expect(kept.slice(0, 5)).toEqual(['AAA', 'AAC', 'AAD', 'AAE', 'AAF']);
  expect(['AAA', 'AAC', ...shares].slice(0, kept.length)).toEqual(kept);
  expect(kept).toEqual(expect.arrayContaining(second.received.at(-1) as unknown as string[]));

  const board = await (await visitor.tab('/prices')).next<Board>();
  expect(Object.keys(board.prices)).toEqual(expect.arrayContaining(kept));
});

test('stock-ticker: who does not read delays nobody, skips boards and gets the latest', async () => {
  // Enough, and fast enough, to fill what the kernel takes for a peer that reads nothing.
  const example = await start('stock-ticker', { SHARES: '5000', TICK_MS: '4' });
  const [stalled, reader] = [connect(example, '/prices'), connect(example, '/prices')];
  const readNumbers: number[] = [];
  let onBoard = () => {};
  read(reader, number => {
    readNumbers.push(number);
    onBoard();
  });
  const reaches = (number: number) =>
    new Promise<void>(resolve => {
      onBoard = () => readNumbers.at(-1)! >= number && resolve();
      onBoard();
    });
  await reaches(1);
  stalled.pause();
  const stalledAt = readNumbers.at(-1)!;
  await reaches(stalledAt + 350);
  // Not one of them was missed by who reads.
  expect(readNumbers).toEqual(readNumbers.map((_, index) => readNumbers[0]! + index));

  const numbers: number[] = [];
  const latest = readNumbers.at(-1)!;
  const caughtUp = new Promise<void>(resolve => {
    read(stalled, number => {
      numbers.push(number);
      if (number >= latest) resolve();
    });
  });
  stalled.resume();
  await caughtUp;
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
  expect(numbers.length).toBeLessThan(numbers.at(-1)! - numbers[0]! + 1);
});

test('stock-ticker: prices need no session, a watchlist does, and only shares that are traded are watched', async () => {
  const example = await start('stock-ticker', { SHARES: '3', TICK_MS: '20' });
  const stranger = new Visitor(example);
  const prices = await stranger.tab('/prices');
  const board = await prices.next<Board>();
  expect(Object.keys(board.prices)).toEqual(['AAA', 'AAB', 'AAC']);
  await prices.next({ number: board.number + 2 });
  expect(await (await stranger.tab('/watchlist')).closed).toBe(1008);

  await stranger.navigate();
  const tab = await stranger.tab('/watchlist');
  tab.send({ share: 'ZZZ', isWatched: true });
  expect(await tab.closed).toBe(1008);
});
