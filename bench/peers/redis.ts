import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PeerNotFoundError } from '../comparison.ts';
import { freePort } from '../free-port.ts';

export interface Redis extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
}

/** A Redis of our own that has on disk what it has acknowledged: `appendonly yes`, `appendfsync always`. */
export async function startRedis(): Promise<Redis> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-bench-redis-'));
  const port = await freePort();
  const durable = ['--appendonly', 'yes', '--appendfsync', 'always', '--save', ''];
  const args = ['--bind', '127.0.0.1', '--port', String(port), '--dir', folder, ...durable];
  const child = spawn('redis-server', args, { stdio: 'ignore' });
  const dispose = async () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true });
  };
  try {
    await once(child, 'spawn').catch(() => {
      throw new PeerNotFoundError('redis-server is not installed');
    });
    await answers(port);
  } catch (error) {
    await dispose();
    throw error;
  }
  return { pid: child.pid!, url: `redis://127.0.0.1:${port}`, [Symbol.asyncDispose]: dispose };
}

async function answers(port: number): Promise<void> {
  for (const end = performance.now() + 10_000; performance.now() < end; ) {
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      socket.write('PING\r\n');
      const [answer] = await once(socket, 'data');
      if (String(answer).startsWith('+PONG')) return;
    } catch {
      // not listening yet
    } finally {
      socket.destroy();
    }
    await new Promise(resolve => setTimeout(resolve, 20));
  }
  throw new Error('redis-server did not answer within 10 s');
}
