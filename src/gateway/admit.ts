import type { IncomingMessage } from 'node:http';
import { type Awaitable, whenThere } from '../base/awaitable.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { AddressList } from '../http/address-list.ts';
import type { HeaderLine } from '../http/header-line.ts';
import type { HostNames } from '../http/host-names.ts';
import { isPreflight } from '../http/navigation.ts';
import type { PathTolerance } from '../http/path.ts';
import { takeQueryTicket } from '../http/query-ticket.ts';
import { isRefusal, type Refusal, refuse } from '../http/refusal.ts';
import { type RequestHead, readRequestHead } from '../http/request-head.ts';
import type { RequestIds } from '../http/request-id.ts';
import { withoutCredentials } from '../http/without-credentials.ts';
import type { Anomalies, AnomalyVerdict } from '../policy/anomaly.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import type { Principal } from '../policy/auth/scheme.ts';
import type { ShownSession } from '../policy/auth/socket-tickets.ts';
import type { Bans } from '../policy/ban/bans.ts';
import type { Limits } from '../policy/limits/limits.ts';
import { Seat } from '../policy/limits/seat.ts';
import type { LastingPolicy } from '../policy/policy.ts';
import type { SecurityEvents } from '../policy/security-events.ts';
import { SERVER_PARTS } from '../session/manager.ts';
import { sessionUntilSignIn } from '../session/record/handle.ts';
import { isSuperseded } from '../session/record/state.ts';
import type { ConnectionServices } from '../websocket/endpoint-connection.ts';
import type { AuthRenewals } from './auth-renewals.ts';
import type { ObservedExchange } from './backend-session/observed/observer.ts';
import { demandsOn } from './demands-on.ts';
import type { FlowObserver, FlowTrace } from './flow-observer.ts';
import { HeldSession } from './held-session.ts';
import type { LiveCertificates } from './live-certificates.ts';
import type { LiveUsers } from './live-users.ts';
import { lostUpgrade } from './lost-upgrade.ts';
import type { Route } from './route.ts';
import type { RouteReadings } from './route-readings.ts';
import { refuseLoop } from './routing/loop.ts';
import { routePath } from './routing/route-path.ts';
import type { RoutedBy, Router } from './routing/router.ts';
import { sessionFailure } from './session-failure.ts';
import { SessionQuery } from './session-query.ts';

/** What every request is judged by. */
export interface Gateway {
  readonly router: Router<Route>;
  readonly readings: RouteReadings;
  readonly trustedProxies: AddressList;
  /** Who may not come in for now. Default: nobody is banned. */
  readonly bans?: Bans | undefined;
  /** Notices when sessions are used as they were not before. Default: nobody does. */
  readonly anomalies?: Anomalies | undefined;
  /** Which clients may come in at all. Default: all. */
  readonly addresses?: LastingPolicy | undefined;
  /** How much clients may do, whatever the route. Default: as much as they like. */
  readonly limits?: Limits | undefined;
  /** The hosts that the listener answers to. Default: all. */
  readonly hosts?: HostNames | undefined;
  /** Path parameters that can hold a session's ticket. */
  readonly urlParameters: ReadonlySet<string>;
  /** By which a request that comes back is known (`routing/loop.ts`). Default: it is not known. */
  readonly instance?: string | undefined;
  /** Largest request body that a fetch handler gets. */
  readonly maxBodyBytes: number;
  /** The users of open sockets. */
  readonly users: LiveUsers;
  readonly renewals: AuthRenewals;
  /** Sockets whose clients have shown a certificate. */
  readonly certificates: LiveCertificates;
  /** What the connections of endpoints share. */
  readonly services: ConnectionServices;
  readonly clock: Clock;
  /** Names the requests. Default: they have no names. */
  readonly requestIds?: RequestIds | undefined;
  readonly logger: Logger;
  /** Who follows requests on their way. Default: nobody does. */
  readonly observer?: FlowObserver | undefined;
  /** Where steps report what matters for security. */
  readonly security: SecurityEvents;
}

