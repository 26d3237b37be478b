import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newcomerEnvironment } from '../full/newcomer-environment.ts';
import { freePort } from '../services/free-port.ts';
import { until } from '../services/until.ts';

const run = promisify(execFile);
const repository = fileURLToPath(new URL('../..', import.meta.url));

/**
 * A Debian 12 with what `debootstrap --variant=minbase` installs, an official Node 20, npm 11, and a copy of the
 * sources.
 */
let root: string;

/** What it runs, in each of its two stages, and how the container starts. */
function readContainerfile() {
  const text = readFileSync(join(repository, 'Containerfile'), 'utf8').replaceAll('\\\n', ' ');
  const [, build, final] = text.split(/^FROM .*$/m);
  const commands = (stage: string) => Array.from(stage.matchAll(/^RUN (.*)$/gm), match => match[1]!);
  const list = (name: string): string[] => JSON.parse(new RegExp(`^${name} (\\[.*\\])$`, 'm').exec(final!)![1]!);
  return {
    build: commands(build!),
    final: commands(final!),
    command: [...list('ENTRYPOINT'), ...list('CMD')],
    healthcheck: list('HEALTHCHECK .* CMD'),
    environment: /^ENV (.*)$/m.exec(final!)![1]!.split(' '),
  };
}

const CONTAINER_SETTINGS = [
  'dataFolder: $' + '{STATE_DIRECTORY}',
  'session: { store: "lmdb:$' + '{STATE_DIRECTORY}/sessions" }',
  'routes: [{ path: /a, redirect: /b }]',
].join('\n');

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

  test('the commands of the Containerfile make an image that serves, is healthy and drains: as an ordinary user, on a root that is read-only', async () => {
    const file = readContainerfile();
    // The Node of its base image: here the one that `npm start` has found to start.
    await run('bash', [
      '-c',
      'mkdir -p "$0/opt/base" && cp "$0/holdfast/node_modules/node/bin/node" "$0/opt/base"',
      root,
    ]);
    await run('bash', ['-c', 'mkdir "$0/build" && git archive HEAD | tar x -C "$0/build"', root], { cwd: repository });
    // As it is when `npm ci` has run there.
    await run('cp', ['-al', join(root, 'holdfast/node_modules'), join(root, 'build/node_modules')]);
    const path = '/opt/base:/opt/node_modules/.bin:/usr/bin:/bin';
    const limits = { maxBuffer: 2 ** 26, timeout: 300_000, killSignal: 'SIGKILL' } as const;
    for (const command of file.build) await run(...inRoot(`cd /build && export PATH=${path} && ${command}`), limits);
    await run('cp', ['-a', join(root, 'image'), join(root, 'opt/holdfast')]);
    for (const command of file.final) await run(...inRoot(command), limits);
    await mkdir(join(root, 'etc/holdfast'), { recursive: true });
    const port = await freePort();
    await writeFile(
      join(root, 'etc/holdfast/holdfast.yaml'),
      `listen: [{ port: ${port}, host: 127.0.0.1 }]\n${CONTAINER_SETTINGS}`,
    );
    const enter =
      'mount --bind "$0" "$0" && mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && mount -o remount,bind,ro "$0" && ' +
      'mount -t tmpfs -o uid=65532,gid=65532,mode=700 tmpfs "$0/var/lib/holdfast" && ' +
      `exec chroot --userspec=65532:65532 "$0" /usr/bin/env -i HOME=/ ${file.environment.join(' ')} PATH=/opt/base:/usr/bin:/bin "$@"`;
    const namespaces = ['--mount', '--pid', '--fork', '--kill-child', 'bash', '-c', enter, root];
    const container = spawn('unshare', [...namespaces, ...file.command], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise(resolve => container.once('close', resolve));
    let output = '';
    let process1: string | undefined;
    container.stdout.on('data', text => (output += text));
    container.stderr.on('data', text => (output += text));
    try {
      const answered = () => fetch(`http://127.0.0.1:${port}/a`, { redirect: 'manual' }).catch(() => undefined);
      await until(answered, 30_000).catch(error => {
        throw new Error(`${error}\n${output}`);
      });
      process1 = readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8').trim();
      expect(readFileSync(`/proc/${process1}/status`, 'utf8')).toMatch(/^Uid:\t65532\t65532/m);
      const inside = ['--target', process1, '--mount', '--pid', '--root', '--setuid=65532', '--setgid=65532'];
      const env = { PATH: '/opt/base:/usr/bin:/bin', STATE_DIRECTORY: '/var/lib/holdfast' };
      const { stdout } = await run('/usr/bin/nsenter', [...inside, '/usr/bin/env', '--chdir=/', ...file.healthcheck], {
        env,
      });
      expect(stdout).toMatch(/state +running, ready/);
      process.kill(Number(process1), 'SIGTERM');
      expect(await ended).toBe(0);
    } finally {
      // A change of user takes the tie to `unshare` away.
      if (process1 !== undefined && existsSync(`/proc/${process1}`)) process.kill(Number(process1), 'SIGKILL');
      container.kill('SIGKILL');
      await ended;
    }
  }, 600_000);

  test('an install that fails shows what npm says', async () => {
    await run('rm', ['-rf', join(root, 'holdfast/node_modules')]);
    await writeFile(join(root, 'holdfast/.npmrc'), 'registry=http://127.0.0.1:9/\nfetch-retries=0\ncache=/tmp/empty\n');
    const { stdout } = await run(...inRoot('npm start 2>&1 || true'));
    expect(stdout).toMatch(/npm error .*ECONNREFUSED/);
    expect(stdout).toMatch(/npm ci failed/);
  });
});
