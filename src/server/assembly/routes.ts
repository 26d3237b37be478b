import type { Clock } from '../../base/clock.ts';
import { parseDuration } from '../../base/duration.ts';
import { HoldfastError } from '../../base/errors.ts';
import { getOrInsert } from '../../base/get-or-insert.ts';
import type { Logger } from '../../base/logger.ts';
import { ticketPath } from '../../base/sign-in-paths.ts';
import type {
  AddressesConfig,
  ApplicationConfig,
  Config,
  ConstraintConfig,
  LimitsConfig,
  RouteConfig,
  SessionConfig,
} from '../../config/config.ts';
import { title } from '../../config/fields.ts';
import { type InheritedPolicy, serverPolicy, transportOf, within } from '../../config/inherited-policy.ts';
import type { PageRewriter } from '../../gateway/exchange/url-client.ts';
import type { OwnNames } from '../../gateway/own-names.ts';
import { type RelayLimits, relayLimits } from '../../gateway/relay/limits.ts';
import type { Route, SessionMode, Target } from '../../gateway/route.ts';
import { type Constraint, Constraints } from '../../gateway/routing/constraints.ts';
import { PathRewrite } from '../../gateway/routing/path-rewrite.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';
import { createFileServer } from '../../gateway/targets/files.ts';
import type { Upstream } from '../../gateway/upstream/upstream.ts';
import type { AddressList } from '../../http/address-list.ts';
import type { PathTolerance } from '../../http/path.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import { parseRoutePattern } from '../../http/route-pattern.ts';
import { createAddressPolicy } from '../../policy/address.ts';
import { Authentication } from '../../policy/auth/authentication.ts';
import { SocketTickets } from '../../policy/auth/socket-tickets.ts';
import { Cors } from '../../policy/cors.ts';
import { OwnPolicy } from '../../policy/custom.ts';
import { type InspectConfig, Inspection, MOST_MESSAGE_BYTES } from '../../policy/inspection.ts';
import type { Limits } from '../../policy/limits/limits.ts';
import { createOriginPolicy } from '../../policy/origin.ts';
import type { LastingPolicy, Policy } from '../../policy/policy.ts';
import type { SecurityEvents } from '../../policy/security-events.ts';
import { createTransportPolicy } from '../../policy/transport.ts';
import type { Ledger } from '../../session/ledger.ts';
import { SERVER_PARTS, type SessionManager } from '../../session/manager.ts';
import { Dispatcher } from '../../websocket/dispatcher.ts';
import { type ServedEndpoint, servedEndpoint } from '../../websocket/endpoint.ts';
import { constraintEntries } from './constraint-entries.ts';
import { declaredEndpoints } from './declared-endpoints.ts';
import { withKeys } from './known-routes.ts';
import { makeLimits } from './limits.ts';
import { Parts } from './parts.ts';
import { type PagePlace, pagePlace, SchemePages } from './scheme-pages.ts';
import type { Schemes } from './schemes.ts';
import type { ComingSessions } from './session-contexts.ts';
import { demandsOf, sharesServer, stricterRoutes } from './stricter-routes.ts';

/** What routes are made from. */
export interface RouteSources {
  readonly logger: Logger;
  readonly folder: string;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly clock: Clock;
  /** Where there are no sessions. */
  readonly ledger: Ledger;
  readonly schemes: Schemes;
  /** Gets the names of the cookies that pages of schemes set. */
  readonly own: OwnNames;
  readonly security: SecurityEvents;
  readonly dispatchers: ReadonlyMap<string, Dispatcher>;
  /** Where clients reach TLS. */
  readonly httpsPort: () => number;
  readonly sessions: ComingSessions | undefined;
  /** Where users sign in to these; undefined without sessions. */
  readonly place: PagePlace | undefined;
  /** The pages of schemes that routes take. */
  readonly pages: SchemePages;
  /** Of the server and of the applications around, the outermost first. */
  readonly constraints: readonly Constraints[];
  /** What these are made from: routes are made from it, too. */
  readonly around: readonly unknown[];
  /** What holds for the routes of the server, or of a mounted application. */
  readonly policy: InheritedPolicy;
  /** Of lists so far: that of an application is built once, and not for each of its routes. */
  readonly addressPolicies: Map<AddressesConfig, LastingPolicy>;
  readonly trustedProxies: AddressList;
  /** Those so far, each once: all routes of an application count together. */
  readonly limits: Map<LimitsConfig, Limits>;
  readonly parts: Parts;
  /** Of the server. */
  readonly serverFrames: Limits['frames'];
  /** The same of rules. */
  readonly inspections: Map<InspectConfig, Inspection>;
  /** Attributes that the routes of a mounted application load, by what its mount says. */
  readonly attributes?: readonly string[] | undefined;
  /** `touch` of the routes of a mounted application that do not say, by what its mount says. */
  readonly touch?: boolean | undefined;
  /** Routes that take no WebSockets where they lead to a server of one of the others. */
  readonly stricter: ReadonlyMap<RouteConfig, readonly RouteConfig[]>;
  /** For routes with `rewriteLinks`; undefined where none has it. */
  readonly rewriter: PageRewriter | undefined;
  openSessions(session: SessionConfig | SessionManager, mount: string): Promise<ComingSessions>;
}

