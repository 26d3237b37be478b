import type { Duration } from '../base/duration.ts';
import type { LogPart, LogThreshold } from '../base/logger.ts';
import type { ByteRateText, RateText } from '../base/rate.ts';
import type { Size } from '../base/size.ts';
import type { WebSocketRouteConfig } from '../gateway/relay/limits.ts';
import type { FetchHandler } from '../gateway/targets/fetch.ts';
import type { UpstreamOptions } from '../gateway/upstream/options.ts';
import type { AnomaliesConfig } from '../policy/anomaly-options.ts';
import type { BansConfig } from '../policy/ban/options.ts';
import type { CorsOptions } from '../policy/cors.ts';
import type { CustomPolicy, CustomPolicyConfig } from '../policy/custom.ts';
import type { InspectConfig } from '../policy/inspection.ts';
import type { WhenExceeded } from '../policy/limits/frame-limit.ts';
import type { TransportConfig } from '../policy/transport.ts';
import type { TrackingKind } from '../session/identity/tracking.ts';
import type { Ledger } from '../session/ledger.ts';
import type { LifetimeProfile, WriteProfile } from '../session/life/profiles.ts';
import type { UserLimit } from '../session/life/user-sessions.ts';
import type { SessionManager } from '../session/manager.ts';
import type { ConflictPolicy, WriteContents } from '../session/record/write-policy.ts';
import type { SessionStore } from '../session/store.ts';
import type { Endpoint } from '../websocket/connection.ts';
import type { DispatchOptions } from '../websocket/endpoint-options.ts';
import type { AuthConfig } from './auth-config.ts';
import type { WarningCode } from './warning-codes.ts';

/**
 * The one document that describes a server. The same shape in YAML, JSON, `holdfast.config.ts` and `createServer(...)`;
 * only the last two can hold live objects (endpoints, fetch handlers, stores).
 */
