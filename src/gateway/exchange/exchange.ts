import type { RequestHead } from '../../http/request-head.ts';
import type { BackendSession } from '../backend-session/backend-session.ts';
import type { PathRewrite } from '../routing/path-rewrite.ts';
import type { UpstreamServer } from '../upstream/server.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { UrlClient } from './url-client.ts';

/** What taking a request to a backend needs, be it forwarded or relayed. */
export interface BackendExchange {
  readonly head: RequestHead;
  readonly upstream: Upstream;
  /** The `sid` of the live session; left out when there is none. */
  readonly sid?: string | undefined;
  /**
   * What ties the client to a server under affinity by session: the backend's own session, where there are two, as that
   * is where it is kept. Default: the `sid`.
   */
  readonly affinityKey?: string | undefined;
  readonly session?: BackendSession | undefined;
  /** The route's paths as the backend knows them; left out when they are the same. */
  readonly rewrite?: PathRewrite | undefined;
  /** Left out for a client that shows its session by other means than links. */
  readonly urlClient?: UrlClient | undefined;
}

/** The status in logs of what was not answered, because its client was gone. As nginx. */
export const CLIENT_GONE_STATUS = 499;

/** A request that is over. How it was answered, the response says. */
export interface Forwarded {
  readonly server: UpstreamServer;
  /** False: the client was gone before there was an answer. */
  readonly isAnswered: boolean;
}
