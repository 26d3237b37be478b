import type { ServerResponse } from 'node:http';
import { isEventStream } from '../../http/event-stream.ts';
import type { Assembly } from './build.ts';
import { isSameRoute, routeNow } from './known-routes.ts';
import type { RunningAnswer } from './life.ts';

/**
 * Ends an event stream that a route of a former configuration has begun, or is about to begin, where that is another one
 * now, or its client may not come in any more. It opens it again, and is answered by what holds now.
 *
 * @param rules Those of the configuration that counts now.
 */
export function endIfStale(
  response: ServerResponse,
  { route, head }: RunningAnswer,
  { routes, addresses }: Pick<Assembly, 'routes' | 'addresses'>,
): void {
  if (isSameRoute(route, routeNow(route, routes)) && !addresses?.(head)) return;
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
