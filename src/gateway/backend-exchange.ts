import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { Upstream } from './upstream.ts';

/** What taking a request to a backend needs, be it forwarded or relayed. */
export interface BackendExchange {
  readonly head: RequestHead;
  readonly upstream: Upstream;
  /** The `sid` of the live session; left out when there is none. */
  readonly sid?: string | undefined;
  /** Names of our session cookies: taken out of what the backend gets, and of what it sets. */
  readonly ownCookies: ReadonlySet<string>;
  readonly clock: Clock;
  readonly logger: Logger;
}
