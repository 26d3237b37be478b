import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { messageOf } from '../../base/message-of.ts';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { dataFolderOf, keysFolder } from '../data-folder.ts';
import { folderProblem } from '../writable-folder.ts';
import { parseTokens } from './admin-tokens.ts';

/** What makes a start fail because of the admin API: tokens that cannot be used or made, a socket in no folder. */
export async function checkAdmin(config: Config): Promise<BrokenRule[]> {
  const { admin } = config;
  if (!admin) return [];
  const faults: BrokenRule[] = [];
  if (admin.port !== undefined) {
    const own = join(keysFolder(dataFolderOf(config)), 'admin.token');
    const path = admin.tokenFile === undefined ? ['dataFolder'] : ['admin', 'tokenFile'];
    const message = await tokenFault(admin.tokenFile ?? own, admin.tokenFile === undefined);
    if (message !== undefined) faults.push({ path, message });
  }
  if (typeof admin.socket === 'string') {
    const message = await folderProblem(dirname(admin.socket));
    if (message !== undefined) faults.push({ path: ['admin', 'socket'], message });
  }
  return faults;
}

/** That a file of the configuration cannot be read is for others to say. */
async function tokenFault(file: string, isMade: boolean): Promise<string | undefined> {
  try {
    const text = await readFile(file, 'utf8');
    parseTokens(text);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return isMade ? folderProblem(dirname(file)) : undefined;
    const isUnread = 'syscall' in (error as Error);
    if (isUnread) return isMade ? `cannot read ${file}: ${messageOf(error)}; let this user read it` : undefined;
    return `${file}: ${messageOf(error)}`;
  }
}
