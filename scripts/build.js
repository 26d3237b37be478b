// Emits dist/ file by file with tsc, so that a stack trace in production names the source file and line.
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true });
const { status } = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
// What tsc does not emit: the page of the demo.
cpSync(new URL('../src/cli/demo/public', import.meta.url), new URL('../dist/cli/demo/public', import.meta.url), {
  recursive: true,
});
process.exit(status ?? 1);
