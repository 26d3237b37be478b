import { randomBytes } from 'node:crypto';
import { link, open, readFile, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import { makeFolder } from '../../drivers/make-folder.ts';
import { checkDisk, type DiskOptions } from '../room/disk.ts';

/**
 * What is kept secret in a file, without white space around it; the file is made (mode 0600) when it does not exist,
 * and its folder (0700).
 *
 * Processes that start at the same moment get the same secret: the file appears complete and under its name in one
 * step, for one of them. A file that is there is read, and never changed: it may be another user's.
 *
 * @throws {HoldfastError} ERR_SESSION_NO_ROOM when it would have to be made and the disk is too full; a file that
 * exists is read all the same. ERR_CONFIG_INVALID when this user may not read or make it.
 */
export async function loadOrCreateSecret(path: string, create: () => string, disk: DiskOptions = {}): Promise<string> {
  return (await loadOrCreateSecretBytes(path, create, disk)).toString().trim();
}

/** As `loadOrCreateSecret`: what the file holds, byte by byte. */
export async function loadOrCreateSecretBytes(
  path: string,
  create: () => string,
  disk: DiskOptions = {},
): Promise<Buffer> {
  const known = await readSecret(path);
  if (known !== undefined) return known;
  checkDisk(path, disk);
  try {
    await makeSecret(path, create());
  } catch (error) {
    throw unusable(`cannot make ${path}`, error, 'let this user write to its folder, or put the file there');
  }
  return (await readSecret(path))!;
}

async function makeSecret(path: string, secret: string): Promise<void> {
  makeFolder(dirname(path));
  const draft = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await writeSecret(draft, secret);
    // A link fails when the name is taken, where a rename would replace the secret another process already uses.
    await link(draft, path).catch(error => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await unlink(draft).catch(() => {}); // it may never have been there
  }
}

async function writeSecret(path: string, secret: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(`${secret.trim()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function readSecret(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unusable(`cannot read ${path}`, error, 'let this user read it; do not replace it');
  }
}

function unusable(what: string, cause: unknown, remedy: string): HoldfastError {
  const message = `${what}: ${(cause as Error).message}; ${remedy}`;
  return new HoldfastError('ERR_CONFIG_INVALID', message, { cause });
}
