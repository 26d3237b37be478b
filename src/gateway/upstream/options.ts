import { type Duration, parseDuration } from '../../base/duration.ts';
import { parseSize, type Size } from '../../base/size.ts';
import { MAX_HEAD_BYTES } from '../../http/response-head.ts';
import type { UpstreamIdentityOptions } from '../backend-session/identity.ts';
import type { UpstreamSessionConfig } from '../backend-session/observed/options.ts';
import type { DialerOptions, UpstreamTls } from '../connection/dialer.ts';
import type { ConnectionPoolOptions } from '../connection/pool.ts';
import type { AffinityKind, AffinityOptions } from './affinity.ts';
import type { Balance } from './balancing.ts';
import type { UpstreamCookiesConfig } from './cookies.ts';
import type { EjectionOptions } from './ejection.ts';
import type { UpstreamServerOptions } from './server.ts';

export interface UpstreamServerConfig {
  /** `http://host:port`, `https:`, `ws:`, `wss:` (the same as `http:` and `https:`), or `unix:/path/of/socket`. */
  url: string;
  /** Its share of the work relative to the other servers. Default 1. */
  weight?: number;
  /** With affinity by `route`: the suffix of session ids that belong to it. */
  route?: string;
}

export interface UpstreamHealthConfig {
  /** Asked for with GET. Default `/`. */
  path?: string;
  /** The check is a WebSocket handshake, which must be answered with a good 101. Default false. */
  websocket?: boolean;
  /** The lowest and the highest status that is well. Default `[200, 399]`. */
  status?: readonly [lowest: number, highest: number];
  /** Sent with each check. `Host` is `localhost` unless it is named here. */
  headers?: Readonly<Record<string, string>>;
  /** Between two checks. Default `10s`. */
  interval?: Duration;
  /** A check that takes longer has failed. Default `5s`. */
  timeout?: Duration;
  /** Checks in a row that must fail before the server is out of service. Default 2. */
  unhealthyAfter?: number;
  /** Checks in a row that must succeed before it is back. Default 2. */
  healthyAfter?: number;
}

export interface UpstreamEjectionConfig {
  /**
   * Requests in a row that a server may fail: broken off, answered wrongly, or too slow. Default 5. One without a
   * connection is out at once.
   */
  failures?: number;
  /** How long it is left alone the first time; doubled each time that it still fails. Default `1s`. */
  time?: Duration;
  /** Default `30s`. */
  maxTime?: Duration;
}

export interface UpstreamOptions extends UpstreamIdentityOptions {
  /**
   * `http://host:port`, `https:`, `ws:` and `wss:` (the same as `http:` and `https:`), `unix:/path/of/socket`; or one
   * of them with options.
   */
  servers: readonly (string | UpstreamServerConfig)[];
  /**
   * Who takes a request that is tied to no server: `round-robin` (default), `least-connections` (both by weight),
   * `in-order`: the first in service.
   */
  balance?: Balance;
  /**
   * What ties a client to a server: `session` (default), `route`, `cookie`, `address`, `none`; or one of them with
   * options.
   */
  affinity?: AffinityKind | AffinityOptions;
  /** Active checks. Default: none. */
  health?: UpstreamHealthConfig;
  /** Servers that fail are out of service for a while. `false`: they never are. */
  ejection?: UpstreamEjectionConfig | false;
  /**
   * Other servers that a request may be given when one cannot be reached. Default 3; 0 none. All together at most a
   * fifth of the requests.
   */
  retries?: number;
  /**
   * Connections to one server for HTTP requests at the same time, those that are signed in (NTLM, Negotiate) included;
   * more requests wait up to the connect timeout. Default 1024.
   */
  maxConnections?: number;
  /** Idle connections kept per server. Default 128. */
  maxIdleConnections?: number;
  /**
   * Age of an idle connection at which it is closed. Default `60s`; sooner when the server has said so (`Keep-Alive:
   * timeout=`).
   */
  idleConnectionTimeout?: Duration;
  /** Until a connection is open, TLS included. Default `5s`. */
  connectTimeout?: Duration;
  /** From the request sent to the response head. Default `60s`. */
  answerTimeout?: Duration;
  /** From the upgrade sent to its answer. Default `10s`. */
  handshakeTimeout?: Duration;
  /**
   * Largest head of an answer, and the same for its trailers; larger: 502. Default `64KiB`; -1 is refused. Clients have limits
   * of their own.
   */
  maxHeaderSize?: Size;
  /** Largest request body. Default `1GiB`; larger: 413; -1 no limit. It is never kept: it streams. */
  maxBodySize?: Size;
  /**
   * As the one of the server, for requests to this upstream. Default: the server's; -1: neither it nor `clientRate`
   * counts.
   */
  clientTimeout?: Duration;
  /**
   * Whose sessions they are: ours (`mode: managed`, default), or the backend's own, which we watch (`mode: observed`).
   */
  session?: UpstreamSessionConfig;
  /**
   * How browsers know the upstream's cookies. Default: as it sets them, but for a `Domain` that is not the public
   * host's.
   */
  cookies?: UpstreamCookiesConfig;
}

export function connectionOptions(
  upstream: string,
  options: UpstreamOptions,
  tls: UpstreamTls | undefined,
): DialerOptions & ConnectionPoolOptions {
  return {
    upstream,
    connectTimeoutMs: parseDuration(options.connectTimeout ?? '5s'),
    maxConnections: options.maxConnections ?? 1024,
    maxIdleConnections: options.maxIdleConnections ?? 128,
    maxHeadBytes: parseSize(options.maxHeaderSize ?? MAX_HEAD_BYTES),
    idleTimeoutMs: parseDuration(options.idleConnectionTimeout ?? '60s'),
    tls,
  };
}

export function ejectionOptions({
  failures = 5,
  time = '1s',
  maxTime = '30s',
}: UpstreamEjectionConfig): EjectionOptions {
  return { failures, timeMs: parseDuration(time), maxTimeMs: parseDuration(maxTime) };
}

export function healthOptions(config: UpstreamHealthConfig): UpstreamServerOptions['health'] {
  return {
    path: config.path ?? '/',
    isWebSocket: config.websocket ?? false,
    status: config.status ?? [200, 399],
    headers: config.headers ?? {},
    intervalMs: parseDuration(config.interval ?? '10s'),
    timeoutMs: parseDuration(config.timeout ?? '5s'),
    unhealthyAfter: config.unhealthyAfter ?? 2,
    healthyAfter: config.healthyAfter ?? 2,
  };
}