export interface Config {
  /** Where to listen. Default: one listener on port 8080. */
  listen?: readonly ListenConfig[];
  /**
   * `false`: no sessions at all. A `SessionManager`: the sessions that it keeps; the program that made it closes it.
   * Default: sessions in memory.
   */
  session?: SessionConfig | SessionManager | false;
  upstreams?: Readonly<Record<string, UpstreamConfig>>;
  /** A listener for backends, beside the public ones: the session API, and the keys of assertions. Default: none. */
  internal?: InternalConfig;
  /**
   * What a running server says of itself, and what can be changed while it runs. Default: with `holdfast serve` a Unix
   * socket in the data folder, for its owner; with `createServer` nothing. `false`: nothing.
   */
  admin?: AdminConfig | false;
  assertions?: AssertionsConfig;
  /** How users show who they are, by name: `policy.auth` of routes says which of these they take. */
  auth?: Readonly<Record<string, AuthConfig>>;
  routes?: readonly RouteConfig[];
  /** What is asked for on some paths, whatever route they have, as by `security-constraint` of `web.xml`. */
  constraints?: readonly ConstraintConfig[];
  /** What holds for every route that says nothing else. Its `addresses` are judged before a route is looked for. */
  policy?: PolicyConfig;
  /** What happens to clients that misbehave. Default: the jails count, and only log (`ban-due`). */
  bans?: BansConfig;
  /** What happens when a session is used as it was not before. Default: it is logged. `false`: nothing is looked at. */
  anomalies?: AnomaliesConfig | false;
  /**
   * Globs of modules whose exported endpoints are served without a route: declared is deployed. Relative to the file,
   * or to the working directory.
   */
  endpoints?: readonly string[];
  /** Named dispatch policies that endpoints share (work managers). */
  dispatch?: Readonly<Record<string, DispatchOptions>>;
  /**
   * Addresses or CIDR blocks of proxies whose `Forwarded`, `X-Forwarded-*` and PROXY headers are believed.
   * `X-Forwarded-Port` counts where the host has no port itself. A block holds addresses of its own family: `::/0` no
   * IPv4. Default none.
   */
  trustedProxies?: readonly string[];
  /** Time a client may take to send its request head. Default `10s`; -1 is refused. */
  headerTimeout?: Duration;
  /**
   * Connections that have not brought a request yet (their PROXY header, TLS handshake or first request head is under
   * way, or they send nothing), of all clients together: one more ends the one that has waited longest. Default 10000;
   * -1: no limit.
   */
  unusedConnections?: number;
  /**
   * The same for each address (an IPv6 /64 is one); one more ends the oldest of that address. Default 1000, and not for
   * addresses of private networks, behind which there may be an undeclared proxy; never for `trustedProxies`. -1: no
   * limit.
   */
  unusedConnectionsPerAddress?: number;
  /** Largest request head. Default `16KiB`; larger: 431; -1 is refused. */
  maxHeaderSize?: Size;
  /**
   * Largest request body that a fetch handler gets. Default `1MiB`; larger: 413; -1 no limit. An upstream has limits of
   * its own.
   */
  maxBodySize?: Size;
  /**
   * Silence of a client that is to send the rest of a body (408), or to take the rest of an answer (it is cut off).
   * Default `60s`; -1 is refused. An upstream may have its own.
   */
  clientTimeout?: Duration;
  /**
   * How long a client's connection is kept between two requests, on every listener, over HTTP/1 and HTTP/2; a part of a
   * second counts as a whole one over HTTP/1, where the answers say it (`Keep-Alive: timeout=`). Default `75s`, more than
   * the 60 s of most load balancers: a proxy in front must let go of a connection first, or requests that are on their
   * way are lost. -1 is refused.
   */
  keepAliveTimeout?: Duration;
  /**
   * Bytes a second, on average, that a client must send of a body or take of an answer, once it has owed them for 20 s.
   * Default `500B`; -1 any.
   */
  clientRate?: Size;
  /** Where generated keys and the default store live. Default `.holdfast`. */
  dataFolder?: string;
  /**
   * Free space, on the disks of the data folder and of `lmdb:` stores, below which nothing new is written (503);
   * reading and ending sessions go on. Default `64MiB`; -1 none.
   */
  diskReserve?: Size;
  /**
   * Answers that stand for one of a backend say why in `Holdfast-Reason`: `refused`, `busy`, `dns`, `tls`, `reset`,
   * `invalid`, `timeout`, `nomember`, `draining`. Default false: the log only.
   */
  exposeReason?: boolean;
  /**
   * The header in which backends get the id of a request, which logs have as well. One of a trusted proxy is taken when it
   * is valid (up to 128 letters, digits and `_.:@+/=-`), any other client's is removed. `false`: neither. Default
   * `X-Request-ID`.
   */
  requestId?: string | false;
  log?: LogConfig;
  /**
   * Warnings that are known and meant to stay: `check` and `serve` leave them out. A code is for the whole
   * configuration, a code with a path for what stands there. One that matches nothing is a warning itself. Default: none.
   */
  accept?: readonly (WarningCode | AcceptConfig)[];
  /**
   * Count what `/metrics` of the admin API and `server.metrics()` tell ([metrics](metrics.md)). Default: true with
   * `admin.port`, else false: nothing is counted, and nothing of it loaded.
   */
  metrics?: boolean;
  /**
   * Spans for OpenTelemetry ([tracing](../guides/tracing.md)). Default: when the program has registered an SDK before
   * the server starts. `true` also when that comes later; `false` never.
   */
  tracing?: boolean;
  /**
   * Processes that share the work ([worker processes](../guides/workers.md)), for `holdfast serve` only: 1 to 256, or
   * `auto` for one of each core that this process may use. Default 1: it does all itself.
   */
  workers?: number | 'auto';
  /** How it stops, and how WebSockets are let go of. */
  drain?: DrainConfig;
  /** Other close codes than the usual ones: many clients know 1012 to 1014 for 1002 only. */
  closeCodes?: CloseCodesConfig;
}

/** A warning that is known and meant to stay, at one place. */
export interface AcceptConfig {
  /** Its code, as `holdfast check` prints it. */
  warning: WarningCode;
  /** The path that `check` prints for it, or one that it is under: `listen[0].tls`, `upstreams.app`. */
  at: string;
}

export interface DrainConfig {
  /** How long a stop takes at most, before what is still open is cut. Default `10s`. */
  timeout?: Duration;
  /**
   * Over which time WebSockets are told to go, when the server stops, or a reload takes away their route or server. Evenly,
   * and in a random order, so that their clients do not come back together. Few sockets take less, 100 ms each. Default:
   * half of `timeout`.
   */
  over?: Duration;
  /**
   * How long a server that is to stop goes on taking connections, while `/readyz` says already that it is not ready: as long
   * as load balancers take to notice. In addition to `timeout`. Default 0.
   */
  delay?: Duration;
}

/** Each is 1000, 1001, 1008, 1012, 1013, 1014, or from 3000 to 4999. */
export interface CloseCodesConfig {
  /** Of connections to endpoints when the server stops, and of all whose route is gone. Default 1001. */
  goingAway?: number;
  /** Where the client may come back at once: of relays when the server stops, or their server is taken away. Default 1012. */
  restart?: number;
  /** When a login has renewed the session of a WebSocket. Default 1012. */
  renewal?: number;
  /** Of the client of a relay whose backend was lost. Default 1014. */
  lostBackend?: number;
}

