import { isRefusal, type Refusal } from '../http/refusal.ts';
import type { Gateway } from './admit.ts';
import { demandsOn } from './demands-on.ts';
import type { LiveSocket } from './live-sockets.ts';
import type { Route } from './route.ts';

/**
 * May an open WebSocket stay by the rules that hold for its route now? Address, transport, origin and the user's right
 * are judged; of everything else it keeps what held when it opened.
 *
 * @returns why it may not.
 */
export function judgeSocket(
  live: LiveSocket,
  route: Route,
  gateway: Pick<Gateway, 'addresses' | 'users'>,
): Pick<Refusal, 'reason'> | undefined {
  const { head } = live;
  for (const policy of [gateway.addresses, ...(route.lastingPolicies ?? [])]) {
    const refusal = policy?.(head);
    if (refusal) return refusal;
  }
  const demands = demandsOn(head, route);
  return isRefusal(demands) ? demands : gateway.users.judgeAgain(live.socket, demands.authentication);
}
