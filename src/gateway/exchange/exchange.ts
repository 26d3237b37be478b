import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Refusal } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { HeaderLine } from '../../session/identity/tracking.ts';
import type { PathRewrite } from '../routing/path-rewrite.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { OwnNames } from './headers.ts';

/**
 * What the session of one exchange tells the backend beside its `sid`, and what it learns from the answer.
 *
 * Where there is none, nothing is waited for.
 */
export interface BackendSession {
  /** Headers for the backend. A client's copies of them are removed, in every spelling. What it rejects with ends the exchange. */
  requestHeaders(): readonly HeaderLine[] | Promise<readonly HeaderLine[]>;
  /**
   * The backend has given its final answer, a 101 included, and the client has not heard of it. Told once. MUST NOT reject.
   *
   * @param rawHeaders The answer's, name, value, name, value ...
   * @param by Who gave it, and with which status.
   * @returns headers to add to the answer, which then is private; or a refusal that takes its place; undefined: it is passed on at once.
   */
  answered(rawHeaders: readonly string[], by: AnsweredBy): Heard | undefined | Promise<Heard | undefined>;
}

export interface AnsweredBy {
  readonly status: number;
  readonly server: UpstreamServer;
}

export type Heard = readonly HeaderLine[] | Refusal;

/** What taking a request to a backend needs, be it forwarded or relayed. */
export interface BackendExchange {
  readonly head: RequestHead;
  readonly upstream: Upstream;
  /** The `sid` of the live session; left out when there is none. */
  readonly sid?: string | undefined;
  /** What ties the client to a server under affinity by session: the backend's own session, where there are two, as that is where it is kept. Default: the `sid`. */
  readonly affinityKey?: string | undefined;
  readonly session?: BackendSession | undefined;
  /** The route's paths as the backend knows them; left out when they are the same. */
  readonly rewrite?: PathRewrite | undefined;
  /** Taken out of what the backend gets, and of what it sets. */
  readonly own: OwnNames;
  readonly clock: Clock;
  readonly logger: Logger;
}
