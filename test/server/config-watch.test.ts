import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { digestOf } from '../../src/drivers/application-files.ts';
import { ConfigWatch, type Digests } from '../../src/server/config-watch.ts';

let folder: string;
let watch: ConfigWatch | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-watch-'));
});
afterEach(() => {
  watch?.close();
  rmSync(folder, { recursive: true });
});

/** Watches a configuration that threads have loaded a module for. Counts the changes that were seen. */
async function watched(others: () => Digests): Promise<{ count: number }> {
  const changes = { count: 0 };
  const path = join(folder, 'holdfast.json');
  writeFileSync(path, '{}');
  watch = new ConfigWatch({ clock: systemClock, onChange: () => changes.count++, others });
  await watch.settle({ config: {}, files: new Map([[path, digestOf(Buffer.from('{}'))]]) } as never);
  return changes;
}

const module = () => join(folder, 'handlers.js');
const digest = (text: string) => digestOf(Buffer.from(text));

test('a file that has changed since threads have loaded it is a change, also when it was changed during a reload', async () => {
  writeFileSync(module(), 'new');
  const changes = await watched(() => new Map([[module(), digest('old')]]));
  await expect.poll(() => changes.count).toBe(1);
});

test('a file that threads load later is a change when it holds something else than then', async () => {
  const loaded = new Map<string, string>();
  const changes = await watched(() => loaded);
  writeFileSync(module(), 'new');
  loaded.set(module(), digest('old'));
  await expect.poll(() => changes.count).toBe(1);
});
