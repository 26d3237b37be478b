import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Config } from './config.ts';
import { type ConfigProblem, formatPath } from './config-error.ts';
import { mapPaths } from './named-paths.ts';
import type { Locate } from './parse.ts';

/** The files and folders that a loaded configuration names and that are not there, or that this user may not read. */
export async function checkFiles(config: Config, locate: Locate = () => ({})): Promise<ConfigProblem[]> {
  const checks: Promise<ConfigProblem[]>[] = [];
  const check = async (file: string, isFolder: boolean, path: readonly PropertyKey[]): Promise<ConfigProblem[]> => {
    const message = await problemOf(file, isFolder);
    return message ? [{ path: formatPath(path), message, ...locate(path) }] : [];
  };
  const checkWritten = async (file: string, path: readonly PropertyKey[]): Promise<ConfigProblem[]> => {
    const message = (await problemOf(dirname(file), true)) ?? (await problemOfWriting(file));
    return message ? [{ path: formatPath(path), message, ...locate(path) }] : [];
  };
  mapPaths(config, (file, kind, path) => {
    if (kind === 'written') checks.push(checkWritten(file, path));
    if (kind === 'file' || kind === 'folder') checks.push(check(file, kind === 'folder', path));
    return file;
  });
  return (await Promise.all(checks)).flat();
}

/** That is in a folder which is there. */
async function problemOfWriting(file: string): Promise<string | undefined> {
  const there = await stat(file).catch(() => undefined);
  if (there?.isDirectory()) return `${file} is not a file`;
  try {
    await access(file, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
      // Also of one that was moved away just now, as logs are.
      if (error.code !== 'ENOENT') throw error;
      return access(dirname(file), constants.W_OK);
    });
    return undefined;
  } catch (error) {
    return `cannot write ${file}: ${(error as Error).message}`;
  }
}

async function problemOf(file: string, isFolder: boolean): Promise<string | undefined> {
  const what = isFolder ? 'folder' : 'file';
  try {
    if ((await stat(file)).isDirectory() !== isFolder) return `${file} is not a ${what}`;
    await access(file, constants.R_OK);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return `there is no ${what} ${file}; create it or fix the path`;
    return `cannot read ${file}: ${(error as Error).message}`;
  }
}
