import { nearestName } from './nearest-name.ts';

/** A broken rule: where (as a path of keys) and what. */
export interface BrokenRule {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

type Fields = Readonly<Record<string, unknown>>;

const TARGETS = ['endpoint', 'fetch', 'upstream', 'files', 'redirect', 'mount'] as const;

/**
 * The rules that concern several fields: one target for each route, names that exist, settings that fit together.
 *
 * Takes the document as it was written, of any type, so that these rules are reported together with those of the schema.
 */
export function brokenReferences(document: unknown): BrokenRule[] {
  const config = fields(document);
  return [
    ...(Array.isArray(config.routes) ? brokenRoutes(config.routes, ['routes'], config) : []),
    ...brokenCookie(config.session, ['session']),
  ];
}

function* brokenRoutes(
  routes: readonly unknown[],
  path: readonly PropertyKey[],
  config: Fields,
): Generator<BrokenRule> {
  const seen = new Map<string, Fields>();
  for (const [index, value] of routes.entries()) {
    const route = fields(value);
    if (route === NOTHING) continue; // the schema has said so
    const at = [...path, index];
    yield* brokenTarget(route, at);
    for (const request of requestsOf(route)) {
      const earlier = seen.get(request);
      if (earlier) {
        const message = `${title(route)} takes the same requests as ${title(earlier)} before it; remove one, or give them different hosts, paths or methods`;
        yield { path: at, message };
        break;
      }
      seen.set(request, route);
    }
    yield* brokenName('upstream', route.upstream, 'upstreams', config, route, [...at, 'upstream']);
    const { dispatch } = fields(fields(route.endpoint).options);
    yield* brokenName('dispatch policy', dispatch, 'dispatch', config, route, [...at, 'endpoint']);
    const application = fields(route.application);
    yield* brokenCookie(application.session, [...at, 'application', 'session']);
    if (Array.isArray(application.routes)) {
      yield* brokenRoutes(application.routes, [...at, 'application', 'routes'], config);
    }
  }
}

/** A name that is to be found in a section of the configuration. */
function* brokenName(
  what: string,
  name: unknown,
  section: string,
  config: Fields,
  route: Fields,
  path: readonly PropertyKey[],
): Generator<BrokenRule> {
  const defined = fields(config[section]);
  if (typeof name !== 'string' || name === '' || Object.hasOwn(defined, name)) return;
  const near = nearestName(name, Object.keys(defined));
  const remedy = near
    ? `did you mean "${near}"? Else add it under "${section}"`
    : `add it under "${section}" or fix the name`;
  yield { path, message: `${title(route)}: ${what} "${name}" is not defined; ${remedy}` };
}

function* brokenTarget(route: Fields, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const targets = TARGETS.filter(target => route[target] !== undefined);
  if (targets.length === 0) {
    yield { path: at, message: `${title(route)} has no target; give it one of ${TARGETS.join(', ')}` };
  } else if (targets.length > 1) {
    yield { path: at, message: `${title(route)} has ${targets.join(' and ')}; keep exactly one target` };
  }
  const isMount = route.mount !== undefined;
  if (route.path === undefined && targets.length > 0 && !isMount && route.endpoint === undefined) {
    yield { path: at, message: 'a route needs a path; write for example path: /*' };
  }
  if (isMount && route.application === undefined) {
    yield { path: at, message: `${title(route)} mounts nothing; add "application"` };
  }
  if (isMount && route.path !== undefined) {
    yield { path: [...at, 'path'], message: `${title(route)}: "mount" is the path; remove "path"` };
  }
  if (!isMount && route.application !== undefined) {
    yield { path: [...at, 'application'], message: `${title(route)}: "application" goes with "mount"; add "mount"` };
  }
  if (route.websocket !== undefined && route.websocket !== false && targets.length === 1 && !route.upstream) {
    yield {
      path: [...at, 'websocket'],
      message: `${title(route)}: only an upstream is relayed; remove "websocket", an endpoint has its own settings`,
    };
  }
}

/**
 * What a route takes, as keys to compare: two routes with one key in common cannot both be used, because the order of routes means
 * nothing. The names of template segments make no difference.
 */
function* requestsOf(route: Fields): Generator<string> {
  const path = typeof route.mount === 'string' ? `${route.mount}/*` : (route.path ?? fields(route.endpoint).patterns);
  const methods: readonly unknown[] = Array.isArray(route.methods) ? route.methods : ['any method'];
  for (const pattern of new Set([path].flat())) {
    if (typeof pattern !== 'string') continue;
    for (const method of new Set(methods)) {
      yield `${method} ${route.host ?? ''} ${pattern.replaceAll(/\/:[^/]+/g, '/:')}`;
    }
  }
}

/** Browsers refuse a `__Host-` cookie with a domain or another path than `/` (RFC 6265bis §4.1.3.2). */
function* brokenCookie(session: unknown, at: readonly PropertyKey[]): Generator<BrokenRule> {
  const cookie = fields(fields(session).cookie);
  if (typeof cookie.name !== 'string' || !/^__host-/i.test(cookie.name)) return;
  const extra = cookie.domain !== undefined ? 'domain' : cookie.path !== undefined && cookie.path !== '/' ? 'path' : '';
  if (extra === '') return;
  yield {
    path: [...at, 'cookie', extra],
    message: `a cookie named "__Host-..." has no ${extra}: browsers refuse it; remove "${extra}" or change the name`,
  };
}

/** How messages name a route: by its name, else by its paths. */
export function title(route: { name?: unknown; path?: unknown; mount?: unknown; endpoint?: unknown }): string {
  const names = [route.name, route.path, route.mount, fields(route.endpoint).patterns];
  const name = names.find(value => typeof value === 'string' || (Array.isArray(value) && typeof value[0] === 'string'));
  return name === undefined ? 'this route' : `route "${[name].flat().join(', ')}"`;
}

const NOTHING: Fields = {};

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : NOTHING;
}
