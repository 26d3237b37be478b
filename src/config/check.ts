import { parseDate } from '../base/date.ts';
import { parseDuration } from '../base/duration.ts';
import { LIFETIME_TIMES } from '../base/session-times.ts';
import type { AffinityKind } from '../gateway/upstream/affinity.ts';
import { doubtfulEntries } from '../http/address-list.ts';
import { doubtfulRules } from '../http/address-rules.ts';
import { isLoopback, machineOf } from '../http/host-names.ts';
import { checkAdmin } from './admin-rules.ts';
import { checkBackendSessions } from './backend-sessions.ts';
import { checkBanRules, checkBans } from './bans.ts';
import { broughtManager } from './brought-manager.ts';
import { checkClientHeaders } from './client-headers.ts';
import type { Config, PolicyConfig, RouteConfig, SessionConfig, UpstreamConfig } from './config.ts';
import { byPlace, type ConfigProblem } from './config-error.ts';
import { checkCookieClashes } from './cookie-clashes.ts';
import { isPlain, title } from './fields.ts';
import { type InheritedPolicy, serverPolicy, transportOf, within } from './inherited-policy.ts';
import { checkLimits } from './limits-check.ts';
import { checkOidc } from './oidc-rules.ts';
import { checkPages } from './own-pages.ts';
import type { Locate } from './parse.ts';
import { toProblems } from './to-problems.ts';
import { checkTokens } from './token-rules.ts';
import type { Doubt } from './warning-codes.ts';

/** hstspreload.org, "Submission requirements". */
const PRELOAD_AGE_MS = 31_536_000_000;

/**
 * What is legal but will not do what was meant. Takes a configuration that `parseConfig` accepted; touches nothing
 * outside it.
 */
export function checkConfig(config: Config, locate: Locate = () => ({})): ConfigProblem[] {
  const warnings: Doubt[] = [
    ...checkListeners(config),
    ...doubtfulEntries(config.trustedProxies ?? []).map(({ kind, index, message }) => ({
      code: kind,
      path: ['trustedProxies', index],
      message,
    })),
    ...checkSession(config.session, ['session'], config),
    ...checkPolicy(
      config.policy,
      { at: ['policy'], of: 'the server', hasSessions: true, routes: config.routes ?? [], outer: { limits: [] } },
      config,
    ),
    ...checkRoutes(config.routes ?? [], ['routes'], config, config.session ?? {}, serverPolicy(config)),
    ...checkBans(config),
    ...checkUpstreams(config),
    ...checkPages(config),
    ...checkBackendSessions(config),
    ...checkAdmin(config),
    ...checkClientHeaders(config),
    ...checkCookieClashes(config),
    ...checkOidc(config),
    ...checkTokens(config),
    ...checkShortTimes(config, []),
    ...checkEmpty(config),
  ];
  return toProblems(warnings, locate).sort(byPlace);
}

/** Nobody could use what is ended so soon: a number without a unit was meant as seconds. */
const SHORTEST_IDLE_MS = 1_000;
const IDLE_TIMES = ['idleTimeout', 'absoluteTimeout', 'renewalTimeout', 'keepAliveTimeout'];

function* checkShortTimes(value: unknown, at: readonly PropertyKey[]): Generator<Doubt> {
  if (!isPlain(value) && !Array.isArray(value)) return;
  for (const [key, inner] of Object.entries(value)) {
    const path = [...at, Array.isArray(value) ? Number(key) : key];
    if (IDLE_TIMES.includes(key) && typeof inner === 'number' && inner > 0 && inner < SHORTEST_IDLE_MS)
      yield {
        code: 'short-time',
        path,
        message: `means ${inner} ms; write "30s" for 30 seconds`,
      };
    else yield* checkShortTimes(inner, path);
  }
}

