import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ListenConfig } from '../../config/config.ts';
import { Port } from '../listen/port.ts';
import type { Handover, Taker, TakersOf } from './handover.ts';

/** Where a port of the supervisor is, for the workers' listeners. */
export interface PortAddress {
  readonly number: number;
  readonly host: string;
  readonly path: string | undefined;
}

interface SharedPort extends TakersOf {
  readonly port: Port;
  readonly opened: Promise<PortAddress>;
  /** Who has asked for it. */
  readonly users: Set<Taker>;
  readonly takers: Set<Taker>;
}

/**
 * The ports of all workers, which the supervisor opens when the first of them asks, and closes when the last one has let
 * go. One that all workers have lost with their lives stays open: others come, and find who has connected meanwhile.
 */
export class SharedPorts {
  readonly #handover: Handover;
  readonly #logger: Logger;
  readonly #ports = new Map<string, SharedPort>();

  constructor(handover: Handover, logger: Logger) {
    this.#handover = handover;
    this.#logger = logger;
  }

  /** @throws {HoldfastError} ERR_SERVER_LISTEN. */
  async listen(user: Taker, key: string, listen: ListenConfig): Promise<PortAddress> {
    const known = this.#ports.get(key);
    known?.port.checkChange(listen);
    const shared = known ?? this.#open(key, listen);
    shared.users.add(user);
    try {
      return await shared.opened;
    } catch (error) {
      shared.users.delete(user);
      if (this.#ports.get(key) === shared) this.#ports.delete(key);
      throw error;
    }
  }

  /** From now on it takes what connects there. */
  take(user: Taker, key: string): void {
    const shared = this.#ports.get(key);
    if (!shared?.users.has(user)) return;
    shared.takers.add(user);
    shared.port.giveTo({ allowsHalfOpen: true, take: socket => this.#handover.accept(socket, shared) });
    this.#handover.resume(shared);
  }

  change(key: string, listen: ListenConfig): void {
    this.#ports.get(key)?.port.change(listen);
  }

  /**
   * It wants no more connections of this port. Where it was the last one, the port is closed; not if others are to come in
   * its place.
   */
  letGo(user: Taker, key: string, isReplaced: boolean): void {
    const shared = this.#ports.get(key);
    if (!shared?.users.delete(user)) return;
    shared.takers.delete(user);
    if (shared.users.size === 0 && !isReplaced) this.#close(key, shared);
  }

  /** It has ended. */
  lose(user: Taker): void {
    for (const { users, takers } of this.#ports.values()) {
      users.delete(user);
      takers.delete(user);
    }
    this.#handover.lose(user);
  }

  /** Closes those that nobody has asked for, now that every worker has what it wants. */
  sweep(): void {
    for (const [key, shared] of this.#ports) if (shared.users.size === 0) this.#close(key, shared);
  }

  /** Closes all of them, and what waits. */
  close(): void {
    this.#handover.close();
    for (const [key, shared] of this.#ports) this.#close(key, shared);
  }

  #open(key: string, listen: ListenConfig): SharedPort {
    const port = new Port(listen, this.#logger, { pauseOnConnect: true });
    const opened = port.open().then(() => {
      if (this.#ports.get(key) !== shared) throw new HoldfastError('ERR_SERVER_STATE', 'the server stops');
      return { number: port.number, host: port.host, path: port.path };
    });
    const shared: SharedPort = { key, port, opened, users: new Set(), takers: new Set() };
    this.#ports.set(key, shared);
    return shared;
  }

  #close(key: string, shared: SharedPort): void {
    this.#ports.delete(key);
    this.#handover.drop(shared);
    // Nobody waits for it: Node says that a server has closed once the processes that have got connections of it say so
    // of these, and never if all of them have ended.
    void shared.port.release();
  }
}