/** A request whose path, host and method lead somewhere. */
interface Routed {
  readonly head: RequestHead;
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
  /** What a prefix pattern left over of the path. */
  readonly rest: string;
  /** A one-time ticket that a handshake shows in its query, where its route takes some. */
  readonly ticket?: string | undefined;
}

/** A request that the policies let pass. */
interface Permitted extends Routed {
  readonly permitted: true;
}

/** A request whose path leads round no other route, however it is read. */
interface Unambiguous extends Permitted {
  readonly unambiguous: true;
}

/** A request that does not come too often. */
interface Metered extends Unambiguous {
  readonly metered: true;
}

/** A request with what its route, and the constraints of its path, ask of its user. */
interface Constrained extends Metered {
  /** Undefined: nobody is asked for. */
  readonly authentication: Authentication | undefined;
}

/** A request of whom it has shown itself, where a user is asked for. */
interface Authenticated extends Constrained {
  readonly shown: Principal | undefined;
  /** What it has shown is not good: the answer, where its session does not know who it is. */
  readonly rejection?: Refusal | undefined;
  /** By a one-time ticket: the session that it is for. */
  readonly ticketSession?: ShownSession | undefined;
}

/** A request with its session, when it has one of ours. */
interface Held extends Authenticated {
  readonly held: HeldSession | undefined;
}

/** A request of a user who may use its route, where that asks for one. */
interface Identified extends Held {
  /** Undefined where the route asks for nobody: then the session's owner counts. */
  readonly principal: Principal | undefined;
}

/** A request that the application's own policy lets pass. */
interface Judged extends Identified {
  readonly judged: true;
}

/** A request that may not, with what was known of it by then. */
export interface Refused {
  readonly refusal: Refusal;
  /** Undefined when it could not be understood. */
  readonly head?: RequestHead;
  readonly route?: Route;
  /** By a ban, the server's list of addresses or its limits, before a route was looked for. */
  readonly isBarred?: true;
}

/** A question that was answered without its target. */
export interface Answered {
  readonly head: RequestHead;
  readonly route: Route;
  /** Of the answer, which is 204. */
  readonly answer: readonly HeaderLine[];
}

/** A request with the session of the backend's own, where we only watch. */
interface Observed extends Judged {
  readonly observed: ObservedExchange | undefined;
}

/** A request that may go to its target. */
export interface Admitted extends Observed {
  /** What its WebSocket takes of the limits that hold for it, until it is gone, or is not opened after all. */
  readonly seat: Seat | undefined;
  /** Follows it further. */
  readonly trace?: FlowTrace | undefined;
}

/**
 * The flow: what happens to every request, HTTP and WebSocket alike, before it reaches its target.
 *
 * Each step takes what the one before it made, so that none can be left out or moved. A refusal is a value and ends the
 * flow.
 *
 * @param leavesUnknown What has no route belongs to others: it uses up nothing of what clients may do here.
 * @param trace Hears what each step gave.
 */
