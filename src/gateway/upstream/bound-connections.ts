import type { Duplex } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import type { BackendConnection, ConnectionKeeper } from '../connection/connection.ts';
import type { UpstreamServer } from './server.ts';

/**
 * The connections to the backends of one upstream that are signed in, or are about to be, each with the client's
 * connection that alone may use it.
 *
 * A bound connection ends with the client's. When it ends first, the client is one without a sign-in again. It counts
 * in the pool's limit, and without a request under way it gives its place to a request that waits for one.
 */
export class BoundConnections {
  readonly #byClient = new Map<Duplex, BoundConnection>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The one to send the client's next request on; undefined when there is none, or none that can take a request. */
  of(client: Duplex): BoundConnection | undefined {
    // For nearly every upstream.
    if (this.#byClient.size === 0) return undefined;
    const bound = this.#byClient.get(client);
    if (bound === undefined) return undefined;
    const { server } = bound;
    const isServed = server.state !== 'draining' || server.isStaying;
    if (isServed && bound.begin()) return bound;
    bound.connection.destroy();
    return undefined;
  }

  /**
   * From now on only this client's connection gets what goes on the backend's. A connection that is closed after its
   * answer needs none of this.
   */
  bind(client: Duplex, server: UpstreamServer, connection: BackendConnection): void {
    if (!connection.isKept) return;
    const earlier = this.#byClient.get(client);
    if (earlier?.connection === connection) return;
    earlier?.connection.destroy();
    const bound = new BoundConnection(client, server, connection, this.#clock, () => {
      if (this.#byClient.get(client) === bound) this.#byClient.delete(client);
    });
    this.#byClient.set(client, bound);
  }
}

/** A connection to a backend that belongs to one connection of a client. */
export class BoundConnection implements ConnectionKeeper {
  readonly server: UpstreamServer;
  readonly connection: BackendConnection;
  readonly #client: Duplex;
  readonly #clock: Clock;
  readonly #onEnd: () => void;
  #closesAt = Number.POSITIVE_INFINITY;

  constructor(client: Duplex, server: UpstreamServer, connection: BackendConnection, clock: Clock, onEnd: () => void) {
    this.server = server;
    this.connection = connection;
    this.#client = client;
    this.#clock = clock;
    this.#onEnd = onEnd;
    connection.handTo(this);
    client.on('close', this.#onClientClose);
    if (client.destroyed) connection.destroy();
  }

  /** A request is to be sent. @returns false when the connection cannot take it. */
  begin(): boolean {
    this.server.connections.useSpare(this.connection);
    return this.connection.isUsable && this.#clock.monotonic() < this.#closesAt;
  }

  onFree(): void {
    this.#closesAt = this.server.connections.keepSpare(this.connection);
  }

  onGone(): void {
    this.#client.off('close', this.#onClientClose);
    this.#onEnd();
    this.server.connections.onGone(this.connection);
  }

  readonly #onClientClose = (): void => this.connection.destroy();
}
