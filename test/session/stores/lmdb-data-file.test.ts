import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dataFileProblem } from '../../../src/session/stores/lmdb/data-file.ts';
import { LmdbStore } from '../../../src/session/stores/lmdb.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-lmdb-data-file-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

// None of these is given to LMDB, which would end the process.
test.each([
  ['text', Buffer.from('this is something else'.repeat(500))],
  ['a few bytes', Buffer.from('x')],
  ['zeros', Buffer.alloc(8192)],
])('a file of %s is not taken for data of LMDB', (_, content) => {
  const file = join(folder, 'other');
  writeFileSync(file, content);
  expect(dataFileProblem(file)).toMatch(/other is not a file of LMDB, or it is damaged; restore it, or move it away/);
});

test('the data of a store, an empty file and none are taken', async () => {
  const store = new LmdbStore({ path: folder });
  await store.close();
  expect(dataFileProblem(join(folder, 'data.mdb'))).toBeUndefined();
  writeFileSync(join(folder, 'empty'), '');
  expect(dataFileProblem(join(folder, 'empty'))).toBeUndefined();
  expect(dataFileProblem(join(folder, 'none'))).toBeUndefined();
});