export async function admit(
  request: IncomingMessage,
  gateway: Gateway,
  leavesUnknown: boolean = false,
  trace?: FlowTrace,
): Promise<Admitted | Answered | Refused> {
  const head = readRequestHead(request, gateway);
  trace?.step('head', isRefusal(head) ? head : { head });
  if (isRefusal(head)) return { refusal: head };
  if (leavesUnknown && !routeFor(head, gateway.router).route) return { refusal: noRoute(), head };
  const barred = gateway.bans?.judge(head) ?? gateway.addresses?.(head) ?? gateway.limits?.takeRequest(head);
  trace?.step('entry', barred);
  if (barred) return { refusal: barred, head, ...routeFor(head, gateway.router), isBarred: true };
  const loop = gateway.instance === undefined ? undefined : refuseLoop(head, gateway.instance);
  trace?.step('loop', loop);
  if (loop) return { refusal: loop, head };
  const found = findRoute(head, gateway.router);
  trace?.step('route', found);
  if (isRefusal(found)) return { refusal: found, head };
  const routed = takeTicket(found, request);
  const { route } = routed;
  const located = routePath(routed, route.paths ?? NO_TOLERANCE);
  trace?.step('path', located);
  if (isRefusal(located)) return { refusal: located, head, route };
  const permitted = askPolicies(located);
  trace?.step('policies', permitted);
  if (isRefusal(permitted)) return { refusal: permitted, head, route };
  const unambiguous = judgeReadings(permitted, gateway.readings);
  trace?.step('readings', unambiguous);
  if (isRefusal(unambiguous)) return { refusal: unambiguous, head, route };
  const metered = takeRates(unambiguous);
  trace?.step('rates', metered);
  if (isRefusal(metered)) return { refusal: metered, head, route };
  const answer = answerPreflight(metered, gateway.router);
  if (isCorsPreflight(head)) trace?.step('preflight', isRefusal(answer) ? answer : undefined);
  if (isRefusal(answer)) return { refusal: answer, head, route };
  if (answer) return { head, route, answer };
  const constrained = constrain(metered);
  trace?.step('constraints', constrained);
  if (isRefusal(constrained)) return { refusal: constrained, head, route };
  const authenticated = await authenticate(constrained, gateway.security);
  trace?.step('authenticate', authenticated);
  if (isRefusal(authenticated)) return { refusal: authenticated, head, route };
  const shownSession = await holdSession(authenticated, gateway, trace);
  trace?.step('session', shownSession);
  if (isRefusal(shownSession)) return { refusal: shownSession, head, route };
  const held = await judgeUse(shownSession, gateway);
  trace?.step('use', held);
  if (isRefusal(held)) return { refusal: held, head, route };
  const identified = await identify(held);
  trace?.step('roles', identified);
  if (isRefusal(identified)) return { refusal: identified, head, route };
  renewUser(identified, gateway.renewals);
  const judged = await askOwnPolicy(identified);
  trace?.step('own-policy', judged);
  if (isRefusal(judged)) return { refusal: judged, head, route };
  const observed = await observeSession(judged, gateway);
  trace?.step('backend-session', observed);
  if (isRefusal(observed)) return { refusal: observed, head, route };
  const admitted = takeSeat(observed, gateway);
  trace?.step('seat', admitted);
  if (isRefusal(admitted)) return { refusal: admitted, head, route };
  return trace ? { ...admitted, trace } : admitted;
}

const NO_TOLERANCE: PathTolerance = {};

/** Of somebody who may not come in: for the logs, and so that other listeners of an attached server leave it to us. */
function routeFor(head: RequestHead, router: Router<Route>): Pick<Refused, 'route'> {
  const match = router.match(head);
  return match && 'value' in match ? { route: match.value } : {};
}

function noRoute(): Refusal {
  return refuse(404, 'ERR_ROUTE_NOT_FOUND', 'no route for this host and path');
}

/** What is not declared does not exist. */
function findRoute(head: RequestHead, router: Router<Route>): Routed | Refusal {
  const match = router.match(isCorsPreflight(head) ? askedFor(head, router) : head);
  if (match === undefined) return noRoute();
  if ('allowedMethods' in match)
    return refuse(405, 'ERR_ROUTE_NOT_FOUND', `the route does not take ${head.method}`, {
      headers: { Allow: match.allowedMethods.join(', ') },
    });
  return { head, route: match.value, params: match.params, rest: match.rest };
}

/** Nothing that comes after it sees the ticket: no log, no handler, no backend. */
function takeTicket(found: Routed, request: IncomingMessage): Routed {
  const { head, route } = found;
  return { ...found, ...takeQueryTicket(head, request, route.tickets !== undefined && head.isUpgrade) };
}

/** A preflight is a question for the route of the request that it asks for, when that takes such questions. */
function askedFor(head: RequestHead, router: Router<Route>): RoutedBy {
  const { host, path } = head;
  const asked = { host, path, method: head.headers['access-control-request-method']! };
  const match = router.match(asked);
  return match && 'value' in match && match.value.cors ? asked : head;
}

