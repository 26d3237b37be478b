import type { HeaderLine } from '../../http/header-line.ts';
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
  /** Follows it. */
  readonly trace?: ExchangeTrace | undefined;
}

/** Follows an exchange with a backend. Nothing of it throws. */
export interface ExchangeTrace {
  /** What backends are to be told of the trace, in the place of the client's headers. */
  contextHeaders(): readonly HeaderLine[];
  /** The request goes to a backend with these headers: name, value, name, value … */
  sent(headers: readonly string[]): void;
  /** Called for each server that is tried. */
  chosen(server: TracedServer): void;
  /** A server gave no usable answer. */
  failed(server: TracedServer, reason: string): void;
}

/** A server of an upstream that a request is given to. */
export interface TracedServer {
  readonly upstream: string;
  readonly url: string;
  /** In a few words: affinity, balance, or that another has failed. */
  readonly why: string;
}

/** The status in logs of what was not answered, because its client was gone. As nginx. */
export const CLIENT_GONE_STATUS = 499;

/** A request that is over. How it was answered, the response says. */
export interface Forwarded {
  readonly server: UpstreamServer;
  /** False: the client was gone before there was an answer. */
  readonly isAnswered: boolean;
}
