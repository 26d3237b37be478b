/**
 * What is known of a request whoever answers it. Everything in it may come from the network and is escaped when
 * written.
 */
export interface AccessFacts {
  readonly clientAddress: string;
  readonly method: string;
  /** As on the request line. Values of query parameters that look like secrets are not written. */
  readonly target: string;
  readonly httpVersion: string;
  /** The route's name. */
  readonly route?: string;
  /** The upstream that the request was taken to, and the URL of its server, as far as one was chosen. */
  readonly upstream?: string;
  readonly server?: string;
  /** Names the request, in our logs and to its backend. */
  readonly requestId?: string;
  /** As the client asked for it: the `Host`, or what a trusted proxy reports. */
  readonly host?: string;
  /** Who the client is, by credentials of the request or by its session. */
  readonly user?: string;
  /** The whole `sid`: its first 8 characters are written. */
  readonly sid?: string;
  readonly referer?: string;
  readonly userAgent?: string;
  /** Of the W3C trace that the request belongs to. */
  readonly traceId?: string;
  /** For a `LogFormat` only, and there only when one is written. */
  readonly detail?: RequestDetail;
}

/** What a `LogFormat` can ask for besides. It is asked when the line is written. */
export interface RequestDetail {
  /** When the request came, in ms since the epoch. */
  readonly startedAt: number;
  /** How long it took, with fractions of a ms. */
  readonly elapsedMs: number;
  /** The first header of this name, as it came or was sent. Names without case. */
  header(name: string): string | undefined;
  responseHeader(name: string): string | undefined;
  trailer(name: string): string | undefined;
  /** The other end of the connection, whoever the client is. */
  readonly peerAddress: string;
  readonly peerPort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** The port that clients use. */
  readonly publicPort: number;
  /** Requests that came before it on its connection. */
  readonly earlierRequests: number;
  /** Bytes on the wire since the line before of this connection; unknown for HTTP/2, whose requests share them. */
  readonly wire: { readonly received: number; readonly sent: number } | undefined;
  /** Does the connection go on behind the answer? */
  readonly isKept: boolean;
  /** What answers, in Apache's words where it has one: `proxy-server`. */
  readonly handler: string | undefined;
  /** A variable of mod_ssl. */
  tlsVariable(name: string): string | undefined;
  /** The request id, if there is a line of this request in the server's own log. */
  readonly logId: string | undefined;
}

export interface RequestEntry extends AccessFacts {
  readonly status: number;
  /** Bytes of the response body that were written to the client. One that leaves may not have taken all of them. */
  readonly bytesSent: number;
  /** False for what broke off, whichever side has gone. */
  readonly complete: boolean;
  readonly durationMs: number;
}

/** What went through a socket. */
export interface SocketTraffic {
  /** The same in the line of the opening and that of the closing. */
  readonly connectionId: string;
  readonly messagesReceived?: number;
  readonly messagesSent?: number;
  readonly bytesReceived?: number;
  readonly bytesSent?: number;
}

export type SocketCloser = 'client' | 'server' | 'backend' | 'lost';

export interface SocketClosedEntry extends AccessFacts, SocketTraffic {
  readonly closeCode: number;
  readonly closeReason?: string;
  /** Who began to close it; `lost`: nobody, the connection broke. */
  readonly closedBy?: SocketCloser;
  readonly durationMs: number;
}

export type SocketOpenedEntry = AccessFacts & Pick<SocketTraffic, 'connectionId'>;
