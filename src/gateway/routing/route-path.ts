import type { PathTolerance } from '../../http/path.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';

/** A request and what a prefix pattern left over of its path. */
export interface RoutedPath {
  readonly head: RequestHead;
  readonly rest: string;
}

/**
 * The path of a request as the target of its route gets it. Routes are matched on the path with single slashes; those
 * behind what the pattern has said come back here, where the route keeps them.
 *
 * @returns a refusal with 400 for an escaped backslash that the route does not take, and for a path whose dot segments
 * lead to different places with the slashes and without.
 */
export function routePath<T extends RoutedPath>(
  routed: T,
  { keepsSlashes, takesBackslash }: PathTolerance,
): T | Refusal {
  const { head, rest } = routed;
  const { path, pathWithSlashes: written } = head;
  if (!takesBackslash && path.includes('%5C')) {
    const reason =
      'the path has a backslash, which some servers read as a slash; where the application needs it, give its route "paths: { backslash: pass }"';
    return refuse(400, 'ERR_HTTP_BAD_REQUEST', reason, { headers: { Connection: 'close' } });
  }
  // Segments that are parameters alone are no segments to a pattern.
  if (!keepsSlashes || written === undefined || rest === '' || path.includes('/;')) return routed;
  if (written.replace(/\/{2,}/g, '/') !== path)
    return refuse(400, 'ERR_ROUTE_AMBIGUOUS', 'the path leads to different places with its double slashes and without');
  const matched = path.slice(0, path.length - rest.length).split('/').length - 1;
  const kept = written.slice(endOfSegments(written, matched));
  // At the beginning of a path, two slashes would be read as a host.
  const newRest = matched === 0 ? kept.replace(/^\/+/, '/') : kept;
  return { ...routed, rest: newRest, head: { ...head, path: path.slice(0, path.length - rest.length) + newRest } };
}

/** Where so many segments end that are not empty. */
function endOfSegments(path: string, count: number): number {
  let end = 0;
  for (let i = 0; i < count; i++) {
    while (path[end] === '/') end++;
    while (end < path.length && path[end] !== '/') end++;
  }
  return end;
}
