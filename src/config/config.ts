import type { Duration } from '../base/duration.ts';
import type { Size } from '../base/size.ts';
import type { FetchHandler } from '../gateway/fetch-target.ts';
import type { SessionStore } from '../session/store.ts';
import type { Endpoint } from '../websocket/endpoint.ts';
import type { DispatchOptions } from '../websocket/endpoint-options.ts';

/**
 * The one document that describes a server. The same shape in YAML, JSON, `holdfast.config.ts` and `createServer(...)`;
 * only the last two can hold live objects (endpoints, fetch handlers, stores).
 */
export interface Config {
  /** Where to listen. Default: one listener on port 8080. */
  listen?: readonly ListenConfig[];
  /** `false`: no sessions at all. Default: sessions in memory. */
  session?: SessionConfig | false;
  upstreams?: Readonly<Record<string, UpstreamConfig>>;
  routes?: readonly RouteConfig[];
  /** Globs of modules whose exported endpoints are served without a route: declared is deployed. Relative to the file, or to the working directory. */
  endpoints?: readonly string[];
  /** Named dispatch policies that endpoints share (work managers). */
  dispatch?: Readonly<Record<string, DispatchOptions>>;
  /** Addresses or CIDR blocks of proxies whose `Forwarded` and `X-Forwarded-*` headers are believed. Default none. */
  trustedProxies?: readonly string[];
  /** Time a client may take to send its request head. Default `10s`; -1 is refused. */
  headerTimeout?: Duration;
  /** Largest request head. Default `16KiB`; larger: 431; -1 is refused. */
  maxHeaderSize?: Size;
  /** Largest request body that a fetch handler gets. Default `1MiB`; larger: 413; -1 no limit. An upstream has limits of its own. */
  maxBodySize?: Size;
  /** Where generated keys and the default store live. Default `.holdfast`. */
  dataFolder?: string;
  log?: LogConfig;
}

export interface ListenConfig {
  /** 0 picks a free one. */
  port: number;
  /** Address to bind. Default: every address. */
  host?: string;
  tls?: { /** PEM file. */ certificate: string /** PEM file. */; key: string };
}

export interface SessionConfig {
  /** `memory:`, `lmdb:PATH`, or a store object. Default `memory:`. */
  store?: string | SessionStore;
  cookie?: SessionCookieConfig;
  /** Silence after which a session ends. Default `30m`; -1 never. */
  idleTimeout?: Duration;
  /** Age at which a session ends whatever happens. Default `12h`; -1 never. */
  absoluteTimeout?: Duration;
  /** Largest encoded attribute. Default `1MiB`. */
  maxAttributeSize?: Size;
  /** Sessions the `memory:` store holds at most; more: 503. Default 100,000. */
  maxSessions?: number;
  /** Does WebSocket traffic keep the session alive? `message` (default): messages of the peer; `any`: every frame; `never`. */
  touchOnTraffic?: 'message' | 'any' | 'never';
}

export interface SessionCookieConfig {
  /** Used letter for letter. Default `__Host-holdfast` when every listener is TLS and neither domain nor path is set, else `holdfast`. */
  name?: string;
  domain?: string;
  /** Default `/`. */
  path?: string;
  /** Default `lax`. */
  sameSite?: 'strict' | 'lax' | 'none';
}

export interface UpstreamConfig {
  /** `http://host:port`, in order of preference. */
  servers: readonly string[];
  /** Default `5s`. */
  connectTimeout?: Duration;
  /** From the request sent to the response head. Default `60s`. */
  answerTimeout?: Duration;
  /** From the upgrade sent to its answer. Default `10s`. */
  handshakeTimeout?: Duration;
  /** Name of the header that carries the session's `sid` to the backend. Default `X-Session-ID`. */
  sessionHeader?: string;
}

/** A route names what it matches and exactly one target: `endpoint`, `fetch`, `upstream`, `files`, `redirect`, or `mount`. */
export interface RouteConfig {
  /** For logs and reload. Default: host and path. */
  name?: string;
  /** Exact host name, or `*.example.com`. Default: every host. */
  host?: string;
  /** `/a` exact, `/a/:b` template, `/a/*` prefix (by segment; also matches `/a`). Not needed with `endpoint` or `mount`. */
  path?: string | readonly string[];
  /** Default: every method. Another method: 405 with `Allow`. */
  methods?: readonly string[];
  /** Default `auto`: read when the client has one, created on document navigation only. */
  session?: 'none' | 'existing' | 'create' | 'auto';
  endpoint?: Endpoint<unknown>;
  fetch?: FetchHandler;
  /** Name of an upstream. */
  upstream?: string;
  /** Folder of static files. */
  files?: string;
  /** Absolute URL or path. Answers 308. */
  redirect?: string;
  /** Prefix under which a whole application is served. */
  mount?: string;
  /** With `mount`: the application. */
  application?: ApplicationConfig;
  /** May this route be upgraded? Default true for upstreams. */
  websocket?: boolean | WebSocketRouteConfig;
  policy?: PolicyConfig;
}

/** A whole application with paths relative to its mount point. */
export interface ApplicationConfig {
  routes?: readonly RouteConfig[];
  endpoints?: readonly string[];
  files?: string;
  fetch?: FetchHandler;
  /** Its own session context: own cookie, own store. Default: the server's sessions. */
  session?: SessionConfig | false;
}

export interface WebSocketRouteConfig {
  /** Relay: no frame in either direction. Default `10m`. */
  idleTimeout?: Duration;
  /** Relay: largest message in bytes on the wire; larger: 1009. Default `64KiB`. */
  maxMessageSize?: Size;
}

export interface PolicyConfig {
  /** Origins that may open a WebSocket. Default `['self']`; `'any'` takes every origin. */
  origins?: 'any' | readonly (string | RegExp)[];
  /** `confidential`: https and wss only, others 403. Default `any`. */
  transport?: 'any' | 'confidential';
}

export interface LogConfig {
  /** Default `info`. */
  level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** One line per finished request and per socket opened and closed, to stdout. Default `off`. */
  access?: 'json' | 'combined' | 'off';
}
