import { type Duration, parseDuration } from '../base/duration.ts';
import { isLoopback } from '../http/host-names.ts';
import { cookieNameOf } from './brought-manager.ts';
import type { Config } from './config.ts';
import { type BrokenRule, type Fields, fields, title } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

/**
 * Headers that a request has for other reasons. What carries a message or a handshake over one connection cannot say
 * anything else.
 */
const TAKEN =
  /^(?:host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-length|cookie|authorization|forwarded|x-forwarded-(?:for|host|port|proto)|proxy-.*|sec-websocket-.*)$/;

/** The longest that a ledger keeps something for sure. */
const MAX_IDLE_MS = 365 * 86_400_000;

/** The rules of what upstreams have to do with sessions. */
export function* brokenBackendSessions(config: Fields): Generator<BrokenRule> {
  for (const [name, upstream] of Object.entries(fields(config.upstreams))) {
    yield* brokenHeaders(fields(upstream), ['upstreams', name]);
    yield* brokenObservation(fields(upstream), ['upstreams', name], config.session);
    yield* brokenApi(fields(upstream).sessionApi, name, config);
  }
  const routes = [...routesToUpstreams(config.routes, ['routes'], config.session !== false)];
  yield* brokenControl(routes, fields(config.upstreams));
  yield* brokenUse(routes, fields(config.upstreams));
}

const HEADERS = { sessionHeader: 'X-Session-ID', userHeader: 'X-Forwarded-User', rolesHeader: 'X-Forwarded-Groups' };

function* brokenHeaders(upstream: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const seen = new Map([['holdfast-session', 'the header by which backends answer']]);
  const names: [path: string[], name: unknown][] = Object.entries(HEADERS).map(([option, byDefault]) => [
    [option],
    upstream[option] ?? byDefault,
  ]);
  names.push([['assertion', 'header'], fields(upstream.assertion).header ?? 'Holdfast-Assertion']);
  for (const [option, name] of names) {
    if (typeof name !== 'string') continue;
    // As backends fold names: to them these are one header.
    const folded = name.toLowerCase().replace(/[^a-z0-9]/g, '-');
    const other = TAKEN.test(folded) ? 'a header of the request itself' : seen.get(folded);
    if (other !== undefined) yield { path: [...at, ...option], message: `"${name}" is ${other}; choose another name` };
    else seen.set(folded, `also "${option.join('.')}"`);
  }
}

/** With it, a colon, and the 200 characters that backends may use, a name is as long as an attribute's can be. */
const MAX_SCOPE_LENGTH = 55;

function* brokenApi(api: unknown, name: string, config: Fields): Generator<BrokenRule> {
  if (api === undefined || api === false) return;
  const at = ['upstreams', name, 'sessionApi'];
  if ((name.includes(':') || name.length > MAX_SCOPE_LENGTH) && fields(api).scope === undefined)
    yield {
      path: at,
      message: `"${name}" cannot be the scope of its attributes, which has up to ${MAX_SCOPE_LENGTH} characters and no ":"; add "scope"`,
    };
  if (config.internal === undefined)
    yield { path: at, message: 'backends ask for sessions at a listener of their own; add "internal: { port: 9902 }"' };
  if (fields(api).tokenFile !== undefined && fields(api).tokenVariable !== undefined)
    yield { path: [...at, 'tokenVariable'], message: 'goes without "tokenFile"; remove one of the two' };
}

/** How long a stolen assertion may be good before it is worth a word. */
const LONG_ASSERTION_MS = 600_000;

/** What of it is legal but will not do what was meant, of a configuration that was accepted. */
export function* checkBackendSessions(config: Config): Generator<Doubt> {
  const { internal, upstreams = {}, assertions } = config;
  const all = Object.entries(upstreams);
  const isAsserted = all.some(([, { assertion }]) => assertion);
  if (internal) {
    const { host = '127.0.0.1', tls } = internal;
    if (!tls && !isLoopback(host))
      yield {
        code: 'internal-in-clear',
        path: ['internal', 'host'],
        message: 'other machines can reach it, and tokens pass in the clear; add "tls", or listen on 127.0.0.1',
      };
    if (!isAsserted && all.every(([, { sessionApi }]) => !sessionApi))
      yield {
        code: 'unused',
        path: ['internal'],
        message: 'serves nothing: no upstream has "sessionApi" or "assertion"',
      };
  }
  if (assertions && !isAsserted)
    yield { code: 'no-effect', path: ['assertions'], message: 'has no effect: no upstream has "assertion"' };
  for (const [name, { assertion }] of all) {
    if (!assertion) continue;
    const at = ['upstreams', name, 'assertion'];
    if (!internal)
      yield {
        code: 'assertion-keys-unreachable',
        path: at,
        message: 'no backend can fetch the keys that verify it; add "internal: { port: 9902 }"',
      };
    const lifetime = typeof assertion === 'object' ? assertion.lifetime : undefined;
    if (lifetime !== undefined && parseDuration(lifetime) > LONG_ASSERTION_MS)
      yield {
        code: 'long-assertion',
        path: [...at, 'lifetime'],
        message:
          'an assertion stays valid until it expires, even after sign-out or the loss of a role; use a short lifetime, since each request brings a new one',
      };
  }
}

