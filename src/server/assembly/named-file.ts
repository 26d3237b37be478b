import { readFile } from 'node:fs/promises';
import { HoldfastError } from '../../base/errors.ts';

/**
 * Reads a file that the configuration names.
 *
 * @param where The option that names it, for the message.
 * @param remedy What to do when it is not there. One that is there and cannot be read is not to be written anew.
 * @throws {HoldfastError} ERR_CONFIG_INVALID when it cannot be read.
 */
export async function readNamedFile(
  path: string,
  where: string,
  remedy = 'create it or fix the path',
): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? `it is not there; ${remedy}` : message;
    throw new HoldfastError('ERR_CONFIG_INVALID', `${where}: cannot read ${path}: ${why}`, { cause });
  }
}
