import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder } from '../../src/drivers/make-folder.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'make-folder-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const modeOf = (...names: string[]) => statSync(join(folder, ...names)).mode & 0o777;

test('a folder is made with those above it, each for its owner', () => {
  makeFolder(join(folder, 'a', 'b', 'c'));
  expect([modeOf('a'), modeOf('a', 'b'), modeOf('a', 'b', 'c')]).toEqual([0o700, 0o700, 0o700]);
});

test('one that is there stays as it is', () => {
  makeFolder(join(folder, 'a'));
  writeFileSync(join(folder, 'a', 'kept'), '');
  makeFolder(join(folder, 'a'));
  makeFolder(`${join(folder, 'a')}/`);
  expect(statSync(join(folder, 'a', 'kept')).isFile()).toBe(true);
});

test.each([
  ['in the place of a file', 'file', 'EEXIST'],
  ['below a file', 'file/a/b', 'ENOTDIR'],
  ['below a link that leads nowhere', 'link/a', 'ENOENT'],
])('%s none can be made, and that is said', (_, path, code) => {
  writeFileSync(join(folder, 'file'), '');
  symlinkSync(join(folder, 'nowhere'), join(folder, 'link'));
  expect(() => makeFolder(join(folder, path))).toThrowError(expect.objectContaining({ code }));
});
