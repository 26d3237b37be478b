import { sameValue } from '../../base/same-value.ts';
import type { Route } from '../../gateway/route.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';

/** Routes by their keys. */
export type KnownRoutes = ReadonlyMap<string, Route>;

/**
 * Gives each route a key: its name where it has that alone, else with the methods, host and path that no other route
 * has.
 */
export function withKeys(entries: readonly RouteEntry<Route>[]): RouteEntry<Route>[] {
  const named = Map.groupBy(entries, ({ name }) => name);
  return entries.map(entry => {
    const asked = askedOf(entry);
    const key = named.get(entry.name)!.length === 1 ? entry.name : longKey(entry.name, asked);
    return { ...entry, value: { ...entry.value, key, asked } };
  });
}

export function knownRoutes(entries: readonly RouteEntry<Route>[]): KnownRoutes {
  return new Map(entries.map(({ value }) => [keyOf(value), value]));
}

export function keyOf({ key, name }: Route): string {
  return key ?? name;
}

/** What a route of a former configuration is now; undefined: it is gone. */
export function routeNow(route: Route, routes: KnownRoutes): Route | undefined {
  const found = routes.get(keyOf(route));
  if (found || route.asked === undefined) return found;
  // It has its name alone since, or not any more.
  const { name, asked } = route;
  const other = routes.get(keyOf(route) === name ? longKey(name, asked) : name);
  return other?.asked === asked ? other : undefined;
}

/** Is it made from the same as before? */
export function isSameRoute(one: Route, other: Route | undefined): boolean {
  return other !== undefined && sameValue(one.madeFrom, other.madeFrom);
}

function askedOf({ methods, host = '', pattern }: RouteEntry<Route>): string {
  const path = typeof pattern === 'string' ? pattern : pattern.source;
  return `${methods ? [...methods].sort().join(',') : '*'} ${host}${path}`;
}

/** As it is told to people: most routes are named after their host and path. */
function longKey(name: string, asked: string): string {
  return asked.endsWith(` ${name}`) ? asked : `${name} (${asked})`;
}
