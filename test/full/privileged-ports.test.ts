import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { anotherUser } from '../services/another-user.ts';
import { until } from '../services/until.ts';

const run = promisify(execFile);
const PROGRAMS = ['/usr/bin/setpriv', '/usr/bin/unshare', '/usr/sbin/ip', '/usr/sbin/setcap', '/usr/bin/curl'];
const missing = PROGRAMS.filter(program => !existsSync(program) && !existsSync(program.replace('/usr/sbin', '/sbin')));
if (missing.length > 0 && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`${missing} is not there`);

let folder: string;
let program: Holdfast | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-ports-'));
  chmodSync(folder, 0o755);
});
afterEach(async () => {
  program?.kill('SIGKILL');
  await program?.ended;
  program = undefined;
  rmSync(folder, { recursive: true });
});

const asOrdinaryUser = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  '--no-new-privs',
  '--bounding-set=-all',
];

/** In a network of its own, where nobody else has port 80 and where the machine's settings do not reach. */
function serve(under: readonly string[], options: { prepare?: string; node?: string; listen?: string } = {}): Holdfast {
  const { prepare = 'true', node, listen = '[{ port: 80 }]' } = options;
  writeFileSync(
    join(folder, 'holdfast.yaml'),
    `listen: ${listen}\nsession: false\ndataFolder: /nonexistent\nroutes: [{ path: /a, redirect: /b }]\n`,
  );
  const network = ['unshare', '--net', 'bash', '-c', `ip link set lo up && ${prepare} && exec "$0" "$@"`];
  program = new Holdfast(['serve'], { cwd: folder, under: [...network, ...under], node });
  return program;
}

async function expectServed(server: Holdfast): Promise<void> {
  const curl = ['curl', '--silent', '--output', '/dev/null', '--write-out', '%{http_code}', 'http://127.0.0.1/a'];
  const inside = ['--target', String(server.process.pid), '--net', ...curl];
  const status = await until(() =>
    run('nsenter', inside).then(
      ({ stdout }) => stdout,
      () => undefined,
    ),
  );
  expect(status).toBe('308');
  const { stdout } = await run('ps', ['-o', 'uid=', '-p', String(server.process.pid)]);
  expect(stdout.trim()).toBe('65534');
}

describe.skipIf(missing.length > 0 || !anotherUser)('port 80 for an ordinary user', () => {
  test('is refused with the ways to get it', async () => {
    const server = serve(asOrdinaryUser);
    expect(await server.ended).toBe(1);
    expect(server.stderr).toMatch(
      /cannot listen on port 80: .*AmbientCapabilities=CAP_NET_BIND_SERVICE.*"activation".*ip_unprivileged_port_start=80/,
    );
  });

  test('is open with the capability that systemd gives the service', async () => {
    const withCapability = ['--ambient-caps=+net_bind_service', '--inh-caps=+net_bind_service'];
    const user = asOrdinaryUser.filter(flag => !flag.startsWith('--bounding-set'));
    await expectServed(serve([...user, ...withCapability]));
  });

  test('is open when the machine has lowered its limit', async () => {
    await expectServed(serve(asOrdinaryUser, { prepare: 'echo 80 > /proc/sys/net/ipv4/ip_unprivileged_port_start' }));
  });

  test('is open for a Node of its own that has the capability', async () => {
    const node = join(folder, 'node');
    copyFileSync(process.execPath, node);
    chmodSync(node, 0o755);
    execFileSync('setcap', ['cap_net_bind_service=+ep', node], {
      env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    });
    // Privileges of a file count only where new ones may be had.
    await expectServed(serve(asOrdinaryUser.slice(0, 4), { node }));
  });

  test('is open when systemd opens it', async () => {
    const activate = ['systemd-socket-activate', '--listen=0.0.0.0:80', '--fdname=web'];
    await expectServed(serve([...activate, ...asOrdinaryUser], { listen: '[{ activation: web }]' }));
  });
});