function isCorsPreflight(head: RequestHead): boolean {
  return isPreflight(head) && head.headers.origin !== undefined && !head.isUpgrade;
}

/** Without a session: a preflight comes without cookies. */
function answerPreflight({ head, route }: Metered, router: Router<Route>): readonly HeaderLine[] | Refusal | undefined {
  if (!route.cors || !isCorsPreflight(head)) return undefined;
  const asked = router.match({ ...head, method: head.headers['access-control-request-method']! });
  // One route of a path does not speak for another.
  if (asked && 'value' in asked && !asked.value.cors)
    return refuse(403, 'ERR_POLICY_ORIGIN', 'the route for the method that the preflight asks for has no "cors"');
  return route.cors.preflight(head);
}

/** Cheap and without side effects, hence before the session store is asked. */
function askPolicies(routed: Routed): Permitted | Refusal {
  const { head, route } = routed;
  const lost = lostUpgrade(head, route.target);
  if (lost) return lost;
  const policies = head.isUpgrade ? [...route.policies, ...route.upgradePolicies] : route.policies;
  for (const policy of policies) {
    const refusal = policy(head);
    if (refusal) return refusal;
  }
  return { ...routed, permitted: true };
}

/** Routes are no protection where a path is one thing to us and another to the server behind us. */
function judgeReadings(permitted: Permitted, readings: RouteReadings): Unambiguous | Refusal {
  return readings.judge(permitted.head, permitted.route) ?? { ...permitted, unambiguous: true };
}

/** Before anything is looked up. What the server says was asked before there was a route. */
function takeRates(unambiguous: Unambiguous): Metered | Refusal {
  for (const limits of unambiguous.route.limits ?? []) {
    const refusal = limits.takeRequest(unambiguous.head);
    if (refusal) return refusal;
  }
  return { ...unambiguous, metered: true };
}

/** All that hold for a route, the server's first. */
export function limitsOf({ limits = [] }: Route, gateway: Pick<Gateway, 'limits'>): readonly Limits[] {
  return gateway.limits ? [gateway.limits, ...limits] : limits;
}

/** Asked when a session of nobody is about to begin. */
function sessionLimit({ head, route }: Metered, gateway: Gateway): () => Refusal | undefined {
  return () => {
    for (const limits of limitsOf(route, gateway)) {
      const refusal = limits.takeNewSession(head.clientAddress);
      if (refusal) return refusal;
    }
    return undefined;
  };
}

/** What is asked of the path beyond its route. */
function constrain(metered: Metered): Constrained | Refusal {
  const demands = demandsOn(metered.head, metered.route);
  return isRefusal(demands) ? demands : { ...metered, ...demands };
}

/** By what the request itself shows, before any store is asked. What was shown is not for the target. */
function authenticate(constrained: Constrained, security: SecurityEvents): Awaitable<Authenticated | Refusal> {
  const { head, ticket, authentication } = constrained;
  if (ticket !== undefined) return redeemTicket(constrained, ticket, security);
  if (!authentication) return { ...constrained, shown: undefined };
  return whenThere(authentication.authenticate(head), shown => {
    if (isRefusal(shown)) return shown;
    const { principal, rejection } = shown;
    return { ...constrained, head: withoutCredentials(head, authentication.takenPlaces), shown: principal, rejection };
  });
}

