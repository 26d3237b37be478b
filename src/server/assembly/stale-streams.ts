import type { ServerResponse } from 'node:http';
import type { Route } from '../../gateway/route.ts';
import { isEventStream } from '../../http/event-stream.ts';
import { isSameRoute, type KnownRoutes, routeNow } from './known-routes.ts';

/**
 * Ends an event stream that a route of a former configuration has begun, or is about to begin, where that is another one
 * now. Its client opens it again, and is answered by what the route is now.
 */
export function endIfStale(response: ServerResponse, route: Route, routes: KnownRoutes): void {
  if (isSameRoute(route, routeNow(route, routes))) return;
  const end = () => {
    if (isEventStream(response)) response.end();
  };
  if (response.headersSent) end();
  else whenHeadLeaves(response, end);
}

/** Node has no event for it. */
function whenHeadLeaves(response: ServerResponse, callBack: () => void): void {
  const writeHead = response.writeHead.bind(response) as (...rest: unknown[]) => ServerResponse;
  response.writeHead = ((...rest: unknown[]) => {
    // What kind of answer it is may be noted after the head.
    setImmediate(callBack);
    return writeHead(...rest);
  }) as ServerResponse['writeHead'];
}
