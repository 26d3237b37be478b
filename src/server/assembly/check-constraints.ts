import { KEPT_IN_SESSION, possibleRolesOf } from '../../config/auth-rules.ts';
import type { Config } from '../../config/config.ts';
import { title } from '../../config/fields.ts';
import type { Doubt } from '../../config/warning-codes.ts';
import { type AskedUsers, askedUsers } from './asked-users.ts';

/**
 * Where constraints and routes together ask for less than one of them, or for what nobody has: each with the first route
 * where it is so.
 */
export function* checkConstraints(config: Config): Generator<Doubt> {
  const said = new Set<string>();
  for (const users of askedUsers(config)) {
    // What a route asks for alone is judged with it.
    if (!users.askers.some(({ isConstraint }) => isConstraint)) continue;
    for (const problem of [...weakened(users), ...impossible(users, config), ...sessionless(users, config)]) {
      const key = JSON.stringify(problem.path);
      if (!said.has(key)) yield problem;
      said.add(key);
    }
  }
}

/** A constraint's schemes count in the place of others: who shows one of these alone comes in by it. */
function* weakened({ replaced, path }: AskedUsers): Generator<Doubt> {
  for (const { by, of, before, others } of replaced)
    yield {
      code: 'constraint-weakened',
      path: [...by.at, 'auth'],
      message: `${by.title} lets in users of ${listed(others)} at ${path}, where ${of.title} asks for users of ${listed(before)}: its schemes count in the place of those. Name some of those alone, or add ${listed(others)} to the "auth" of ${of.title}, if their users may come in there, too`,
    };
}

/** Users of the schemes that count in the end can have none of the roles that one of them asks for. */
function* impossible({ askers, schemes = [], path }: AskedUsers, config: Config): Generator<Doubt> {
  const possible = possibleRolesOf(schemes, config.auth ?? {});
  if (!possible) return;
  for (const { title: of, at, roles } of askers) {
    if (!roles || roles.length === 0 || roles.some(role => role === 'valid-user' || possible.has(role))) continue;
    yield {
      code: 'nobody-comes-in',
      path: [...at, 'roles'],
      message: `${of}: nobody comes in at ${path}, where users of ${listed(schemes)} are asked for, and none of them can have the role ${roles.map(role => JSON.stringify(role)).join(' or ')}`,
    };
  }
}

/** A login is kept in a session, and there is none. */
function* sessionless(
  { askers, schemes = [], neverHasSession, route, path }: AskedUsers,
  config: Config,
): Generator<Doubt> {
  const isKept = schemes.length > 0 && schemes.every(name => KEPT_IN_SESSION.includes(config.auth?.[name]?.type));
  if (!isKept || !neverHasSession) return;
  const asker = askers.findLast(one => one.schemes) ?? askers.at(-1)!;
  yield {
    code: 'nobody-comes-in',
    path: [...asker.at, 'auth'],
    message: `${asker.title}: nobody comes in at ${path}: a session keeps who has signed in, and ${title(route)} has none`,
  };
}

function listed(names: readonly string[]): string {
  return names.map(name => JSON.stringify(name)).join(', ');
}
