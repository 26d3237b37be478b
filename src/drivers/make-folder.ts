import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a folder for its owner alone, with those above it. One that is there stays as it is.
 *
 * Node's own `recursive` tries for ever, and the process hangs, where a system says that a folder is not there which is.
 *
 * @throws {Error} what the operating system says.
 */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path).isDirectory()) return;
    const parent = dirname(path);
    if (code !== 'ENOENT' || parent === path || existsSync(parent)) throw error;
    makeFolder(parent);
    // Somebody else may have been quicker.
    if (!existsSync(path)) mkdirSync(path, 0o700);
  }
}