/** What the request for the ticket has shown counts as shown by the handshake. */
async function redeemTicket(
  constrained: Constrained,
  ticket: string,
  security: SecurityEvents,
): Promise<Authenticated | Refusal> {
  const { head, route, authentication } = constrained;
  const { sessions, tickets } = route;
  const { origin } = head.headers;
  const { clientAddress: address, path } = head;
  try {
    const facts = await tickets!.redeem(ticket, { origin, route: route.name });
    if (facts === 'over') {
      // A page that opens its last URL again is no attacker, and nobody can guess a ticket.
      const reason = 'the ticket of the handshake is used or over';
      security.report({ event: 'credentials-expired', address, scheme: 'ticket', route: route.name, path, reason });
      return badTicket(reason);
    }
    const isOfOther =
      facts?.session &&
      sessions &&
      new SessionQuery(head, route, sessions.manager[SERVER_PARTS].tracking).showsOther(facts.session.sid);
    const isGood = facts && !isOfOther && (facts.principal || facts.session);
    if (isGood) {
      const { principal, kept, session } = facts;
      // The path of the tickets can be under other constraints than that of the handshake, and the user may have lost
      // since then what let them in.
      const shown = principal && (await authentication?.judgeTicket(head, principal, kept));
      if (shown === 'over') return badTicket('the credentials that the ticket was given for do not count any more');
      if (shown && isRefusal(shown)) return shown;
      const taken = authentication ? withoutCredentials(head, authentication.takenPlaces) : head;
      return { ...constrained, head: taken, shown, ticketSession: session };
    }
  } catch (error) {
    return refuseForSession(error);
  }
  const reason = 'the ticket of the handshake is none, or for another route, origin or session';
  security.report({ event: 'login-failed', address, scheme: 'ticket', route: route.name, path, reason });
  return badTicket(reason);
}

function badTicket(reason: string): Refusal {
  return refuse(401, 'ERR_AUTH_FAILED', reason, { body: 'This ticket is not good.\n' });
}

const OPENED_BY = { existing: 'existing', auto: 'auto', create: 'open' } as const;

/** A store that cannot be asked is a 503, never a visitor who seems to be logged out. */
async function holdSession(authenticated: Authenticated, gateway: Gateway, trace?: FlowTrace): Promise<Held | Refusal> {
  const { head, route, shown, ticketSession } = authenticated;
  const context = route.sessions;
  if (context === undefined || route.sessionMode === 'none') return { ...authenticated, held: undefined };
  const { tracking } = context.manager[SERVER_PARTS];
  const query = new SessionQuery(head, route, tracking, {
    user: shown && { name: shown.name, roles: shown.roles },
    text: ticketSession?.text,
    limit: sessionLimit(authenticated, gateway),
    onJudged: trace && ((sid, standing) => trace.judged(sid, standing)),
  });
  trace?.lookedFor(tracking.explain(query));
  const binding = context.manager.bind(query);
  try {
    // The question whether a request may be sent is nobody's. Handlers may count on a session. A page to sign in on needs
    // none before, and no parts of it make one.
    const isUnknown =
      (isPreflight(head) && route.target.kind !== 'fetch') ||
      (authenticated.authentication && shown === undefined) ||
      route.target.kind === 'page';
    const session = await binding[isUnknown ? 'get' : OPENED_BY[route.sessionMode]]();
    if (ticketSession && session?.id !== ticketSession.sid) {
      binding.release();
      return badTicket('the session of the ticket has ended');
    }
    return { ...authenticated, held: new HeldSession(context, binding, session) };
  } catch (error) {
    // It may be about to sign in, which gives it another session.
    if (isSuperseded(error) && maySignIn(route.target)) {
      const standIn = sessionUntilSignIn(() => binding.current);
      return { ...authenticated, held: new HeldSession(context, binding, undefined, standIn) };
    }
    binding.release();
    return refuseForSession(error);
  }
}

/** A session that is used as it was not before may not be for this request, or for nobody any more. */
async function judgeUse(held: Held, gateway: Gateway): Promise<Held | Refusal> {
  const verdict = verdictOn(held, gateway);
  if (verdict === 'allow') return held;
  const { context, session } = held.held!;
  held.held![Symbol.dispose]();
  try {
    if (verdict !== 'challenge') await context.manager.end(session!.id, 'security');
  } catch (error) {
    return refuseForSession(error);
  }
  const { head } = held;
  if (gateway.bans?.isBanned(head.clientAddress)) return gateway.bans.judge(head)!;
  const headers = {
    ...head.headers,
    cookie: undefined,
    [context.manager.tracking.headerName.toLowerCase()]: undefined,
  };
  const unknown = { ...held, ticketSession: undefined, head: { ...head, headers, urlTickets: [] } };
  const anonymous = await holdSession(unknown, gateway);
  return isRefusal(anonymous) ? anonymous : { ...anonymous, head };
}

