import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { PeerNotFoundError } from '../comparison.ts';
import { pathOf, type Server, startServer } from '../program.ts';

/** The C server of `echo-epoll.c`, compiled on first use. */
export async function startEchoEpoll(): Promise<Server> {
  return startServer(await (program ??= compile()), [], false);
}

let program: Promise<string> | undefined;

async function compile(): Promise<string> {
  const output = pathOf('.build/echo-epoll');
  await mkdir(pathOf('.build/'), { recursive: true });
  try {
    await promisify(execFile)('cc', ['-O2', '-o', output, pathOf('peers/echo-epoll.c')]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new PeerNotFoundError('no C compiler: there is no cc in PATH');
  }
  return output;
}
