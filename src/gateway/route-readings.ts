import { inspect } from 'node:util';
import { getOrInsert } from '../base/get-or-insert.ts';
import { laxPath } from '../http/path-names.ts';
import { matchingPath, pathReadings } from '../http/path-readings.ts';
import { type Refusal, refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { parseRoutePattern, type RoutePattern } from '../http/route-pattern.ts';
import type { Route } from './route.ts';
import { isStricter } from './route-demands.ts';
import { createRouter, type RouteEntry, type Router } from './routing/router.ts';
import type { Upstream } from './upstream/upstream.ts';

/** A path without any of this is read in one way by every server. */
const SUSPECT = /[;%A-Z+$]|[^/][./]$|\.\/|\/\//;
/**
 * One without any of this in one way by every server that is not lax with names. Other escapes are of characters that
 * mean nothing anywhere.
 */
const READ_DIFFERENTLY = /;|\/\/|%(?:[0189A-F][\dA-F]|2[035F]|3[BF]|5C)/;

/** A request, as far as its readings are concerned. */
type Asked = Pick<RequestHead, 'host' | 'path' | 'method' | 'isUpgrade'>;

/**
 * Finds requests that lead round a route: by their path we take them for the requests of one, and a server could take
 * them for those of another that is stricter.
 *
 * Where the path goes to an upstream, no usual way to read it (`pathReadings`) may lead to a route with a stricter
 * policy, to one that leads elsewhere or has other sessions, or to where nothing is declared. What we serve ourselves
 * we read in one way, and look only for a stricter policy. The same goes for what servers make of a path by mistake,
 * and for those that are lax with names (`laxPath`), as people write names in several ways and mean no harm.
 */
export class RouteReadings {
  readonly #router: Router<Route>;
  /**
   * By the patterns as a lax server sees them, where several can be one; undefined when no route is stricter than
   * another.
   */
  readonly #laxRouter: LaxRouter | undefined;
  /** The same for the paths of rewritten routes as their backend knows them. */
  readonly #laxBackendRouters: ReadonlyMap<Upstream, LaxRouter> | undefined;

  constructor(entries: readonly RouteEntry<Route>[], router: Router<Route>) {
    this.#router = router;
    if (!isAnyStricter(entries)) return;
    this.#laxRouter = createRouter(laxEntries(entries));
    this.#laxBackendRouters = backendRouters(entries);
  }

  /** @param route The one that the request was routed to. @returns a refusal with 400 (ERR_ROUTE_AMBIGUOUS). */
  judge({ host, method, path: written, isUpgrade }: Asked, route: Route): Refusal | undefined {
    if (!SUSPECT.test(written)) return undefined;
    const asked = { host, method, isUpgrade };
    const constrained = (path: string) => leadsRoundConstraints(route, { ...asked, path }, { ...asked, path: written });
    if (!READ_DIFFERENTLY.test(written)) {
      const path = matchingPath(written);
      const why = leadsRoundLaxly(this.#laxRouter, { ...asked, path }, route) ?? constrained(path);
      return why === undefined ? undefined : ambiguous(route, why);
    }
    const rewrite = route.target.kind === 'upstream' ? route.target.rewrite : undefined;
    const readings = pathReadings(
      rewrite ? rewrite.toBackend(written) : written,
      this.#laxRouter !== undefined || route.constraints !== undefined,
    );
    if (readings === undefined) return ambiguous(route, 'in too many ways');
    for (const { path, isMistaken } of readings) {
      // Parameters that are left over mean nothing to a server that does not know them: it takes them for part of a
      // name.
      const isOnlyForPolicies = isMistaken || route.target.kind !== 'upstream' || path.includes(';');
      const publicPath = rewrite ? rewrite.readingToPublic(path, written) : path;
      const why =
        publicPath === undefined
          ? this.#leadsOut({ ...asked, path }, route, isOnlyForPolicies)
          : (this.#leadsRound({ ...asked, path: publicPath }, route, isOnlyForPolicies) ?? constrained(publicPath));
      if (why !== undefined) return ambiguous(route, why + remedyFor(why, written));
    }
    return undefined;
  }

  /** What is wrong with a reading; undefined: nothing. */
  #leadsRound(reading: Asked, route: Route, isOnlyForPolicies: boolean): string | undefined {
    const found = this.#router.matchLiterally(reading);
    if (found === undefined) {
      if (!isOnlyForPolicies) return UNDECLARED;
    } else if ('allowedMethods' in found) {
      if (!isOnlyForPolicies) return `as one that is not declared for ${reading.method}`;
    } else if (found.value !== route) {
      if (isStricter(found.value.demands, route.demands, reading.isUpgrade))
        return `as one of the route "${found.name}", which asks for more`;
      if (!isOnlyForPolicies && !leadsTheSameWay(found.value, route))
        return `as one of the route "${found.name}", which leads elsewhere`;
    }
    return leadsRoundLaxly(this.#laxRouter, reading, route);
  }

  /** What is wrong with a reading by a backend that is not of the route that the request was rewritten for. */
  #leadsOut(reading: Asked, route: Route, isOnlyForPolicies: boolean): string | undefined {
    if (!isOnlyForPolicies) return 'as one outside of the route, by its backend';
    const { target } = route;
    return target.kind === 'upstream'
      ? leadsRoundLaxly(this.#laxBackendRouters?.get(target.upstream), reading, route)
      : undefined;
  }
}

const UNDECLARED = 'as one that no route is declared for';

/**
 * npm asks for `/@scope%2Fname`, and nothing tells it from `/admin%2Fsecret`: only the operator knows whether the
 * backend keeps the two apart.
 */
function remedyFor(why: string, path: string): string {
  return why === UNDECLARED && /%(?:25)*2F/.test(path)
    ? '; if an escaped slash is meant, declare the path with a slash as well, for example "/:a/:b"'
    : '';
}

type LaxRouter = Router<readonly Route[]>;

/** Does a server that is lax with names take a reading for one of a stricter route? */
function leadsRoundLaxly(router: LaxRouter | undefined, reading: Asked, route: Route): string | undefined {
  const found = router?.matchLiterally({ ...reading, path: laxPath(reading.path) });
  if (found === undefined || 'allowedMethods' in found || found.value.includes(route)) return undefined;
  const stricter = found.value.find(({ demands }) => isStricter(demands, route.demands, reading.isUpgrade));
  return stricter && `as one of the route "${stricter.name}", which asks for more, by a server that is lax with names`;
}

/** Is more asked for on the path that a reading leads to? */
function leadsRoundConstraints({ constraints = [] }: Route, reading: Asked, asked: Asked): string | undefined {
  for (const ofApplication of constraints) {
    const other = ofApplication.findElse(reading, asked);
    if (other) return `as one that the constraint on ${other.name} is for`;
  }
  return undefined;
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

/** For each upstream the routes to it by their paths at its servers, as a lax one sees them. */
function backendRouters(entries: readonly RouteEntry<Route>[]): Map<Upstream, LaxRouter> {
  const byUpstream = new Map<Upstream, RouteEntry<Route>[]>();
  for (const entry of entries) {
    const { target } = entry.value;
    if (target.kind !== 'upstream') continue;
    const found = getOrInsert(byUpstream, target.upstream, () => []);
    found.push({ ...entry, pattern: target.rewrite?.backendPattern ?? entry.pattern });
  }
  return new Map([...byUpstream].map(([upstream, found]) => [upstream, createRouter(laxEntries(found))]));
}

function laxEntries(entries: readonly RouteEntry<Route>[]): RouteEntry<readonly Route[]>[] {
  const lax = entries.map(({ host, pattern, value }) => {
    return { host, pattern: laxPattern(typeof pattern === 'string' ? parseRoutePattern(pattern) : pattern), value };
  });
  const groups = Map.groupBy(lax, ({ host, pattern }) => `${host?.toLowerCase()} ${pattern.shape}`);
  return Array.from(groups.values(), group => {
    const { host, pattern } = group[0]!;
    const value = group.map(route => route.value);
    return { ...(host !== undefined && { host }), pattern, name: pattern.source, value };
  });
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
