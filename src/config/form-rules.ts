import { FORM_PATHS } from '../base/sign-in-paths.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';

/** Of a scheme of the type `form`: who its users are, and pages that do not meet. */
export function* brokenForm(scheme: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { type, file, verify, timeout, errorPage, loginPage } = scheme;
  if (type !== 'form') return;
  if (file === undefined && verify === undefined)
    yield { path: at, message: 'has no users; name a password file under "file", or a function under "verify"' };
  if (file !== undefined && verify !== undefined)
    yield { path: [...at, 'verify'], message: 'stands beside "file"; users are in one of the two' };
  if (timeout !== undefined && verify === undefined)
    yield { path: [...at, 'timeout'], message: 'is that of "verify", which is not there' };
  if (errorPage !== undefined && loginPage === undefined)
    yield { path: [...at, 'errorPage'], message: 'is shown beside the application\'s "loginPage", which is not there' };
  const paths: Fields = { ...FORM_PATHS, ...fields(scheme.paths) };
  const names = loginPage === undefined ? ['login', 'check', 'logout'] : ['check', 'logout'];
  for (const [index, name] of names.entries())
    if (names.slice(0, index).some(other => paths[other] === paths[name]))
      yield { path: [...at, 'paths', name], message: `${JSON.stringify(paths[name])} is another page's path, too` };
}
