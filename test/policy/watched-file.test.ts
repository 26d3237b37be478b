import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { WatchedFile } from '../../src/policy/auth/watched-file.ts';
import { Lines } from '../server/wires.ts';

let folder: string;
let watched: WatchedFile<number> | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-watched-'));
});
afterEach(() => {
  watched?.close();
  rmSync(folder, { recursive: true });
});

function parse(text: string): number {
  const value = Number(text);
  if (Number.isNaN(value)) throw new Error('line 1 is not a number');
  return value;
}

async function open(text: string | undefined) {
  const file = join(folder, 'value');
  if (text !== undefined) writeFileSync(file, text);
  const logger = new Lines();
  watched = new WatchedFile({ file, what: 'the file of the value', parse, clock: systemClock, logger });
  await watched.start();
  return { file, logger, watched };
}

describe('a watched file', () => {
  test.each([
    ['that is missing', undefined, 'ENOENT'],
    ['that makes no sense', 'one', 'line 1 is not a number'],
  ])('%s is an error of the configuration', async (_, text, why) => {
    await expect(open(text)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(new RegExp(`^the file of the value .*value cannot be used: .*${why}`)),
    });
  });

  test('is in force within a second of being replaced', async () => {
    const { file, logger, watched } = await open('1');
    let changes = 0;
    watched.onChange(() => changes++);
    writeFileSync(`${file}.new`, '2');
    renameSync(`${file}.new`, file);
    await expect.poll(() => watched.value, { timeout: 1_000 }).toBe(2);
    expect(changes).toBe(1);
    expect(logger.all.map(({ fields }) => fields.event)).toEqual(['file-changed']);
  });

  test('that is bad now leaves in force what was good, and is logged once', async () => {
    const { file, logger, watched } = await open('1');
    writeFileSync(file, 'two');
    for (let i = 0; i < 4; i++) await watched.look();
    expect(watched.value).toBe(1);
    const lines = logger.all.filter(({ fields }) => fields.event === 'file-refused');
    expect(lines).toHaveLength(1);
    expect(lines[0]!.message).toContain('line 1 is not a number; what it said before stays in force');
    rmSync(file);
    await watched.look();
    expect(watched.value).toBe(1);
    writeFileSync(file, '3');
    await watched.look();
    await watched.look();
    expect(watched.value).toBe(3);
  });

  test('that is read while it is written in place counts when it is whole', async () => {
    const { file, logger, watched } = await open('1');
    writeFileSync(file, '12');
    await watched.look();
    writeFileSync(file, '123');
    await watched.look();
    expect(watched.value).toBe(1);
    await watched.look();
    expect(watched.value).toBe(123);
    expect(logger.all.map(({ fields }) => fields.event)).toEqual(['file-changed']);
  });
});