function* checkListeners(config: Config): Generator<Doubt> {
  for (const [index, { tls, host, hosts, redirect }] of (config.listen ?? []).entries()) {
    if (host !== undefined && isLoopback(host) && !hosts && !redirect)
      yield {
        code: 'rebinding',
        path: ['listen', index, 'host'],
        message:
          'the browsers of this machine reach it for every site whose name leads here (DNS rebinding); set for example "hosts: [localhost]"',
      };
    const at = ['listen', index, 'tls'];
    if (tls === 'self-signed')
      yield {
        code: 'self-signed',
        path: at,
        message: 'a self-signed certificate is for development: no browser trusts it unasked',
      };
    else if (tls?.hsts !== undefined && typeof tls.hsts === 'object' && tls.hsts.preload)
      if (!tls.hsts.includeSubDomains || parseDuration(tls.hsts.maxAge) < PRELOAD_AGE_MS)
        yield {
          code: 'hsts-preload',
          path: [...at, 'hsts', 'preload'],
          message: 'the lists take a host only with includeSubDomains and a maxAge of at least 365d',
        };
  }
}

function* checkSession(session: Config['session'], at: readonly PropertyKey[], config: Config): Generator<Doubt> {
  if (!session) return;
  const hasProxy = (config.trustedProxies?.length ?? 0) > 0; // which may speak TLS for us
  const isPlain =
    !hasProxy && (config.listen ?? [{ port: 8080 }]).some(({ tls, redirect }) => tls === undefined && !redirect);
  const manager = broughtManager(session);
  if (!manager) return yield* checkSessionOptions(session as SessionConfig, at, isPlain);
  if (isPlain) yield* checkCookiePrefix(manager.cookieName, at);
  if (manager.tracking.kinds.includes('url')) yield { code: 'sessions-in-urls', path: at, message: SESSIONS_IN_URLS };
}

const SESSIONS_IN_URLS =
  'sessions in URLs are seen in logs, histories and Referer headers, and are sent to whom a link is sent; use cookies, or "header" for programs';

function* checkCookiePrefix(name: string | undefined, at: readonly PropertyKey[]): Generator<Doubt> {
  const prefix = /^__(Host|Secure)-/i.exec(name ?? '')?.[0];
  if (!prefix) return;
  yield {
    code: 'cookie-not-secure',
    path: at,
    message: `browsers drop a "${prefix}" cookie that is not Secure, and a listener without tls cannot send Secure; use another name`,
  };
}

function* checkSessionOptions(session: SessionConfig, at: readonly PropertyKey[], isPlain: boolean): Generator<Doubt> {
  const { idleTimeout = '30m', absoluteTimeout = '12h', cookie = {} } = session;
  const idleMs = parseDuration(idleTimeout);
  if (idleMs !== Number.POSITIVE_INFINITY && idleMs > parseDuration(absoluteTimeout)) {
    const limit = session.absoluteTimeout === undefined ? 'the absolute timeout of 12h' : 'absoluteTimeout';
    yield {
      code: 'idle-after-absolute',
      path: [...at, 'idleTimeout'],
      message: `longer than ${limit}, which ends the session first; raise absoluteTimeout or lower this`,
    };
  }
  if (isPlain && cookie.sameSite === 'none')
    yield {
      code: 'cookie-not-secure',
      path: [...at, 'cookie', 'sameSite'],
      message:
        'browsers drop a "none" cookie that is not Secure, and a listener without tls cannot send Secure; use "lax"',
    };
  if (isPlain) yield* checkCookiePrefix(cookie.name, [...at, 'cookie', 'name']);
  const url =
    typeof session.store === 'object' && 'url' in session.store ? [session.store.url].flat()[0] : session.store;
  const isCapped = session.maxSessions !== undefined || typeof url !== 'string' || !/^postgres(ql)?:/.test(url);
  for (const option of ['anonymousShare', 'overflow'] as const) {
    if (session[option] === undefined || isCapped) continue;
    yield {
      code: 'no-effect',
      path: [...at, option],
      message: 'has no effect: a postgres has no cap of its own; set "maxSessions"',
    };
  }
  const { lifetime, rememberMe } = session;
  if (lifetime && rememberMe && parseDuration(rememberMe.absoluteTimeout) > LIFETIME_TIMES[lifetime].absoluteTimeoutMs)
    yield {
      code: 'remembered-too-long',
      path: [...at, 'rememberMe', 'absoluteTimeout'],
      message: `longer than "lifetime: ${lifetime}" allows: who is remembered signs in more rarely than that level asks for`,
    };
  if (session.ownerRule === false) {
    const message =
      'a session is given to every user who shows its cookie, and who signs in gets what another user has left in it; leave it out where users are not to see the data of others';
    yield { code: 'sessions-of-others', path: [...at, 'ownerRule'], message };
  }
  if ([session.tracking].flat().includes('url'))
    yield { code: 'sessions-in-urls', path: [...at, 'tracking'], message: SESSIONS_IN_URLS };
}

