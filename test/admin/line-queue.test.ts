import { expect, test } from 'vitest';
import { LineQueue } from '../../src/admin/line-queue.ts';

/** Takes what it is given, and says how much it wants. */
class Reader {
  readonly lines: object[] = [];
  wantsMore = true;

  write(text: string): boolean {
    for (const line of text.split('\n')) if (line !== '') this.lines.push(JSON.parse(line));
    return this.wantsMore;
  }
}

test('a reader that keeps up gets every line at once', () => {
  const reader = new Reader();
  const queue = new LineQueue(reader);
  queue.push({ n: 1 });
  queue.push({ n: 2 });
  expect(reader.lines).toEqual([{ n: 1 }, { n: 2 }]);
});

test('lines wait for a reader that has enough, and come in order when it wants more', () => {
  const reader = new Reader();
  const queue = new LineQueue(reader);
  reader.wantsMore = false;
  for (let n = 1; n <= 3; n++) queue.push({ n });
  expect(reader.lines).toEqual([{ n: 1 }]);
  reader.wantsMore = true;
  queue.resume();
  expect(reader.lines).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  queue.push({ n: 4 });
  expect(reader.lines.at(-1)).toEqual({ n: 4 });
});

test('a slow reader loses lines beyond a limit, and is told where and how many', () => {
  const reader = new Reader();
  const queue = new LineQueue(reader);
  reader.wantsMore = false;
  for (let n = 0; n < 2_101; n++) queue.push({ n });
  reader.wantsMore = true;
  queue.resume();
  queue.push({ n: 'after' });
  expect(reader.lines).toHaveLength(2_003);
  expect(reader.lines.slice(-3)).toEqual([{ n: 2_000 }, { lost: 100 }, { n: 'after' }]);
});

test('long lines wait up to a mebibyte', () => {
  const reader = new Reader();
  const queue = new LineQueue(reader);
  reader.wantsMore = false;
  for (let n = 0; n < 100; n++) queue.push({ text: 'x'.repeat(100_000) });
  reader.wantsMore = true;
  queue.resume();
  expect(reader.lines).toHaveLength(12);
  expect(reader.lines.at(-1)).toEqual({ lost: 89 });
});
