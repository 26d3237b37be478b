import { KEPT_IN_SESSION } from './auth-rules.ts';
import { broughtManager } from './brought-manager.ts';
import type { ApplicationConfig, Config, PolicyConfig, RouteConfig } from './config.ts';
import { type BrokenRule, title } from './fields.ts';

/** A route that has sessions, and whether it asks who its requests are from. */
interface Use {
  readonly at: readonly PropertyKey[];
  readonly route: RouteConfig;
  readonly isProtected: boolean;
}

/**
 * A session belongs to the user that a protected route has found. Where users show who they are with each request, a
 * route that does not ask sees such a session without its user and attributes: pages work for some and not for others.
 *
 * @see IBM WebSphere, "Protect all or none"
 */
export function* checkAllOrNone(config: Config): Generator<BrokenRule> {
  const uses = new Map<unknown, Use[]>();
  collect(config, ['routes'], config.session, config.policy ?? {}, config, uses);
  for (const ofContext of uses.values()) {
    const open = ofContext.find(({ isProtected }) => !isProtected);
    const guarded = ofContext.find(({ isProtected }) => isProtected);
    if (!open || !guarded) continue;
    yield {
      path: [...open.at, 'policy'],
      message: `${title(open.route)} is open and ${title(guarded.route)} asks for a user, on the same sessions: what the one keeps the other cannot see, and a session begun here is taken over by the first user there. Protect all or none: give both the same "auth", or "session: none" to the open one`,
    };
  }
}

function collect(
  { routes = [] }: ApplicationConfig,
  path: readonly PropertyKey[],
  session: Config['session'],
  outer: PolicyConfig,
  config: Config,
  uses: Map<unknown, Use[]>,
): void {
  if (session === false) return;
  const context = broughtManager(session) ?? session;
  for (const [index, route] of routes.entries()) {
    const at = [...path, index];
    const policy = { ...outer, ...route.policy };
    if (route.mount !== undefined) {
      const own = route.application ?? {};
      collect(own, [...at, 'application', 'routes'], own.session ?? session, policy, config, uses);
    } else if (hasSession(route, config)) {
      const ofContext = uses.get(context) ?? [];
      uses.set(context, [...ofContext, { at, route, isProtected: asksEachTime(policy.auth, config) }]);
    }
  }
}

/** By its own word, or because nothing is said and its target has them by default. */
function hasSession({ session, upstream, files, fetch, redirect }: RouteConfig, config: Config): boolean {
  if (session !== undefined) return session !== 'none';
  const isObserved = config.upstreams?.[upstream ?? '']?.session?.mode === 'observed';
  return !isObserved && redirect === undefined && (files === undefined || fetch !== undefined);
}

function asksEachTime(auth: PolicyConfig['auth'], { auth: schemes = {} }: Config): boolean {
  if (auth === undefined || auth === false) return false;
  return [auth].flat().some(name => !KEPT_IN_SESSION.includes(schemes[name]?.type ?? 'session'));
}