const DEFAULT_TICKET_LIFETIME = '10s';

/** A document navigation is worth a session where an application answers; a file or a redirect needs none. */
const DEFAULT_SESSION_MODE: Readonly<Record<Target['kind'], SessionMode>> = {
  endpoint: 'existing',
  fetch: 'auto',
  'socket-ticket': 'existing',
  upstream: 'auto',
  files: 'none',
  redirect: 'none',
  page: 'existing',
};

/**
 * Turns the routes of a configuration into entries for the router, mounted applications included.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when a name is not defined.
 */
export async function buildRoutes(
  config: Config,
  sources: Omit<
    RouteSources,
    | 'policy'
    | 'constraints'
    | 'around'
    | 'place'
    | 'pages'
    | 'addressPolicies'
    | 'inspections'
    | 'stricter'
    | 'rewriter'
  >,
): Promise<RouteEntry<Route>[]> {
  // It brings a parser for HTML, which others need not load.
  const rewriter = rewritesLinks(config) ? (await import('../../gateway/exchange/html-links.ts')).HtmlLinks : undefined;
  const policy = serverPolicy(config);
  const own = { policy, addressPolicies: new Map(), inspections: new Map(), stricter: stricterRoutes(config) };
  const place = sources.sessions && pagePlace(sources.sessions, '', policy, []);
  const all = {
    ...sources,
    ...own,
    rewriter,
    place,
    constraints: [],
    around: [],
    pages: new SchemePages(),
  };
  const entries = await entriesOf(config, all, '');
  // They are named after those of sessions, which have their names by then.
  sources.parts.onCommit(() => {
    for (const name of all.pages.ownCookies) sources.own.cookies.add(name);
    for (const scheme of sources.schemes.all)
      if (!scheme.isShownByRequest) scheme.usePlaces?.(all.pages.placesOf(scheme));
  });
  return withKeys([...entries, ...pageEntries(all)]);
}

function rewritesLinks({ routes = [] }: ApplicationConfig): boolean {
  return routes.some(route => route.rewriteLinks || (route.application && rewritesLinks(route.application)));
}

async function entriesOf(
  application: ApplicationConfig,
  outer: RouteSources,
  mount: string,
): Promise<RouteEntry<Route>[]> {
  const own = constraintsOf(application, outer, mount);
  const sources = own
    ? {
        ...outer,
        constraints: [...outer.constraints, own],
        around: [...outer.around, constraintsFrom(application, outer, mount)],
      }
    : outer;
  if (own && outer.place?.mount === mount) outer.place.constraints.push(own);
  const entries: RouteEntry<Route>[] = [];
  for (const config of application.routes ?? []) {
    if (config.mount !== undefined) {
      const prefix = mount + config.mount.replace(/\/$/, '');
      const inner = config.application ?? {};
      const sessions =
        inner.session === undefined
          ? sources.sessions
          : inner.session === false
            ? undefined
            : await sources.openSessions(inner.session, prefix);
      const attributes = joined(sources.attributes, config.attributes);
      const policy = within(sources.policy, config.policy);
      const place =
        inner.session === undefined
          ? sources.place
          : sessions && pagePlace(sessions, prefix, policy, sources.constraints);
      limitsOf(policy, `the application at ${prefix}`, sources);
      const touch = config.touch ?? sources.touch;
      entries.push(...(await entriesOf(inner, { ...sources, sessions, place, attributes, policy, touch }, prefix)));
    } else {
      entries.push(...routeEntries(config, sources, mount));
    }
  }
  for (const { endpoint, source } of await declaredEndpoints(application.endpoints ?? [], sources.folder))
    entries.push(...routeEntries({ endpoint, name: source }, sources, mount));
  entries.push(...restOfApplication(application, sources, mount));
  return entries;
}

