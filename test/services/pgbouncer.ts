import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { accepts, freePort } from './free-port.ts';
import type { PostgresServer } from './postgres-server.ts';
import { until } from './until.ts';

const PROGRAM = '/usr/sbin/pgbouncer';

if (!existsSync(PROGRAM) && process.env.HOLDFAST_REQUIRE_SERVICES === '1')
  throw new Error(`${PROGRAM} is not installed`);

/** Why tests that need PgBouncer are skipped here; undefined when they are not. */
export const pgbouncerMissing = existsSync(PROGRAM) ? undefined : `${PROGRAM} is not installed`;

/** Poolers of tests that end without stopping them. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface PgBouncer extends AsyncDisposable {
  readonly url: string;
}

/** Starts a PgBouncer of its own in front of a server, with what it has by default except for these settings. */
export async function startPgBouncer(
  server: PostgresServer,
  settings: Readonly<Record<string, string>>,
): Promise<PgBouncer> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-pgbouncer-'));
  const port = await freePort();
  const all = {
    listen_addr: '127.0.0.1',
    listen_port: String(port),
    auth_type: 'any',
    unix_socket_dir: '',
    ...settings,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  const file = join(folder, 'pgbouncer.ini');
  const database = `postgres = host=127.0.0.1 port=${server.port} dbname=postgres user=holdfast`;
  await writeFile(file, ['[databases]', database, '[pgbouncer]', ...lines, ''].join('\n'));
  // It does not run as root.
  await chmod(folder, 0o755);
  const user = userInfo().uid === 0 ? ['-u', 'nobody'] : [];
  const child = spawn(PROGRAM, [...user, file], { stdio: ['ignore', 'ignore', 'pipe'] });
  running.add(child);
  const output = text(child.stderr);
  const exited = once(child, 'exit').then(() => running.delete(child));
  const stopped = exited.then(async () => {
    throw new Error(`pgbouncer has ended:\n${await output}`);
  });
  stopped.catch(() => {});
  await Promise.race([until(() => accepts(port)), stopped]);
  return {
    url: `postgres://holdfast@127.0.0.1:${port}/postgres`,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
