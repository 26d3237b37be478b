import type { ConstraintConfig } from '../../config/config.ts';
import type { Constraint } from '../../gateway/routing/constraints.ts';
import type { RouteEntry } from '../../gateway/routing/router.ts';

/**
 * The constraints of an application by path and method, with what they refuse because none of a path names it.
 *
 * @param toConstraint Called once for each; the name is that of its paths.
 */
export function constraintEntries(
  constraints: readonly ConstraintConfig[],
  mount: string,
  toConstraint: (constraint: ConstraintConfig, name: string, index: number) => Constraint,
): RouteEntry<Constraint>[] {
  const entries = constraints.flatMap((constraint, index) => {
    const { paths, methods } = constraint;
    const name = paths.map(path => mount + path).join(', ');
    const value = toConstraint(constraint, name, index);
    return paths.map(path => ({ pattern: mount + path, name, ...(methods && { methods }), value }));
  });
  return [...entries, ...otherMethodsOf(constraints, mount)];
}

/** What no constraint of a path names: refused, unless all of them let it be. */
function otherMethodsOf(constraints: readonly ConstraintConfig[], mount: string): RouteEntry<Constraint>[] {
  const kinds = new Map<string, Constraint['kind'] | undefined>();
  for (const { paths, methods, otherMethods = 'refuse' } of constraints)
    for (const path of paths) {
      const isNamed = kinds.has(path) && kinds.get(path) === undefined;
      if (methods === undefined || isNamed) kinds.set(path, undefined);
      else if (otherMethods === 'refuse') kinds.set(path, 'refuse');
      else if (!kinds.has(path)) kinds.set(path, 'open');
    }
  return [...kinds].flatMap(([path, kind]) => {
    const name = mount + path;
    return kind ? [{ pattern: name, name, value: { name, kind, policies: [] } }] : [];
  });
}
