import { hash, randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { getOrInsert } from '../../base/get-or-insert.ts';
import type { ApplicationConfig, Config, RouteConfig } from '../../config/config.ts';
import { title } from '../../config/fields.ts';
import { type InheritedPolicy, serverPolicy, transportOf, within } from '../../config/inherited-policy.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { parseServerUrl } from '../../gateway/connection/dialer.ts';
import { relayLimits } from '../../gateway/relay/limits.ts';
import { isStricter, type RouteDemands } from '../../gateway/route-demands.ts';
import { PathRewrite } from '../../gateway/routing/path-rewrite.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import { machineOf, normalizeHostPattern } from '../../http/host-names.ts';
import { type PatternSegment, parseRoutePattern, type RoutePattern } from '../../http/route-pattern.ts';
import type { CustomPolicy, CustomPolicyConfig } from '../../policy/custom.ts';
import type { InspectConfig } from '../../policy/inspection.ts';

/** A route to an upstream, with its paths from the root. */
interface UpstreamRoute {
  readonly config: RouteConfig;
  /** What holds for what it lies in. */
  readonly outer: InheritedPolicy;
  /** Where it stands in the configuration. */
  readonly at: readonly PropertyKey[];
  readonly patterns: readonly RoutePattern[];
  /** The same as the backend knows them, in the same order. */
  readonly backendPatterns: readonly RoutePattern[];
}

/**
 * Finds the routes by which another route's WebSocket policy could be walked round.
 *
 * Many backends take a WebSocket at any path. So when `/socket` and `/*` lead to the same server, and `/socket` is the
 * stricter one, a handshake for `/other` would reach that backend without what `/socket` asks for. Such a route takes
 * no WebSockets, unless its own `websocket` says that it does.
 *
 * @returns each such route with the routes under it that are stricter, whether or not they lead to the same server:
 * servers come and go.
 */
export function stricterRoutes(config: Pick<Config, 'routes' | 'policy'>): Map<RouteConfig, readonly RouteConfig[]> {
  const routes = [...upstreamRoutes(config, '', ['routes'], serverPolicy(config))].filter(takesWebSockets);
  const found = new Map<RouteConfig, readonly RouteConfig[]>();
  for (const route of routes) {
    if (route.config.websocket !== undefined) continue;
    const stricter = routes.filter(other => isUnder(other, route) && asksForMore(other, route, true));
    if (stricter.length > 0)
      found.set(
        route.config,
        stricter.map(({ config }) => config),
      );
  }
  return found;
}

/**
 * Ways round a stricter route that are open: a server that takes WebSockets at any path is reached by another route
 * with a laxer policy, or a route's `rewrite` leads to the paths of another.
 *
 * @returns a line for each route that leads round, with the first that it leads round.
 */
export function* checkStricterRoutes(config: Config): Generator<Doubt> {
  const routes = [...upstreamRoutes(config, '', ['routes'], serverPolicy(config))];
  const refused = stricterRoutes(config);
  const serversOf = ({ config: { upstream } }: UpstreamRoute) =>
    (config.upstreams?.[upstream!]?.servers ?? []).map(server => (typeof server === 'string' ? server : server.url));
  const isRefused = (route: UpstreamRoute) =>
    routes.some(
      other => refused.get(route.config)?.includes(other.config) && share(serversOf(route), serversOf(other)),
    );
  for (const route of routes) {
    const others = routes.filter(
      other =>
        other !== route &&
        mayShareHost(route.config.host, other.config.host) &&
        share(serversOf(route), serversOf(other)),
    );
    const published = others.find(other => leadsTo(route, other) && asksForMore(other, route, false));
    if (published)
      yield {
        code: 'round-a-stricter-route',
        path: route.at,
        message: `${title(route.config)} leads to what the server has for ${title(published.config)}, which has a stricter policy; give this one the same, or other paths`,
      };
    if (!takesWebSockets(route) || isRefused(route)) continue;
    const socket = others.find(other => takesWebSockets(other) && !isRefused(other) && asksForMore(other, route, true));
    if (socket)
      yield {
        code: 'round-a-stricter-route',
        path: route.at,
        message: `${title(route.config)} takes WebSockets for a server that ${title(socket.config)} leads to, which has a stricter policy; if that server takes them at any path, give both the same policy, or this one "websocket: false"`,
      };
  }
}

function* upstreamRoutes(
  { routes = [] }: ApplicationConfig,
  mount: string,
  at: readonly PropertyKey[],
  outer: InheritedPolicy,
): Generator<UpstreamRoute> {
  for (const [index, config] of routes.entries()) {
    if (config.mount !== undefined) {
      const inner = [...at, index, 'application', 'routes'];
      const prefix = mount + config.mount.replace(/\/$/, '');
      yield* upstreamRoutes(config.application ?? {}, prefix, inner, within(outer, config.policy));
    } else if (config.upstream !== undefined && config.path !== undefined) {
      const { path, rewrite } = config;
      const patterns = [path].flat().map(one => parseRoutePattern(mount + one));
      yield {
        ...{ config, outer, patterns, at: [...at, index] },
        backendPatterns:
          rewrite === undefined ? patterns : patterns.map(one => new PathRewrite(one, rewrite).backendPattern),
      };
    }
  }
}

/** A route that does not take GET cannot be upgraded. */
function takesWebSockets({ config: { websocket, methods } }: UpstreamRoute): boolean {
  return websocket !== false && (methods === undefined || methods.includes('GET'));
}

function isUnder(other: UpstreamRoute, route: UpstreamRoute): boolean {
  return (
    other !== route &&
    mayShareHost(route.config.host, other.config.host) &&
    (coversAny(route.patterns, other.patterns) || coversAny(route.backendPatterns, other.backendPatterns))
  );
}

function asksForMore(a: UpstreamRoute, b: UpstreamRoute, isUpgrade: boolean): boolean {
  return isStricter(demandsOf(a.config, a.outer), demandsOf(b.config, b.outer), isUpgrade);
}

/** Does a route lead to backend paths of another by public paths that the other does not take? */
function leadsTo(route: UpstreamRoute, other: UpstreamRoute): boolean {
  return route.backendPatterns.some((backend, i) =>
    other.backendPatterns.some((otherBackend, j) => {
      if (!covers(backend, otherBackend)) return false;
      const rest = otherBackend.segments.slice(backend.segments.length);
      const reached = { ...otherBackend, segments: [...route.patterns[i]!.segments, ...rest] };
      return !covers(other.patterns[j]!, reached);
    }),
  );
}

/** Do two upstreams have a server in common? Checked for each upgrade, as servers are added at run time. */
export function sharesServer(a: Upstream | undefined, b: Upstream | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a === b || share(urlsOf(a), urlsOf(b));
}

function urlsOf({ servers }: Upstream): string[] {
  return servers.map(({ url }) => url);
}

function share(a: readonly string[], b: readonly string[]): boolean {
  const places = new Set(a.map(placeOf));
  return b.some(url => places.has(placeOf(url)));
}

/**
 * The same for every way to write a server: its scheme, the names of this machine, and the path of a socket may be
 * written in several.
 */
function placeOf(url: string): string {
  const { hostname, port, socketPath } = parseServerUrl('', url);
  if (socketPath !== undefined) return resolve(socketPath);
  return `${machineOf(hostname)}:${port}`;
}

function mayShareHost(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined) return true;
  const [one, other] = [normalizeHostPattern(a), normalizeHostPattern(b)];
  return one === other || isBelow(one, other) || isBelow(other, one);
}

