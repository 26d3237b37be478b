import { limitsOf } from '../../gateway/admit.ts';
import { judgeSocket } from '../../gateway/judge-socket.ts';
import type { LiveSocket } from '../../gateway/live-sockets.ts';
import type { Route } from '../../gateway/route.ts';
import { CloseCode } from '../../wire/close-codes.ts';
import type { Assembly } from './build.ts';

/** What rules are: those of the configuration that counts now. */
type Rules = Pick<Assembly, 'addresses' | 'closeCodes' | 'limits' | 'logger' | 'routes' | 'users'>;

/** What clients are told. */
export const ROUTE_GONE = 'the route is gone';
const NOT_ALLOWED = 'not allowed any more';

/** The route that an open WebSocket is of now; undefined: it is gone, or takes no WebSockets any more. */
export function routeNow({ route }: LiveSocket, routes: ReadonlyMap<string, Route>): Route | undefined {
  const now = routes.get(route.name);
  const takesSockets = now?.target.kind === 'endpoint' || (now?.target.kind === 'upstream' && now.target.relay);
  return takesSockets ? now : undefined;
}

/**
 * Holds an open WebSocket to rules that have changed: 1008 where it may not stay. Where it may, it counts in the limits
 * that hold for its route now.
 */
export function holdToRules(live: LiveSocket, rules: Rules): void {
  const route = routeNow(live, rules.routes);
  if (!route) return live.close(rules.closeCodes.goingAway, ROUTE_GONE);
  const refusal = judgeSocket(live, route, rules);
  live.route = route;
  live.seat?.moveTo(limitsOf(route, rules));
  if (!refusal) return;
  const { clientAddress: address, id: connectionId } = live;
  rules.logger.info(
    { event: 'socket-refused', address, route: route.name, connectionId },
    `an open WebSocket may not stay by the rules that hold now: ${refusal.reason}`,
  );
  live.close(CloseCode.policyViolation, NOT_ALLOWED);
}
