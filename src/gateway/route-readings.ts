import { inspect } from 'node:util';
import { laxPath, matchingPath, pathReadings } from '../http/path-readings.ts';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { Route } from './route.ts';
import { isStricter } from './route-demands.ts';
import { parseRoutePattern, type RoutePattern } from './route-pattern.ts';
import { createRouter, type RouteEntry, type Router } from './router.ts';

/** A path without any of this is read in one way by every server. */
const SUSPECT = /[;%A-Z]|[^/][./]$|\.\//;
/** One without any of this in one way by every server that is not lax with names: parameters, and escapes of `/ \ ; %` and of what may be one of these. */
const READ_DIFFERENTLY = /;|%(?:2[5F]|3B|5C|C[01]|E0)/i;

/**
 * Finds requests that lead round a route: by their path we take them for the requests of one, and a server could take them for those of another that
 * is stricter.
 *
 * Where the path goes to an upstream, no way to read it (`pathReadings`) may lead to a route with a stricter policy, to one that leads elsewhere
 * or has other sessions, or to where nothing is declared. What we serve ourselves we read in one way, and look only for a stricter policy. The
 * same goes for servers that are lax with names (`laxPath`), as people write names in several ways and mean no harm.
 */
export class RouteReadings {
  readonly #router: Router<Route>;
  /** By the patterns as a lax server sees them, where several can be one; undefined when no route is stricter than another. */
  readonly #laxRouter: Router<readonly Route[]> | undefined;

  constructor(entries: readonly RouteEntry<Route>[], router: Router<Route>) {
    this.#router = router;
    this.#laxRouter = isAnyStricter(entries) ? createRouter(laxEntries(entries)) : undefined;
  }

  /** @param route The one that the request was routed to. @returns a refusal with 400 (ERR_ROUTE_AMBIGUOUS). */
  judge(head: RequestHead, route: Route): Refusal | undefined {
    if (!SUSPECT.test(head.path)) return undefined;
    const isReadDifferently = READ_DIFFERENTLY.test(head.path);
    if (!isReadDifferently && this.#laxRouter === undefined) return undefined;
    const readings = isReadDifferently ? publicReadings(head.path, route) : [matchingPath(head.path)];
    if (isRefusal(readings)) return readings;
    for (const path of readings) {
      const why = this.#leadsRound({ host: head.host, path, method: head.method }, route, head.isUpgrade);
      if (why !== undefined) return ambiguous(route, why);
    }
    return undefined;
  }

  /** What is wrong with a reading; undefined: nothing. */
  #leadsRound(
    reading: { readonly host: string; readonly path: string; readonly method: string },
    route: Route,
    isUpgrade: boolean,
  ): string | undefined {
    const found = this.#router.matchLiterally(reading);
    // What still has parameters is read by servers that know none: to them it is a name like any other.
    const isElsewhere = route.target.kind === 'upstream' && !reading.path.includes(';');
    if (found === undefined) {
      if (isElsewhere) return 'as one that no route is declared for';
    } else if ('allowedMethods' in found) {
      if (isElsewhere) return `as one that is not declared for ${reading.method}`;
    } else if (found.value !== route) {
      if (isStricter(found.value.demands, route.demands, isUpgrade))
        return `as one of the route "${found.name}", which asks for more`;
      if (isElsewhere && !leadsTheSameWay(found.value, route))
        return `as one of the route "${found.name}", which leads elsewhere`;
    }
    const lax = this.#laxRouter?.matchLiterally({ ...reading, path: laxPath(reading.path) });
    if (lax === undefined || 'allowedMethods' in lax || lax.value.includes(route)) return undefined;
    const stricter = lax.value.find(({ demands }) => isStricter(demands, route.demands, isUpgrade));
    return (
      stricter && `as one of the route "${stricter.name}", which asks for more, by a server that is lax with names`
    );
  }
}

/** Every way to read a path, in the words of the public side. */
function publicReadings(path: string, route: Route): ReadonlySet<string> | Refusal {
  const rewrite = route.target.kind === 'upstream' ? route.target.rewrite : undefined;
  const readings = pathReadings(rewrite ? rewrite.toBackend(path) : path);
  if (readings === undefined) return ambiguous(route, 'in too many ways');
  if (!rewrite) return readings;
  const found = new Set<string>();
  for (const reading of readings) {
    const publicPath = rewrite.readingToPublic(reading, path);
    if (publicPath !== undefined) found.add(publicPath);
    else if (!reading.includes(';')) return ambiguous(route, 'as one outside of the route, by its backend');
  }
  return found;
}

function ambiguous({ name }: Route, why: string): Refusal {
  return refuse(400, 'ERR_ROUTE_AMBIGUOUS', `the path is one of the route "${name}", and could be read ${why}`);
}

/** The same backends by the same paths, with the same sessions. */
function leadsTheSameWay(a: Route, b: Route): boolean {
  if (a.target.kind !== 'upstream' || b.target.kind !== 'upstream') return false;
  if (a.target.upstream !== b.target.upstream || a.target.rewrite || b.target.rewrite) return false;
  return a.sessionMode === b.sessionMode && a.sessions === b.sessions;
}

function isAnyStricter(entries: readonly RouteEntry<Route>[]): boolean {
  const distinct = [
    ...new Map(entries.map(({ value: { demands } }) => [inspect(demands, { depth: 10 }), demands])).values(),
  ];
  return distinct.some(one => distinct.some(other => isStricter(one, other, true)));
}

function laxEntries(entries: readonly RouteEntry<Route>[]): RouteEntry<readonly Route[]>[] {
  const groups = new Map<string, { host: string | undefined; pattern: RoutePattern; routes: Route[] }>();
  for (const { host, pattern, value } of entries) {
    const lax = laxPattern(typeof pattern === 'string' ? parseRoutePattern(pattern) : pattern);
    const key = `${host?.toLowerCase()} ${lax.shape}`;
    const group = groups.get(key);
    if (group) group.routes.push(value);
    else groups.set(key, { host, pattern: lax, routes: [value] });
  }
  return [...groups.values()].map(({ host, pattern, routes }) => ({
    ...(host !== undefined && { host }),
    ...{ pattern, name: pattern.source, value: routes },
  }));
}

/** Such that it matches a `laxPath` where it matched the path before. */
function laxPattern(pattern: RoutePattern): RoutePattern {
  const segments = pattern.segments
    .map(segment => ('text' in segment ? { text: laxPath(`/${segment.text}`).slice(1) } : segment))
    .filter(segment => 'param' in segment || segment.text !== '');
  if (segments.length === 0 && pattern.kind !== 'prefix') segments.push({ text: '' });
  const shape = segments.map(segment => ('param' in segment ? '/:' : `/${segment.text}`)).join('');
  return { ...pattern, segments, shape: pattern.kind === 'prefix' ? `${shape}/*` : shape };
}
