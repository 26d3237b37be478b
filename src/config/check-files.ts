import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import type { Config, RouteConfig } from './config.ts';
import { type ConfigProblem, formatPath } from './config-error.ts';
import type { Locate } from './parse.ts';

/** The files and folders that a loaded configuration names and that are not there, or that this user may not read. */
export async function checkFiles(config: Config, locate: Locate = () => ({})): Promise<ConfigProblem[]> {
  const named: { path: readonly PropertyKey[]; file: string; isFolder: boolean }[] = [];
  for (const [index, { tls }] of (config.listen ?? []).entries()) {
    if (!tls) continue;
    named.push({ path: ['listen', index, 'tls', 'certificate'], file: tls.certificate, isFolder: false });
    named.push({ path: ['listen', index, 'tls', 'key'], file: tls.key, isFolder: false });
  }
  const addRoutes = (routes: readonly RouteConfig[], at: readonly PropertyKey[]) => {
    for (const [index, { files, application }] of routes.entries()) {
      const here = [...at, index];
      if (files !== undefined) named.push({ path: [...here, 'files'], file: files, isFolder: true });
      if (application?.files !== undefined) {
        named.push({ path: [...here, 'application', 'files'], file: application.files, isFolder: true });
      }
      addRoutes(application?.routes ?? [], [...here, 'application', 'routes']);
    }
  };
  addRoutes(config.routes ?? [], ['routes']);
  const problems = await Promise.all(
    named.map(async ({ path, file, isFolder }): Promise<ConfigProblem[]> => {
      const message = await problemOf(file, isFolder);
      return message ? [{ path: formatPath(path), message, ...locate(path) }] : [];
    }),
  );
  return problems.flat();
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
