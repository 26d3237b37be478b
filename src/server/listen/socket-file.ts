import { lstat, readFile, readlink, unlink } from 'node:fs/promises';
import { connect } from 'node:net';

/**
 * Removes a socket file that a process has left which was killed. A file that is not a socket, and a socket on which
 * somebody listens, stay.
 *
 * @returns true when it is gone.
 */
export async function removeStaleSocket(path: string): Promise<boolean> {
  try {
    if (!(await lstat(path)).isSocket() || (await hasListener(path))) return false;
    await unlink(path);
    return true;
  } catch {
    return false;
  }
}

/**
 * The file of an inherited socket, which Node does not know: `fd/N` for one that has no name. Undefined for a socket of
 * another kind, and where there is no `/proc`.
 */
export async function socketPathOf(fd: number): Promise<string | undefined> {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/self/fd/${fd}`))?.[1];
    const lines = (await readFile('/proc/net/unix', 'utf8')).split('\n').map(line => line.split(/\s+/));
    const found = inode === undefined ? undefined : lines.find(columns => columns[6] === inode);
    return found && (found[7] ?? `fd/${fd}`);
  } catch {
    return undefined;
  }
}

/** Only a refused connection proves that nobody listens. */
function hasListener(path: string): Promise<boolean> {
  return new Promise((resolve: (has: boolean) => void) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED'));
  });
}