/** The application's own files and handler take what no route does. */
function restOfApplication(
  { files, fetch }: ApplicationConfig,
  sources: RouteSources,
  mount: string,
): RouteEntry<Route>[] {
  if (files !== undefined) return routeEntries({ path: '/*', files, ...(fetch && { fetch }) }, sources, mount);
  if (fetch !== undefined) return routeEntries({ path: '/*', fetch }, sources, mount);
  return [];
}

function routeEntries(config: RouteConfig, sources: RouteSources, mount: string): RouteEntry<Route>[] {
  const endpoint = config.endpoint && servedEndpoint(config.endpoint, title(config));
  const paths = config.path ?? endpoint?.patterns ?? [];
  const patterns = (typeof paths === 'string' ? [paths] : paths).map(path => mount + path);
  const policy = within(sources.policy, config.policy);
  const limits = limitsOf(policy, [title(config), config.host, config.methods, mount].flat().join(' ').trim(), sources);
  const isDropping = [...sources.serverFrames, ...limits.flatMap(({ frames }) => frames)].some(
    ({ whenExceeded }) => whenExceeded === 'drop',
  );
  const inspection = inspectionOf(policy, sources);
  const { custom } = policy;
  const lasting = routePolicies(policy, sources);
  const origins = originPolicies(config, endpoint, sources);
  return patterns.flatMap(pattern => {
    const name = config.name ?? (config.host ?? '') + pattern;
    const authentication = authenticationOf(policy, name, sources);
    addPages(authentication, pattern, config.host, sources);
    const target = endpoint
      ? endpointTarget(endpoint, sources.dispatchers, sources.parts)
      : makeTarget(config, sources, name, pattern, isDropping);
    const tickets = takesTickets(target) ? socketTickets(policy, sources) : undefined;
    const entry: RouteEntry<Route> = {
      pattern,
      name,
      ...(config.host !== undefined && { host: config.host }),
      ...(config.methods !== undefined && { methods: config.methods }),
      value: {
        name,
        madeFrom: {
          ...{ config, pattern, policy, around: sources.around },
          schemes: authentication?.schemes,
          sessions: sources.sessions?.manager,
          target: madeFrom(target),
        },
        target,
        policies: [...lasting, ...headInspection(inspection, name)],
        lastingPolicies: [...lasting, ...origins],
        inspection,
        ownPolicy: custom && new OwnPolicy(custom, sources),
        authentication,
        ...(sources.constraints.length > 0 && { constraints: sources.constraints, place: sources.place }),
        limits,
        cors: corsOf(policy, sources.logger),
        upgradesInsecureRequests: transportOf(policy).upgradeInsecureRequests,
        upgradePolicies: [...shield(config, sources), ...origins],
        demands: demandsOf(config, sources.policy),
        sessions: sources.sessions,
        sessionMode:
          config.session ??
          defaultSessionMode(
            target,
            sources.sessions,
            [authentication, ...sources.constraints].some(one => one?.asksSession),
          ),
        paths: pathTolerance(config),
        isCrossSiteSignIn: config.crossSiteSignIn,
        touch: config.touch ?? sources.touch,
        // Nobody reads them there.
        attributes: readsAttributes(target) ? joined(sources.attributes, config.attributes) : undefined,
        tickets,
      },
    };
    return tickets ? [entry, ticketEntry(entry, pattern, tickets)] : [entry];
  });
}

/** Users sign in beside the sessions of the route, also where only a constraint of what is around asks for them. */
function addPages(
  ofRoute: Authentication | undefined,
  pattern: string,
  host: string | undefined,
  { place, pages, constraints }: RouteSources,
): void {
  if (!place) return;
  if (ofRoute) pages.add(ofRoute, place, host);
  for (const one of constraints)
    for (const asked of one.usersOn(parseRoutePattern(pattern), ofRoute !== undefined)) pages.add(asked, place, host);
}