export interface ListenConfig {
  /** 0 picks a free one. In its place: `socket`, `activation` or `fd`. */
  port?: number;
  /** With `port`: address to bind. Default: every address. */
  host?: string;
  /**
   * With `port`: several processes of one user may listen on it, each with this setting. The kernel gives each new
   * connection to one of them. Needs Linux 3.9 or newer, or FreeBSD 12. Default false.
   */
  reusePort?: boolean;
  /**
   * File of a Unix socket to listen on, for a proxy of the same machine, at most 107 bytes. Its clients have the address
   * 127.0.0.1: name that under `trustedProxies` when they are proxies.
   */
  socket?: string;
  /**
   * With `socket`: which users may connect, as for `chmod`, in quotes: who may write, may connect. Default `'0660'`: the
   * user of the server and the group of the file.
   */
  mode?: string;
  /**
   * With `socket`: the group of the file, by name or number, for example that of the proxy. The user of the server must
   * be in it, or be root. Default: the group of the server, or of a folder with the setgid bit.
   */
  group?: string | number;
  /**
   * Name of a socket that a service manager has opened for this process (`FileDescriptorName=` of systemd, or else the
   * name of the socket unit). Several sockets of one name are one listener.
   */
  activation?: string;
  /** Number of a descriptor that was open before this process began, 3 or more: a socket that listens. */
  fd?: number;
  /**
   * Names that are answered, or `*.example.com`, besides `localhost` and addresses; any other `Host` is 421. It keeps
   * out pages of other sites whose name leads to this address (DNS rebinding). Default: every name.
   */
  hosts?: readonly string[];
  /** `self-signed`: a certificate for localhost, made in the data folder, for development. Default: no TLS. */
  tls?: TlsConfig | 'self-signed';
  /**
   * HTTP/2 with clients that ask for it; needs `tls`. Default true. `{ websocket: false }`: without WebSockets over it.
   */
  http2?: boolean | Http2Config;
  /** With `tls`: the port that clients use, when something in front maps another one to ours. Default `port`. */
  publicPort?: number;
  /** `https`: everything is answered with 308 to the public port of the first listener with `tls`. */
  redirect?: 'https';
  /**
   * With `redirect`: folder whose `.well-known/acme-challenge/` is served and not redirected (`certbot certonly
   * --webroot -w FOLDER`).
   */
  acmeChallenge?: string;
  /**
   * PROXY protocol, version 1 or 2, from `trustedProxies`: `required` cuts connections without it, `optional` takes
   * both. Default: none.
   */
  proxyProtocol?: 'required' | 'optional';
}

/**
 * Where backends ask for sessions (`/sessions/…`) and for the keys of assertions (`/.well-known/jwks.json`). Nothing
 * else is served there.
 */
export interface InternalConfig {
  /** 0 picks a free one. */
  port: number;
  /** Address to bind. Default `127.0.0.1`. */
  host?: string;
  /** Names that backends may have in `Host`, besides `localhost` and addresses. Default: `host`, if it is a name. */
  hosts?: readonly string[];
  /** Default: no TLS. */
  tls?: TlsConfig | 'self-signed';
}

/** Where the server is administered: on a Unix socket by whoever runs it, and on a port by whoever has a token. */
export interface AdminConfig {
  /**
   * A port for programs, with a token always, except for `/healthz` and `/readyz`. 0 picks a free one. Default: none.
   */
  port?: number;
  /** Address to bind. Default `127.0.0.1`. */
  host?: string;
  /** Names that clients may have in `Host`, besides `localhost` and addresses. Default: `host`, if it is a name. */
  hosts?: readonly string[];
  /**
   * File with the token, or with several, one on each line, of at least 32 characters each. Read again when it changes.
   * Default: one made in the data folder (`keys/admin.token`, for its owner only).
   */
  tokenFile?: string;
  /** Default: no TLS. */
  tls?: TlsConfig | 'self-signed';
  /**
   * The Unix socket for its owner (mode 0600): its path, `true` for `admin.sock` in the data folder, or `false` for none.
   * Default: `true` with `holdfast serve`, where one that cannot be made is a warning; else `false`.
   */
  socket?: boolean | string;
}

/** How assertions are signed, for all upstreams. */
export interface AssertionsConfig {
  /** The claim `iss`. Default `holdfast`. */
  issuer?: string;
  /**
   * Files with private keys of the curve P-256, in PEM: the first signs, all are published. Default: one made in the
   * data folder (`keys/assertion.pem`).
   */
  keyFiles?: readonly string[];
}

export interface Http2Config {
  /** WebSockets over HTTP/2 (RFC 8441). Default true. Without it browsers open a connection of HTTP/1.1 for each. */
  websocket?: boolean;
}

/**
 * A certificate chain and its key. Both files are read again when they change; what does not fit together is not used,
 * and logged.
 */
export interface CertificateConfig {
  /** PEM file, the server's own certificate first. */
  certificate: string;
  /** PEM file. */
  key: string;
}

