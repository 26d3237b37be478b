import { randomBytes } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { checkDisk, type DiskOptions } from '../room/disk.ts';

/**
 * What is kept secret in a file (mode 0600), without white space around it; the file is made when it does not exist,
 * and its folder (0700).
 *
 * Processes that start at the same moment get the same secret: the file appears complete and under its name in one
 * step, for one of them.
 *
 * @throws {HoldfastError} ERR_SESSION_NO_ROOM when it would have to be made and the disk is too full; a file that
 * exists is read all the same.
 */
export async function loadOrCreateSecret(path: string, create: () => string, disk: DiskOptions = {}): Promise<string> {
  const known = await readSecret(path);
  if (known !== undefined) return known;
  checkDisk(path, disk);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await writeSecret(draft, create());
    // A link fails when the name is taken, where a rename would replace the secret another process already uses.
    await link(draft, path).catch(error => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await unlink(draft).catch(() => {}); // it may never have been there
  }
  return (await readSecret(path))!;
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

async function readSecret(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  await chmod(path, 0o600);
  return text.trim();
}
