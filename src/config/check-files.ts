import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import type { CertificateConfig, Config, RouteConfig, TlsConfig } from './config.ts';
import { type ConfigProblem, formatPath } from './config-error.ts';
import type { Locate } from './parse.ts';

/** The files and folders that a loaded configuration names and that are not there, or that this user may not read. */
export async function checkFiles(config: Config, locate: Locate = () => ({})): Promise<ConfigProblem[]> {
  const named: { path: readonly PropertyKey[]; file: string; isFolder: boolean }[] = [];
  const addTls = (tls: TlsConfig, at: readonly PropertyKey[]) => {
    const addPair = ({ certificate, key }: CertificateConfig, where: readonly PropertyKey[]) => {
      named.push({ path: [...where, 'certificate'], file: certificate, isFolder: false });
      named.push({ path: [...where, 'key'], file: key, isFolder: false });
    };
    addPair(tls, at);
    for (const [more, pair] of (tls.certificates ?? []).entries()) addPair(pair, [...at, 'certificates', more]);
    const ca = tls.clientCertificates?.ca;
    if (ca !== undefined) named.push({ path: [...at, 'clientCertificates', 'ca'], file: ca, isFolder: false });
  };
  for (const [index, { tls, acmeChallenge }] of (config.listen ?? []).entries()) {
    const at = ['listen', index];
    if (acmeChallenge !== undefined)
      named.push({ path: [...at, 'acmeChallenge'], file: acmeChallenge, isFolder: true });
    if (tls === undefined || tls === 'self-signed') continue;
    addTls(tls, [...at, 'tls']);
  }
  if (typeof config.internal?.tls === 'object') addTls(config.internal.tls, ['internal', 'tls']);
  const addSession = (session: Config['session'], at: readonly PropertyKey[]) => {
    const keyFiles = session ? (session.keyFiles ?? []) : [];
    for (const [index, file] of keyFiles.entries())
      named.push({ path: [...at, 'keyFiles', index], file, isFolder: false });
  };
  addSession(config.session, ['session']);
  for (const [index, file] of (config.assertions?.keyFiles ?? []).entries())
    named.push({ path: ['assertions', 'keyFiles', index], file, isFolder: false });
  for (const [name, { tls, sessionApi }] of Object.entries(config.upstreams ?? {})) {
    const tokenFile = typeof sessionApi === 'object' ? sessionApi.tokenFile : undefined;
    if (tokenFile !== undefined)
      named.push({ path: ['upstreams', name, 'sessionApi', 'tokenFile'], file: tokenFile, isFolder: false });
    for (const key of ['ca', 'certificate', 'key'] as const) {
      const file = tls?.[key];
      if (file !== undefined) named.push({ path: ['upstreams', name, 'tls', key], file, isFolder: false });
    }
  }
  const addRoutes = (routes: readonly RouteConfig[], at: readonly PropertyKey[]) => {
    for (const [index, { files, application }] of routes.entries()) {
      const here = [...at, index];
      if (files !== undefined) named.push({ path: [...here, 'files'], file: files, isFolder: true });
      if (application?.files !== undefined) {
        named.push({ path: [...here, 'application', 'files'], file: application.files, isFolder: true });
      }
      addSession(application?.session, [...here, 'application', 'session']);
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