export interface TlsConfig extends CertificateConfig {
  /** More certificates: a client that asks for a name in one of them gets that one, any other client the first. */
  certificates?: readonly CertificateConfig[];
  /** Default `TLSv1.2`. */
  minVersion?: 'TLSv1.2' | 'TLSv1.3';
  clientCertificates?: ClientCertificateConfig;
  /** `Strict-Transport-Security` with this age: browsers use https only for this time. Default: not sent. */
  hsts?: Duration | HstsConfig;
}

export interface ClientCertificateConfig {
  /** PEM file with the certificates of the authorities that are believed. Read again when it changes. */
  ca: string;
  /**
   * PEM files with lists of revoked certificates, one of every authority in `ca`. Read again when they change: within a
   * second the connections of a revoked certificate end, and their WebSockets close with 1008. A list that is over
   * refuses every client of its authority. Default: nothing is revoked.
   */
  crl?: string | readonly string[];
  /**
   * `require` (default): no TLS without a good certificate. `request`: one that is missing or not good counts as none.
   */
  mode?: 'require' | 'request';
}

export interface HstsConfig {
  maxAge: Duration;
  /** Default false. */
  includeSubDomains?: boolean;
  /** Asks for a place in the lists that browsers come with. Default false. */
  preload?: boolean;
}

export interface SessionConfig {
  /**
   * A manager that the program has made, for example for an Express application beside: `session: manager` is short for
   * it. It has its store, cookie and times from `new SessionManager`, so that beside it only `touchOnTraffic` may stand.
   */
  manager?: SessionManager;
  /**
   * `memory:`, `lmdb:PATH`, `redis://…`, `redis+sentinel://…`, `postgres://…`, the same with options, or a store object. Default `memory:`, which YAML wants in quotes; `memory` means the same.
   */
  store?: string | StoreConfig | SessionStore;
  /**
   * With a store object: what its processes tell each other through. Default: nothing; an end is then learned within 5
   * s.
   */
  ledger?: Ledger;
  /**
   * Files with keys for tickets, of at least 32 bytes each, in base64, base64url or hexadecimal digits or as they are:
   * the first signs, every one verifies. A file has to be readable, no more. Needed with redis and postgres. Default: one
   * made in the data folder (`keys/session.key`), which may also be named here.
   */
  keyFiles?: readonly string[];
  /**
   * How clients show their session. Default `cookie`; `header` is for clients without cookies, `url` (encoded links)
   * for nothing else being possible. Of a list, such as `[cookie, url]`, the first counts that a client shows; `url`
   * stands last.
   */
  tracking?: TrackingKind | readonly TrackingKind[];
  /** With tracking by `header`. Default `Holdfast-Session-Ticket`. */
  header?: string;
  /** With tracking by `url`: name of the path parameter. Default `holdfast`. */
  urlParameter?: string;
  cookie?: SessionCookieConfig;
  /** Idle and absolute time by NIST assurance level: `aal1` 30 days; `aal2` 30 min and 12 h; `aal3` 15 min and 12 h. */
  lifetime?: LifetimeProfile;
  /** Silence after which a session ends; a request that runs is none. Default `30m`; -1 never. */
  idleTimeout?: Duration;
  /** Age at which a session ends whatever happens. Default `12h`; -1 never. */
  absoluteTimeout?: Duration;
  /** Age at which a session in use gets a new secret. Default `4h`; -1 never. */
  renewalTimeout?: Duration;
  /**
   * IBM's names for write and contents: `very-high`, `high`, `medium` (default), `failover` (which a redis also
   * acknowledges by a replica).
   */
  profile?: WriteProfile;
  /** When changes are written: `end-of-request` (default), `manual` (`session.sync()`), or `{ every: 10s }`. */
  write?: 'end-of-request' | 'manual' | { every: Duration };
  /** What is written: what was `set` (default), also what was read (`get-and-set`), or `all`. */
  contents?: WriteContents;
  /** Two requests that change one attribute: `last-wins` (default), `reject` (409), or a function that merges. */
  conflicts?: ConflictPolicy;
  /**
   * `strict` (default): a request sees every commit before it. `relaxed`: no question to the store for a session in
   * memory, at most 1 s behind; one that several processes use in turns is asked for, and its last access written, with
   * each request that comes from another process.
   */
  coherence?: 'strict' | 'relaxed';
  cache?: SessionCacheConfig;
  /** At a cap: `refuse` (default, 503), or `evict` the session next to expire, an anonymous one first. */
  overflow?: 'refuse' | 'evict';
  /**
   * Sessions at most. Default 100,000 in `memory:`, 1,000,000 in `lmdb:`, else any number. Exact in these two, else
   * counted at each sweep.
   */
  maxSessions?: number;
  /**
   * Share of the room for sessions, from 0 to 1, that anonymous ones may fill: the rest is for logins. Pages then get
   * no session unasked. Default 0.8.
   */
  anonymousShare?: number;
  /** Sessions of one user at most, and what happens at one more: `refuse` it or `end-oldest`. Default: any number. */
  maxSessionsPerUser?: UserLimit;
  /**
   * The longest times that a login may ask for, and those of a login that asks to be remembered and names none. Default:
   * `idleTimeout` and `absoluteTimeout`, the latter up to 400 days.
   */
  rememberMe?: RememberMeConfig;
  /**
   * A session is given to its owner only, the first user who is authenticated in it. Default true. `false`: to everybody
   * who shows its cookie; who signs in takes it over, with what is in it.
   */
  ownerRule?: boolean;
  /** Largest encoded attribute. Default `1MiB`. */
  maxAttributeSize?: Size;
  /** Largest session. Default `4MiB`. */
  maxSessionSize?: Size;
  warnSize?: SessionWarnConfig;
  /**
   * Attributes that are not read with the session, by their whole names: `{ report: apart }`. For what is large and few
   * requests need: `await session.load('report')`, or `attributes` of a route, fetches it. Default: none.
   */
  attributes?: Readonly<Record<string, 'apart'>>;
  /**
   * When expired sessions are looked for: `{ every: 60s }` (default) or `{ atHours: [0, 2] }`. Those with open sockets
   * end on time in any case.
   */
  sweep?: { every: Duration } | { atHours: readonly number[] };
  /** A call to the store that takes longer has failed. Default `5s`; -1 none has. */
  storeTimeout?: Duration;
  /**
   * Does WebSocket traffic keep the session alive? `message` (default): messages of the peer; `any`: every frame;
   * `never`.
   */
  touchOnTraffic?: 'message' | 'any' | 'never';
}

