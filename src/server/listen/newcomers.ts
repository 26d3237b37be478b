import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Config } from '../../config/config.ts';
import type { AddressList } from '../../http/address-list.ts';
import { clientNetwork } from '../../http/client-network.ts';
import { nearbyAddresses } from '../../http/nearby.ts';
import { peerAddressOf } from '../../http/peer.ts';

const DEFAULT_MOST = 10_000;
const DEFAULT_PER_CLIENT = 1_000;
const WARN_EVERY_MS = 60_000;

export interface NewcomersEnvironment {
  readonly clock: Clock;
  readonly logger: Logger;
  /** They open connections for many. */
  readonly trustedProxies: AddressList;
}

/** A connection that has not brought a request yet. */
export interface Newcomer {
  /** The TCP connection. */
  readonly socket: Socket;
  /** On the monotonic clock. */
  readonly openedAt: number;
  /** It belongs to this client, as its proxy says. */
  identify(address: string): void;
  /** It has brought a request, or is gone. */
  leave(): void;
}

/**
 * The connections of all listeners that have not brought a request yet: their PROXY header, TLS handshake or first
 * request head is under way, or they send nothing.
 *
 * They cost memory before anybody has been asked for anything, so they are bounded, for each client and in all. One too
 * many ends the one that has waited longest (of its client, or of all) rather than being turned away: who comes to ask
 * for something does so at once, and who does not loses its place.
 */
export class Newcomers {
  readonly #environment: NewcomersEnvironment;
  readonly #most: number;
  readonly #perClient: number;
  /** What nobody has asked for does not hold where many may have one address. */
  readonly #sparesNearby: boolean;
  /** The oldest first. */
  readonly #all = new Set<Entry>();
  /** The same of each client that is limited. */
  readonly #clients = new Map<string, Set<Entry>>();
  #ended = 0;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(
    {
      unusedConnections: most = DEFAULT_MOST,
      unusedConnectionsPerAddress: perClient,
    }: Pick<Config, 'unusedConnections' | 'unusedConnectionsPerAddress'>,
    { clock, logger, trustedProxies }: NewcomersEnvironment,
  ) {
    // Nothing else of it: that would stay as long as the server runs.
    this.#environment = { clock, logger, trustedProxies };
    this.#most = most === -1 ? Number.POSITIVE_INFINITY : most;
    this.#sparesNearby = perClient === undefined;
    this.#perClient = perClient === -1 ? Number.POSITIVE_INFINITY : (perClient ?? DEFAULT_PER_CLIENT);
  }

  get size(): number {
    return this.#all.size;
  }

  /** A client has connected. It is the one that its socket names until `identify` says who. */
  enter(socket: Socket): Newcomer {
    const entry = new Entry(this, socket, this.#environment.clock.monotonic());
    this.#all.add(entry);
    this.identify(entry, peerAddressOf(socket));
    if (this.#all.size > this.#most) {
      this.#end(first(this.#all), `${this.#most} connections are without a request`);
      this.#warn();
    }
    return entry;
  }

  identify(entry: Entry, address: string): void {
    if (!this.#all.has(entry)) return;
    this.#leaveClient(entry);
    entry.address = address;
    entry.client = this.#clientOf(address);
    if (entry.client === undefined) return;
    let ofClient = this.#clients.get(entry.client);
    if (!ofClient) this.#clients.set(entry.client, (ofClient = new Set()));
    ofClient.add(entry);
    if (ofClient.size > this.#perClient)
      this.#end(first(ofClient), `${this.#perClient} connections of its client are without a request`);
  }

  leave(entry: Entry): void {
    if (this.#all.delete(entry)) this.#leaveClient(entry);
  }

  /** Ends those that were opened before this time, the oldest first. @returns how many. */
  endOldest(limit: number, openedBefore: number): number {
    let ended = 0;
    for (const entry of this.#all) {
      if (ended === limit || entry.openedAt > openedBefore) break;
      this.leave(entry);
      entry.socket.destroy();
      ended++;
    }
    return ended;
  }

  #leaveClient(entry: Entry): void {
    const { client } = entry;
    if (client === undefined) return;
    const ofClient = this.#clients.get(client)!;
    ofClient.delete(entry);
    if (ofClient.size === 0) this.#clients.delete(client);
    entry.client = undefined;
  }

  #clientOf(address: string): string | undefined {
    if (this.#perClient === Number.POSITIVE_INFINITY || address === '') return undefined;
    if (this.#environment.trustedProxies.contains(address)) return undefined;
    return this.#sparesNearby && nearbyAddresses.contains(address) ? undefined : clientNetwork(address);
  }

  #end(entry: Entry, why: string): void {
    this.leave(entry);
    const { address, socket } = entry;
    this.#environment.logger.debug({ event: 'slow-client', ...(address && { address }) }, `connection ended: ${why}`);
    socket.destroy();
  }

  #warn(): void {
    this.#ended++;
    const now = this.#environment.clock.monotonic();
    if (now - this.#warnedAt < WARN_EVERY_MS) return;
    this.#warnedAt = now;
    this.#environment.logger.warn(
      { event: 'unused-connections', limit: this.#most, ended: this.#ended },
      'more clients connect than ask for something: for each one more, the connection that has waited longest for its first request is ended (unusedConnections)',
    );
    this.#ended = 0;
  }
}

class Entry implements Newcomer {
  readonly socket: Socket;
  readonly openedAt: number;
  address = '';
  /** Undefined: no limit of one client holds for it. */
  client: string | undefined = undefined;
  readonly #newcomers: Newcomers;

  constructor(newcomers: Newcomers, socket: Socket, openedAt: number) {
    this.#newcomers = newcomers;
    this.socket = socket;
    this.openedAt = openedAt;
  }

  identify(address: string): void {
    this.#newcomers.identify(this, address);
  }

  leave(): void {
    this.#newcomers.leave(this);
  }
}

function first<T>(all: ReadonlySet<T>): T {
  return all.values().next().value as T;
}
