import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { checkFiles } from '../../src/config/check-files.ts';

test('a log file that is moved away while it is checked is no error: it is begun anew', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-logs-'));
  const file = join(folder, 'access.log');
  let isRotating = true;
  const rotate = async () => {
    while (isRotating) {
      writeFileSync(file, '');
      await turn();
      renameSync(file, `${file}.1`);
      await turn();
    }
  };
  const rotating = rotate();
  try {
    const access = Array.from({ length: 500 }, () => ({ file }));
    for (let i = 0; i < 4; i++) expect(await checkFiles({ log: { access } })).toEqual([]);
  } finally {
    isRotating = false;
    await rotating;
    rmSync(folder, { recursive: true });
  }
});
