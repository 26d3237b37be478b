import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { openFilesLimit } from '../listen/descriptors.ts';
import type { HandedConnection } from './handed-connection.ts';

/** A worker, as what can take connections. */
export interface Taker {
  hand(connection: HandedConnection, socket: Socket): void;
  /** It is to say of this connection that it is not taken, unless it has come. */
  ask(id: number): void;
}

/** A port, and the workers that take what comes through it at the moment. */
export interface TakersOf {
  readonly key: string;
  readonly takers: ReadonlySet<Taker>;
}

/** Connections on their way at a time, if so many descriptors are there twice: others are for workers and files. */
const MOST_HELD = 8_192;
/** How long a connection waits for a worker. */
const WAIT_MS = 10_000;
/** A worker that has said nothing of a connection for so long stands still: what waits for it goes to others. */
const SILENT_MS = 500;

interface Held {
  readonly id: number;
  readonly socket: Socket;
  readonly port: TakersOf;
  readonly until: number;
  /** The worker that it is for. */
  taker: Taker | undefined;
  /** The workers that could not take it. They are not asked before the next look. */
  readonly refusedBy: Set<Taker>;
  /** Its port has been closed: it is the worker's that has it, or nobody's. */
  isDropped: boolean;
}

/** What one worker is to get. */
interface Queue {
  readonly waiting: Set<Held>;
  /** It is on its way; the next one follows when the worker has taken it. */
  handed: Held | undefined;
  handedAt: number;
  hasAsked: boolean;
}

/**
 * Accepted connections on their way to a worker. Each stays open here until its worker has said that it has taken it. If
 * the worker ends before, another one gets the connection, and the client notices nothing.
 *
 * A worker says so before it can read from the connection, so that no two ever read from one. Until then no other follows:
 * what is on its way cannot be called back, and what waits for a worker that stands still goes to the others.
 */
export class Handover {
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** The oldest come first. */
  readonly #held = new Set<Held>();
  readonly #queues = new Map<Taker, Queue>();
  readonly #most = Math.min(MOST_HELD, Math.floor(openFilesLimit() / 2));
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
    this.#timer ??= this.#clock.setTimeout(this.#look, SILENT_MS);
    if (this.#held.size >= this.#most) {
      socket.destroy();
      this.#lost++;
      return;
    }
    // A receipt has 4 bytes for it.
    this.#count = (this.#count + 1) >>> 0;
    const until = this.#clock.monotonic() + WAIT_MS;
    const held: Held = {
      ...{ id: this.#count, socket, port, until },
      ...{ taker: undefined, refusedBy: new Set(), isDropped: false },
    };
    this.#held.add(held);
    this.#give(held);
  }

