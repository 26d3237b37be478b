import { machineOf } from '../http/host-names.ts';
import type { Config } from './config.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

/** What we say ourselves in a request to the provider, and what would undo its protection. */
const OWN_PARAMETERS = [
  'client_id',
  'redirect_uri',
  'response_type',
  'response_mode',
  'scope',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'request',
  'request_uri',
];
const PAGES = ['login', 'callback', 'logout', 'backchannelLogout'];

/** What a scheme of the type `oidc` cannot work with. */
export function* brokenOidc(scheme: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  if (scheme.type !== 'oidc') return;
  const { issuer, clientSecretFile, clientSecretVariable, allowHttp, parameters } = scheme;
  if (typeof issuer === 'string' && URL.canParse(issuer) && allowHttp !== true) {
    const { protocol, hostname } = new URL(issuer);
    if (protocol === 'http:' && machineOf(hostname) !== 'localhost')
      yield {
        path: [...at, 'issuer'],
        message: `${issuer} is not encrypted: take https, or set "allowHttp: true" for a network that nobody can listen in`,
      };
  }
  if (clientSecretFile !== undefined && clientSecretVariable !== undefined)
    yield { path: [...at, 'clientSecretVariable'], message: 'goes without "clientSecretFile"; remove one of the two' };
  for (const name of Object.keys(fields(parameters)))
    if (OWN_PARAMETERS.includes(name))
      yield { path: [...at, 'parameters', name], message: `the server sets "${name}" itself; remove it here` };
  const name = String(at[1]);
  if (PAGES.some(page => scheme[page] === undefined) && !/^[\w.-]+$/.test(name))
    yield {
      path: at,
      message: `its name stands in the paths of its pages (/oidc/NAME/callback): take letters, digits, ".", "-" and "_", or set ${PAGES.join(', ')}`,
    };
  const paths = new Map<unknown, string>();
  for (const name of PAGES) {
    const path = scheme[name];
    if (path === undefined) continue;
    const other = paths.get(path);
    if (other !== undefined)
      yield { path: [...at, name], message: `has the path of "${other}"; each page has its own` };
    paths.set(path, name);
  }
}

/** `sub` is unique for one provider: another one can give it to somebody else, who would get the same session. */
export function* brokenProviders(config: Fields): Generator<BrokenRule> {
  let first: { readonly issuer: unknown; readonly name: string } | undefined;
  for (const [name, value] of Object.entries(fields(config.auth))) {
    const { type, issuer, userPrefix } = fields(value);
    if (type !== 'oidc' || userPrefix !== undefined) continue;
    first ??= { issuer, name };
    if (first.issuer === issuer) continue;
    yield {
      path: ['auth', name],
      message: `"${first.name}" and "${name}" are two providers, and can give one name to two people; set "userPrefix: '${name}:'" here, or "userPrefix: ''" where they know the same people by the same names`,
    };
  }
}

/** What is legal, and does not do what was meant. */
export function* checkOidc({ auth = {}, listen = [], trustedProxies = [] }: Config): Generator<Doubt> {
  const isPlain = trustedProxies.length === 0 && !listen.some(({ tls }) => tls);
  for (const [name, scheme] of Object.entries(auth)) {
    if (scheme.type !== 'oidc') continue;
    if (scheme.responseMode === 'form_post' && isPlain)
      yield {
        code: 'form-post-without-tls',
        path: ['auth', name, 'responseMode'],
        message:
          'nobody can sign in: a form of another site brings only cookies that are Secure, and no listener has tls, and no trusted proxy could speak it for us',
      };
    const isOffline = scheme.scopes?.includes('offline_access') ?? false;
    if (scheme.lifetime === 'tokens' && !isOffline)
      yield {
        code: 'tokens-not-renewed',
        path: ['auth', name, 'lifetime'],
        message:
          'many providers renew tokens only for the scope "offline_access"; without it users sign in again, and their sockets close, whenever the tokens end',
      };
    if (scheme.lifetime !== 'tokens' && isOffline)
      yield {
        code: 'no-effect',
        path: ['auth', name, 'scopes'],
        message:
          '"offline_access" asks for a refresh token, which only "lifetime: tokens" uses; remove it, or set that',
      };
  }
}
