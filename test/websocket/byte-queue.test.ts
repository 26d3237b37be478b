import { describe, expect, test } from 'vitest';
import { ByteQueue } from '../../src/websocket/byte-queue.ts';

const pattern = Buffer.from(Array.from({ length: 251 * 300 }, (_, i) => i % 251));
/** Bytes that differ from those before and after them. */
const numbered = (from: number, length: number) => pattern.subarray(from % 251, (from % 251) + length);

describe('a queue of bytes', () => {
  test('gives back what it was given, in order, however both are cut', () => {
    const queue = new ByteQueue();
    const taken: Buffer[] = [];
    let given = 0;
    for (let i = 0; i < 600; i++) {
      const length = [1, 3, 40, 700, 1_500, 5_000, 70_000][(i * 7 + (i >> 3)) % 7]!;
      queue.append(numbered(given, length), i % 3 === 0);
      given += length;
      while (queue.bytes > 300_000) taken.push(Buffer.from(queue.shift([1, 16_384, 65_536, 1_000][i % 4]!)));
    }
    expect(queue.bytes + taken.reduce((sum, { length }) => sum + length, 0)).toBe(given);
    taken.push(queue.shiftAll());
    const all = Buffer.concat(taken);
    for (let at = 0; at < given; at += 70_000) {
      const part = all.subarray(at, at + 70_000);
      expect(part.equals(numbered(at, part.length))).toBe(true);
    }
    expect(queue.bytes).toBe(0);
  });

  test('does not see what becomes of bytes that it may not keep', () => {
    const queue = new ByteQueue();
    const bytes = Buffer.alloc(10_000, 'a');
    queue.append(bytes, false);
    bytes.fill('b');
    expect(queue.shiftAll().equals(Buffer.alloc(10_000, 'a'))).toBe(true);
  });

  test('keeps what is large and may be kept as it is, and gives it back in parts', () => {
    const queue = new ByteQueue();
    const bytes = Buffer.alloc(100_000, 'a');
    queue.append(bytes, true);
    const part = queue.shift(60_000);
    expect(part.length).toBe(60_000);
    expect(part.buffer).toBe(bytes.buffer);
    expect(queue.shift(60_000).length).toBe(40_000);
  });

  test('takes over what another holds', () => {
    const queue = new ByteQueue();
    const other = new ByteQueue();
    queue.append(Buffer.from('one '), true);
    for (let i = 0; i < 500; i++) other.append(Buffer.from(`${i} `), true);
    other.append(Buffer.alloc(2_000, 'x'), true);
    queue.absorb(other);
    expect(other.bytes).toBe(0);
    expect(queue.shiftAll().toString()).toMatch(/^one 0 1 2 .* 499 x{2000}$/);
  });

  test('can be used again when it was emptied', () => {
    const queue = new ByteQueue();
    queue.append(Buffer.from('one'), false);
    queue.clear();
    expect(queue.bytes).toBe(0);
    expect(queue.cost).toBe(0);
    queue.append(Buffer.from('two'), false);
    expect(queue.shiftAll().toString()).toBe('two');
  });

  test('costs little more than its bytes when they come in small pieces', () => {
    const queue = new ByteQueue();
    for (let i = 0; i < 300_000; i++) queue.append(Buffer.from([1, 2, 3]), true);
    expect(queue.cost).toBeLessThan(900_000 * 1.02);
  });

  test('counts the objects of what it keeps', () => {
    const queue = new ByteQueue();
    const shared = Buffer.alloc(2_000);
    for (let i = 0; i < 1_000; i++) queue.append(shared, true);
    expect(queue.bytes).toBe(2_000_000);
    expect(queue.cost).toBeGreaterThan(2_300_000);
  });
});