/** Of schemes that users sign in by: beside the sessions that keep them, under the policy of what these are of. */
function pageEntries(sources: RouteSources): RouteEntry<Route>[] {
  return sources.pages.all().map(({ page, place, host, scheme }) => {
    const config = { policy: { auth: false as const } };
    const policy = within(place.policy, config.policy);
    const pattern = place.prefix + page.path;
    const name = `auth.${scheme}: ${host ?? ''}${pattern}`;
    return {
      ...{ pattern, name, methods: page.methods },
      ...(host !== undefined && { host }),
      value: {
        name,
        target: { kind: 'page', page, place },
        policies: routePolicies(policy, sources),
        limits: limitsOf(policy, name, sources),
        upgradesInsecureRequests: transportOf(policy).upgradeInsecureRequests,
        upgradePolicies: [],
        demands: demandsOf(config, place.policy),
        sessions: place.context,
        sessionMode: DEFAULT_SESSION_MODE.page,
        ...(place.constraints.length > 0 && { constraints: place.constraints }),
        isCrossSiteSignIn: page.isCrossSiteSignIn,
      },
    };
  });
}

function takesTickets(target: Target): boolean {
  return target.kind === 'endpoint' || (target.kind === 'upstream' && target.relay !== undefined);
}

function socketTickets({ tickets = false }: InheritedPolicy, { clock, sessions, ledger }: RouteSources) {
  if (tickets === false) return undefined;
  const { lifetime = DEFAULT_TICKET_LIFETIME } = tickets === true ? {} : tickets;
  return new SocketTickets({
    ledger: sessions?.manager[SERVER_PARTS].ledger ?? ledger,
    ttlMs: parseDuration(lifetime),
    clock,
  });
}

/** Where tickets for a route are given out: under its path, for those who may use it. */
function ticketEntry(entry: RouteEntry<Route>, pattern: string, tickets: SocketTickets): RouteEntry<Route> {
  const name = `${entry.name}/ticket`;
  const { upgradePolicies: _, tickets: __, ...shared } = entry.value;
  const target: Target = { kind: 'socket-ticket', tickets, route: entry.value.name };
  return {
    ...entry,
    pattern: ticketPath(pattern),
    name,
    methods: ['POST'],
    value: {
      ...shared,
      name,
      target,
      upgradePolicies: [],
      sessionMode: shared.sessionMode === 'none' ? 'none' : 'existing',
    },
  };
}

function joined(one: readonly string[] | undefined, other: readonly string[] | undefined) {
  return one && other ? [...new Set([...one, ...other])] : (one ?? other);
}

function readsAttributes(target: Target): boolean {
  return target.kind === 'endpoint' || target.kind === 'fetch' || (target.kind === 'files' && !!target.otherwise);
}

function pathTolerance({ paths }: RouteConfig): PathTolerance | undefined {
  return paths && { keepsSlashes: paths.mergeSlashes === false, takesBackslash: paths.backslash === 'pass' };
}

/**
 * Where the backend keeps the sessions, visitors are given none of ours unasked. A handler behind files has sessions as
 * one without files, and so have the pages among them.
 */
function defaultSessionMode(target: Target, sessions: ComingSessions | undefined, asksSession: boolean): SessionMode {
  if (target.kind === 'files' && target.otherwise) return DEFAULT_SESSION_MODE.fetch;
  if (asksSession && !hasSessions(target)) return 'existing';
  // A client with its session in the URL would lose it on the way.
  if (target.kind === 'redirect' && sessions?.tracking.kinds.includes('url')) return 'existing';
  return hasSessions(target) ? DEFAULT_SESSION_MODE[target.kind] : 'none';
}

function hasSessions(target: Target): boolean {
  return DEFAULT_SESSION_MODE[target.kind] !== 'none' && !(target.kind === 'upstream' && target.upstream.observer);
}

/** What a target is made from beside the words of its route. */
function madeFrom(target: Target): unknown {
  return target.kind === 'upstream' ? target.upstream : target.kind === 'endpoint' ? target.endpoint : undefined;
}

