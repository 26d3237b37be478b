import { defined } from '../../base/defined.ts';
import { broughtManager } from '../../config/brought-manager.ts';
import type { ApplicationConfig, Config, ConstraintConfig, PolicyConfig, RouteConfig } from '../../config/config.ts';
import { title } from '../../config/fields.ts';
import { type Constraint, Constraints } from '../../gateway/routing/constraints.ts';
import { createRouter, type RouteEntry } from '../../gateway/routing/router.ts';
import { parseRoutePattern, type RoutePattern } from '../../http/route-pattern.ts';
import { constraintEntries } from './constraint-entries.ts';

/** What asks who a request is from: a route, or a constraint around it. */
export interface Asker {
  /** For messages: `route "/*"`, `the constraint on /admin/*`. */
  readonly title: string;
  readonly at: readonly PropertyKey[];
  /** Undefined: of the users of what it is around. */
  readonly schemes: readonly string[] | undefined;
  /** Undefined: whoever has signed in. */
  readonly roles: readonly string[] | undefined;
  readonly isConstraint: boolean;
}

/** Schemes of `by`, which are none of those that `of` asks for. */
export interface Replaced {
  readonly by: Asker;
  readonly of: Asker;
  readonly before: readonly string[];
  readonly others: readonly string[];
}

/** Who is asked for on some paths of a route. */
export interface AskedUsers {
  readonly route: RouteConfig;
  readonly at: readonly PropertyKey[];
  /** A path where it is so. */
  readonly path: string;
  /** The route itself, if it asks for users, then its constraints that do, the outermost first. */
  readonly askers: readonly Asker[];
  /** By which schemes, in the end; undefined: nobody is asked for. */
  readonly schemes: readonly string[] | undefined;
  /** Those of a constraint that count in the place of others, where some of them do not. */
  readonly replaced: readonly Replaced[];
  /** The same object for routes with the same sessions; undefined: it has none, unless users ask for one. */
  readonly sessions: unknown;
  /** Also where users ask for it. */
  readonly neverHasSession: boolean;
}

interface FoundConstraint extends Constraint {
  readonly asker?: Asker;
  /** Who is asked where neither it nor the route names schemes. */
  readonly around?: readonly string[] | undefined;
}

interface FoundRoute {
  readonly route: RouteConfig;
  readonly at: readonly PropertyKey[];
  readonly asker: Asker | undefined;
  readonly constraints: readonly Constraints[];
  readonly sessions: unknown;
  readonly neverHasSession: boolean;
}

interface Around {
  readonly mount: string;
  readonly at: readonly PropertyKey[];
  readonly policy: PolicyConfig;
  readonly constraints: readonly Constraints[];
  readonly sessions: unknown;
}

interface Found {
  readonly routes: RouteEntry<FoundRoute>[];
  readonly patterns: Set<string>;
  readonly methods: Set<string>;
}

/**
 * Who is asked for where, by routes and constraints together: each combination once. A request is made up for each of
 * their patterns, and it is looked up as requests are.
 *
 * @returns nothing where two routes take the same requests, which is an error anyway.
 */
export function askedUsers(config: Config): AskedUsers[] {
  const found: Found = { routes: [], patterns: new Set(), methods: new Set(['GET', 'POST', OTHER_METHOD]) };
  const session = config.session ?? {};
  const around = { mount: '', at: [], policy: config.policy ?? {}, constraints: [] };
  collect(config, { ...around, sessions: session && (broughtManager(session) ?? session) }, found, config);
  try {
    const router = createRouter(found.routes);
    const hosts = new Set(found.routes.map(({ host }) => host?.replace(/^\*/, ANY) ?? ''));
    const all = new Map<string, AskedUsers>();
    for (const pattern of found.patterns)
      for (const path of pathsOf(parseRoutePattern(pattern)))
        for (const host of hosts)
          for (const method of found.methods) {
            const asked = { host, path, method };
            const match = router.match(asked);
            if (!match || !('value' in match)) continue;
            const users = usersOf(match.value, asked);
            if (users) all.set(keyOf(users), all.get(keyOf(users)) ?? users);
          }
    return [...all.values()];
  } catch {
    return [];
  }
}

const ANY = 'any-other';
const OTHER_METHOD = 'X-OTHER';

/** Made-up ones that a pattern matches, and as few others as can be. */
function pathsOf({ kind, segments }: RoutePattern): string[] {
  const path = segments.map(segment => `/${'text' in segment ? segment.text : ANY}`).join('');
  return kind === 'prefix' ? [path || '/', `${path}/${ANY}`] : [path];
}

