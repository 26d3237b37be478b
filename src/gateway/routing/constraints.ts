import { laxPath } from '../../http/path-names.ts';
import { matchingPath } from '../../http/path-readings.ts';
import { mayMeet, parseRoutePattern, type RoutePattern } from '../../http/route-pattern.ts';
import type { Authentication } from '../../policy/auth/authentication.ts';
import type { LastingPolicy } from '../../policy/policy.ts';
import { createRouter, type RoutedBy, type RouteEntry, type Router } from './router.ts';

/** What holds on some paths of an application besides what their routes say. */
export interface Constraint {
  /** For messages: its paths. */
  readonly name: string;
  /** `refuse`: for methods that the constraints of a path do not name. */
  readonly kind: 'constraint' | 'refuse' | 'open';
  readonly policies: readonly LastingPolicy[];
  /** Left out: it asks for nobody. */
  readonly authentication?: Authentication | undefined;
  /** Its schemes count instead of those of the route. Default: those of the route count, where it has some. */
  readonly namesSchemes?: boolean | undefined;
}

/**
 * The constraints of an application by path and method, as those of `web.xml`: of several patterns that fit a path the
 * most specific one counts, alone.
 */
export class Constraints {
  readonly #entries: readonly RouteEntry<Constraint>[];
  readonly #router: Router<Constraint>;
  /** As a server sees them that is lax with names; undefined where two become one by that. */
  readonly #laxRouter: Router<readonly Constraint[]>;
  /** Does a login that a session keeps count for any of them? */
  readonly asksSession: boolean;

  constructor(entries: readonly RouteEntry<Constraint>[]) {
    this.#entries = entries;
    this.#router = createRouter(entries);
    this.#laxRouter = createRouter(laxEntries(entries));
    this.asksSession = entries.some(({ value }) => value.authentication?.asksSession);
  }

  /**
   * Who may be asked for on paths of a route besides what it says itself.
   *
   * @param asksItself It asks for users: constraints with roles alone ask these.
   */
  usersOn(pattern: RoutePattern, asksItself: boolean): Authentication[] {
    return this.#entries.flatMap(({ pattern: own, value: { authentication, namesSchemes } }) => {
      if (!authentication || (asksItself && !namesSchemes)) return [];
      return mayMeet(typeof own === 'string' ? parseRoutePattern(own) : own, pattern) ? [authentication] : [];
    });
  }

  /** Undefined: nothing more is asked for. */
  find(asked: RoutedBy): Constraint | undefined {
    const match = this.#router.match(asked);
    return match && 'value' in match && match.value.kind !== 'open' ? match.value : undefined;
  }

  /**
   * A constraint of one reading of a path that is not one of the path itself: a server could take the request for one of
   * a path that more is asked for.
   *
   * @param reading To be read letter by letter.
   */
  findElse(reading: RoutedBy, asked: RoutedBy): Constraint | undefined {
    const own = this.find(asked);
    const literal = this.#router.matchLiterally(reading);
    const read = literal && 'value' in literal ? literal.value : undefined;
    if (read && read !== own && read.kind !== 'open') return read;
    const lax = this.#laxRouter.matchLiterally({ ...reading, path: laxPath(matchingPath(reading.path)) });
    const ofLax = lax && 'value' in lax ? lax.value : [];
    return own && ofLax.includes(own) ? undefined : ofLax.find(({ kind }) => kind !== 'open');
  }
}

function laxEntries(entries: readonly RouteEntry<Constraint>[]): RouteEntry<readonly Constraint[]>[] {
  const byKey = new Map<string, RouteEntry<readonly Constraint[]>>();
  for (const { pattern, methods, name, value } of entries) {
    const text = typeof pattern === 'string' ? pattern : pattern.source;
    const lax = text.endsWith('/*') ? `${laxPath(text.slice(0, -2)).replace(/\/$/, '')}/*` : laxPath(text);
    for (const method of methods ?? ['']) {
      const key = `${method} ${lax}`;
      const before = byKey.get(key)?.value ?? [];
      byKey.set(key, { pattern: lax, name, ...(method !== '' && { methods: [method] }), value: [...before, value] });
    }
  }
  return [...byKey.values()];
}