/** Do clients show these sessions in links? */
function areInUrls(session: NonNullable<Config['session']>): boolean {
  const manager = broughtManager(session);
  if (manager) return manager.tracking.kinds.includes('url');
  return session !== false && [(session as SessionConfig).tracking].flat().includes('url');
}

function* checkRoutes(
  routes: readonly RouteConfig[],
  at: readonly PropertyKey[],
  config: Config,
  sessions: NonNullable<Config['session']>,
  outer: InheritedPolicy,
): Generator<Doubt> {
  for (const [index, route] of routes.entries()) {
    if (route.rewriteLinks && (route.session === 'none' || !areInUrls(sessions)))
      yield {
        code: 'no-effect',
        path: [...at, index, 'rewriteLinks'],
        message: `${title(route)}: it has no effect, since no client shows its session in links here; it needs "url" in "tracking" of its sessions`,
      };
    if (route.paths?.mergeSlashes === false && ![route.path ?? []].flat().some(path => path.endsWith('/*')))
      yield {
        code: 'no-effect',
        path: [...at, index, 'paths', 'mergeSlashes'],
        message: `${title(route)}: it has no effect, since only what "/*" stands for keeps its slashes`,
      };
    const where = {
      at: [...at, index, 'policy'],
      of: title(route),
      hasSessions: route.session !== 'none',
      routes: route.application?.routes ?? [],
      outer,
      route,
    };
    yield* checkPolicy(route.policy, where, config);
    yield* checkUse(route, [...at, index], config);
    const { session, routes: inner = [] } = route.application ?? {};
    yield* checkSession(session, [...at, index, 'application', 'session'], config);
    const innerAt = [...at, index, 'application', 'routes'];
    yield* checkRoutes(inner, innerAt, config, session ?? sessions, within(outer, route.policy));
  }
}

interface PolicyPlace {
  readonly at: readonly PropertyKey[];
  readonly of: string;
  readonly hasSessions: boolean;
  /** What lies in it. */
  readonly routes: readonly RouteConfig[];
  readonly outer: Pick<InheritedPolicy, 'origins' | 'limits'>;
  readonly route?: RouteConfig;
}

/** @param where What the policy is of, what else is there, and what it lies in. */
function* checkPolicy(
  policy: PolicyConfig | undefined,
  { at, of, hasSessions, routes, outer, route }: PolicyPlace,
  config: Config,
): Generator<Doubt> {
  if (!policy) return;
  const hasTls = config.listen?.some(listener => listener.tls) ?? false;
  const hasProxy = (config.trustedProxies?.length ?? 0) > 0;
  const { confidential, upgradeInsecureRequests } = transportOf(policy);
  if ((confidential || upgradeInsecureRequests) && !hasTls && !hasProxy)
    yield {
      code: 'transport-unreachable',
      path: [...at, 'transport'],
      message: `${of} ${confidential === 'refuse' ? 'refuses every request' : 'sends browsers to https, where nobody answers'}: no listener has tls, and no trusted proxy could speak it for us`,
    };
  if (policy.origins === 'any' && hasSessions && config.session !== false)
    yield {
      code: 'any-origin',
      path: [...at, 'origins'],
      message: `${of}: every web page may open a WebSocket with the visitor's session; list the origins, or set session: none`,
    };
  if (Array.isArray(policy.origins) && policy.origins.length === 0)
    yield { code: 'no-origin', path: [...at, 'origins'], message: `${of}: the empty list refuses every browser` };
  const origins = policy.origins ?? outer.origins;
  if (policy.cors && !isListed(origins) && !everyRoute(routes).some(route => isListed(route.policy?.origins)))
    yield {
      code: 'no-effect',
      path: [...at, 'cors'],
      message: `${of}: no page of another origin may read anything, since none is listed; name them under "origins"`,
    };
  if (typeof policy.cors === 'object' && policy.cors.credentials && origins === 'any')
    yield {
      code: 'no-effect',
      path: [...at, 'cors', 'credentials'],
      message: `${of}: has no effect, since every page of the web would come with the visitor's cookies; list the origins`,
    };
  for (const { kind, list, index, message } of doubtfulRules(policy.addresses ?? {}))
    yield {
      code: kind,
      path: [...at, 'addresses', list, ...(index === undefined ? [] : [index])],
      message: `${of}: ${message}`,
    };
  yield* checkBanRules(policy, at, config);
  if (policy.limits)
    yield* checkLimits(
      policy.limits,
      {
        ...{ at: [...at, 'limits'], of, route },
        outer: route ? [config.policy?.limits ?? {}, ...outer.limits] : [],
        routes: route && route.mount === undefined ? [route] : [...everyRoute(routes)],
        hasSessions: mayHaveSessions(route, config),
      },
      config,
    );
}

