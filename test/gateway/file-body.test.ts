import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, expect, test } from 'vitest';
import { writeFile } from '../../src/gateway/targets/file-body.ts';

const folder = mkdtempSync(join(tmpdir(), 'file-body-'));
afterAll(() => rmSync(folder, { recursive: true }));

const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));

function newFile(name: string, bytes: Uint8Array = content): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** How often the file is open. */
function openings(path: string): number {
  return readdirSync('/proc/self/fd').filter(name => {
    try {
      return readlinkSync(join('/proc/self/fd', name)) === path;
    } catch {
      return false;
    }
  }).length;
}

/** Takes a chunk only when it is asked to. */
class Reader extends Writable {
  received = Buffer.alloc(0);
  next: (() => void) | undefined;

  override _write(chunk: Buffer, _: BufferEncoding, callback: () => void): void {
    this.next = () => {
      this.next = undefined;
      this.received = Buffer.concat([this.received, chunk]);
      callback();
    };
  }
}

test.each([
  [0, 0],
  [0, 1],
  [0, content.length],
  [5, 16_384],
  [16_384, 16_385],
  [299_999, 1],
])('a part of a file from %d with %d bytes arrives whole', async (start, length) => {
  const path = newFile('whole');
  const stream = new PassThrough();
  const [received] = await Promise.all([buffer(stream), writeFile(path, start, length, stream)]);
  expect(received.equals(content.subarray(start, start + length))).toBe(true);
  expect(openings(path)).toBe(0);
});

test('a file whose reader takes nothing is closed, and opened again for one that goes on', async () => {
  const path = newFile('slow');
  const reader = new Reader();
  const done = writeFile(path, 0, content.length, reader);
  while (!reader.writableFinished) {
    await expect.poll(() => [reader.next !== undefined || reader.writableFinished, openings(path)]).toEqual([true, 0]);
    reader.next?.();
    await new Promise(resolve => setImmediate(resolve));
  }
  await done;
  expect(reader.received.equals(content)).toBe(true);
});

test('readers that take nothing keep nobody from a file', async () => {
  const path = newFile('many');
  const readers = Array.from({ length: 100 }, () => new Reader());
  const all = readers.map(reader => writeFile(path, 0, content.length, reader));
  const stream = new PassThrough();
  const [received] = await Promise.all([buffer(stream), writeFile(path, 0, content.length, stream)]);
  expect(received.length).toBe(content.length);
  for (const reader of readers) reader.destroy();
  await Promise.all(all);
  expect(openings(path)).toBe(0);
});

test.each([
  ['replaced by another', (path: string) => renameSync(newFile('other'), path), false],
  ['made shorter', (path: string) => truncateSync(path, 20_000), false],
  ['appended to', (path: string) => appendFileSync(path, 'x'), true],
])('a file that was %s while its reader waited is sent on only if that cannot harm', async (_, change, isWhole) => {
  const path = newFile('changed');
  const reader = new Reader();
  const done = writeFile(path, 0, content.length, reader);
  await expect.poll(() => reader.next !== undefined && openings(path) === 0).toBe(true);
  change(path);
  const timer = setInterval(() => reader.next?.(), 1);
  await done;
  await expect.poll(() => reader.destroyed).toBe(true);
  clearInterval(timer);
  expect(reader.received.equals(content)).toBe(isWhole);
});

test('a file that is not there is an error before anything is written', async () => {
  const reader = new Reader();
  await expect(writeFile(join(folder, 'none'), 0, 10, reader)).rejects.toThrow(/ENOENT/);
  expect(reader.destroyed).toBe(false);
});