/** A store with options. Which ones it takes depends on the URL. */
export interface StoreConfig {
  /**
   * As the short form: `redis://localhost:6379/0`. A list names several nodes of one Redis Cluster, or Sentinels:
   * `redis+sentinel://a:26379,b:26379/name` is the master that they call `name`.
   */
  url: string | readonly string[];
  /** lmdb: what all of it may take; what has ended makes room for others. Default: what the disk has. */
  maxSize?: Size;
  /** redis: what all keys begin with. Default `holdfast`. */
  prefix?: string;
  /**
   * redis: each commit waits for so many replicas (`WAIT`), at most `timeout` (default `500ms`), else 503. Default:
   * none; under `profile: failover` one.
   */
  acknowledge?: { replicas: number; timeout?: Duration };
  /** postgres: the schema that holds everything. Default `holdfast`. */
  schema?: string;
  /** postgres: connections at most. Default 10. */
  poolSize?: number;
  /** postgres: make and update the schema. Default true. */
  migrate?: boolean;
  /**
   * postgres: the URL leads to a pooler in transaction mode, and `listenUrl` to the server. Default false: each
   * connection is a session of the server, which is checked when the store opens.
   */
  transactionPooler?: boolean;
  /** postgres: where to listen for events, when that is not `url`. */
  listenUrl?: string;
  /** redis, postgres: a command without an answer has failed. Default `2s`. */
  commandTimeout?: Duration;
  /**
   * redis, postgres: what its connections are called in the database's tools, before the process id and what they are
   * for: `shop:4711:store`. Default `holdfast`.
   */
  clientName?: string;
}

/** Of sessions whose login has asked for it (`persistent`). */
export interface RememberMeConfig {
  /** Silence after which such a session ends. For example `14d`. */
  idleTimeout: Duration;
  /** Time from the login to its end, whatever happens. For example `90d`; at most `400d`: browsers keep no cookie for longer. */
  absoluteTimeout: Duration;
}

export interface SessionCacheConfig {
  /** Sessions kept decoded in memory at most. Default 10,000; 0 keeps none. */
  sessions?: number;
  /** Memory for them. Default `64MiB`. */
  memory?: Size;
}

/** Sizes above which a warning is logged, once for each name. */
export interface SessionWarnConfig {
  /** Default `16KiB`. */
  attribute?: Size;
  /** Default `64KiB`. */
  session?: Size;
}

export interface SessionCookieConfig {
  /**
   * Used letter for letter. Default `__Host-holdfast` when every listener is TLS and neither domain nor path is set,
   * else `holdfast`.
   */
  name?: string;
  /** Default: the host that sets it, and no other. */
  domain?: string;
  /**
   * Default `/`; the prefix, for a mounted application with sessions of its own. A cookie of another path means
   * nothing, whatever its name is.
   */
  path?: string;
  /** Default `lax`. */
  sameSite?: 'strict' | 'lax' | 'none';
  /**
   * The browser keeps it when it is closed, for as long as the session may live, 400 days at most. Default false: until
   * it is closed.
   */
  persistent?: boolean;
  /**
   * For pages within pages of other sites: the browser keeps one cookie for each of these sites (CHIPS), also where it
   * blocks the cookies of third parties. Needs `sameSite: none`, hence TLS. Default false.
   */
  partitioned?: boolean;
}