/** Sessions of ours, of a mounted application, or of a backend's own. */
function mayHaveSessions(route: RouteConfig | undefined, config: Config): boolean {
  const isObserved = (one: UpstreamConfig | undefined) => one?.session?.mode === 'observed';
  if (route?.upstream !== undefined && isObserved(config.upstreams?.[route.upstream])) return true;
  if (route?.session === 'none') return false;
  if (config.session !== false) return true;
  const hasOwn = [...everyRoute(config.routes ?? [])].some(({ application }) => application?.session);
  return hasOwn || (route?.upstream === undefined && Object.values(config.upstreams ?? {}).some(isObserved));
}

/** Settings of a route that have no effect on it, or more than was meant. */
function* checkUse(route: RouteConfig, at: readonly PropertyKey[], config: Config): Generator<Doubt> {
  if (route.touch !== undefined && hasNoSession(route, config))
    yield {
      code: 'no-effect',
      path: [...at, 'touch'],
      message: `${title(route)}: it has no effect on a route without sessions of ours`,
    };
  if (route.crossSiteSignIn && [route.path ?? []].flat().some(path => path.endsWith('*')))
    yield {
      code: 'cross-site-sign-in',
      path: [...at, 'crossSiteSignIn'],
      message: `${title(route)}: a form of another site may sign its visitor in at every path under it; name the path of the login's callback`,
    };
}

/** By its own word, or because nothing is said and its target has none by default. */
function hasNoSession({ session, upstream, files, redirect }: RouteConfig, config: Config): boolean {
  if (session !== undefined) return session === 'none';
  const isObserved = config.upstreams?.[upstream ?? '']?.session?.mode === 'observed';
  return isObserved || files !== undefined || redirect !== undefined;
}

function* checkUpstreams(config: Config): Generator<Doubt> {
  const used = new Set([...everyRoute(config.routes ?? [])].map(route => route.upstream));
  for (const [name, upstream] of Object.entries(config.upstreams ?? {})) {
    if (!used.has(name)) yield { code: 'unused', path: ['upstreams', name], message: 'no route uses it' };
    const own = new Set((config.listen ?? [{ port: 8080 }]).map(listener => listener.port));
    const urls = upstream.servers.map(server => (typeof server === 'string' ? server : server.url));
    for (const [index, server] of urls.entries()) {
      const { hostname, port, protocol } = new URL(server);
      const isTls = /^(?:https|wss):$/.test(protocol);
      if (machineOf(hostname) === 'localhost' && own.has(Number(port || (isTls ? 443 : 80))))
        yield {
          code: 'request-loop',
          path: ['upstreams', name, 'servers', index],
          message: `${server} is this server itself: a request would go round for ever`,
        };
    }
    const isTls = urls.some(url => /^(https|wss):/i.test(url));
    if (upstream.tls && !isTls)
      yield {
        code: 'no-effect',
        path: ['upstreams', name, 'tls'],
        message: 'has no effect: no server is https: or wss:',
      };
    if (upstream.tls?.verify === false && isTls)
      yield {
        code: 'unverified-tls',
        path: ['upstreams', name, 'tls', 'verify'],
        message: 'anyone in between can read and change everything; name the authority under "ca" instead',
      };
    yield* checkTrust(upstream.session, ['upstreams', name, 'session']);
    yield* checkPlaceholder(upstream.session, ['upstreams', name, 'session']);
    yield* checkAffinity(upstream.affinity, ['upstreams', name, 'affinity'], config);
    const kind = typeof upstream.affinity === 'object' ? upstream.affinity.by : upstream.affinity;
    if (kind !== 'route' && upstream.servers.some(server => typeof server === 'object' && server.route !== undefined))
      yield {
        code: 'no-effect',
        path: ['upstreams', name],
        message: 'the routes of the servers have no effect without "affinity: route"',
      };
  }
}

