import { machineOf } from '../http/host-names.ts';
import { pinnedAlgorithms } from '../http/token-algorithms.ts';
import type { Config } from './config.ts';
import { type BrokenRule, type Fields, fields } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

const KEYS = ['jwksUri', 'jwksFile', 'publicKeyFile', 'secretFile'];

/** What schemes of tokens cannot work with: keys from nowhere or from two places, algorithms that do not go with them. */
export function* brokenTokens(scheme: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const { type } = scheme;
  if (type === 'forward') return yield* brokenForward(scheme, at);
  if (type !== 'jwt' && type !== 'introspection') return;
  if (scheme.header === false && scheme.subprotocol === false && scheme.cookie === undefined)
    yield { path: at, message: 'no request can show a token; allow "header" or "subprotocol", or name a "cookie"' };
  if (type === 'introspection') return yield* brokenUrl(scheme, 'endpoint', at);
  const given = KEYS.filter(key => scheme[key] !== undefined);
  if (given.length !== 1) {
    const what = given.length === 0 ? 'has no keys' : `has keys from ${given.join(' and ')}`;
    yield { path: at, message: `${what}; name exactly one of ${KEYS.join(', ')}` };
    return;
  }
  yield* brokenUrl(scheme, 'jwksUri', at);
  const { algorithms } = scheme;
  if (!Array.isArray(algorithms) || !algorithms.every(one => typeof one === 'string')) return;
  try {
    pinnedAlgorithms(algorithms, scheme.secretFile === undefined ? 'public' : 'secret');
  } catch (error) {
    yield { path: [...at, 'algorithms'], message: (error as Error).message };
  }
}

/** A service that is asked about every request. */
function* brokenForward(scheme: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  yield* brokenUrl(scheme, 'url', at);
  if (scheme.cacheBy !== undefined && scheme.cacheFor === undefined)
    yield {
      path: [...at, 'cacheBy'],
      message: 'has no effect: nothing is remembered; add for example "cacheFor: 10s"',
    };
}

/** Whoever is in between could exchange keys, or read secret and tokens. */
function* brokenUrl(scheme: Fields, key: string, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const url = scheme[key];
  if (typeof url !== 'string' || !URL.canParse(url) || scheme.allowHttp === true) return;
  const { protocol, hostname } = new URL(url);
  if (protocol === 'http:' && machineOf(hostname) !== 'localhost')
    yield {
      path: [...at, key],
      message: `${url} is not encrypted: take https, or set "allowHttp: true" for a network that nobody can listen in`,
    };
}

/** What is legal, and lets in more than was meant. */
export function* checkTokens({ auth = {} }: Pick<Config, 'auth'>): Generator<Doubt> {
  for (const [name, scheme] of Object.entries(auth)) {
    if (scheme.type === 'jwt' && scheme.audience === false)
      yield {
        code: 'any-audience',
        path: ['auth', name, 'audience'],
        message: 'a token that the issuer has given for another service is good here, too; name whom tokens are for',
      };
    if ((scheme.type === 'jwt' || scheme.type === 'introspection') && fields(scheme).cookie !== undefined)
      yield* checkCookie(name, scheme.cookie!);
  }
}

function* checkCookie(name: string, cookie: string): Generator<Doubt> {
  if (/^__(Host|Secure)-/i.test(cookie)) return;
  yield {
    code: 'token-cookie',
    path: ['auth', name, 'cookie'],
    message: `a neighbour domain or a plain connection can set "${cookie}" to a token of its own; use a name with "__Host-"`,
  };
}
