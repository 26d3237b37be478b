import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../services/until.ts';

const BIN = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const UNSHARE = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];

/** Two containers with a shared volume: as much of that as matters here. */
const missing = (() => {
  try {
    execFileSync(UNSHARE[0]!, [...UNSHARE.slice(1), 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'this user may not make pid namespaces';
  }
})();

interface Served {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<number | null>;
}

describe.skipIf(missing)(`holdfast serve on one lmdb folder${missing ? ` (skipped: ${missing})` : ''}`, () => {
  let folder: string;
  const running: ChildProcess[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'hf-namespaces-'));
    const config = `listen: [{ port: 0, host: 127.0.0.1 }]\nsession: { store: "lmdb:./sessions" }\nroutes: [{ path: /, files: . }]\n`;
    writeFileSync(join(folder, 'holdfast.yaml'), config);
  });
  afterEach(async () => {
    for (const child of running.splice(0)) await kill(child);
    rmSync(folder, { recursive: true });
  });

  /** @param container In a pid namespace of its own. */
  function serve(container: boolean): Served {
    const command = [...(container ? UNSHARE : []), process.execPath, '-C', 'holdfast-source', BIN, 'serve'];
    const child = spawn(command[0]!, command.slice(1), { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    running.push(child);
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', chunk => {
        said += chunk;
      });
    return { child, output: () => said, ended: once(child, 'exit').then(([code]) => code as number | null) };
  }

  async function kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  const isOpen = ({ output }: Served) => until(() => /listening on/.test(output()), 20_000);

  test.each([
    ['a container beside another', true, true],
    ['a container beside the machine', false, true],
    ['the machine beside a container', true, false],
  ])('%s is refused with what to do, and the first goes on', async (_title, first, second) => {
    const one = serve(first);
    await isOpen(one);
    const other = serve(second);
    expect(await other.ended).not.toBe(0);
    expect(other.output()).toMatch(/another pid namespace, such as another container.*stop the other one first/);
    expect(one.child.exitCode).toBe(null);
    expect(
      (await fetch(`http://127.0.0.1:${/localhost:(\d+)/.exec(one.output())![1]}`, { redirect: 'manual' })).status,
    ).toBeLessThan(500);
  });

  test('a container that takes the place of a killed one opens it at once, again and again', async () => {
    for (let round = 0; round < 3; round++) {
      const one = serve(true);
      await isOpen(one);
      await kill(one.child);
    }
    const last = serve(false);
    await isOpen(last);
    expect(readdirSync(join(folder, 'sessions')).filter(name => name.startsWith('holder-'))).toHaveLength(1);
  });

  test('processes of one namespace share it', async () => {
    const both = [serve(false), serve(false)];
    for (const one of both) await isOpen(one);
  });

  test('of two containers that start at the same moment one serves at most', async () => {
    const both = [serve(true), serve(true)];
    await Promise.race([...both.map(({ ended }) => ended), until(() => false, 5_000).catch(() => {})]);
    await until(() => both.some(({ child }) => child.exitCode !== null), 20_000);
    const serving = both.filter(({ child }) => child.exitCode === null);
    expect(serving.length).toBeLessThanOrEqual(1);
  });
});
