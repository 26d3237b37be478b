import { parseDuration } from '../base/duration.ts';
import type { ApplicationConfig, Config, RouteConfig, SessionConfig } from './config.ts';
import { type ConfigProblem, formatPath } from './config-error.ts';
import type { Locate } from './parse.ts';
import { title } from './references.ts';

/**
 * What is legal but will not do what was meant. Takes a configuration that `parseConfig` accepted; touches nothing outside it.
 */
export function checkConfig(config: Config, locate: Locate = () => ({})): ConfigProblem[] {
  const warnings = [
    ...checkSession(config.session, ['session'], config),
    ...checkRoutes(config.routes ?? [], ['routes'], config),
    ...checkUpstreams(config),
    ...checkEmpty(config),
  ];
  return warnings
    .map(({ path, message }): ConfigProblem => ({ path: formatPath(path), message, ...locate(path) }))
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
}

interface Warning {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

function* checkSession(
  session: SessionConfig | false | undefined,
  at: readonly PropertyKey[],
  config: Config,
): Generator<Warning> {
  if (!session) return;
  const { idleTimeout = '30m', absoluteTimeout = '12h', cookie = {} } = session;
  const idleMs = parseDuration(idleTimeout);
  if (idleMs !== Number.POSITIVE_INFINITY && idleMs > parseDuration(absoluteTimeout)) {
    const limit = session.absoluteTimeout === undefined ? 'the absolute timeout of 12h' : 'absoluteTimeout';
    yield {
      path: [...at, 'idleTimeout'],
      message: `longer than ${limit}, which ends the session first; raise absoluteTimeout or lower this`,
    };
  }
  const hasProxy = (config.trustedProxies?.length ?? 0) > 0; // which may speak TLS for us
  const isPlain = !hasProxy && (config.listen ?? [{ port: 8080 }]).some(listener => listener.tls === undefined);
  if (isPlain && cookie.sameSite === 'none') {
    yield {
      path: [...at, 'cookie', 'sameSite'],
      message:
        'browsers drop a "none" cookie that is not Secure, and a listener without tls cannot send Secure; use "lax"',
    };
  }
  const prefix = /^__(Host|Secure)-/i.exec(cookie.name ?? '')?.[0];
  if (isPlain && prefix) {
    yield {
      path: [...at, 'cookie', 'name'],
      message: `browsers drop a "${prefix}" cookie that is not Secure, and a listener without tls cannot send Secure; use another name`,
    };
  }
  if (session.maxSessions !== undefined && typeof session.store === 'string' && session.store !== 'memory:') {
    yield { path: [...at, 'maxSessions'], message: 'has no effect: only the "memory:" store has a cap' };
  }
}

function* checkRoutes(routes: readonly RouteConfig[], at: readonly PropertyKey[], config: Config): Generator<Warning> {
  for (const [index, route] of routes.entries()) {
    yield* checkPolicy(route, [...at, index], config);
    if (route.application) yield* checkApplication(route.application, [...at, index, 'application'], config);
  }
}

function* checkApplication(
  application: ApplicationConfig,
  at: readonly PropertyKey[],
  config: Config,
): Generator<Warning> {
  yield* checkSession(application.session, [...at, 'session'], config);
  yield* checkRoutes(application.routes ?? [], [...at, 'routes'], config);
}

function* checkPolicy(route: RouteConfig, at: readonly PropertyKey[], config: Config): Generator<Warning> {
  const hasTls = config.listen?.some(listener => listener.tls) ?? false;
  const hasProxy = (config.trustedProxies?.length ?? 0) > 0;
  if (route.policy?.transport === 'confidential' && !hasTls && !hasProxy) {
    yield {
      path: [...at, 'policy', 'transport'],
      message: `${title(route)} refuses every request: no listener has tls, and no trusted proxy could speak it for us`,
    };
  }
  if (route.policy?.origins === 'any' && route.session !== 'none' && config.session !== false) {
    yield {
      path: [...at, 'policy', 'origins'],
      message: `${title(route)}: every web page may open a WebSocket with the visitor's session; list the origins, or set session: none`,
    };
  }
  if (Array.isArray(route.policy?.origins) && route.policy.origins.length === 0) {
    yield { path: [...at, 'policy', 'origins'], message: `${title(route)}: the empty list refuses every browser` };
  }
}

function* checkUpstreams(config: Config): Generator<Warning> {
  const used = new Set([...everyRoute(config.routes ?? [])].map(route => route.upstream));
  for (const [name, upstream] of Object.entries(config.upstreams ?? {})) {
    if (!used.has(name)) yield { path: ['upstreams', name], message: 'no route uses it' };
    const own = new Set((config.listen ?? [{ port: 8080 }]).map(listener => listener.port));
    for (const [index, server] of upstream.servers.entries()) {
      const { hostname, port } = new URL(server);
      if (/^(localhost|127\.0\.0\.1|\[::1\])$/.test(hostname) && own.has(Number(port || 80))) {
        yield {
          path: ['upstreams', name, 'servers', index],
          message: `${server} is this server itself: a request would go round for ever`,
        };
      }
      if (upstream.servers.indexOf(server) !== index) {
        yield { path: ['upstreams', name, 'servers', index], message: `${server} is there twice` };
      }
    }
  }
}

function* checkEmpty(config: Config): Generator<Warning> {
  if (!config.routes?.length && !config.endpoints?.length) {
    yield { path: [], message: 'nothing is served: there are no routes and no endpoints' };
  }
}

function* everyRoute(routes: readonly RouteConfig[]): Generator<RouteConfig> {
  for (const route of routes) {
    yield route;
    yield* everyRoute(route.application?.routes ?? []);
  }
}
