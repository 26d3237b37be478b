import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { ServerAddress } from '../../http/server-address.ts';
import type { SessionSocket } from '../../websocket/session-sockets.ts';
import { type CloseCodes, USUAL_CLOSE_CODES } from '../../wire/close-codes.ts';
import { BackendConnection } from '../connection/connection.ts';
import { Dialer, type DialerOptions, parseServerUrl } from '../connection/dialer.ts';
import { ConnectionPool, type ConnectionPoolOptions } from '../connection/pool.ts';
import { type Balanced, hash32 } from './balancing.ts';
import { Ejection, type EjectionOptions } from './ejection.ts';
import type { FailureReason } from './failure.ts';
import { HealthCheck, type HealthOptions } from './health.ts';
import { type CheckOptions, probeOf, type WatchOptions } from './probe.ts';

/** The reason of the close frames when a server goes away. */
const LEAVING = 'backend server is leaving';
/** Between two rounds of closing: often enough for an even spread, seldom enough to cost nothing. */
const MIN_STEP_MS = 20;

/**
 * Whether a server takes requests. `in-service`: yes. `ejected`: it failed, and is tried again in a while. `unhealthy`:
 * its active checks fail. `draining`: nothing new goes there.
 */
export type ServerState = 'in-service' | 'ejected' | 'unhealthy' | 'draining';

/** One server of an upstream, as it is now. */
export interface ServerStatus {
  readonly url: string;
  readonly weight: number;
  /** The suffix of session ids that belong to it. */
  readonly route: string | undefined;
  readonly state: ServerState;
  /** Until an ejected server is tried again; 0 for every other. */
  readonly returnsInMs: number;
  /** Requests and WebSockets under way, handshakes included. */
  readonly active: number;
  /** WebSockets that are open. */
  readonly sockets: number;
  /** Requests and handshakes it was given since it was added. */
  readonly requests: number;
  /** How many of them got no usable answer. */
  readonly failures: number;
  /** Times it was taken out of service, by failing or by its active checks. */
  readonly ejections: number;
}

export interface UpstreamServerOptions {
  readonly connections: DialerOptions & ConnectionPoolOptions;
  readonly ejection: EjectionOptions | undefined;
  readonly health: (HealthOptions & CheckOptions) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** They may change meanwhile. Default: the usual ones. */
  readonly closeCodes?: Readonly<CloseCodes> | undefined;
}

export type Drain = 'close' | 'stay';

/** One backend server: its connections, whether it is in service, and what it has to do. */
export class UpstreamServer implements Balanced {
  readonly address: ServerAddress;
  readonly url: string;
  readonly isTls: boolean;
  readonly weight: number;
  /** The suffix of session ids that belong to it. */
  readonly route: string | undefined;
  readonly hashSeed: number;
  turn = 0;
  /** For HTTP requests. */
  readonly connections: ConnectionPool;
  readonly #dialer: Dialer;
  readonly #maxHeadBytes: number;
  readonly #ejection: Ejection | undefined;
  readonly #health: HealthCheck | undefined;
  readonly #clock: Clock;
  readonly #closeCodes: Readonly<CloseCodes>;
  /** By their connections to the server. */
  readonly #sockets = new Map<Socket, SessionSocket>();
  #active = 0;
  #requests = 0;
  #failures = 0;
  #ejections = 0;
  #drain: Drain | undefined;
  #drainTimer: Timer | undefined;
  #whenEmpty: (() => void)[] = [];

