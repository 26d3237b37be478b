import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the programs of the guide "Writing a store" do what it says: their tests pass', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-guide-'));
  try {
    const guide = await readFile(join(root, 'docs/guides/writing-a-store.md'), 'utf8');
    const programs = [...guide.matchAll(/^```ts\n\/\/ (\S+)\n([\s\S]*?)^```$/gm)];
    for (const [, name, program] of programs) await writeFile(join(folder, name!), program!);
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await mkdir(join(folder, 'node_modules'));
    await symlink(root, join(folder, 'node_modules/holdfast'), 'dir');

    const args = ['-C', 'holdfast-source', '--test', '--test-reporter=tap', `${folder}/*.test.ts`];
    const env = { ...process.env, TMPDIR: folder };
    const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
    const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    expect(output.match(/^ *not ok .*/gm) ?? [], output).toEqual([]);
    expect(Number(/^# pass (\d+)$/m.exec(output)?.[1])).toBeGreaterThan(60);
    expect(code).toBe(0);
  } finally {
    await rm(folder, { recursive: true });
  }
});
