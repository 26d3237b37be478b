import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const PYTHON = '/usr/bin/python3';
const script = fileURLToPath(new URL('doctor_servers.py', import.meta.url));

/** Why tests that need these servers are skipped here; undefined when they are not. */
export const pythonMissing: string | undefined = ['', 'websockets', 'aiohttp', 'tornado']
  .map(name => (name === '' ? PYTHON : `/usr/lib/python3/dist-packages/${name}`))
  .filter(path => !existsSync(path))
  .map(path => `${path} is not there`)[0];
if (pythonMissing && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(pythonMissing);

/** A server of doctor_servers.py, on a port of its own. */
export async function startPython(kind: 'websockets' | 'aiohttp' | 'tornado' | 'silent') {
  const child = spawn(PYTHON, [script, kind], { stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  const [line] = await Promise.race([
    once(child.stdout, 'data'),
    exited.then(() => Promise.reject(new Error(`${kind} has ended`))),
  ]);
  return {
    port: Number(line),
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
    },
  };
}