/** The dispatch policies that endpoints name. */
export function dispatchersOf({ dispatch = {} }: Config, parts: Parts = new Parts()): ReadonlyMap<string, Dispatcher> {
  const dispatchers = Object.entries(dispatch).map(([name, options]) => {
    const dispatcher = parts.keepNow('dispatch', name, { from: options, make: () => new Dispatcher(options) });
    return [name, dispatcher] as const;
  });
  return new Map(dispatchers);
}

/**
 * The one that it has, or the one of the policy that it names, which it need not have yet.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID when that policy is not there, or does not fit to it.
 */
export function dispatcherOf(
  endpoint: ServedEndpoint<unknown>,
  dispatchers: ReadonlyMap<string, Dispatcher>,
): Dispatcher | undefined {
  const name = endpoint.options.dispatch;
  if (typeof name !== 'string') return endpoint.dispatcher;
  const dispatcher = dispatchers.get(name);
  if (dispatcher === undefined)
    throw new HoldfastError(
      'ERR_CONFIG_INVALID',
      `endpoint ${endpoint.patterns[0]}: dispatch policy ${JSON.stringify(name)} is not defined; add it under "dispatch" or fix the name`,
    );
  endpoint.checkDispatcher(dispatcher);
  return dispatcher;
}

/** @throws {HoldfastError} as `dispatcherOf`. */
function endpointTarget(
  endpoint: ServedEndpoint<unknown>,
  dispatchers: ReadonlyMap<string, Dispatcher>,
  parts: Parts,
): Extract<Target, { kind: 'endpoint' }> {
  const dispatcher = dispatcherOf(endpoint, dispatchers);
  if (dispatcher) {
    // One that runs goes on with what it has until the new configuration counts.
    if (endpoint.isRunning) parts.onCommit(() => endpoint.useDispatcher(dispatcher));
    else endpoint.useDispatcher(dispatcher);
  }
  return { kind: 'endpoint', endpoint };
}

function makeTarget(
  config: RouteConfig,
  sources: RouteSources,
  name: string,
  pattern: string,
  isDropping: boolean,
): Target {
  if (config.files !== undefined)
    return { kind: 'files', serve: createFileServer(config.files), ...(config.fetch && { otherwise: config.fetch }) };
  if (config.fetch) return { kind: 'fetch', handler: config.fetch };
  if (config.redirect !== undefined) return { kind: 'redirect', location: config.redirect };
  const upstream = sources.upstreams.get(config.upstream ?? '');
  if (upstream === undefined)
    throw new HoldfastError(
      'ERR_CONFIG_INVALID',
      `route ${JSON.stringify(name)}: upstream ${JSON.stringify(config.upstream)} is not defined; add it under "upstreams" or fix the name`,
    );
  const rewrite =
    config.rewrite === undefined
      ? undefined
      : new PathRewrite(parseRoutePattern(pattern), config.rewrite, pathTolerance(config));
  const { websocket = true } = config;
  const options = websocket === true ? {} : websocket;
  // A message may be compressed by what those before it have said: where some are dropped, none may be.
  const limits = options ? relayLimits(isDropping ? { ...options, compression: 'refuse' } : options) : undefined;
  const inspection = inspectionOf(within(sources.policy, config.policy), sources);
  const relay = limits && inspection?.readsMessages ? inspectedLimits(limits) : limits;
  return { kind: 'upstream', upstream, relay, rewrite, rewriter: config.rewriteLinks ? sources.rewriter : undefined };
}

/** Refuses upgrades by a route that would lead round the policy of another. */
function shield(config: RouteConfig, { stricter, upstreams }: RouteSources): Policy[] {
  const others = stricter.get(config);
  if (others === undefined) return [];
  const upstream = upstreams.get(config.upstream!);
  return [
    () => {
      const other = others.find(one => sharesServer(upstream, upstreams.get(one.upstream!)));
      return other && leadsRound(other);
    },
  ];
}

function leadsRound(other: RouteConfig): Refusal {
  return refuse(
    403,
    'ERR_POLICY_WEBSOCKET',
    `this route takes no WebSockets, because ${title(other)} under it has a stricter policy for the same server; give this one "websocket: true" to take them all the same`,
  );
}

