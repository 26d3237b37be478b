import { type Refusal, refuse } from '../http/refusal.ts';
import type { Authentication } from '../policy/auth/authentication.ts';
import type { HandshakeHead } from '../policy/policy.ts';
import type { Route } from './route.ts';
import type { Constraint } from './routing/constraints.ts';

/**
 * What is asked of a path beyond its route: of constraints around each other all hold.
 *
 * @returns who may use it (undefined: nobody is asked for), or why this request may not.
 */
export function demandsOn(
  head: HandshakeHead,
  route: Route,
): { readonly authentication: Authentication | undefined } | Refusal {
  let { authentication } = route;
  for (const constraints of route.constraints ?? []) {
    const constraint = constraints.find(head);
    const isPage = route.target.kind === 'page';
    if (constraint?.kind === 'refuse' && !isPage)
      return refuse(403, 'ERR_AUTH_FORBIDDEN', `the constraint on ${constraint.name} does not name ${head.method}`);
    for (const policy of constraint?.policies ?? []) {
      const refusal = policy(head);
      if (refusal) return refusal;
    }
    // Whoever has to sign in has not yet.
    if (!isPage) authentication = joined(constraint, authentication, route);
  }
  return { authentication };
}

/** Roles alone are asked of the users of the route, whoever finds them there: they never let in by another scheme. */
function joined(
  constraint: Constraint | undefined,
  ofRoute: Authentication | undefined,
  { place }: Route,
): Authentication | undefined {
  if (!constraint?.authentication) return ofRoute;
  const own = constraint.authentication.at(place);
  return ofRoute && !constraint.namesSchemes ? ofRoute.also(own) : own.also(ofRoute);
}
