import { nearestName } from '../base/nearest-name.ts';
import { mayMeet, type RoutePattern, readRoutePattern } from '../http/route-pattern.ts';
import { brokenClientCertificates } from './client-certificate-rules.ts';
import { type BrokenRule, type Fields, fields, title } from './fields.ts';
import { brokenForm } from './form-rules.ts';
import { brokenOidc, brokenProviders } from './oidc-rules.ts';
import { brokenTokens } from './token-rules.ts';

/** Types of schemes whose users a session keeps. */
export const KEPT_IN_SESSION: readonly unknown[] = ['session', 'form', 'oidc'];

/** What of policies concerns users: the nearest word counts for each. */
interface UsersOf {
  readonly auth: unknown;
  readonly roles: unknown;
}

/** Names of schemes that exist, roles that somebody can have, sessions where logins are kept in them. */
export function* brokenAuth(config: Fields): Generator<BrokenRule> {
  for (const [name, scheme] of Object.entries(fields(config.auth))) {
    yield* brokenMembers(fields(scheme), ['auth', name]);
    yield* brokenTokens(fields(scheme), ['auth', name]);
    yield* brokenOidc(fields(scheme), ['auth', name]);
    yield* brokenForm(fields(scheme), ['auth', name]);
  }
  yield* brokenProviders(config);
  yield* brokenClientCertificates(config);
  const outer = yield* brokenPolicy(config.policy, ['policy'], 'the server', NOBODY, config);
  const around: ConstraintsAround = { mount: '', named: [] };
  yield* brokenConstraints(config, ['constraints'], outer, around, config);
  yield* brokenRoutes(config.routes, ['routes'], outer, within(config, around), config, config.session);
}

/** What an application lies in. */
interface ConstraintsAround {
  readonly mount: string;
  /** Schemes that constraints around it name. */
  readonly named: readonly unknown[];
}

function within({ constraints }: Fields, { mount, named }: ConstraintsAround, inner = ''): ConstraintsAround {
  const own = (Array.isArray(constraints) ? constraints : []).map(one => fields(one).auth);
  return { mount: mount + inner.replace(/\/$/, ''), named: [...named, ...own] };
}

const NOBODY: UsersOf = { auth: undefined, roles: undefined };

function* brokenRoutes(
  routes: unknown,
  path: readonly PropertyKey[],
  outer: UsersOf,
  around: ConstraintsAround,
  config: Fields,
  sessions: unknown,
): Generator<BrokenRule> {
  if (!Array.isArray(routes)) return;
  for (const [index, value] of routes.entries()) {
    const route = fields(value);
    const at = [...path, index];
    const users = yield* brokenPolicy(route.policy, [...at, 'policy'], title(route), outer, config);
    const hasNoSession = sessions === false || route.session === 'none';
    if (route.mount === undefined && hasNoSession && keepsInSession(users.auth, config))
      yield {
        path: sessions === false ? at : [...at, 'session'],
        message: `${title(route)}: a session keeps who has signed in, and there is none; remove "session: ${sessions === false ? 'false' : 'none'}", or set "auth: false" for it`,
      };
    const application = fields(route.application);
    const mount = typeof route.mount === 'string' ? route.mount : '';
    const inner = { ...around, mount: around.mount + mount.replace(/\/$/, '') };
    yield* brokenConstraints(application, [...at, 'application', 'constraints'], users, inner, config);
    yield* brokenRoutes(
      application.routes,
      [...at, 'application', 'routes'],
      users,
      within(application, inner),
      config,
      application.session ?? sessions,
    );
  }
}

/** Each path and method once, and roles of somebody. */
function* brokenConstraints(
  application: Fields,
  path: readonly PropertyKey[],
  outer: UsersOf,
  around: ConstraintsAround,
  config: Fields,
): Generator<BrokenRule> {
  const { constraints } = application;
  if (!Array.isArray(constraints)) return;
  const seen = new Set<string>();
  for (const [index, value] of constraints.entries()) {
    const constraint = fields(value);
    const at = [...path, index];
    const { paths, methods, otherMethods, auth, roles, transport } = constraint;
    const of = `the constraint on ${[paths].flat().join(', ')}`;
    if (auth === undefined && roles === undefined && transport === undefined)
      yield { path: at, message: `${of} asks for nothing; give it roles, auth or "transport: confidential"` };
    if (otherMethods !== undefined && methods === undefined)
      yield { path: [...at, 'otherMethods'], message: `${of} is for every method; name some under "methods"` };
    if (auth !== undefined || roles !== undefined) {
      const asked =
        auth === undefined && isSet(outer.auth) ? askedBy(paths, application, outer.auth, around) : outer.auth;
      yield* brokenPolicy(constraint, at, of, { auth: asked, roles: undefined }, config);
    }
    for (const one of [paths].flat())
      for (const method of Array.isArray(methods) ? methods : ['']) {
        const request = `${method} ${String(one).replaceAll(/\/:[^/]+/g, '/:')}`;
        if (seen.has(request))
          yield { path: at, message: `${of}: there is another one for ${request.trim()}; make them one` };
        seen.add(request);
      }
  }
}

function isSet(auth: unknown): boolean {
  return auth !== undefined && auth !== false;
}

/** Schemes that can be asked for roles on these paths, where a constraint names none: those of the routes there. */
function askedBy(paths: unknown, application: Fields, outer: unknown, { mount, named }: ConstraintsAround): unknown {
  const patterns = patternsOf(paths, mount);
  const asked = [...routesAuth(application, mount, outer, patterns)].map(auth => (isSet(auth) ? auth : outer));
  const all = [...named, ...asked].flatMap(namesOf);
  return all.length === 0 ? outer : [...new Set(all)];
}

