import http from 'node:http';
import net from 'node:net';
import type { Clock } from '../base/clock.ts';
import { type Duration, parseDuration } from '../base/duration.ts';
import { HoldfastError } from '../base/errors.ts';

/** Connections to one server that may carry a request at the same time; further requests wait up to the connect timeout. */
const MAX_SOCKETS = 1024;
/** Idle connections kept per server. */
const MAX_IDLE_SOCKETS = 128;
/** After this silence TCP itself asks whether the other end still exists. */
const TCP_KEEPALIVE_MS = 30_000;

export interface UpstreamOptions {
  /** `http://host:port`, in order of preference. */
  readonly servers: readonly string[];
  /** Default `5s`. */
  readonly connectTimeout?: Duration;
  /** From the request sent to the response head. Default `60s`. */
  readonly answerTimeout?: Duration;
  /** From the upgrade sent to its answer. Default `10s`. */
  readonly handshakeTimeout?: Duration;
  /** Name of the header that carries the session's `sid` to the backend. Default `X-Session-ID`. */
  readonly sessionHeader?: string;
}

/** One backend server. */
export interface UpstreamServer {
  /** As configured, for logs. */
  readonly url: string;
  readonly hostname: string;
  readonly port: number;
}

/**
 * A named group of backend servers: where they are, how long to wait for them, and the idle connections to them.
 *
 * Requests share a bounded pool; every WebSocket has a connection of its own, from `openSocket`.
 */
export class Upstream {
  readonly name: string;
  /** In order of preference. */
  readonly servers: readonly UpstreamServer[];
  /** Name of the header that carries the session's `sid`. Default `X-Session-ID`. */
  readonly sessionHeader: string;
  /** Default 5 s. */
  readonly connectTimeoutMs: number;
  /** From the request sent to the response head. Default 60 s. */
  readonly answerTimeoutMs: number;
  /** From the upgrade sent to its answer. Default 10 s. */
  readonly handshakeTimeoutMs: number;
  readonly #clock: Clock;
  readonly #agent: PoolAgent;

  /** @throws {TypeError} when a server is not `http://host:port` or a duration is not one. */
  constructor(name: string, options: UpstreamOptions, clock: Clock) {
    if (options.servers.length === 0) throw new TypeError(`upstream "${name}" has no servers; add one under "servers"`);
    this.name = name;
    this.servers = options.servers.map(url => parseServer(name, url));
    this.sessionHeader = options.sessionHeader ?? 'X-Session-ID';
    this.connectTimeoutMs = parseDuration(options.connectTimeout ?? '5s');
    this.answerTimeoutMs = parseDuration(options.answerTimeout ?? '60s');
    this.handshakeTimeoutMs = parseDuration(options.handshakeTimeout ?? '10s');
    this.#clock = clock;
    this.#agent = new PoolAgent((hostname, port) => this.#open(hostname, port));
  }

  /** The pool of connections for HTTP requests. */
  get agent(): http.Agent {
    return this.#agent;
  }

  /**
   * Opens a new connection outside the pool.
   *
   * The socket is returned while it still connects. When it cannot within the connect timeout it is destroyed with
   * `ERR_UPSTREAM_TIMEOUT`. The caller must listen for `error`.
   */
  openSocket(server: UpstreamServer): net.Socket {
    return this.#open(server.hostname, server.port);
  }

  /** Closes the idle connections. Requests under way fail. */
  close(): void {
    this.#agent.destroy();
  }

  #open(hostname: string, port: number): net.Socket {
    const socket = net.connect({
      host: hostname,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEPALIVE_MS,
    });
    if (this.connectTimeoutMs === Number.POSITIVE_INFINITY) return socket;
    const timer = this.#clock.setTimeout(() => {
      socket.destroy(
        new HoldfastError(
          'ERR_UPSTREAM_TIMEOUT',
          `upstream "${this.name}" did not accept a connection at ${hostname}:${port} within ${this.connectTimeoutMs} ms`,
          { status: 504 },
        ),
      );
    }, this.connectTimeoutMs);
    const settle = () => this.#clock.clearTimeout(timer);
    socket.once('connect', settle);
    socket.once('close', settle);
    return socket;
  }
}

/** Node's keep-alive pool over connections that we open. */
class PoolAgent extends http.Agent {
  readonly #open: (hostname: string, port: number) => net.Socket;

  constructor(open: (hostname: string, port: number) => net.Socket) {
    super({ keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: MAX_IDLE_SOCKETS, scheduling: 'lifo' });
    this.#open = open;
  }

  override createConnection(options: http.ClientRequestArgs): net.Socket {
    return this.#open(options.host!, Number(options.port));
  }
}

function parseServer(upstream: string, text: string): UpstreamServer {
  const url = URL.parse(text);
  if (url?.protocol !== 'http:' || url.pathname !== '/' || url.search || url.hash || url.username || url.password)
    throw new TypeError(`upstream "${upstream}": not a server: "${text}"; write http://host:port`);
  return {
    url: url.origin,
    // A URL writes an IPv6 address in brackets, a socket wants it without.
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 80 : Number(url.port),
  };
}
