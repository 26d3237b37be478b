import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from './until.ts';

const run = promisify(execFile);
const MANAGER = '/lib/systemd/systemd';

/** Only root may make the namespaces in which it runs. */
export const canRunSystemd = process.getuid?.() === 0 && existsSync(MANAGER);

/**
 * A real systemd with services of its own: its manager for users, in namespaces of its own, so that it needs neither a
 * machine that was booted by systemd nor a login. Everything that it has started ends with it.
 */
export class Systemd {
  readonly units: string;
  readonly #process: ChildProcess;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(folder: string) {
    this.units = join(folder, 'config/systemd/user');
    mkdirSync(this.units, { recursive: true });
    mkdirSync(join(folder, 'run'), { mode: 0o700 });
    this.#environment = {
      PATH: process.env.PATH,
      HOME: folder,
      XDG_RUNTIME_DIR: join(folder, 'run'),
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_STATE_HOME: join(folder, 'state'),
    };
    // Mounts and cgroups are made anew, so that it sees the same on every machine. Its cgroup is the root of what it sees:
    // it finds the service that a message is from by the cgroup of the sender.
    const mountCgroups = 'mount -t cgroup2 none /sys/fs/cgroup';
    const enter = [
      'mount -t tmpfs tmpfs /run',
      'mkdir -p /run/systemd/system',
      'umount --recursive /sys/fs/cgroup',
      mountCgroups,
      'mkdir -p "/sys/fs/cgroup/$0"',
      'echo $$ > "/sys/fs/cgroup/$0/cgroup.procs"',
      'umount /sys/fs/cgroup',
      // As process 1 it would run a whole machine.
      `unshare --cgroup bash -c '${mountCgroups} && exec ${MANAGER} --user --log-target=null'; true`,
    ].join(' && ');
    const namespaces = ['--mount', '--pid', '--ipc', '--fork', '--kill-child', '--mount-proc'];
    this.#process = spawn('unshare', [...namespaces, 'bash', '-c', enter, `holdfast-test-${process.pid}`], {
      env: this.#environment,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  static async start(folder: string): Promise<Systemd> {
    const systemd = new Systemd(folder);
    await until(async () => existsSync(join(folder, 'run/systemd/private')));
    return systemd;
  }

  async write(unit: string, text: string): Promise<void> {
    writeFileSync(join(this.units, unit), text);
    await this.control('daemon-reload');
  }

  /** `systemctl --user …`. @throws when it fails. */
  async control(...args: readonly string[]): Promise<string> {
    // Its manager answers only processes that it can see.
    const { pid } = this.#process;
    const [inside] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    const command = ['--target', inside!, '--mount', '--pid', 'systemctl', '--user', ...args];
    return (await run('nsenter', command, { env: this.#environment })).stdout.trim();
  }

  async property(unit: string, name: string): Promise<string> {
    return await this.control('show', '--value', `--property=${name}`, unit);
  }

  async close(): Promise<void> {
    this.#process.kill('SIGKILL');
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit');
  }
}
