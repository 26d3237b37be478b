import { parseDuration } from '../base/duration.ts';
import { parseSize } from '../base/size.ts';
import type { ApplicationConfig, RouteConfig, WebSocketRouteConfig } from '../config/config.ts';
import { PathRewrite } from '../gateway/path-rewrite.ts';
import { isStricter, type RelayDemands, type RouteDemands } from '../gateway/route-demands.ts';
import { type PatternSegment, parseRoutePattern, type RoutePattern } from '../gateway/route-pattern.ts';
import type { Upstream } from '../gateway/upstream.ts';

/** What a relay is limited to where the route does not say otherwise. */
export const DEFAULT_RELAY = {
  idleTimeout: '10m',
  heartbeat: '25s',
  maxLifetime: -1,
  maxMessageSize: '64KiB',
  compression: 'end-to-end',
} as const satisfies Required<WebSocketRouteConfig>;

/** A route to an upstream that takes WebSockets, with its paths from the root. */
interface RelayRoute {
  readonly config: RouteConfig;
  readonly patterns: readonly RoutePattern[];
  /** The same as the backend knows them. */
  readonly backendPatterns: readonly RoutePattern[];
}

/**
 * Finds the routes by which another route's WebSocket policy could be walked round.
 *
 * Many backends take a WebSocket at any path. So when `/socket` and `/*` lead to the same server, and `/socket` is the stricter one, a
 * handshake for `/other` would reach that backend without what `/socket` asks for. Such a route takes no WebSockets, unless its own
 * `websocket` says that it does.
 *
 * @returns each such route with the first route under it that is stricter.
 */
export function stricterRoutes(
  application: ApplicationConfig,
  upstreams: ReadonlyMap<string, Upstream>,
): Map<RouteConfig, RouteConfig> {
  const routes = [...relayRoutes(application, '')];
  const found = new Map<RouteConfig, RouteConfig>();
  for (const route of routes) {
    if (route.config.websocket !== undefined) continue;
    const stricter = routes.find(
      other =>
        other !== route &&
        sharesServer(upstreams.get(route.config.upstream!), upstreams.get(other.config.upstream!)) &&
        mayShareHost(route.config.host, other.config.host) &&
        (coversAny(route.patterns, other.patterns) || coversAny(route.backendPatterns, other.backendPatterns)) &&
        isStricter(demandsOf(other.config), demandsOf(route.config), true),
    );
    if (stricter) found.set(route.config, stricter.config);
  }
  return found;
}

function* relayRoutes({ routes = [] }: ApplicationConfig, mount: string): Generator<RelayRoute> {
  for (const config of routes) {
    if (config.mount !== undefined) {
      yield* relayRoutes(config.application ?? {}, mount + config.mount.replace(/\/$/, ''));
    } else if (config.upstream !== undefined && config.websocket !== false && config.path !== undefined) {
      // A route that does not take GET cannot be upgraded.
      if (config.methods !== undefined && !config.methods.includes('GET')) continue;
      const { path, rewrite } = config;
      const patterns = [path].flat().map(one => parseRoutePattern(mount + one));
      yield {
        config,
        patterns,
        backendPatterns:
          rewrite === undefined ? patterns : patterns.map(one => new PathRewrite(one, rewrite).backendPattern),
      };
    }
  }
}

function sharesServer(a: Upstream | undefined, b: Upstream | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  const addresses = new Set(a.servers.map(addressOf));
  return a === b || b.servers.some(server => addresses.has(addressOf(server)));
}

/** `ws:` and `http:` are one server. */
function addressOf({ url }: { readonly url: string }): string {
  return url.replace(/^ws/, 'http');
}

function mayShareHost(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined) return true;
  return a === b || isBelow(a, b) || isBelow(b, a);
}

function isBelow(host: string, wildcard: string): boolean {
  return wildcard.startsWith('*.') && host.replace(/^\*/, '').toLowerCase().endsWith(wildcard.slice(1).toLowerCase());
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
export function demandsOf({ policy = {}, websocket = true, endpoint, upstream }: RouteConfig): RouteDemands {
  const { origins, transport, ...others } = policy;
  const isSocket = upstream !== undefined || endpoint !== undefined;
  return {
    origins: isSocket ? (origins ?? endpoint?.options.origins ?? ['self']) : 'any',
    isConfidential: transport === 'confidential',
    others: { ...others },
    webSocket: upstream === undefined ? 'own' : websocket === false ? 'none' : relayDemands(websocket),
  };
}

function relayDemands(websocket: true | WebSocketRouteConfig): RelayDemands {
  const limits = { ...DEFAULT_RELAY, ...(websocket === true ? {} : websocket) };
  return {
    maxMessageBytes: parseSize(limits.maxMessageSize),
    maxLifetimeMs: parseDuration(limits.maxLifetime),
  };
}