function keyOf({ at, askers, schemes }: AskedUsers): string {
  return JSON.stringify([at, schemes, askers.map(asker => asker.at)]);
}

function usersOf(
  { asker, constraints, ...found }: FoundRoute,
  asked: { readonly host: string; readonly path: string; readonly method: string },
): AskedUsers | undefined {
  const askers = asker ? [asker] : [];
  const replaced: Replaced[] = [];
  let schemes = asker?.schemes;
  let of = asker;
  for (const one of constraints) {
    const constraint = one.find(asked) as FoundConstraint | undefined;
    if (constraint?.kind === 'refuse') return undefined;
    const by = constraint?.asker;
    if (!by) continue;
    askers.push(by);
    const others = by.schemes?.filter(name => schemes && !schemes.includes(name)) ?? [];
    if (others.length > 0) replaced.push({ by, of: of!, before: schemes!, others });
    if (by.schemes || !schemes) of = by;
    schemes = by.schemes ?? schemes ?? constraint.around;
  }
  return { ...found, path: asked.path.replaceAll(ANY, '…'), askers, schemes, replaced };
}

function collect(application: ApplicationConfig, outer: Around, found: Found, config: Config): void {
  const { mount, at, policy } = outer;
  const around = { ...outer, constraints: [...outer.constraints, ...constraintsOf(application, outer, found)] };
  for (const [index, route] of (application.routes ?? []).entries()) {
    const of = [...at, 'routes', index];
    const own = { ...policy, ...defined(route.policy ?? {}) };
    if (route.mount === undefined) {
      addRoute(route, of, own, around, found, config);
      continue;
    }
    const inner = route.application ?? {};
    const prefix = mount + route.mount.replace(/\/$/, '');
    const sessions =
      inner.session === undefined ? around.sessions : inner.session && (broughtManager(inner.session) ?? inner.session);
    collect(inner, { ...around, mount: prefix, at: [...of, 'application'], policy: own, sessions }, found, config);
  }
  const { files, fetch } = application;
  if (files !== undefined || fetch !== undefined)
    addRoute(
      { path: '/*', ...(files !== undefined && { files }), ...(fetch && { fetch }) },
      at,
      policy,
      around,
      found,
      config,
    );
}

function addRoute(
  route: RouteConfig,
  at: readonly PropertyKey[],
  { auth, roles }: PolicyConfig,
  { mount, constraints, sessions }: Around,
  found: Found,
  config: Config,
): void {
  const { host, methods, endpoint } = route;
  const schemes = namesOf(auth);
  const asker = schemes && { title: title(route), at: [...at, 'policy'], schemes, roles, isConstraint: false };
  const value = {
    route,
    at,
    asker,
    constraints,
    sessions: hasSession(route, config) ? sessions || undefined : undefined,
    neverHasSession: sessions === false || route.session === 'none',
  };
  for (const method of methods ?? []) found.methods.add(method.toUpperCase());
  for (const path of [route.path ?? endpoint?.patterns ?? []].flat()) {
    const pattern = mount + path;
    found.patterns.add(pattern);
    found.routes.push({
      pattern,
      name: pattern,
      ...(host !== undefined && { host }),
      ...(methods && { methods }),
      value,
    });
  }
}

function constraintsOf(
  { constraints = [] }: ApplicationConfig,
  { mount, at, policy }: Around,
  found: Found,
): Constraints[] {
  if (constraints.length === 0) return [];
  const toConstraint = (constraint: ConstraintConfig, name: string, index: number): FoundConstraint => {
    const { auth, roles, methods = [] } = constraint;
    for (const method of methods) found.methods.add(method.toUpperCase());
    const asker = {
      ...{ title: `the constraint on ${name}`, at: [...at, 'constraints', index] },
      ...{ schemes: namesOf(auth), roles, isConstraint: true },
    };
    const asks = auth !== undefined || roles !== undefined;
    return { name, kind: 'constraint', policies: [], ...(asks && { asker, around: namesOf(policy.auth) }) };
  };
  const entries = constraintEntries(constraints, mount, toConstraint);
  for (const { pattern } of entries) found.patterns.add(String(pattern));
  return [new Constraints(entries)];
}

function namesOf(auth: PolicyConfig['auth']): readonly string[] | undefined {
  return auth === undefined || auth === false ? undefined : [auth].flat();
}

/** By its own word, or because nothing is said and its target has them by default. */
function hasSession({ session, upstream, files, fetch, redirect }: RouteConfig, config: Config): boolean {
  if (session !== undefined) return session !== 'none';
  const isObserved = config.upstreams?.[upstream ?? '']?.session?.mode === 'observed';
  return !isObserved && redirect === undefined && (files === undefined || fetch !== undefined);
}
