import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import { BackendConnection, type ConnectionKeeper } from './connection.ts';

/**
 * A connection is not used any more so long before the server closes it by what it has said: a request under way might
 * meet the end.
 */
const CLOSING_MARGIN_MS = 1000;

export interface ConnectionPoolOptions {
  /** Connections at the same time; more requests wait. */
  readonly maxConnections: number;
  readonly maxIdleConnections: number;
  /** Of an answer, its trailers apart. */
  readonly maxHeadBytes: number;
  /** After this time an idle connection is closed; sooner when the server has said so (`Keep-Alive: timeout=`). */
  readonly idleTimeoutMs: number;
}

/** Is given a connection when one is free. */
export type OnConnection = (connection: BackendConnection) => void;

interface Idle {
  readonly connection: BackendConnection;
  readonly closesAt: number;
}

/** A bounded number of kept connections to one server. */
export class ConnectionPool implements ConnectionKeeper {
  readonly #open: () => Socket;
  readonly #options: ConnectionPoolOptions;
  readonly #clock: Clock;
  readonly #all = new Set<BackendConnection>();
  /** The one used last is taken first: it is the least likely to have been closed meanwhile, and the others can go. */
  readonly #idle: Idle[] = [];
  /** Bound to a client (`bound-connections.ts`), without a request, the longest idle first. */
  readonly #spare = new Set<BackendConnection>();
  /** First come, first served. True for one that needs a new connection. */
  readonly #waiting = new Map<OnConnection, boolean>();
  #isRetired = false;
  #sweepTimer: Timer | undefined;
  #sweepsAt = Number.POSITIVE_INFINITY;

  constructor(open: () => Socket, options: ConnectionPoolOptions, clock: Clock) {
    this.#open = open;
    this.#options = options;
    this.#clock = clock;
  }

  /**
   * Gives a connection, which may still have to be opened: now, or when one is free. @param isNew On which no request
   * was sent before.
   */
  take(onConnection: OnConnection, isNew = false): void {
    if (isNew) return this.#takeNew(onConnection);
    const now = this.#clock.monotonic();
    for (let idle = this.#idle.pop(); idle; idle = this.#idle.pop()) {
      if (idle.connection.isUsable && now < idle.closesAt) return onConnection(idle.connection);
      idle.connection.destroy();
    }
    if (this.#all.size < this.#options.maxConnections) return onConnection(this.#add());
    this.#waiting.set(onConnection, false);
    this.#makeRoom();
  }

  #takeNew(onConnection: OnConnection): void {
    if (this.#all.size < this.#options.maxConnections) return onConnection(this.#add());
    this.#waiting.set(onConnection, true);
    const [longestIdle] = this.#idle.splice(0, 1);
    if (longestIdle) longestIdle.connection.destroy();
    else this.#makeRoom();
  }

  /** As it is now. `waiting` are requests. */
  get counts(): { readonly busy: number; readonly idle: number; readonly waiting: number } {
    const idle = this.#idle.length + this.#spare.size;
    return { busy: this.#all.size - idle, idle, waiting: this.#waiting.size };
  }

  /** Does not wait any longer. */
  leave(onConnection: OnConnection): void {
    this.#waiting.delete(onConnection);
  }

  /** Closes the idle connections now, and those in use when their requests are over. */
  retire(): void {
    this.#isRetired = true;
    for (const { connection } of this.#idle.splice(0)) connection.destroy();
    for (const connection of this.#spare) connection.destroy();
    this.#stopSweeping();
  }

  /** Closes every connection. Requests under way fail; requests that wait for a connection get none any more. */
  close(): void {
    this.retire();
    this.#waiting.clear();
    for (const { socket } of this.#all) socket.destroy();
  }

  /**
   * A connection of one client is without a request, and keeps its place until somebody waits for one. @returns when
   * the server closes it.
   */
  keepSpare(connection: BackendConnection): number {
    const serverMs = timeLeft(connection);
    if (serverMs <= 0 || this.#isRetired) connection.destroy();
    else this.#spare.add(connection);
    if (this.#waiting.size > 0) this.#makeRoom();
    return this.#clock.monotonic() + serverMs;
  }

  /** It has a request again. */
  useSpare(connection: BackendConnection): void {
    this.#spare.delete(connection);
  }

  onFree(connection: BackendConnection): void {
    const { idleTimeoutMs, maxIdleConnections } = this.#options;
    const serverMs = timeLeft(connection);
    if (serverMs <= 0) return connection.destroy();
    const [next] = this.#waiting;
    if (next) {
      const [onConnection, isNew] = next;
      // Its place is free when it is gone.
      if (isNew) return connection.destroy();
      this.#waiting.delete(onConnection);
      return onConnection(connection);
    }
    if (this.#isRetired || this.#idle.length >= maxIdleConnections) return connection.destroy();
    const closesAt = this.#clock.monotonic() + Math.min(idleTimeoutMs, serverMs);
    this.#idle.push({ connection, closesAt });
    this.#sweepAt(closesAt);
  }

  onGone(connection: BackendConnection): void {
    this.#all.delete(connection);
    this.#spare.delete(connection);
    const place = this.#idle.findIndex(idle => idle.connection === connection);
    if (place >= 0) this.#idle.splice(place, 1);
    const [next] = this.#waiting.keys();
    if (!next || this.#all.size >= this.#options.maxConnections) return;
    this.#waiting.delete(next);
    next(this.#add());
  }

  /** Its client can sign in again; a request that waits has no other way. Its place is free when it is gone. */
  #makeRoom(): void {
    const [connection] = this.#spare;
    if (!connection) return;
    this.#spare.delete(connection);
    connection.destroy();
  }

  #add(): BackendConnection {
    const connection = new BackendConnection(this.#open(), this.#options.maxHeadBytes, this);
    this.#all.add(connection);
    return connection;
  }

  /**
   * One timer for all of them, which is seldom set anew: a connection that is used is due later than the one that it is
   * set for.
   */
  #sweepAt(time: number): void {
    if (time >= this.#sweepsAt) return;
    this.#stopSweeping();
    this.#sweepsAt = time;
    this.#sweepTimer = this.#clock.setTimeout(() => this.#sweep(), Math.ceil(time - this.#clock.monotonic()));
  }

  #sweep(): void {
    const now = this.#clock.monotonic();
    this.#stopSweeping();
    const due = this.#idle.filter(({ closesAt }) => closesAt <= now);
    for (const idle of due) {
      this.#idle.splice(this.#idle.indexOf(idle), 1);
      idle.connection.destroy();
    }
    let next = Number.POSITIVE_INFINITY;
    for (const { closesAt } of this.#idle) next = Math.min(next, closesAt);
    this.#sweepAt(next);
  }

  #stopSweeping(): void {
    this.#clock.clearTimeout(this.#sweepTimer);
    this.#sweepsAt = Number.POSITIVE_INFINITY;
  }
}

/** For how long the server keeps it, by what it says. */
function timeLeft({ keepAliveSeconds }: BackendConnection): number {
  return keepAliveSeconds === undefined ? Number.POSITIVE_INFINITY : keepAliveSeconds * 1000 - CLOSING_MARGIN_MS;
}