function* routesAuth(
  { routes, files, fetch, endpoints }: Fields,
  mount: string,
  outer: unknown,
  patterns: readonly RoutePattern[],
): Generator<unknown> {
  for (const value of Array.isArray(routes) ? routes : []) {
    const route = fields(value);
    const auth = fields(route.policy).auth ?? outer;
    if (typeof route.mount === 'string') {
      const inner = fields(route.application);
      yield* within(inner, { mount, named: [] }).named;
      yield* routesAuth(inner, mount + route.mount.replace(/\/$/, ''), auth, patterns);
    } else {
      const own = patternsOf(route.path ?? fields(route.endpoint).patterns, mount);
      if (own.some(one => patterns.some(other => mayMeet(one, other)))) yield auth;
    }
  }
  if ((files ?? fetch ?? endpoints) !== undefined) yield outer;
}

/** What is not a pattern, the schema has said. */
function patternsOf(paths: unknown, mount: string): RoutePattern[] {
  return [paths].flat().flatMap(path => {
    const pattern = typeof path === 'string' ? readRoutePattern(mount + path) : undefined;
    return pattern === undefined || 'fault' in pattern ? [] : [pattern];
  });
}

/** @returns what holds for what lies in it. */
function* brokenPolicy(
  value: unknown,
  at: readonly PropertyKey[],
  of: string,
  outer: UsersOf,
  config: Fields,
): Generator<BrokenRule, UsersOf> {
  const policy = fields(value);
  const users = { auth: policy.auth ?? outer.auth, roles: policy.roles ?? outer.roles };
  const schemes = fields(config.auth);
  for (const [index, name] of namesOf(policy.auth).entries()) {
    if (Object.hasOwn(schemes, name)) continue;
    const near = nearestName(name, Object.keys(schemes));
    const remedy = near ? `did you mean "${near}"? Else add it under "auth"` : 'add it under "auth" or fix the name';
    const path = Array.isArray(policy.auth) ? [...at, 'auth', index] : [...at, 'auth'];
    yield { path, message: `${of}: the scheme "${name}" is not defined; ${remedy}` };
  }
  if (policy.roles !== undefined && (users.auth === undefined || users.auth === false))
    yield {
      path: [...at, 'roles'],
      message: `${of}: nobody has roles without authentication; name a scheme under "auth" beside it`,
    };
  else if (policy.roles !== undefined || policy.auth !== undefined) yield* brokenRoles(users, at, of, policy, config);
  return users;
}

/** A role that no scheme of the route could give: nobody would ever come in by it. */
function* brokenRoles(
  { auth, roles }: UsersOf,
  at: readonly PropertyKey[],
  of: string,
  policy: Fields,
  config: Fields,
): Generator<BrokenRule> {
  if (!Array.isArray(roles)) return;
  const schemes = namesOf(auth).filter(name => Object.hasOwn(fields(config.auth), name));
  const possible = possibleRolesOf(schemes, fields(config.auth));
  if (!possible || schemes.length === 0) return;
  for (const [index, role] of roles.entries()) {
    if (typeof role !== 'string' || role === 'valid-user' || possible.has(role)) continue;
    const near = nearestName(role, [...possible]);
    const remedy = near
      ? `did you mean "${near}"?`
      : `say who has it, for example "roles: { ${/^\w+$/.test(role) ? role : JSON.stringify(role)}: [alice] }" under "auth.${schemes[0]}"`;
    const path = policy.roles === undefined ? [...at, 'auth'] : [...at, 'roles', index];
    yield { path, message: `${of}: no user can have the role "${role}"; ${remedy}` };
  }
}

/** The roles that users of some schemes can have; undefined where that is not known before. */
export function possibleRolesOf(names: readonly string[], schemes: object): ReadonlySet<string> | undefined {
  const possible = new Set<string>();
  for (const name of names) {
    const ofScheme = possibleRoles(fields(fields(schemes)[name]));
    if (!ofScheme) return undefined;
    for (const role of ofScheme) possible.add(role);
  }
  return possible;
}

/** The roles that a scheme could ever give; undefined where that is not known before. */
function possibleRoles({ type, verify, roles, rolesOf, groups, rolesClaim }: Fields): readonly string[] | undefined {
  if (rolesOf !== undefined) return undefined;
  if (roles !== undefined) return Object.keys(fields(roles));
  // Groups are roles then, and what a login or a function gives.
  const isOpen =
    groups !== undefined ||
    rolesClaim !== undefined ||
    type === 'session' ||
    type === 'function' ||
    type === 'forward' ||
    verify !== undefined;
  return isOpen ? undefined : [];
}

function* brokenMembers(
  { roles, groups, rolesClaim, type, file }: Fields,
  at: readonly PropertyKey[],
): Generator<BrokenRule> {
  for (const [role, members] of Object.entries(fields(roles)))
    for (const [index, member] of (Array.isArray(members) ? members : []).entries()) {
      if (typeof member !== 'string' || !member.startsWith('group:')) continue;
      const path = [...at, 'roles', role, index];
      if (member === 'group:') yield { path, message: '"group:" names no group; write for example "group:staff"' };
      else if (groups === undefined && rolesClaim === undefined && (type === 'basic' || file !== undefined))
        yield { path, message: `nobody is in the group "${member.slice(6)}": name a group file under "groups"` };
    }
}

function keepsInSession(auth: unknown, config: Fields): boolean {
  return namesOf(auth).some(name => KEPT_IN_SESSION.includes(fields(fields(config.auth)[name]).type));
}

function namesOf(auth: unknown): string[] {
  return [auth].flat().filter(name => typeof name === 'string');
}
