import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newcomerEnvironment as env } from './newcomer-environment.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
let clone: string;
let demo: ChildProcess | undefined;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-clone-'));
  clone = join(folder, 'holdfast');
  await run('git', ['clone', '--quiet', '--no-hardlinks', root, clone]);
});

afterAll(async () => {
  if (demo?.exitCode === null && demo.signalCode === null) {
    process.kill(-demo.pid!, 'SIGKILL');
    await once(demo, 'exit');
  }
  await rm(folder, { recursive: true, force: true });
});

test('npm start on a fresh clone installs, prints what to open, and that answers', async () => {
  expect(existsSync(join(clone, 'node_modules'))).toBe(false);
  // A group of its own, so that npm and what it started end together.
  demo = spawn('npm', ['start', '--', '--port', '0'], {
    cwd: clone,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let output = '';
  const url = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk;
      const match = /http:\/\/localhost:\d+/.exec(output);
      if (match) resolve(match[0]);
    };
    demo!.stdout!.on('data', read);
    demo!.stderr!.on('data', read);
    demo!.on('exit', code => reject(new Error(`npm start ended with ${code}:\n${output}`)));
  });
  const response = await fetch(url);
  expect(response.status).toBe(200);
  expect(await response.text()).toContain('<html');

  process.kill(-demo.pid!, 'SIGTERM');
  await once(demo, 'exit');
});

test('npm test runs there', async () => {
  const { stdout } = await run('npm', ['test', '--', 'test/base', 'test/architecture.test.ts'], { cwd: clone, env });
  expect(stdout).toMatch(/Tests .*\d+ passed/);
});
