import { defined } from '../base/defined.ts';
import { FORM_PATHS, oidcPaths, ticketPath } from '../base/sign-in-paths.ts';
import { mayMeet, type RoutePattern, readRoutePattern } from '../http/route-pattern.ts';
import { broughtManager } from './brought-manager.ts';
import type { Config } from './config.ts';
import { type BrokenRule, type Fields, fields, title } from './fields.ts';
import type { Doubt } from './warning-codes.ts';

/** What takes requests: a route, or what we serve ourselves beside the routes. */
interface Taker {
  readonly host: string | undefined;
  readonly path: string;
  readonly shape: string;
  /** Undefined: every method. */
  readonly methods: readonly string[] | undefined;
  /** For messages. */
  readonly title: string;
  readonly at: readonly PropertyKey[];
}

/** A page of a scheme, or where tickets are given out. */
interface OwnPage extends Taker {
  readonly methods: readonly string[];
  /** What an operator can do about it. */
  readonly remedy: string;
}

/** Sessions, and what lies beside them. */
interface Place {
  readonly prefix: string;
  readonly hostsOf: Map<string, Set<string | undefined>>;
}

interface Asking {
  readonly patterns: readonly RoutePattern[];
  /** Undefined: users of the route, and of `around` where it asks for none. */
  readonly auth: unknown;
  readonly around: unknown;
}

/** What holds where something lies. */
interface Around {
  readonly mount: string;
  readonly at: readonly PropertyKey[];
  readonly policy: Fields;
  readonly place: Place | undefined;
  readonly constraints: readonly Asking[];
}

interface Found {
  readonly routes: Taker[];
  readonly tickets: OwnPage[];
  readonly places: Place[];
}

/** Two that would answer the same requests: what we serve beside the sessions, and a route or another of these. */
export function* brokenPages(config: Fields): Generator<BrokenRule> {
  const { routes, pages } = takersOf(config);
  yield* doubles(pages);
  for (const page of pages)
    for (const route of routes) {
      const methods = shared(page, route);
      if (route.shape !== page.shape || route.host !== page.host || !route.methods || methods.length === 0) continue;
      yield {
        path: route.at,
        message: `${route.title} and ${page.title} both take ${methods.join(' and ')} of ${page.path}; ${page.remedy}`,
      };
    }
}

/** Routes that get less than they say by what we serve at the same path, and pages that a route hides. */
export function* checkPages(config: Config): Generator<Doubt> {
  const { routes, pages } = takersOf(config as unknown as Fields);
  for (const page of pages)
    for (const route of routes) {
      if (route.shape !== page.shape) continue;
      const isOnAll = page.host === undefined && route.host !== undefined;
      const isLess =
        (route.host === page.host && !route.methods) || (route.host === undefined && page.host !== undefined);
      if (isOnAll)
        yield {
          code: 'page-clash',
          path: route.at,
          message: `on ${route.host} ${route.title} takes the place of ${page.title} at ${page.path}; ${page.remedy}`,
        };
      else if (isLess && shared(page, route).length > 0)
        yield {
          code: 'page-clash',
          path: route.at,
          message: `${route.title} does not get ${shared(page, route).join(' and ')} of ${page.path}${page.host === undefined ? '' : ` on ${page.host}`}: ${page.title} takes it; ${page.remedy}`,
        };
    }
}

/** Methods that both take. */
function shared(page: OwnPage, { methods }: Taker): readonly string[] {
  return methods ? page.methods.filter(method => methods.includes(method)) : page.methods;
}

/** Each pair once, with all paths that both have. */
function* doubles(pages: readonly OwnPage[]): Generator<BrokenRule> {
  const found = new Map<string, { readonly page: OwnPage; readonly other: OwnPage; readonly paths: Set<string> }>();
  for (const [index, page] of pages.entries())
    for (const other of pages.slice(0, index)) {
      if (other.shape !== page.shape || other.host !== page.host || shared(page, other).length === 0) continue;
      const pair = `${other.title} ${page.title}`;
      const known = found.get(pair) ?? { page, other, paths: new Set() };
      found.set(pair, known);
      known.paths.add(page.path);
    }
  for (const { page, other, paths } of found.values())
    yield {
      path: page.at,
      message: `${other.title} and ${page.title} are both at ${[...paths].join(', ')}; ${page.remedy}`,
    };
}

function takersOf(config: Fields): { readonly routes: readonly Taker[]; readonly pages: readonly OwnPage[] } {
  const found: Found = { routes: [], tickets: [], places: [] };
  const place = placeOf(config.session ?? {}, '', found);
  collect(config, { mount: '', at: [], policy: fields(config.policy), place, constraints: [] }, found);
  const schemes = fields(config.auth);
  const pages = found.places.flatMap(({ prefix, hostsOf }) =>
    [...hostsOf].flatMap(([name, hosts]) =>
      [...hosts].flatMap(host => pagesOf(name, fields(schemes[name]), prefix).map(page => ({ ...page, host }))),
    ),
  );
  return { routes: found.routes, pages: [...pages, ...found.tickets] };
}

function placeOf(session: unknown, mount: string, { places }: Found): Place | undefined {
  if (session === false) return undefined;
  const cookiePath = broughtManager(session as Config['session'])?.cookiePath ?? fields(fields(session).cookie).path;
  const path = typeof cookiePath === 'string' ? cookiePath.replace(/(.)\/$/, '$1') : '/';
  const prefix = path !== '/' && path.startsWith(`${mount}/`) ? path : mount;
  const place = { prefix, hostsOf: new Map() };
  places.push(place);
  return place;
}

