import { KEPT_IN_SESSION } from '../../config/auth-rules.ts';
import type { Config } from '../../config/config.ts';
import { title } from '../../config/fields.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { type AskedUsers, askedUsers } from './asked-users.ts';

/**
 * A session belongs to the user that a protected path has found. Where users show who they are with each request, a path
 * that does not ask sees such a session without its user and attributes: pages work for some and not for others.
 *
 * @see IBM WebSphere, "Protect all or none"
 */
export function* checkAllOrNone(config: Config): Generator<Doubt> {
  const uses = Map.groupBy(
    askedUsers(config).filter(({ sessions }) => sessions !== undefined),
    ({ sessions }) => sessions,
  );
  for (const ofContext of uses.values()) {
    const guarded = ofContext.find(use => asksEachTime(use, config));
    const open = ofContext.find(use => !asksEachTime(use, config));
    if (!open || !guarded) continue;
    yield {
      code: 'protect-all-or-none',
      path: [...open.at, 'policy'],
      message: `${openTitle(open, ofContext)} is open and ${guarded.askers.at(-1)!.title} asks for a user, on the same sessions: what the one keeps the other cannot see, and a session begun here is taken over by the first user there. Protect all or none: give both the same "auth", or "session: none" to the open one`,
    };
  }
}

/** Of a route that is open in part only, with a path where it is. */
function openTitle({ route, at, path }: AskedUsers, uses: readonly AskedUsers[]): string {
  const isWhole = uses.filter(use => use.at === at).length === 1;
  return isWhole ? title(route) : `${title(route)} (as at ${path})`;
}

function asksEachTime({ schemes }: AskedUsers, { auth = {} }: Config): boolean {
  return schemes?.some(name => !KEPT_IN_SESSION.includes(auth[name]?.type ?? 'session')) ?? false;
}
