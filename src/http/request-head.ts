import type { IncomingHttpHeaders } from 'node:http';

/**
 * The facts of one request, taken from the wire once and judged by every later step.
 *
 * It holds strings and numbers only, never the request object, so that keeping it keeps nothing else alive.
 */
export interface RequestHead {
  readonly method: string;
  /** The request target as it stood on the request line. For logs; never for decisions. */
  readonly target: string;
  /** The path after percent-decoding of unreserved characters, merging of `//` and removal of dot segments. Decisions use this. */
  readonly path: string;
  /** The query without its `?`; `''` when there is none. */
  readonly query: string;
  readonly httpVersion: string;
  /** Lower-case names; repeated headers joined as Node does. */
  readonly headers: IncomingHttpHeaders;
  /** Name, value, name, value ... as received. */
  readonly rawHeaders: readonly string[];
  /** The `Host` header, lower-case, with its port when it has one. */
  readonly host: string;
  /** The other end of the TCP connection. */
  readonly peerAddress: string;
  readonly peerPort: number;
  /** Who the client is, after trusted proxies were taken into account. */
  readonly clientAddress: string;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /** True when the request asks for `Upgrade: websocket`. */
  readonly isUpgrade: boolean;
}