function isBelow(host: string, wildcard: string): boolean {
  return wildcard.startsWith('*.') && host.replace(/^\*/, '').endsWith(wildcard.slice(1));
}

function coversAny(patterns: readonly RoutePattern[], others: readonly RoutePattern[]): boolean {
  return patterns.some(pattern => others.some(other => covers(pattern, other)));
}

/** Would `pattern` take paths of `other`, if that route were not there? */
function covers(pattern: RoutePattern, other: RoutePattern): boolean {
  const { length } = pattern.segments;
  if (pattern.kind === 'prefix' ? length > other.segments.length : length !== other.segments.length) return false;
  return pattern.segments.every((segment, index) => takes(segment, other.segments[index]!));
}

function takes(segment: PatternSegment, other: PatternSegment): boolean {
  return 'param' in segment || ('text' in other && other.text === segment.text);
}

/** What a route asks for, be it said or a default. */
export function demandsOf(
  { policy, websocket = true, endpoint, upstream }: RouteConfig,
  outer: InheritedPolicy,
): RouteDemands {
  // CORS asks nothing of a request: it says who may read the answer.
  const {
    origins: _,
    cors: __,
    tickets: ___,
    transport,
    addresses,
    limits,
    custom,
    inspect,
    ...others
  } = within(outer, policy);
  const isSocket = upstream !== undefined || endpoint !== undefined;
  return {
    origins: isSocket ? (policy?.origins ?? endpoint?.options.origins ?? outer.origins ?? ['self']) : 'any',
    isConfidential: transportOf({ transport }).confidential !== undefined,
    addresses,
    limits,
    others: { ...others, custom: custom && nameOf(custom), inspect: inspect ? textOf(inspect) : undefined },
    webSocket:
      upstream === undefined ? 'own' : websocket === false ? 'none' : relayLimits(websocket === true ? {} : websocket),
  };
}

const names = new WeakMap<object, string>();

/** Functions are told apart by what they are: two of one name may ask for different things. */
function nameOf(custom: CustomPolicy | CustomPolicyConfig): string {
  const judge = typeof custom === 'function' ? custom : custom.judge;
  return getOrInsert(names, judge, randomUUID);
}

/** Short, as routes are compared by it. */
function textOf(inspect: InspectConfig): string {
  const text = JSON.stringify(inspect, (_, value: unknown) => (value instanceof RegExp ? String(value) : value));
  return hash('sha256', text);
}
