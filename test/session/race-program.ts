import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { RaceServer } from './race-server.ts';

export interface RaceProcess extends RaceServer {
  /** With -9. */
  kill(): Promise<void>;
}

/** Starts `race-process.ts` on the store at this address, with these options of its manager. */
export async function startRaceProcess(address: string, options: object = {}): Promise<RaceProcess> {
  const script = fileURLToPath(new URL('race-process.ts', import.meta.url));
  const child = spawn(process.execPath, ['-C', 'holdfast-source', script, address, JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const [url] = (await Promise.race([
    once(createInterface(child.stdout), 'line'),
    exited.then(([code]) => Promise.reject(new Error(`the server process ended with ${code}`))),
  ])) as [string];
  return {
    url,
    async close() {
      child.stdin.end();
      await exited;
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
