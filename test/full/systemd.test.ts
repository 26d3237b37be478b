import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { freePort } from '../services/free-port.ts';
import { NewConnections } from '../services/new-connections.ts';
import { canRunSystemd, Systemd } from '../services/systemd.ts';
import { until } from '../services/until.ts';

const run = promisify(execFile);
const shipped = fileURLToPath(new URL('../../deploy/systemd/', import.meta.url));
const bin = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const isMissing = !existsSync('/usr/bin/systemd-analyze') || !existsSync('/usr/bin/systemd-notify');
if (isMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error('systemd is not there');

let folder: string;
let systemd: Systemd | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-systemd-'));
});
afterEach(async () => {
  await systemd?.close();
  systemd = undefined;
  rmSync(folder, { recursive: true });
});

function unit(name: string): string {
  return readFileSync(join(shipped, name), 'utf8');
}

describe.skipIf(isMissing)('the units that are shipped', () => {
  test('are understood by systemd without a word', async () => {
    mkdirSync(join(folder, 'holdfast.service.d'));
    // Its program is where an operator installs it.
    writeFileSync(join(folder, 'holdfast.service'), unit('holdfast.service').replace('/usr/bin/node', '/bin/true'));
    const sockets = ['holdfast.socket', 'holdfast-tls.socket'];
    for (const name of sockets) copyFileSync(join(shipped, name), join(folder, name));
    const paths = ['holdfast.service', ...sockets].map(name => join(folder, name));
    const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', ...paths]);
    expect(stdout + stderr).toBe('');
  });

  test('leave the service little that it could do to the machine', async () => {
    copyFileSync(join(shipped, 'holdfast.service'), join(folder, 'holdfast.service'));
    const judge = ['security', '--offline=yes', '--threshold=20', join(folder, 'holdfast.service')];
    const { stdout } = await run('systemd-analyze', judge);
    expect(stdout).toMatch(/exposure level for holdfast\.service: [01]\.\d/);
  });

  test('do not forbid what the compiler of Node needs', () => {
    expect(unit('holdfast.service')).not.toMatch(/^MemoryDenyWriteExecute=/m);
  });
});

const blocking = `
  const block = () => {
    const until = Date.now() + 20_000;
    while (Date.now() < until);
    return new Response('done');
  };
`;

describe.skipIf(isMissing || !canRunSystemd)('holdfast serve as a service of a real systemd', () => {
  let url: string;

  /**
   * The unit that is shipped, with this Node and these sources; without what only the manager of a machine can do:
   * another user, and other mounts.
   */
  async function install(settings = '', place?: string): Promise<Systemd> {
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    writeFileSync(
      join(folder, 'holdfast.config.ts'),
      `${blocking}
       export default {
         listen: [{ ${place ?? `port: ${port}, host: '127.0.0.1'`} }],
         dataFolder: process.env.STATE_DIRECTORY,
         session: { store: 'lmdb:' + process.env.STATE_DIRECTORY + '/sessions' },
         routes: [
           { path: '/pid', fetch: () => new Response(String(process.pid)) },
           { path: '/variables', fetch: () => Response.json(Object.keys(process.env)) },
           { path: '/block', fetch: block },
         ],
       };`,
    );
    const text = unit('holdfast.service')
      .replace(
        /^ExecStart=.*$/m,
        `ExecStart=${process.execPath} -C holdfast-source ${bin} serve --config ${folder}/holdfast.config.ts`,
      )
      .replace(/^(User|Group|OOMScoreAdjust|Protect\w+|Private\w+|ConfigurationDirectory|WorkingDirectory)=.*$/gm, '')
      .replace('[Install]', `StandardError=append:${folder}/errors\n${settings}\n[Install]`);
    systemd = await Systemd.start(folder);
    await systemd.write('holdfast.service', text);
    return systemd;
  }

  test('is active when it serves, says what it does, and drains on stop', async () => {
    const manager = await install();
    await manager.control('start', 'holdfast');
    const pid = await (await fetch(`${url}/pid`)).text();
    expect(await manager.property('holdfast', 'MainPID')).toBe(pid);
    expect(await manager.property('holdfast', 'StatusText')).toMatch(/^listening on http:/);
    await manager.control('stop', 'holdfast');
    expect(await manager.property('holdfast', 'Result')).toBe('success');
    expect(await manager.property('holdfast', 'ExecMainStatus')).toBe('0');
  });

  test('hides the variables that were meant for it from what it starts', async () => {
    const manager = await install();
    await manager.control('start', 'holdfast');
    const variables = (await (await fetch(`${url}/variables`)).json()) as string[];
    expect(variables).toContain('STATE_DIRECTORY');
    expect(variables.filter(name => /^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_)/.test(name))).toEqual([]);
  });

  test('starts it again when its event loop stands still', async () => {
    const manager = await install('WatchdogSec=5s\nWatchdogSignal=SIGKILL\nRestartSec=0');
    await manager.control('start', 'holdfast');
    const before = await (await fetch(`${url}/pid`)).text();
    // It lives longer than its watchdog is patient.
    await new Promise(resolve => setTimeout(resolve, 7_000));
    expect(await (await fetch(`${url}/pid`)).text()).toBe(before);
    await expect(fetch(`${url}/block`)).rejects.toThrow();
    const after = await until(() =>
      fetch(`${url}/pid`).then(
        response => response.text(),
        () => undefined,
      ),
    );
    expect(after).not.toBe(before);
    expect(await manager.property('holdfast', 'NRestarts')).toBe('1');
  });

  test('shows why it does not start', async () => {
    const manager = await install('Restart=no');
    const taken = (await import('node:net')).createServer();
    await new Promise<void>(resolve => taken.listen(Number(new URL(url).port), '127.0.0.1', resolve));
    try {
      await expect(manager.control('start', 'holdfast')).rejects.toThrow();
      expect(await manager.property('holdfast', 'StatusText')).toMatch(/^cannot listen on 127\.0\.0\.1 port/);
    } finally {
      taken.close();
    }
  });

  test('turns nobody away while it is restarted, when the port is that of a socket unit', async () => {
    const manager = await install('', "activation: 'web'");
    const { host } = new URL(url);
    const listenAnew = unit('holdfast.socket').replace('ListenStream=80', `ListenStream=${host}`);
    await manager.write('holdfast.socket', listenAnew);
    await manager.control('start', 'holdfast.socket', 'holdfast.service');
    const clients = new NewConnections(`${url}/pid`);
    try {
      const before = await (await fetch(`${url}/pid`)).text();
      await clients.answered();
      await manager.control('restart', 'holdfast');
      const after = await (await fetch(`${url}/pid`)).text();
      await new Promise(resolve => setTimeout(resolve, 300));
      const { answered, pids, failures } = await clients.stop();
      expect(failures).toEqual([]);
      expect(pids.toSorted()).toEqual([before, after].sort());
      expect(answered).toBeGreaterThan(50);
    } finally {
      clients.kill();
    }
  });
});
