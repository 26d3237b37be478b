import { limitsOf } from '../../gateway/admit.ts';
import { judgeSocket } from '../../gateway/judge-socket.ts';
import type { LiveSocket } from '../../gateway/live-sockets.ts';
import type { Route } from '../../gateway/route.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { Assembly } from './build.ts';
import { type KnownRoutes, routeNow } from './known-routes.ts';

/** What rules are: those of the configuration that counts now. */
type Rules = Pick<Assembly, 'addresses' | 'closeCodes' | 'limits' | 'logger' | 'routes' | 'users'>;

/** What clients are told. */
const ROUTE_GONE = 'the route is gone';
const SESSIONS_GONE = 'session store is leaving';
const NOT_ALLOWED = 'not allowed any more';

/** Why a WebSocket has to go that may stay by the rules. */
export interface Leaving {
  readonly code: number;
  readonly reason: string;
}

/**
 * Holds an open WebSocket to rules that have changed: 1008 where it may not stay. Where it may, it counts in the limits
 * that hold for its route now.
 *
 * @returns what it is to be closed by, where there is nothing left that it is open for.
 */
export function holdToRules(live: LiveSocket, rules: Rules): Leaving | undefined {
  const route = socketRoute(live, rules.routes);
  if (!route) return { code: rules.closeCodes.goingAway, reason: ROUTE_GONE };
  const manager = live.route.sessions?.manager;
  const hasLost =
    live.hasLostSession || (live.sid !== undefined && manager !== undefined && route.sessions?.manager !== manager);
  const refusal = judgeSocket(live, route, rules);
  live.route = route;
  live.seat?.moveTo(limitsOf(route, rules));
  if (!refusal) return hasLost ? { code: rules.closeCodes.restart, reason: SESSIONS_GONE } : undefined;
  const { clientAddress: address, id: connectionId } = live;
  rules.logger.info(
    { event: 'socket-refused', address, route: route.name, connectionId },
    `an open WebSocket may not stay by the rules that hold now: ${refusal.reason}`,
  );
  live.close(CloseCode.policyViolation, NOT_ALLOWED);
  return undefined;
}

/** The route that an open WebSocket is of now; undefined: it is gone, or takes no WebSockets any more. */
function socketRoute({ route }: LiveSocket, routes: KnownRoutes): Route | undefined {
  const now = routeNow(route, routes);
  const takesSockets = now?.target.kind === 'endpoint' || (now?.target.kind === 'upstream' && now.target.relay);
  return takesSockets ? now : undefined;
}
