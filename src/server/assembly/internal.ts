import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { SetMap } from '../../base/set-map.ts';
import { parseSize } from '../../base/size.ts';
import type { Config } from '../../config/config.ts';
import { SessionApi } from '../../gateway/backend-session/api.ts';
import { AssertionKeys } from '../../gateway/backend-session/assertion.ts';
import type { SessionApiConfig } from '../../gateway/backend-session/identity.ts';
import type { SessionContext } from '../../gateway/held-session.ts';
import type { Route } from '../../gateway/route.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';
import { HostNames, isHostPattern } from '../../http/host-names.ts';
import { loadOrCreateSecret } from '../../session/identity/secret-file.ts';
import { type DataFolder, keysFolder } from '../data-folder.ts';
import { ApiTokens } from '../intakes/api-tokens.ts';
import type { InternalApi } from '../intakes/internal.ts';
import { readNamedFile } from './named-file.ts';
import type { Parts } from './parts.ts';

const MIN_TOKEN_BYTES = 32;
export const ASSERTION_KEY_REMEDY = 'make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256';

/**
 * The keys that sign assertions: those of the configuration, or one in the data folder. Undefined when no upstream gets
 * assertions.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a file cannot be read or used.
 */
export async function openAssertionKeys(
  config: Config,
  dataFolder: DataFolder,
  parts: Parts,
): Promise<AssertionKeys | undefined> {
  if (!Object.values(config.upstreams ?? {}).some(({ assertion }) => assertion)) return undefined;
  const { keyFiles } = config.assertions ?? {};
  const path = join(keysFolder(dataFolder), 'assertion.pem');
  const pems = keyFiles
    ? await Promise.all(keyFiles.map(file => readSecret(file, 'assertions.keyFiles')))
    : [await loadOrCreateSecret(path, AssertionKeys.generate, dataFolder.disk)];
  return parts.keepNow('assertion keys', '', { from: pems, make: () => assertionKeysOf(pems) });
}

function assertionKeysOf(pems: readonly string[]): AssertionKeys {
  try {
    return new AssertionKeys(pems);
  } catch (cause) {
    const message = `${(cause as Error).message}; ${ASSERTION_KEY_REMEDY}`;
    throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause });
  }
}

/**
 * What the internal listener serves.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a token cannot be read, is too short, or is that of another upstream.
 */
export async function internalApi(
  config: Config,
  entries: readonly RouteEntry<Route>[],
  environment: { clock: Clock; logger: Logger; dataFolder: DataFolder; assertionKeys: AssertionKeys | undefined },
): Promise<InternalApi | undefined> {
  const { internal } = config;
  if (!internal) return undefined;
  const { logger, dataFolder, assertionKeys } = environment;
  const contexts = contextsOf(entries);
  const tokens = new Map<string, string>();
  const apis = new Map<string, SessionApi>();
  for (const [name, upstream] of Object.entries(config.upstreams ?? {})) {
    if (!upstream.sessionApi) continue;
    const options = upstream.sessionApi === true ? {} : upstream.sessionApi;
    tokens.set(name, await tokenOf(name, options, dataFolder));
    const { scope = name } = options;
    const mayEnd = upstream.controlsSession ?? false;
    apis.set(name, new SessionApi({ scope, mayEnd, contexts: [...(contexts.get(name) ?? [])] }));
  }
  return {
    tokens: makeTokens(tokens, environment),
    apis,
    jwks: assertionKeys?.jwks,
    hosts: new HostNames(internal.hosts ?? [internal.host ?? ''].filter(isHostPattern)),
    maxBodyBytes: parseSize(config.maxBodySize ?? '1MiB'),
    logger,
  };
}

/** The sessions that an upstream has to do with: those of the routes that lead to it. */
function contextsOf(entries: readonly RouteEntry<Route>[]): SetMap<string, SessionContext> {
  const contexts = new SetMap<string, SessionContext>();
  for (const { value } of entries) {
    const { target, sessions, sessionMode } = value;
    if (target.kind !== 'upstream' || !sessions || sessionMode === 'none') continue;
    contexts.add(target.upstream.name, sessions);
  }
  return contexts;
}

async function tokenOf(name: string, options: SessionApiConfig, dataFolder: DataFolder): Promise<string> {
  const where = `upstreams.${name}.sessionApi`;
  const { tokenFile, tokenVariable } = options;
  const path = join(keysFolder(dataFolder), `session-api-${encodeURIComponent(name)}.token`);
  const token =
    tokenFile !== undefined
      ? await readSecret(tokenFile, `${where}.tokenFile`)
      : tokenVariable !== undefined
        ? (process.env[tokenVariable] ?? '').trim()
        : await loadOrCreateSecret(path, () => randomBytes(MIN_TOKEN_BYTES).toString('base64url'), dataFolder.disk);
  const problem = tokenProblem(token);
  if (problem !== undefined) throw new HoldfastError('ERR_CONFIG_INVALID', `${where}: ${problem}`);
  return token;
}

/** Why a token cannot be used, without the token. */
export function tokenProblem(token: string): string | undefined {
  if (/^[\w.~+/-]+=*$/.test(token) && token.length >= MIN_TOKEN_BYTES) return undefined;
  return `the token must have at least ${MIN_TOKEN_BYTES} characters of A-Z, a-z, 0-9 and . _ ~ + / - =; make one with: openssl rand -base64 32`;
}

function makeTokens(tokens: ReadonlyMap<string, string>, environment: { clock: Clock; logger: Logger }): ApiTokens {
  try {
    return new ApiTokens(tokens, environment);
  } catch (cause) {
    throw new HoldfastError('ERR_CONFIG_INVALID', `sessionApi: ${(cause as Error).message}`, { cause });
  }
}

async function readSecret(path: string, where: string): Promise<string> {
  return (await readNamedFile(path, where)).toString().trim();
}