function collect(application: Fields, around: Around, found: Found): void {
  const { mount, at, policy, place } = around;
  const constraints = [...around.constraints, ...asking(application.constraints, mount, policy.auth)];
  for (const [index, value] of (Array.isArray(application.routes) ? application.routes : []).entries()) {
    const route = fields(value);
    const own = { ...policy, ...defined(fields(route.policy)) };
    const inner = [...at, 'routes', index];
    if (typeof route.mount === 'string') {
      const of = fields(route.application);
      const prefix = mount + route.mount.replace(/\/$/, '');
      const innerPlace = of.session === undefined ? place : placeOf(of.session, prefix, found);
      const innerAt = [...inner, 'application'];
      collect(of, { mount: prefix, at: innerAt, policy: own, place: innerPlace, constraints }, found);
      continue;
    }
    const paths = [route.path ?? fields(route.endpoint).patterns].flat();
    const patterns = patternsOf(paths, mount);
    const host = typeof route.host === 'string' ? route.host.toLowerCase() : undefined;
    const methods = Array.isArray(route.methods) ? route.methods.map(String) : undefined;
    ask(patterns, host, own.auth, { ...around, constraints });
    for (const { source: path, shape } of patterns) {
      found.routes.push({ host, path, shape, methods, title: title(route), at: inner });
      if (takesTickets(route, own)) found.tickets.push(...ticketsOf(route, path, host, inner));
    }
  }
  const rest = application.files ?? application.fetch ?? application.endpoints;
  if (rest !== undefined) ask(patternsOf(['/*'], mount), undefined, policy.auth, { ...around, constraints });
}

/** Whose pages lie there because users are asked for on these paths. */
function ask(
  patterns: readonly RoutePattern[],
  host: string | undefined,
  auth: unknown,
  { place, constraints }: Around,
): void {
  if (!place) return;
  const add = (names: unknown) => {
    for (const name of [names].flat()) {
      if (typeof name !== 'string') continue;
      const hosts = place.hostsOf.get(name) ?? new Set();
      place.hostsOf.set(name, hosts.add(host));
    }
  };
  add(auth);
  for (const one of constraints)
    if (one.patterns.some(pattern => patterns.some(other => mayMeet(pattern, other)))) {
      if (one.auth !== undefined) add(one.auth);
      else if (auth === undefined || auth === false) add(one.around);
    }
}

function asking(constraints: unknown, mount: string, around: unknown): Asking[] {
  return (Array.isArray(constraints) ? constraints : []).map(fields).flatMap(({ paths, auth, roles }) => {
    const patterns = patternsOf([paths].flat(), mount);
    return auth === undefined && roles === undefined ? [] : [{ patterns, auth, around }];
  });
}

/** What is not a pattern, the schema has said. */
function patternsOf(paths: readonly unknown[], mount: string): RoutePattern[] {
  return paths.flatMap(path => {
    if (typeof path !== 'string') return [];
    const pattern = readRoutePattern(mount + path);
    return 'fault' in pattern ? [] : [pattern];
  });
}

function takesTickets({ upstream, endpoint, websocket }: Fields, { tickets }: Fields): boolean {
  const isSocket = endpoint !== undefined || (upstream !== undefined && websocket !== false);
  return isSocket && tickets !== undefined && tickets !== false;
}

function ticketsOf(route: Fields, pattern: string, host: string | undefined, at: readonly PropertyKey[]): OwnPage[] {
  const path = ticketPath(pattern);
  const found = readRoutePattern(path);
  const text = `what gives tickets for ${typeof route.name === 'string' ? title(route) : `route "${pattern}"`}`;
  const remedy = 'it lies under the path of its route; move one of the two';
  return 'fault' in found ? [] : [{ host, path, shape: found.shape, methods: ['POST'], title: text, at, remedy }];
}

function pagesOf(name: string, scheme: Fields, prefix: string): OwnPage[] {
  const page = (path: unknown, methods: string[], option: string): OwnPage[] => {
    const full = prefix + String(path);
    const pattern = readRoutePattern(full);
    if (typeof path !== 'string' || 'fault' in pattern) return [];
    const remedy = `set "${option}" of auth.${name}, or move the other`;
    const of = { title: `the scheme "${name}"`, at: ['auth', name], remedy };
    return [{ host: undefined, path: full, shape: pattern.shape, methods, ...of }];
  };
  if (scheme.type === 'form') {
    const paths: Fields = { ...FORM_PATHS, ...defined(fields(scheme.paths)) };
    return [
      ...(scheme.loginPage === undefined ? page(paths.login, ['GET'], 'paths') : []),
      ...page(paths.check, ['POST'], 'paths'),
      ...page(paths.logout, ['GET', 'POST'], 'paths'),
    ];
  }
  if (scheme.type !== 'oidc') return [];
  const paths: Fields = { ...oidcPaths(name), ...defined(scheme) };
  return [
    ...page(paths.login, ['GET'], 'login'),
    ...page(paths.callback, scheme.responseMode === 'form_post' ? ['POST'] : ['GET'], 'callback'),
    ...page(paths.logout, ['GET', 'POST'], 'logout'),
    ...page(paths.backchannelLogout, ['POST'], 'backchannelLogout'),
  ];
}