/** Whoever may not come in need not be told how to. */
function routePolicies(policy: InheritedPolicy, { addressPolicies, httpsPort }: RouteSources): LastingPolicy[] {
  const { addresses } = policy;
  const transport = transportOf(policy);
  const isOpen = !transport.confidential && !transport.upgradeInsecureRequests;
  const lists = addresses.map(list => getOrInsert(addressPolicies, list, () => createAddressPolicy(list)));
  return [...lists, ...(isOpen ? [] : [createTransportPolicy(transport, httpsPort)])];
}

function constraintsOf({ constraints = [] }: ApplicationConfig, sources: RouteSources, mount: string) {
  if (constraints.length === 0) return undefined;
  return new Constraints(
    constraintEntries(constraints, mount, (constraint, name) => constraintOf(constraint, name, sources)),
  );
}

/** What constraints are made from, with the schemes that they ask users by. */
function constraintsFrom({ constraints = [] }: ApplicationConfig, { policy, schemes }: RouteSources, mount: string) {
  const names = [policy.auth, ...constraints.map(({ auth }) => auth)].flat().filter(name => typeof name === 'string');
  return { constraints, mount, schemes: names.map(name => schemes.get(name)) };
}

function constraintOf({ auth, roles, transport }: ConstraintConfig, name: string, sources: RouteSources): Constraint {
  const asksForUser = auth !== undefined || roles !== undefined;
  const policy = { ...sources.policy, roles, ...(auth !== undefined && { auth }) };
  const authentication = asksForUser ? authenticationOf(policy, name, sources) : undefined;
  const policies =
    transport === 'confidential' ? [createTransportPolicy({ confidential: 'refuse' }, sources.httpsPort)] : [];
  return { name, kind: 'constraint', policies, authentication, namesSchemes: auth !== undefined };
}

function authenticationOf(
  { auth, roles }: InheritedPolicy,
  route: string,
  { schemes, security, place }: RouteSources,
): Authentication | undefined {
  if (auth === undefined || auth === false) return undefined;
  return new Authentication({ schemes: [auth].flat().map(name => schemes.get(name)), roles, place, security, route });
}

/** Those of the application are made before its routes are, so that they have its name. */
function limitsOf({ limits }: InheritedPolicy, name: string, sources: RouteSources): readonly Limits[] {
  return limits.map(config => getOrInsert(sources.limits, config, () => limitsFor(config, name, sources)));
}

function limitsFor(config: LimitsConfig, name: string, sources: RouteSources): Limits {
  const { parts } = sources;
  let own = name;
  for (let other = 2; parts.has('limits', own); other++) own = `${name} (${other})`;
  return parts.keepNow('limits', own, { from: config, make: () => makeLimits(own, config, sources) });
}

function inspectionOf({ inspect }: InheritedPolicy, { inspections, security }: RouteSources): Inspection | undefined {
  return inspect ? getOrInsert(inspections, inspect, () => new Inspection(inspect, security)) : undefined;
}

function headInspection(inspection: Inspection | undefined, name: string): Policy[] {
  return inspection ? [head => inspection.judgeHead(head, name)] : [];
}

/** What is judged must be there as it was written, and whole. */
function inspectedLimits(limits: RelayLimits): RelayLimits {
  const maxMessageBytes = Number.isFinite(limits.maxMessageBytes) ? limits.maxMessageBytes : MOST_MESSAGE_BYTES;
  return { ...limits, maxMessageBytes, compression: 'refuse' };
}

function corsOf({ cors, origins = [] }: InheritedPolicy, logger: Logger): Cors | undefined {
  if (cors === undefined || cors === false) return undefined;
  return new Cors(origins === 'any' ? 'any' : createOriginPolicy(origins, { logger }), cors === true ? {} : cors);
}

/** The word of the route counts before that of the endpoint, and both before that of what the route lies in. */
function originPolicies(
  { policy }: RouteConfig,
  endpoint: ServedEndpoint<unknown> | undefined,
  { policy: outer, logger }: RouteSources,
): LastingPolicy[] {
  const origins = policy?.origins ?? endpoint?.options.origins ?? outer.origins ?? ['self'];
  return origins === 'accept' ? [] : [createOriginPolicy(origins, { logger })];
}