/** Who watches sessions must know where their ids stand. */
function* brokenObservation(upstream: Fields, at: readonly PropertyKey[], own: unknown): Generator<BrokenRule> {
  const { mode, cookie, header, idleTimeout, ...rest } = fields(upstream.session);
  const path = [...at, 'session'];
  if (mode === 'managed') {
    for (const [option, value] of Object.entries({ cookie, header, idleTimeout, ...rest }))
      if (value !== undefined)
        yield {
          path: [...path, option],
          message: 'goes with "mode: observed"; our own sessions have "session" at the top',
        };
  }
  if (mode !== 'observed') return;
  if (cookie === undefined && header === undefined)
    yield { path, message: 'where is the id of a session? Name the "cookie", for example JSESSIONID, or the "header"' };
  if (typeof header === 'string' && TAKEN.test(header.toLowerCase()))
    yield { path: [...path, 'header'], message: `"${header}" is a header of the request itself; choose another name` };
  for (const option of ['controlsSession', 'sessionApi', 'assertion']) {
    if (!upstream[option]) continue;
    yield {
      path: [...at, option],
      message: 'is about sessions of ours, and these are the backend\'s own; remove it, or "mode: observed"',
    };
  }
  if (cookie !== undefined && cookie === cookieNameOf(own))
    yield {
      path: [...path, 'cookie'],
      message: `"${cookie}" is the name of our own session cookie, which no backend gets; give ours another name`,
    };
  if (isTooLong(idleTimeout))
    yield { path: [...path, 'idleTimeout'], message: 'is more than "365d": no process would keep it that long' };
}

/** False for what is not a duration, which the schema reports, and for what never ends. */
function isTooLong(value: unknown): boolean {
  try {
    const ms = parseDuration(value as Duration);
    return ms > MAX_IDLE_MS && ms < Number.POSITIVE_INFINITY;
  } catch {
    return false;
  }
}

interface RouteToUpstream {
  readonly route: Fields;
  readonly at: readonly PropertyKey[];
  /** Are there sessions where it stands? It may say itself that it has none. */
  readonly hasSessions: boolean;
}

function* routesToUpstreams(
  routes: unknown,
  at: readonly PropertyKey[],
  hasSessions: boolean,
): Generator<RouteToUpstream> {
  for (const [index, value] of (Array.isArray(routes) ? routes : []).entries()) {
    const route = fields(value);
    const { routes: inner, session } = fields(route.application);
    const path = [...at, index, 'application', 'routes'];
    yield* routesToUpstreams(inner, path, session === undefined ? hasSessions : session !== false);
    if (route.upstream !== undefined) yield { route, at: [...at, index], hasSessions };
  }
}

/** A backend that may sign in needs routes with sessions to sign in to. */
function* brokenControl(routes: readonly RouteToUpstream[], upstreams: Fields): Generator<BrokenRule> {
  for (const { route, at, hasSessions } of routes) {
    const upstream = fields(upstreams[String(route.upstream)]);
    if (upstream.controlsSession !== true || (hasSessions && route.session !== 'none')) continue;
    const remedy = hasSessions ? 'remove "session: none"' : 'there are no sessions here; remove "session: false"';
    yield {
      path: [...at, ...(hasSessions ? ['session'] : [])],
      message: `${title(route)} has no session that the upstream "${route.upstream}" could control; ${remedy}, or give the route another upstream`,
    };
  }
}

/** A backend that uses the session API, or receives sessions, needs at least one route with sessions. */
function* brokenUse(routes: readonly RouteToUpstream[], upstreams: Fields): Generator<BrokenRule> {
  for (const [name, upstream] of Object.entries(upstreams)) {
    const leading = routes.filter(({ route }) => route.upstream === name);
    if (leading.length === 0 || leading.some(({ route, hasSessions }) => hasSessions && route.session !== 'none'))
      continue;
    for (const option of ['sessionApi', 'assertion'])
      if (fields(upstream)[option])
        yield {
          path: ['upstreams', name, option],
          message: 'is about sessions, and no route to this upstream has any; remove it, or "session: false" or "none"',
        };
  }
}