  /** @throws {TypeError} when the server is not `http://host:port` or another form of it. */
  constructor(
    server: { readonly url: string; readonly weight?: number; readonly route?: string },
    options: UpstreamServerOptions,
  ) {
    const { clock, connections, ejection, health, logger } = options;
    const { upstream } = connections;
    const address = parseServerUrl(upstream, server.url);
    this.address = address;
    this.url = address.url;
    this.isTls = address.isTls;
    this.weight = server.weight ?? 1;
    if (!(this.weight >= 1)) throw new TypeError(`upstream "${upstream}": the weight of ${this.url} is below 1`);
    this.route = server.route;
    this.hashSeed = hash32(address.url);
    this.#clock = clock;
    this.#closeCodes = options.closeCodes ?? USUAL_CLOSE_CODES;
    this.#dialer = new Dialer(address, connections, clock);
    const open = () => this.#dialer.open();
    this.connections = new ConnectionPool(open, connections, clock);
    this.#maxHeadBytes = connections.maxHeadBytes;
    const probe = probeOf(open, health, clock, this.#maxHeadBytes);
    const log = { upstream, server: this.url };
    const watch = (isBack: string, isOut: string): WatchOptions => ({
      clock,
      probe,
      onChange: (isInService, why) => {
        if (isInService) return logger.info(log, isBack);
        this.#ejections++;
        logger.warn({ ...log, reason: why }, isOut);
      },
    });
    if (health)
      this.#health = new HealthCheck({
        ...health,
        ...watch('upstream server is healthy again', 'upstream server is unhealthy and out of service'),
      });
    if (ejection)
      this.#ejection = new Ejection({
        ...ejection,
        ...watch('upstream server is back in service', 'upstream server failed and is out of service'),
      });
  }

  get active(): number {
    return this.#active;
  }

  get state(): ServerState {
    if (this.#drain) return 'draining';
    if (this.#health?.isHealthy === false) return 'unhealthy';
    return this.#ejection?.isEjected ? 'ejected' : 'in-service';
  }

  /** Out of service, but asking it costs no time: better than no answer at all when there is no other server. */
  get isWorthATry(): boolean {
    return this.state === 'ejected' && this.#ejection?.isUnreachable === false;
  }

  /** Draining in a way that what belongs to it may still go there. */
  get isStaying(): boolean {
    return this.#drain === 'stay' && this.#health?.isHealthy !== false && !this.#ejection?.isEjected;
  }

  get returnsInMs(): number {
    return this.#ejection?.returnsInMs ?? 0;
  }

  get status(): ServerStatus {
    return {
      url: this.url,
      weight: this.weight,
      route: this.route,
      state: this.state,
      returnsInMs: this.returnsInMs,
      active: this.#active,
      sockets: this.#sockets.size,
      requests: this.#requests,
      failures: this.#failures,
      ejections: this.#ejections,
    };
  }

  /** Begins the active checks. */
  start(): void {
    this.#health?.start();
  }

  /** Opens a connection outside the pool. See `Dialer.open`. */
  openConnection(): BackendConnection {
    return new BackendConnection(this.#dialer.open(), this.#maxHeadBytes);
  }

  /** A request or handshake goes there; `end` must follow, once. */
  begin(): void {
    this.#active++;
    this.#requests++;
  }

  /** @param connection The one that a handshake was made on. */
  end(connection?: Socket): void {
    this.#active--;
    if (connection) this.#sockets.delete(connection);
    this.#settleIfEmpty();
  }

  failed(reason: FailureReason, isConnected: boolean): void {
    this.#failures++;
    this.#ejection?.failed(reason, isConnected);
  }

  succeeded(): void {
    this.#ejection?.succeeded();
  }

  /**
   * Knows a WebSocket until `end` is called with its connection. One that opens while the server drains is closed at
   * once.
   */
  track(connection: Socket, socket: SessionSocket): void {
    this.#sockets.set(connection, socket);
    if (this.#drain === 'close') socket.close(this.#closeCodes.restart, LEAVING);
  }

  /**
   * Takes nothing new from now on. `close`: its WebSockets are closed with 1012, spread evenly over the time, so that
   * the clients do not all come back at the same moment. `stay`: they stay until they end.
   *
   * @returns when nothing is under way there any more, or the server was resumed.
   */
  drain(how: Drain, overMs: number): Promise<void> {
    this.#drain = how;
    this.#clock.clearTimeout(this.#drainTimer);
    if (how === 'close') this.closeSockets(overMs);
    return new Promise((resolve: () => void) => {
      this.#whenEmpty.push(resolve);
      this.#settleIfEmpty();
    });
  }

  /** Closes the WebSockets that are open, with 1012, spread evenly over the time. */
  closeSockets(overMs: number): void {
    this.#clock.clearTimeout(this.#drainTimer);
    this.#closeRest(this.#clock.monotonic(), overMs, this.#sockets.size);
  }

  /** Takes requests again. */
  resume(): void {
    this.#drain = undefined;
    this.#clock.clearTimeout(this.#drainTimer);
    for (const resolve of this.#whenEmpty.splice(0)) resolve();
  }

  /** No more checks, and no idle connections; what is under way goes on. */
  retire(): void {
    this.#health?.close();
    this.#ejection?.close();
    this.connections.retire();
  }

  /** Closes everything but the WebSockets. Requests under way fail. */
  close(): void {
    this.#clock.clearTimeout(this.#drainTimer);
    this.#health?.close();
    this.#ejection?.close();
    this.connections.close();
  }

  /**
   * Closes as many of those that were open at the start as their share of the time says; the last one when it is over.
   */
  #closeRest(startedAt: number, overMs: number, total: number): void {
    const passedMs = this.#clock.monotonic() - startedAt;
    const isOver = passedMs >= overMs;
    const remaining = isOver ? 0 : total - Math.floor((total * passedMs) / overMs);
    // A map keeps its order, so those that were open first go first.
    let count = this.#sockets.size - remaining;
    for (const socket of this.#sockets.values()) {
      if (count-- <= 0) break;
      socket.close(this.#closeCodes.restart, LEAVING);
    }
    if (isOver) return;
    const step = Math.max(MIN_STEP_MS, overMs / Math.max(1, total));
    this.#drainTimer = this.#clock.setTimeout(() => this.#closeRest(startedAt, overMs, total), step);
  }

  #settleIfEmpty(): void {
    if (this.#whenEmpty.length === 0 || this.#active > 0) return;
    for (const resolve of this.#whenEmpty.splice(0)) resolve();
  }
}
