import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, globSync } from 'node:fs';
import { chmod, chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from './free-port.ts';

const run = promisify(execFile);

/** The folder of `postgres` and `initdb`: in PATH, else the newest of Debian's. Undefined: not installed. */
const binaries = [
  ...(process.env.PATH ?? '').split(delimiter),
  ...globSync('/usr/lib/postgresql/*/bin').sort((a, b) => b.localeCompare(a, 'en', { numeric: true })),
].find(folder => isProgram(join(folder, 'postgres')) && isProgram(join(folder, 'initdb')));

/**
 * Why tests that need PostgreSQL are skipped here; undefined where they run. With HOLDFAST_REQUIRE_SERVICES=1 they run,
 * and fail.
 */
export const postgresMissing =
  binaries || process.env.HOLDFAST_REQUIRE_SERVICES === '1'
    ? undefined
    : 'postgres and initdb are neither in PATH nor in /usr/lib/postgresql';

/** A server of our own, in a folder of its own, on a free port. */
export interface PostgresServer {
  readonly url: string;
  /** The same by its Unix socket. */
  readonly socketUrl: string;
  readonly port: number;
  /** Kills the server with -9, every process of it. */
  kill(): Promise<void>;
  /** Starts it again after `kill`. Resolves when it answers. */
  start(): Promise<void>;
  /** Sends a signal to the server's main process. */
  signal(signal: NodeJS.Signals): void;
  /** Runs one statement as the superuser. */
  query(text: string, values?: unknown[]): Promise<Record<string, unknown>[]>;
  stop(): Promise<void>;
}

/**
 * @param settings Of the server; by default nothing is synced to disk, because most tests need speed and no crash of
 * the machine.
 * @param tls With this certificate, both PEM: the role `secure` is let in by it only.
 */
export async function startPostgres(
  settings: Readonly<Record<string, string>> = { fsync: 'off', full_page_writes: 'off' },
  tls?: { readonly certificate: string; readonly key: string },
): Promise<PostgresServer> {
  if (!binaries) throw new Error('PostgreSQL is not installed: no postgres and initdb in PATH or /usr/lib/postgresql');
  const owner = await findOwner();
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-postgres-'));
  await chmod(folder, 0o755);
  if (owner) await chown(folder, owner.uid, owner.gid);
  const data = join(folder, 'data');
  const initdb = ['-D', data, '--no-sync', '-A', 'trust', '-U', 'holdfast', '-E', 'UTF8', '--locale=C'];
  await run(join(binaries, 'initdb'), initdb, { ...owner, cwd: folder });
  if (tls) {
    for (const [name, content] of Object.entries({ 'server.crt': tls.certificate, 'server.key': tls.key })) {
      await writeFile(join(data, name), content, { mode: 0o600 });
      if (owner) await chown(join(data, name), owner.uid, owner.gid);
    }
    const rules = join(data, 'pg_hba.conf');
    const own = 'hostssl all secure all scram-sha-256\nhost all secure all reject\n';
    await writeFile(rules, `${own}${await readFile(rules, 'utf8')}`);
  }
  const port = await freePort();
  const url = `postgres://holdfast@127.0.0.1:${port}/postgres`;
  const socketUrl = `postgres://holdfast@/postgres?host=${encodeURIComponent(folder)}&port=${port}`;
  const all = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: folder,
    max_connections: '200',
    ...(tls && { ssl: 'on' }),
    ...settings,
  };
  const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  let child: ChildProcess;

  async function query(text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 1_000 });
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text, values)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  }

  async function start(): Promise<void> {
    child = launch(join(binaries!, 'postgres'), ['-D', data, '-p', String(port), ...options], owner);
    let output = '';
    child.stderr!.setEncoding('utf8').on('data', chunk => {
      output = (output + chunk).slice(-4_000);
    });
    for (let tries = 0; ; tries++) {
      if (child.exitCode !== null || tries > 400) throw new Error(`postgres did not start:\n${output}`);
      try {
        await query('SELECT 1');
        return;
      } catch {
        await wait(25);
      }
    }
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill(signal);
    await exited;
  }

  await start();
  return {
    url,
    socketUrl,
    port,
    query,
    start,
    async kill() {
      const backends = await childrenOf(child.pid!);
      await end('SIGKILL');
      // They would go by themselves, but might answer one more query first.
      for (const pid of backends) killIfThere(pid);
      // Where nobody reaps orphans they stay in the list.
      for (let tries = 0; tries < 200 && backends.some(isAlive); tries++) await wait(5);
    },
    signal: signal => void child.kill(signal),
    async stop() {
      await end('SIGQUIT'); // at once; nobody reads these data again
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Where `setpriv` is, the server ends with this process however that ends. */
function launch(program: string, parameters: string[], owner: Owner | undefined): ChildProcess {
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find(isProgram);
  if (!setpriv) return spawn(program, parameters, { ...owner, stdio: [...stdio] });
  const identity = owner ? [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'] : [];
  return spawn(setpriv, [...identity, '--pdeathsig=KILL', program, ...parameters], { stdio: [...stdio] });
}

/** Empty where there is no /proc. */
async function childrenOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return children.trim().split(' ').filter(Boolean).map(Number);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has gone by itself.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** PostgreSQL refuses to run as root. */
async function findOwner(): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(
        ['-u', '-g'].map(async flag => Number((await run('id', [flag, name])).stdout)),
      );
      return { uid: uid!, gid: gid! };
    } catch {
      // No such user: the next one.
    }
  }
  throw new Error('neither the user postgres nor nobody exists; run the tests as an ordinary user');
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