  /** What a worker says of a connection. */
  receive(taker: Taker, id: number, isTaken: boolean): void {
    const queue = this.#queueOf(taker);
    const held = queue.handed;
    if (held?.id !== id) return;
    queue.handed = undefined;
    // It stays open where the worker has it.
    if (isTaken) this.#close(held);
    else if (held.until <= this.#clock.monotonic()) this.#lose(held);
    else {
      // It has let go of the port, or has no descriptor left.
      held.refusedBy.add(taker);
      this.#give(held);
    }
    this.#handNext(taker);
  }

  /** A worker has ended, and every receipt of it has been read: what was for it goes to others. */
  lose(taker: Taker): void {
    this.#queues.delete(taker);
    for (const held of this.#held) if (held.taker === taker) this.#give(held);
  }

  /** A worker begins to take the connections of a port. */
  resume(port: TakersOf): void {
    for (const held of this.#held) if (held.port === port && !held.taker) this.#give(held);
  }

  /** A port has been closed: so is what waits there for a worker, and what is on its way if the worker does not take it. */
  drop(port: TakersOf): void {
    for (const held of this.#held) {
      if (held.port !== port) continue;
      held.isDropped = true;
      if (!this.#isOnItsWay(held)) this.#close(held);
    }
  }

  /** No worker takes anything any more. */
  close(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const held of this.#held) this.#close(held);
  }

  /**
   * To the worker with the least before it; in turn where that is the same. Not to one that stands still, unless all do.
   * Without any it waits.
   */
  #give(held: Held): void {
    if (held.isDropped) return this.#close(held);
    const takers = [...held.port.takers].filter(taker => !held.refusedBy.has(taker));
    const awake = takers.filter(taker => !this.#isSilent(taker));
    const some = awake.length > 0 ? awake : takers;
    const sizes = some.map(taker => sizeOf(this.#queueOf(taker)));
    const least = Math.min(...sizes);
    const first = some.filter((_, index) => sizes[index] === least);
    const taker = first[this.#turn++ % first.length];
    held.taker = taker;
    if (!taker) return;
    this.#queueOf(taker).waiting.add(held);
    this.#handNext(taker);
  }

  #handNext(taker: Taker): void {
    const queue = this.#queueOf(taker);
    const [held] = queue.waiting;
    if (queue.handed || !held) return;
    queue.waiting.delete(held);
    queue.handed = held;
    queue.handedAt = this.#clock.monotonic();
    queue.hasAsked = false;
    taker.hand({ kind: 'connection', id: held.id, key: held.port.key }, held.socket);
  }

  /** Others get what waits for one that stands still. */
  #passOver(taker: Taker): void {
    const queue = this.#queueOf(taker);
    // A process without a descriptor loses what it is given without a word. Messages come in their order.
    if (!queue.hasAsked) taker.ask(queue.handed!.id);
    queue.hasAsked = true;
    for (const held of [...queue.waiting]) {
      queue.waiting.delete(held);
      this.#give(held);
    }
  }

  #queueOf(taker: Taker): Queue {
    const known = this.#queues.get(taker);
    if (known) return known;
    const queue: Queue = { waiting: new Set(), handed: undefined, handedAt: 0, hasAsked: false };
    this.#queues.set(taker, queue);
    return queue;
  }

  #isSilent(taker: Taker): boolean {
    const { handed, handedAt } = this.#queueOf(taker);
    return handed !== undefined && this.#clock.monotonic() - handedAt >= SILENT_MS;
  }

  #isOnItsWay(held: Held): boolean {
    return held.taker !== undefined && this.#queueOf(held.taker).handed === held;
  }

  #close(held: Held): void {
    this.#held.delete(held);
    if (held.taker) this.#queueOf(held.taker).waiting.delete(held);
    held.socket.destroy();
  }

  /** No worker has taken it in time. Where its port has been closed, none was to. */
  #lose(held: Held): void {
    this.#close(held);
    if (!held.isDropped) this.#lost++;
  }

  readonly #look = (): void => {
    const now = this.#clock.monotonic();
    for (const held of this.#held) {
      // Closed here, one that is on its way would not be closed for its client.
      if (held.until <= now && !this.#isOnItsWay(held)) {
        this.#lose(held);
        continue;
      }
      if (held.refusedBy.size === 0) continue;
      // A worker that could not take it may be able to now.
      held.refusedBy.clear();
      if (!held.taker) this.#give(held);
    }
    for (const taker of this.#queues.keys()) if (this.#isSilent(taker)) this.#passOver(taker);
    if (this.#lost > 0)
      this.#logger.error(
        { event: 'connections-not-taken', connections: this.#lost },
        `${this.#lost} connections were closed: no worker has taken them within ${WAIT_MS / 1_000} s, or more than ${this.#most} waited; see whether the workers run, and what keeps them busy`,
      );
    this.#lost = 0;
    this.#timer = this.#held.size > 0 ? this.#clock.setTimeout(this.#look, SILENT_MS) : undefined;
  };
}

function sizeOf({ waiting, handed }: Queue): number {
  return waiting.size + (handed ? 1 : 0);
}

const ignore = () => {};
