import { readFile } from 'node:fs/promises';
import { HoldfastError } from '../../base/errors.ts';

/**
 * Reads a file that the configuration names.
 *
 * @param where The option that names it, for the message.
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
    throw new HoldfastError('ERR_CONFIG_INVALID', `${where}: cannot read ${path}; ${remedy}`, { cause });
  }
}
