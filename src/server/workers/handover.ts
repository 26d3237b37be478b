import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { HandedConnection } from './handed-connection.ts';

/** Who can take connections. */
export interface Taker {
  /** Connections that it was given and has not said a word about. */
  pending: number;
  /** When it was last heard of, or was given something to speak about: by a clock that only goes forward, in ms. */
  heardAt: number;
  hand(connection: HandedConnection, socket: Socket): void;
}

/** Who takes what comes through a port at the moment. */
export interface TakersOf {
  readonly key: string;
  readonly takers: ReadonlySet<Taker>;
}

/** Connections that wait at a time, so many of all: each is a descriptor. */
const MOST_HELD = 8_192;
/** How long a connection waits until somebody has taken it. */
const HOLD_MS = 10_000;
const LOOK_MS = 1_000;
/** A worker that has said nothing for so long, with connections on the way to it, is given no more of them. */
const SILENT_MS = 250;

interface Held {
  readonly id: number;
  readonly socket: Socket;
  readonly port: TakersOf;
  readonly until: number;
  /** Who has been given it. */
  taker: Taker | undefined;
}

/**
 * Accepted connections on their way to a worker. Each stays open here until its worker has said that it is its own: what
 * was on the way to one that ends goes to another, and no client notices.
 *
 * A worker says so before it can read from the connection, so that no two ever read from one.
 */
export class Handover {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #held = new Map<number, Held>();
  #count = 0;
  #turn = 0;
  #lost = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Somebody has connected. */
  accept(socket: Socket, port: TakersOf): void {
    socket.on('error', ignore);
    if (this.#held.size >= MOST_HELD) return this.#lose(socket);
    // A receipt has 4 bytes for it.
    this.#count = (this.#count + 1) >>> 0;
    const until = this.#clock.monotonic() + HOLD_MS;
    const held: Held = { id: this.#count, socket, port, until, taker: undefined };
    this.#held.set(held.id, held);
    this.#give(held);
    this.#timer ??= this.#clock.setTimeout(this.#look, LOOK_MS);
  }

  /** A worker has said whether a connection is its own. */
  receive(taker: Taker, id: number, isTaken: boolean): void {
    const held = this.#held.get(id);
    if (held?.taker !== taker) return;
    taker.pending--;
    taker.heardAt = this.#clock.monotonic();
    held.taker = undefined;
    if (isTaken) this.#let(held);
    else this.#give(held, taker);
  }

  /** A worker has ended, and every receipt of it has been read: what it was given is given to others. */
  lose(taker: Taker): void {
    for (const held of this.#held.values())
      if (held.taker === taker) {
        held.taker = undefined;
        this.#give(held, taker);
      }
    taker.pending = 0;
  }

  /** Somebody begins to take connections. */
  resume(port: TakersOf): void {
    for (const held of this.#held.values()) if (held.port === port && !held.taker) this.#give(held);
  }

  /** Nobody takes any more: what waits is closed. */
  close(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const held of this.#held.values()) this.#let(held);
  }

  /**
   * To whoever has the least on the way; in turn where that is the same. Not to one that stands still, unless all do.
   * Without anybody it waits.
   */
  #give(held: Held, except?: Taker): void {
    const now = this.#clock.monotonic();
    const all = [...held.port.takers].filter(one => one !== except);
    const awake = all.filter(({ pending, heardAt }) => pending === 0 || now - heardAt < SILENT_MS);
    const takers = awake.length > 0 ? awake : all;
    const least = Math.min(...takers.map(({ pending }) => pending));
    const idle = takers.filter(({ pending }) => pending === least);
    const taker = idle[this.#turn++ % idle.length];
    if (!taker) return;
    held.taker = taker;
    if (taker.pending === 0) taker.heardAt = now;
    taker.pending++;
    taker.hand({ kind: 'connection', id: held.id, key: held.port.key }, held.socket);
  }

  /** It stays open where a worker has it. */
  #let({ id, socket }: Held): void {
    this.#held.delete(id);
    socket.destroy();
  }

  #lose(socket: Socket): void {
    socket.destroy();
    this.#lost++;
    this.#timer ??= this.#clock.setTimeout(this.#look, LOOK_MS);
  }

  readonly #look = (): void => {
    const now = this.#clock.monotonic();
    for (const held of this.#held.values()) {
      // The oldest come first.
      if (held.until > now) break;
      if (held.taker) held.taker.pending--;
      this.#let(held);
      this.#lost++;
    }
    if (this.#lost > 0)
      this.#logger.error(
        { event: 'connections-not-taken', connections: this.#lost },
        `${this.#lost} connections were closed: no worker has taken them within ${HOLD_MS / 1_000} s, or more than ${MOST_HELD} waited; see whether the workers run, and what keeps them busy`,
      );
    this.#lost = 0;
    this.#timer = this.#held.size > 0 ? this.#clock.setTimeout(this.#look, LOOK_MS) : undefined;
  };
}

const ignore = () => {};
