/** What is wrong with a `rewrite` for the route patterns whose place it takes. */
export type RewriteFault =
  /** It ends with `/*`, but what follows the prefix is appended anyway. */
  | { readonly fault: 'star' }
  /** It ends with `/` where the rest of a prefix follows. */
  | { readonly fault: 'slash' }
  /** It has a parameter (`:name`) that the pattern `path` does not have. */
  | { readonly fault: 'parameter'; readonly parameter: string; readonly path: string };

/**
 * The faults of a rewrite, in the order in which to report them. Both sides are read as they are written: whether each
 * is a route pattern is a question of its own (`readRoutePattern`).
 */
export function rewriteFaults(paths: readonly string[], to: string): RewriteFault[] {
  const faults: RewriteFault[] = [];
  if (to.endsWith('/*')) faults.push({ fault: 'star' });
  if (to.length > 1 && to.endsWith('/') && paths.some(path => path.endsWith('/*'))) faults.push({ fault: 'slash' });
  for (const parameter of to.split('/').filter(segment => segment.startsWith(':'))) {
    const path = paths.find(one => !one.split('/').includes(parameter));
    if (path !== undefined) faults.push({ fault: 'parameter', parameter, path });
  }
  return faults;
}
