import { readFile } from 'node:fs/promises';
import { messageOf } from '../../base/message-of.ts';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { AssertionKeys } from '../../gateway/backend-session/assertion.ts';
import { secretIn } from '../../policy/auth/oidc/secret-variable.ts';
import { ASSERTION_KEY_REMEDY, tokenProblem } from './internal.ts';

/**
 * What makes a start fail because of secrets that stand elsewhere: in variables of the environment, and in files of
 * tokens and of keys of assertions. That a file cannot be read is for others to say.
 */
export async function checkSecrets(config: Config): Promise<BrokenRule[]> {
  return [...ofProviders(config), ...(await ofAssertions(config)), ...(await ofBackends(config))];
}

function* ofProviders({ auth = {} }: Config): Generator<BrokenRule> {
  for (const [name, scheme] of Object.entries(auth)) {
    if (scheme.type !== 'oidc' || scheme.clientSecretVariable === undefined) continue;
    const { fault } = secretIn(scheme.clientSecretVariable);
    if (fault !== undefined) yield { path: ['auth', name, 'clientSecretVariable'], message: fault };
  }
}

async function ofAssertions({ assertions, upstreams = {} }: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  if (!Object.values(upstreams).some(({ assertion }) => assertion)) return faults;
  for (const [index, file] of assertions?.keyFiles?.entries() ?? []) {
    const pem = await textOf(file);
    if (pem === undefined) continue;
    try {
      new AssertionKeys([pem]);
    } catch (error) {
      const message = `${file} cannot be used: ${messageOf(error)}; ${ASSERTION_KEY_REMEDY}`;
      faults.push({ path: ['assertions', 'keyFiles', index], message });
    }
  }
  return faults;
}

/** Tokens by which backends ask for sessions. */
async function ofBackends({ internal, upstreams = {} }: Config): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  const owners = new Map<string, string>();
  for (const [name, { sessionApi }] of internal ? Object.entries(upstreams) : []) {
    if (typeof sessionApi !== 'object') continue;
    const { tokenFile, tokenVariable } = sessionApi;
    const token = tokenFile === undefined ? process.env[tokenVariable ?? '']?.trim() : await textOf(tokenFile);
    const path = ['upstreams', name, 'sessionApi', tokenFile === undefined ? 'tokenVariable' : 'tokenFile'];
    if (tokenFile === undefined && tokenVariable === undefined) continue;
    if (tokenFile !== undefined && token === undefined) continue;
    const unset = tokenVariable !== undefined && !token ? `the environment variable ${tokenVariable} is not set: ` : '';
    const problem = tokenProblem(token ?? '');
    const owner = owners.get(token ?? '');
    if (problem !== undefined) faults.push({ path, message: unset + problem });
    else if (owner !== undefined)
      faults.push({ path, message: `has the token of the upstream "${owner}"; give each its own` });
    else owners.set(token!, name);
  }
  return faults;
}

function textOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').then(
    text => text.trim(),
    () => undefined,
  );
}
