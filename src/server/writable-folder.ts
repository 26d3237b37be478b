import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../base/message-of.ts';

/**
 * Why files cannot be made in a folder, which is made itself where it is not there. It is tried by nothing but looking.
 *
 * @returns undefined when they can.
 */
export async function folderProblem(folder: string): Promise<string | undefined> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) return `${at} is not a folder; name another one`;
      await access(at, constants.W_OK | constants.X_OK);
      return undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && dirname(at) !== at) continue;
      if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') continue;
      return `this user cannot write to ${at}: ${messageOf(error)}; let it, or name another folder`;
    }
  }
}
