import { lstat } from 'node:fs/promises';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';

/** `sun_path` of unix(7), with the zero at its end. */
const MAX_PATH_BYTES = 107;

/**
 * What makes a start fail because of the file of a socket: another file is there, or the whole path is too long, which may be
 * short as it is written. That the folder is missing is for others to say.
 */
export async function checkSocketFiles({ listen = [], admin }: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  for (const [index, { socket }] of listen.entries()) {
    if (socket === undefined) continue;
    const path = ['listen', index, 'socket'];
    const bytes = Buffer.byteLength(socket);
    if (bytes > MAX_PATH_BYTES)
      faults.push({ path, message: `${socket} has ${bytes} bytes, and a socket's path ${MAX_PATH_BYTES} at most` });
    else if (await isOtherFile(socket)) faults.push({ path, message: notASocket(socket) });
  }
  if (admin && typeof admin.socket === 'string' && (await isOtherFile(admin.socket)))
    faults.push({ path: ['admin', 'socket'], message: notASocket(admin.socket) });
  return faults;
}

async function isOtherFile(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found !== undefined && !found.isSocket();
}

function notASocket(path: string): string {
  return `${path} is there, and is not a socket; move it away, or take another path`;
}