export interface UpstreamConfig extends UpstreamOptions {
  /** For `https:` and `wss:` servers, whose certificates are always verified unless it says otherwise. */
  tls?: UpstreamTlsConfig;
}

export interface UpstreamTlsConfig {
  /** PEM file with the authorities that may have signed the servers' certificates. Default: those of Node. */
  ca?: string;
  /** The name asked for (SNI) and looked for in the certificate. Default: the host of the server's URL. */
  serverName?: string;
  /** PEM file: our own certificate, for servers that ask for one. Goes with `key`. */
  certificate?: string;
  /** PEM file. */
  key?: string;
  /** `false` takes any certificate: for development. Default true. */
  verify?: boolean;
}

/**
 * What is read in the same way by the application of a route as by us. A path that could be read as one of a stricter
 * route is refused all the same.
 */
export interface PathsConfig {
  /**
   * `false`: slashes that follow each other pass as they are behind the path of a prefix route: with `/img/*`,
   * `/img/https://example.com/a.png`. Routes are matched on the path with single ones. Default true: one passes.
   */
  mergeSlashes?: boolean;
  /** `pass`: an escaped backslash (`%5C`, as in `DOMAIN%5Cuser`) passes. Default `refuse`: 400. */
  backslash?: 'refuse' | 'pass';
}

/**
 * A route names what it matches and exactly one target: `endpoint`, `fetch`, `upstream`, `files`, `redirect`, or
 * `mount`.
 */
export interface RouteConfig {
  /** For logs and reload. Default: host and path. */
  name?: string;
  /** Exact host name, or `*.example.com`. Default: every host. */
  host?: string;
  /**
   * `/a` exact, `/a/:b` template, `/a/*` prefix (by segment; also matches `/a`). Path parameters (`/a;x=1`) make no
   * difference. Not needed with `endpoint` or `mount`.
   */
  path?: string | readonly string[];
  /**
   * Default: every method. Another method: 405 with `Allow`. One that HTTP/1 cannot bring (`ERR_HTTP_METHOD_UNKNOWN`) is an
   * error here.
   */
  methods?: readonly string[];
  /**
   * Default `auto`: read when the client has one, created on document navigation only. An endpoint: `existing`;
   * `files` without a `fetch` beside it, `redirect`, an observed upstream: `none`. A preflight and a refused request make none, also under `create`.
   */
  session?: 'none' | 'existing' | 'create' | 'auto';
  /**
   * A page of another site may sign its visitor in here: the callback of a login by `form_post`. Who signs in, handler
   * or backend, MUST check that the login was begun here (`state`). Default false: such a request begins no session.
   */
  crossSiteSignIn?: boolean;
  /**
   * `false`: what comes by this route, requests and the traffic of WebSockets, does not keep its session alive, as what a
   * page sends by itself again and again. It sees and changes the session like any other. Default true, or as the `mount`
   * says that the route is under.
   */
  touch?: boolean;
  /**
   * Attributes that lie apart (`session.attributes`) and that this route needs: they are loaded with the session, so that
   * `get` works at once. With `endpoint`, `fetch`, or `mount` for all routes of the application. Default: none.
   */
  attributes?: readonly string[];
  endpoint?: Endpoint<unknown>;
  fetch?: FetchHandler;
  /** Name of an upstream. */
  upstream?: string;
  /**
   * With `upstream`: the path it gets in the place of `path`; what `/*` stands for is appended. `/a/*` with `/b`:
   * `/a/x` is `/b/x`. Its links and cookies are rewritten back.
   */
  rewrite?: string;
  /**
   * With `upstream`, for clients that show their session in links (`tracking: url`): links and forms of its HTML pages
   * carry the ticket, as far as they lead to the own origin. Default false.
   */
  rewriteLinks?: boolean;
  /** What the paths may have besides, where the application needs it. With `upstream` or `fetch`. */
  paths?: PathsConfig;
  /** Folder of static files. */
  files?: string;
  /** Absolute URL or path. Answers 308. */
  redirect?: string;
  /** Prefix under which a whole application is served. */
  mount?: string;
  /** With `mount`: the application. */
  application?: ApplicationConfig;
  /**
   * May this route be upgraded? Default true for upstreams, but false where another route under this one has a stricter
   * policy for the same server.
   */
  websocket?: boolean | WebSocketRouteConfig;
  policy?: PolicyConfig;
}