/** Which options of affinity take part in which kind. */
const AFFINITY_OPTIONS: Readonly<Record<'cookie' | 'urlParameter' | 'separator', readonly AffinityKind[]>> = {
  cookie: ['route', 'cookie'],
  urlParameter: ['route'],
  separator: ['route'],
};

function* checkAffinity(
  affinity: UpstreamConfig['affinity'],
  at: readonly PropertyKey[],
  config: Config,
): Generator<Doubt> {
  const { by, ...options } = typeof affinity === 'object' ? affinity : { by: affinity };
  if (by === undefined) return;
  for (const [option, kinds] of Object.entries(AFFINITY_OPTIONS))
    if (option in options && !kinds.includes(by))
      yield {
        code: 'no-effect',
        path: [...at, option],
        message: `has no effect with "by: ${by}"; it goes with ${kinds.join(' and ')}`,
      };
  const isHidden =
    (config.listen ?? []).length > 0 &&
    config.listen!.every(({ host = '', socket }) => socket !== undefined || isLoopback(host));
  if (by === 'address' && isHidden && !config.trustedProxies?.length)
    yield {
      code: 'affinity-by-proxy',
      path: at,
      message:
        'only this machine reaches the listeners, so every client would have the address of the proxy in front and go to one server; name the proxy under "trustedProxies"',
    };
}

/** SockJS sets it for balancers, whatever the application has for sessions. */
function* checkPlaceholder(session: UpstreamConfig['session'], at: readonly PropertyKey[]): Generator<Doubt> {
  if (session?.mode !== 'observed' || session.cookie !== 'JSESSIONID' || session.suffix !== undefined) return;
  yield {
    code: 'sockjs-placeholder',
    path: [...at, 'cookie'],
    message:
      'SockJS gives every visitor the JSESSIONID "dummy", which is no session: behind it observe another cookie; where a servlet container makes the ids, say with "suffix" what follows them, for example "." for Tomcat',
  };
}

function* checkTrust(session: UpstreamConfig['session'], at: readonly PropertyKey[]): Generator<Doubt> {
  if (session?.mode !== 'observed') return;
  const { trust, trustUntil } = session;
  if (trustUntil !== undefined && Date.now() >= parseDate(trustUntil)!)
    yield {
      code: 'no-effect',
      path: [...at, 'trustUntil'],
      message: 'is over: only what the backend gives is live now; remove it',
    };
  else if (trust === 'accepted' && trustUntil === undefined)
    yield {
      code: 'invented-ids',
      path: [...at, 'trust'],
      message:
        'an id that a visitor invents becomes live through any page that does not look at its session, and Holdfast vouches for it towards the backend; leave it out, and for a changeover use trustUntil',
    };
}

function* checkEmpty(config: Config): Generator<Doubt> {
  if (!config.routes?.length && !config.endpoints?.length)
    yield { code: 'nothing-served', path: [], message: 'nothing is served: there are no routes and no endpoints' };
}

/** Of another origin than our own. */
function isListed(origins: PolicyConfig['origins']): boolean {
  return origins !== undefined && (origins === 'any' || origins.some(origin => origin !== 'self'));
}

function* everyRoute(routes: readonly RouteConfig[]): Generator<RouteConfig> {
  for (const route of routes) {
    yield route;
    yield* everyRoute(route.application?.routes ?? []);
  }
}
