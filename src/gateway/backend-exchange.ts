import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { RequestHead } from '../http/request-head.ts';
import type { OwnNames } from './backend-headers.ts';
import type { Upstream } from './upstream.ts';

/** What taking a request to a backend needs, be it forwarded or relayed. */
export interface BackendExchange {
  readonly head: RequestHead;
  readonly upstream: Upstream;
  /** The `sid` of the live session; left out when there is none. */
  readonly sid?: string | undefined;
  /** Taken out of what the backend gets, and of what it sets. */
  readonly own: OwnNames;
  readonly clock: Clock;
  readonly logger: Logger;
}