/** A whole application with paths relative to its mount point. */
export interface ApplicationConfig {
  routes?: readonly RouteConfig[];
  /** Of its paths, below the mount point, besides those of the server. */
  constraints?: readonly ConstraintConfig[];
  endpoints?: readonly string[];
  files?: string;
  fetch?: FetchHandler;
  /** Its own session context: own cookie, own store; or a manager. Default: the server's sessions. */
  session?: SessionConfig | SessionManager | false;
}

/**
 * Of the blocks that hold an address the one with the longest prefix decides, whatever their order; where one block is
 * in both lists, `deny` does.
 */
export interface AddressesConfig {
  /**
   * Addresses and CIDR blocks that may come in: no others may. A block holds addresses of its own family: `0.0.0.0/0` no
   * IPv6, `::/0` no IPv4. Default: every address.
   */
  allow?: readonly string[];
  /** Addresses and CIDR blocks that may not come in. Default: none. */
  deny?: readonly string[];
}

export interface PolicyConfig {
  /**
   * Clients that may come in, by the address that `trustedProxies` say; others get 403. The lists of the server, of an
   * application and of a route all have to let a client in.
   */
  addresses?: AddressesConfig;
  /**
   * Origins that may open a WebSocket: `self`, `https://example.com`, `https://*.example.com`, or an expression that must
   * match the whole origin (`/https://[a-z]+\.example\.com/`, with `i` behind it for any case; one that may need more
   * than linear time is an error). Default `['self']`; `'any'` takes every origin.
   */
  origins?: 'any' | readonly (string | RegExp)[];
  /**
   * `true`: pages of the `origins` may read answers (CORS), and their browsers' preflights are answered. What a backend
   * or handler says by `Access-Control-*` itself gives way. Default false: what they say passes.
   */
  cors?: boolean | CorsOptions;
  /** `confidential`: https and wss only, others 403; short for `{ confidential: refuse }`. Default `any`. */
  transport?: 'any' | 'confidential' | TransportConfig;
  /**
   * Who may come in: the name of a scheme under `auth`, or several, tried in order. Others get 401, or are led to a page
   * to sign in on. `false`: everybody, whatever holds for what the route lies in. Default: everybody.
   */
  auth?: string | readonly string[] | false;
  /**
   * With `auth`: roles of which a user needs one, else 403. `valid-user` is whoever has signed in; an empty list is
   * nobody. Default: whoever has signed in.
   */
  roles?: readonly string[];
  /** How much clients may do. The limits of the server, of an application and of a route all hold. */
  limits?: LimitsConfig;
  /**
   * One-time tickets for handshakes, as browsers cannot set headers on a WebSocket: `POST` to the path of the route and
   * `/ticket`, with what the route asks for, gets one, and the handshake shows it as `?ticket=`. `true`, or for how long
   * one is good. Default false; `true` is `10s`, at most `60s`.
   */
  tickets?: boolean | TicketsConfig;
  /**
   * Rules about what requests and messages have in them; the nearest list counts, and `false` is none. Default: none.
   */
  inspect?: InspectConfig | false;
  /**
   * A function that lets a request or handshake in (`true`) or not, asked when its session is known. What it throws, and
   * no answer within 5 s (`{ judge, timeout }`), is 503. In TypeScript and JavaScript only. Default: none.
   */
  custom?: CustomPolicy | CustomPolicyConfig;
}

/**
 * What is asked for on some paths, besides what their routes ask for. Of several that fit a path the one with the most
 * specific pattern counts.
 */
export interface ConstraintConfig {
  /** Exact paths, templates and prefixes, as those of routes: `/admin/*`. */
  paths: readonly string[];
  /** Which methods it is for; GET covers HEAD. Default: every method. */
  methods?: readonly string[];
  /** With `methods`: the others are `refuse`d (default, 403), or it does not concern them: `allow`. */
  otherMethods?: 'refuse' | 'allow';
  /** By which schemes, instead of those of the route. Default: those of the route, and of the `policy` around it for a route without. */
  auth?: string | readonly string[];
  /** One of them is needed. `valid-user`: whoever has signed in; empty: nobody. Default: none, and with `auth` whoever has signed in. */
  roles?: readonly string[];
  /** `confidential`: https and wss only. Default `any`. */
  transport?: 'any' | 'confidential';
}

export interface TicketsConfig {
  /** Default `10s`; at most `60s`. */
  lifetime?: Duration;
}

/**
 * Rates are texts like `20/s`, `600/m` or `1000/10m`: so many may come at once, and they are given back evenly over that
 * time. An address is that of the client behind `trustedProxies`; all of an IPv6 /64 are one, and a Unix socket has none.
 */