function verdictOn({ held, head }: Held, { anomalies }: Gateway): AnomalyVerdict {
  const session = held?.session;
  if (!session || !anomalies) return 'allow';
  const { sockets } = held.context;
  return anomalies.judge(head, {
    sid: session.id,
    owner: session.owner?.name,
    socketAddresses: () =>
      [...(sockets.get(session.id) ?? [])].flatMap(socket => socket.remoteAddress ?? socket.clientAddress ?? []),
  });
}

function maySignIn(target: Route['target']): boolean {
  if (target.kind === 'upstream') return target.upstream.identity.controlsSession;
  return target.kind === 'fetch' || target.kind === 'endpoint' || target.kind === 'page';
}

/** Where the request shows nobody, its session may: of a login that it keeps. */
async function identify(held: Held): Promise<Identified | Refusal> {
  const { authentication } = held;
  if (!authentication || held.shown) return { ...held, principal: held.shown };
  try {
    const principal = await authentication.identify(held.head, held.held?.session?.owner, held.rejection);
    if (!isRefusal(principal)) return { ...held, principal };
    held.held?.[Symbol.dispose]();
    return principal;
  } catch (error) {
    held.held?.[Symbol.dispose]();
    return refuseForSession(error);
  }
}

/** Who shows other credentials in a session has shown them for its open sockets, too. */
function renewUser({ principal, held }: Identified, renewals: AuthRenewals): void {
  if (principal?.expiresAt !== undefined && held?.session)
    renewals.renew(held.session.id, principal, held.context.ledger);
}

/** Behind everything that costs less: it may ask others, and take its time. */
async function askOwnPolicy(request: Identified): Promise<Judged | Refusal> {
  const { head, route, params, held, principal } = request;
  const refusal = await route.ownPolicy?.judge({
    route: route.name,
    method: head.method,
    path: head.path,
    query: head.query,
    params,
    host: head.host,
    headers: head.headers,
    clientAddress: head.clientAddress,
    isSecure: head.isSecure,
    isWebSocket: head.isUpgrade,
    clientCertificate: head.clientCertificate,
    session: held?.shown,
    user: principal ?? held?.session?.owner,
  });
  if (!refusal) return { ...request, judged: true };
  held?.[Symbol.dispose]();
  return refusal;
}

/** The backend's own session, as far as it is known. The same holds for what cannot be asked. */
async function observeSession(held: Judged, gateway: Gateway): Promise<Observed | Refusal> {
  const { target } = held.route;
  const observer = target.kind === 'upstream' ? target.upstream.observer : undefined;
  if (!observer) return { ...held, observed: undefined };
  try {
    return { ...held, observed: await observer.begin(held.head, sessionLimit(held, gateway)) };
  } catch (error) {
    held.held?.[Symbol.dispose]();
    return refuseForSession(error);
  }
}

/** Last, as it is held from here on. Of a request that asks for no WebSocket nothing is counted. */
function takeSeat(observed: Observed, gateway: Gateway): Admitted | Refusal {
  const { head, route, held, principal } = observed;
  if (!head.isUpgrade) return { ...observed, seat: undefined };
  const session = held?.session ?? held?.binding.current;
  const seat = Seat.take(limitsOf(route, gateway), {
    address: head.clientAddress,
    session: session?.id ?? observed.observed?.liveKey,
    user: principal?.name ?? session?.owner?.name,
  });
  if (!isRefusal(seat)) return { ...observed, seat };
  held?.[Symbol.dispose]();
  return seat;
}

function refuseForSession(error: unknown): Refusal {
  const failure = sessionFailure(error);
  if (failure) return failure;
  throw error;
}
