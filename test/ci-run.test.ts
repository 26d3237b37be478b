import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const SYSTEM = ['bash', 'dirname', 'env', 'mktemp', 'rm'];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-ci-'));
  mkdirSync(join(folder, 'bin'));
  mkdirSync(join(folder, 'scripts'));
  writeFileSync(join(folder, 'scripts/install.js'), '');
  cpSync(fileURLToPath(new URL('../.ci', import.meta.url)), join(folder, '.ci'), { recursive: true });
  program('id', 'echo 0');
  for (const name of SYSTEM) symlinkSync(which(name), join(folder, 'bin', name));
});
afterEach(() => rmSync(folder, { recursive: true }));

function which(name: string): string {
  return spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim();
}

/** A program in the only folder of PATH. `$report` is the file that a vitest report goes to. */
function program(name: string, script: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(
    path,
    `#!/bin/bash\nfor word in "$@"; do case $word in --outputFile.json=*) report=\${word#*=};; esac; done\n${script}\n`,
  );
  chmodSync(path, 0o755);
}

/** As on a machine that has everything: every suite with a report of 5 passed tests. */
function everyProgram(): void {
  const commands = [
    'git',
    'cc',
    'chromium',
    'curl',
    'openssl',
    'slowhttptest',
    'python3',
    'ip',
    'setcap',
    'systemd-notify',
    'fail2ban-regex',
    'htpasswd',
    'mkpasswd',
    'apache2',
    'haproxy',
    'lighttpd',
    'nginx',
    'pgbouncer',
    'varnishd',
    'redis-server',
    'redis-cli',
    'initdb',
  ];
  for (const name of [...commands, 'dpkg']) program(name, '');
  symlinkSync(process.execPath, join(folder, 'bin/node'));
  program('npm', reporting(5, 0));
}

const reporting = (passed: number, failed: number) =>
  `if [ -n "$report" ]; then echo '{"numPassedTests":${passed},"numFailedTests":${failed}}' >"$report"; fi`;

function run() {
  const { status, stdout, stderr } = spawnSync('bash', [join(folder, '.ci/run')], {
    env: { PATH: join(folder, 'bin') },
    encoding: 'utf8',
  });
  return { status, last: stdout.trimEnd().split('\n').at(-1), output: stdout + stderr };
}

test('.ci/run totals tests, and every other section as one check', () => {
  everyProgram();
  expect(run()).toMatchObject({ status: 0, last: '14 passed, 0 failed' });
});

test.each([
  ['a test fails', `${reporting(4, 2)}; if [ -n "$report" ]; then exit 1; fi`, '12 passed, 4 failed'],
  ['lint and types fail', `${reporting(5, 0)}; if [ "$1" = run ]; then exit 1; fi`, '12 passed, 2 failed'],
  ['a file does not load', `${reporting(5, 0)}; if [ -n "$report" ]; then exit 1; fi`, '14 passed, 2 failed'],
  [
    'a suite dies while it writes its report',
    'if [ -n "$report" ]; then echo "{" >"$report"; exit 1; fi',
    '4 passed, 2 failed',
  ],
  ['a suite dies before it writes a report', 'if [ -n "$report" ]; then exit 1; fi', '4 passed, 2 failed'],
])('.ci/run fails, and totals to the end, when %s', (_what, npm, last) => {
  everyProgram();
  program('npm', npm);
  expect(run()).toMatchObject({ status: 1, last });
});

test('.ci/run names each failed test, with its message, at the end', () => {
  const results = [
    { name: 'a.test.ts', message: 'does not load', assertionResults: [] },
    {
      name: 'b.test.ts',
      message: '',
      assertionResults: [
        { status: 'passed', fullName: 'b is well', failureMessages: [] },
        { status: 'failed', fullName: 'c holds', failureMessages: ['expected 1 to be 2'] },
      ],
    },
  ];
  const report = JSON.stringify({ numPassedTests: 1, numFailedTests: 1, testResults: results });
  everyProgram();
  program('npm', `if [ -n "$report" ]; then echo '${report}' >"$report"; exit 1; fi`);
  const { output } = run();
  const end = output.slice(output.indexOf('=== result'));
  expect(end).toContain('failed: a.test.ts\ndoes not load\n');
  expect(end).toContain('failed: b.test.ts > c holds\nexpected 1 to be 2\n');
  expect(end).not.toContain('is well');
});

test('.ci/run installs from Debian what is missing, Node and npm included', () => {
  program('apt-get', `echo "$DEBIAN_FRONTEND $*" >>"${join(folder, 'apt')}"`);
  program('sudo', 'exec env -i PATH="$PATH" "$@"'); // as it does: without the variables of the caller
  program('id', 'echo 1000');
  const { status, last } = run();
  expect(readFileSync(join(folder, 'apt'), 'utf8').trim().split('\n')).toEqual([
    expect.stringMatching(/update/),
    'noninteractive install -qq -y --no-install-recommends git nodejs npm gcc libc6-dev chromium curl openssl slowhttptest python3 iproute2 libcap2-bin systemd fail2ban apache2-utils whois apache2 haproxy lighttpd nginx pgbouncer varnish redis-server postgresql debootstrap tomcat10-examples python3-websockets python3-aiohttp python3-tornado',
  ]);
  // This apt-get has installed nothing: what needs Node fails, and is counted.
  expect({ status, last }).toEqual({ status: 1, last: '1 passed, 5 failed' });
});

test.each([
  ['9.2.0', ['install --global --loglevel=error npm@10']],
  ['10.9.4', []],
])('.ci/run with npm %s installs globally: %j', (version, installed) => {
  everyProgram();
  const log = join(folder, 'installed');
  writeFileSync(log, '');
  program(
    'npm',
    `if [ "$1" = install ]; then echo "$*" >>"${log}"; fi; if [ "$1" = --version ]; then echo ${version}; fi`,
  );
  expect(run()).toMatchObject({ status: 0, last: '6 passed, 0 failed' });
  expect(readFileSync(log, 'utf8').split('\n').filter(Boolean)).toEqual(installed);
});

test('the install script says so when npm is too old', () => {
  mkdirSync(join(folder, 'clone/scripts'), { recursive: true });
  cpSync(fileURLToPath(new URL('../scripts/install.js', import.meta.url)), join(folder, 'clone/scripts/install.mjs'));
  const { status, stderr } = spawnSync(process.execPath, [join(folder, 'clone/scripts/install.mjs')], {
    env: { npm_config_user_agent: 'npm/9.2.0 node/v18.20.4 linux x64 workspaces/false' },
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: 'npm 10 or newer is needed, and this is npm 9.2.0: npm install --global npm@10\n',
  });
});