export interface LimitsConfig {
  /** WebSockets of all clients that are open or being opened; more: 503, while HTTP goes on. Default -1: no limit. */
  connections?: number;
  /**
   * The same for each address; more: 429. Default for the server 1000, and not for addresses of private networks,
   * behind which there may be an undeclared proxy; else -1: no limit.
   */
  connectionsPerAddress?: number;
  /** The same for each session, the backend's own included; more: 429. Default -1: no limit. */
  connectionsPerSession?: number;
  /** The same for each user; more: 429. Default -1: no limit. */
  connectionsPerUser?: number;
  /** Requests of all clients, handshakes included; more: 503. Default -1: no limit. */
  requests?: RateText;
  /** The same for each address; more: 429. Default -1: no limit. */
  requestsPerAddress?: RateText;
  /** Handshakes of WebSockets, of all clients; more: 503. Default -1: no limit. */
  handshakes?: RateText;
  /** The same for each address; more: 429. Default -1: no limit. */
  handshakesPerAddress?: RateText;
  /**
   * Sessions of nobody that begin, and those that a backend of observed sessions gives; a login is none. More: a page gets
   * none, who asks for one 429. Default for the server `1200/10m`, and not for addresses of private networks; else -1:
   * no limit.
   */
  newSessionsPerAddress?: RateText;
  /**
   * Messages of the client over one WebSocket; pings, unasked pongs and fragments of less than 1 KiB count as one each.
   * Default -1: no limit.
   */
  messages?: RateText;
  /** Bytes of the client over one WebSocket: `256KiB/s`. Default -1: no limit. */
  bytes?: ByteRateText;
  /**
   * What becomes of a client with more `messages` or `bytes`: `wait` (default; its socket is not read until it has
   * room), `drop` (whole messages are thrown away; a relay passes none compressed then) or `close` (1008).
   */
  whenExceeded?: WhenExceeded;
  /**
   * `all`: of `connections…`, `requests…`, `handshakes…` and `newSessionsPerAddress` the processes that share a session
   * store count together, and tell each other of it within 200 ms. Default `process`: each for itself.
   */
  scope?: 'process' | 'all';
}

export interface LogConfig {
  /**
   * Of the server's own log: lines of this level and above. What repeats is counted, not written again. Default `info`.
   */
  level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /**
   * Levels of parts of the program that differ from `level`: `server`, `gateway`, `policy`, `session`, `websocket`,
   * `admin`, `cli`.
   */
  levels?: Readonly<Partial<Record<LogPart, LogThreshold>>>;
  /** Where the server's own log goes: `stderr` (default), `stdout`, or one or several destinations. */
  server?: 'stdout' | 'stderr' | LogDestination | readonly LogDestination[];
  /**
   * One line per finished request, per handshake that makes no socket, and per socket opened and closed: `json`,
   * `combined`, or the text of an Apache `LogFormat` (known by its `%`), to stdout; or one or several destinations.
   * Default `off`.
   */
  access?: string | AccessLogConfig | readonly AccessLogConfig[];
  /**
   * Where security events go: `log` (default), among the lines of the server's own log, from its `level` upwards;
   * `stdout` or one or several destinations, which have every event and no other line.
   */
  security?: 'log' | 'stdout' | SecurityLogConfig | readonly SecurityLogConfig[];
}

/** One place for lines of the server's own log. */
export interface LogDestination {
  /** An output of the process. Default, without `file`: `stderr`. */
  to?: 'stdout' | 'stderr';
  /**
   * Instead of `to`: it is appended to, and begun anew within a second after it was moved away. Its folder must be
   * there.
   */
  file?: string;
  /**
   * `json`, one object a line, or `pretty`, for people. Default: `pretty` on a terminal, `json` elsewhere. Colours are on
   * a terminal only, and not with `NO_COLOR` in the environment; `FORCE_COLOR` decides before these.
   */
  format?: 'json' | 'pretty';
  /** For this place, in the stead of `level` and `levels`. Default: these. */
  level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/** One place for lines of the access log. */
export interface AccessLogConfig {
  /** `combined` (default), `json`, or the text of an Apache `LogFormat`. */
  format?: string;
  /** An output of the process. Default, without `file`: `stdout`. */
  to?: 'stdout' | 'stderr';
  /** Instead of `to`: as `file` of the server's own log. */
  file?: string;
  /**
   * `info` (default): every line. `warn`: of what was refused (400 and above), and of what broke off. `error`: of what
   * failed (500 and above).
   */
  level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/** One place for security events. */
export interface SecurityLogConfig {
  /** An output of the process. Default, without `file`: `stdout`. */
  to?: 'stdout' | 'stderr';
  /**
   * Instead of `to`: it is appended to, and begun anew within a second after it was moved away. Its folder must be
   * there.
   */
  file?: string;
  /** Events of this level and above. Default: all. */
  level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}
