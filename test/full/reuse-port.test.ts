import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Holdfast } from '../cli/run-holdfast.ts';
import { NewConnections } from '../services/new-connections.ts';

/** Since Linux 5.14: connections that wait for a server that closes go to another one of the port. */
const MIGRATE = '/proc/sys/net/ipv4/tcp_migrate_req';
const canRun = process.getuid?.() === 0 && existsSync(MIGRATE) && existsSync('/usr/bin/unshare');

let folder: string;
const programs: Holdfast[] = [];
let clients: NewConnections | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-reuse-'));
  writeFileSync(
    join(folder, 'holdfast.config.ts'),
    `export default {
       listen: [{ port: 8080, reusePort: true }],
       session: false,
       routes: [{ path: '/pid', fetch: () => new Response(String(process.pid)) }],
     };`,
  );
});
afterEach(async () => {
  clients?.kill();
  for (const program of programs) program.kill('SIGKILL');
  await Promise.all(programs.splice(0).map(program => program.ended));
  rmSync(folder, { recursive: true });
});

async function serve(under: readonly string[]): Promise<Holdfast> {
  const program = new Holdfast(['serve'], { cwd: folder, under });
  programs.push(program);
  await program.printed(/listening on/);
  return program;
}

test.skipIf(!canRun)('a new version beside the old one takes its port over, and no connection is lost', async () => {
  const network = `ip link set lo up && echo 1 > ${MIGRATE} && exec "$0" "$@"`;
  const before = await serve(['unshare', '--net', 'bash', '-c', network]);
  const inside = ['nsenter', '--target', String(before.process.pid), '--net'];
  clients = new NewConnections('http://127.0.0.1:8080/pid', inside);
  await clients.answered();
  const after = await serve(inside);
  await new Promise(resolve => setTimeout(resolve, 500));
  before.kill('SIGTERM');
  expect(await before.ended).toBe(0);
  await new Promise(resolve => setTimeout(resolve, 500));
  const { answered, pids, failures } = await clients.stop();
  expect(failures).toEqual([]);
  expect(pids.toSorted()).toEqual([String(before.process.pid), String(after.process.pid)].sort());
  expect(answered).toBeGreaterThan(50);
});
