import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newcomerEnvironment } from './newcomer-environment.ts';

const run = promisify(execFile);
const repository = fileURLToPath(new URL('../..', import.meta.url));

/**
 * A Debian 12 with what `debootstrap --variant=minbase` installs, an official Node 20, npm 11, and a copy of the
 * sources.
 */
let root: string;

const isRoot = process.getuid?.() === 0;
const isMissing = !existsSync('/usr/sbin/debootstrap') && process.env.HOLDFAST_REQUIRE_SERVICES !== '1';

// Only root may make a root file system.
describe.skipIf(!isRoot || isMissing)('on a bare machine', () => {
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'holdfast-bare-'));
    // As `/` is: every user may enter it.
    await chmod(root, 0o755);
    await run('debootstrap', ['--variant=minbase', 'bookworm', root], { maxBuffer: 2 ** 26 });
    await installNode();
    await mkdir(join(root, 'holdfast'));
    await run('bash', ['-c', 'git archive HEAD | tar x -C "$0"', join(root, 'holdfast')], { cwd: repository });
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  /** The machine's own Node has libraries that the root lacks: the official one has not. */
  async function installNode(): Promise<void> {
    const outside = { cwd: join(root, 'opt'), env: newcomerEnvironment };
    await run(
      'npm',
      ['install', '--no-save', '--prefix', '.', `node-linux-${process.arch}@20.20.2`, 'npm@11.19.1'],
      outside,
    );
    const bin = join(root, 'opt/node_modules/.bin');
    await run('ln', ['-sf', `../node-linux-${process.arch}/bin/node`, join(bin, 'node')]);
    // The network is the machine's: its resolver, its registry and the authority that vouches for that.
    for (const file of ['resolv.conf', 'hosts']) await copyFile(`/etc/${file}`, join(root, 'etc', file));
    const setting = async (name: string) => (await run('npm', ['config', 'get', name], outside)).stdout.trim();
    const authority = await setting('cafile');
    if (existsSync(authority)) await copyFile(authority, join(root, 'etc/registry.crt'));
    await writeFile(
      join(root, 'root/.npmrc'),
      `registry=${await setting('registry')}\n${existsSync(authority) ? 'cafile=/etc/registry.crt\n' : ''}`,
    );
  }

  /** Mounts and processes are in namespaces of their own and end with the command. */
  function inRoot(command: string): [string, string[]] {
    const enter =
      'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && ' +
      'exec chroot "$0" /usr/bin/env -i HOME=/root PATH=/opt/node_modules/.bin:/usr/bin:/bin bash -c "cd /holdfast && $1"';
    return ['unshare', ['--mount', '--pid', '--fork', '--kill-child', 'bash', '-c', enter, root, command]];
  }

  test('npm start installs on a Node that runs there, says so, and serves the demo', async () => {
    const demo = spawn(...inRoot('npm start -- --port 0'), { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise(resolve => demo.once('close', resolve));
    try {
      let output = '';
      const url = await new Promise<string>((resolve, reject) => {
        const read = (chunk: Buffer) => {
          output += chunk;
          const match = /http:\/\/localhost:\d+/.exec(output);
          if (match) resolve(match[0]);
        };
        demo.stdout.on('data', read);
        demo.stderr.on('data', read);
        demo.once('close', code => reject(new Error(`npm start ended with ${code}:\n${output}`)));
      });
      expect(output).toMatch(
        /The pinned Node does not start here \(.*libatomic\.so\.1.*\): using Node 24\.\d+\.\d+ instead/,
      );
      expect((await fetch(url)).status).toBe(200);
    } finally {
      demo.kill('SIGKILL');
      await ended;
    }
  });

  test('npm test installs anew over an install that is older than the lock file, and the engine passes there', async () => {
    const tests = 'test/base test/http test/websocket test/session/manager.test.ts';
    const limits = { maxBuffer: 2 ** 28, timeout: 850_000, killSignal: 'SIGKILL' } as const;
    const { stdout } = await run(
      ...inRoot(`touch package-lock.json && npm test -- ${tests} 2>&1 || echo ended with $?`),
      limits,
    );
    expect(stdout.slice(-20_000)).toMatch(/Tests .*\d+ passed/);
    expect(stdout.slice(-20_000)).not.toMatch(/^ended with/m);
  }, 900_000);

  test('an install that fails shows what npm says', async () => {
    await run('rm', ['-rf', join(root, 'holdfast/node_modules')]);
    await writeFile(join(root, 'holdfast/.npmrc'), 'registry=http://127.0.0.1:9/\nfetch-retries=0\ncache=/tmp/empty\n');
    const { stdout } = await run(...inRoot('npm start 2>&1 || true'));
    expect(stdout).toMatch(/npm error .*ECONNREFUSED/);
    expect(stdout).toMatch(/npm ci failed/);
  });
});
