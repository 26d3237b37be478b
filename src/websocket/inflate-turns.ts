import type { InflateSchedule } from './protocol/message-assembler.ts';
import { type InflatingMessage, mostReadMs } from './protocol/permessage-deflate.ts';

/** What may be inflated in one turn of the event loop, over all connections of the process. */
const TURN_BYTES = 2 * 1024 * 1024;
/**
 * The same for the time that it takes with the callbacks that get it: these may compress an answer, which costs ten
 * times as much.
 */
const TURN_MS = 5;
/**
 * What comes to more than half of a turn is inflated in the thread pool. Nobody knows that before: this much is tried.
 */
const MOST_BYTES = TURN_BYTES / 2;
/** Reading alone may cost 40 times what comes out: about 5 ms for this much. */
const MOST_PAYLOAD_BYTES = 64 * 1024;
/**
 * What a connection that was idle has in hand, some hundred small messages: so much it gets before those that flood.
 */
const CREDIT_MS = 4;

/** The connection of a place. */
export interface InflateOwner {
  /** False: whatever comes is discarded. */
  readonly isOpen: boolean;
  /** A message waits for its turn: nothing more is read. */
  onInflateWait(): void;
  /** Its turn has come: inflates it, hands it on, and reads on. */
  onInflateTurn(): void;
  /** The same in the thread pool. Never rejects. */
  onInflateAside(): Promise<void>;
}

/** One connection's place among those that inflate. */
export class InflatePlace implements InflateSchedule {
  readonly mostPayloadBytes = MOST_PAYLOAD_BYTES;
  readonly mostBytes = MOST_BYTES;
  /** The time in milliseconds that inflating for it has taken. Who has had less comes first. */
  tag = 0;
  /**
   * The tag when its message may have been read: of those that have as much right, a small message goes before a large
   * one.
   */
  rank = 0;
  /** Of equals the one that came first. */
  order = 0;
  isWaiting = false;
  readonly owner: InflateOwner;
  #payloadBytes = 0;

  constructor(owner: InflateOwner) {
    this.owner = owner;
  }

  decide(payloadBytes: number): 'now' | 'later' | 'never' {
    if (!this.owner.isOpen) return 'never';
    this.#payloadBytes = payloadBytes;
    scheduleTurn();
    if (waiting.isEmpty && hasRoom()) {
      virtual = Math.max(virtual, this.tag);
      return 'now';
    }
    waiting.add(this);
    return 'later';
  }

  onInflated(message: InflatingMessage): void {
    spent += message.cost;
    this.#charge(message, begunAt);
  }

  onInflatedAside(message: InflatingMessage): void {
    this.#charge(message, asideSince);
  }

  onLarge(): void {
    large.add(this);
    inflateNextAside();
  }

  /** Takes its place in a queue. */
  wait(order: number): void {
    this.isWaiting = true;
    this.tag = Math.max(this.tag, virtual - CREDIT_MS);
    this.rank = this.tag + mostReadMs(this.#payloadBytes);
    this.order = order;
    this.owner.onInflateWait();
  }

  /** Gives the place up. What waits in it is not inflated. */
  leave(): void {
    this.isWaiting = false;
  }

  #charge(message: InflatingMessage, since: number): void {
    this.tag = Math.max(this.tag, virtual - CREDIT_MS) + Math.min(performance.now() - since, message.mostMs);
  }
}

/**
 * Places in the order of their ranks: fair queueing. Each connection gets the same time while they compete, whatever
 * its messages are, and one that has sent nothing for a while waits for none that floods.
 */
class FairQueue {
  readonly #heap: InflatePlace[] = [];
  #order = 0;

  add(place: InflatePlace): void {
    place.wait(this.#order++);
    const heap = this.#heap;
    let at = heap.push(place) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(place, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = place;
  }

  /** Those that have left meanwhile are forgotten. */
  get isEmpty(): boolean {
    while (this.#heap.length > 0 && !this.#heap[0]!.isWaiting) this.#pop();
    return this.#heap.length === 0;
  }

  take(): InflatePlace | undefined {
    return this.isEmpty ? undefined : this.#pop();
  }

  #pop(): InflatePlace {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: InflatePlace, b: InflatePlace): boolean {
  return a.rank < b.rank || (a.rank === b.rank && a.order < b.order);
}

const waiting = new FairQueue();
const large = new FairQueue();
/** The largest tag of those whose turn it has been. */
let virtual = 0;
/** Of this turn of the event loop: what has arrived, and behind it `runTurn`. */
let spent = 0;
let startedAt = 0;
/** When the message that is being inflated was begun. */
let begunAt = 0;
/** The same of the one in the thread pool. */
let asideSince = 0;
let isTurnScheduled = false;
let isInflatingAside = false;

function hasRoom(): boolean {
  begunAt = performance.now();
  if (spent === 0) startedAt = begunAt;
  return spent < TURN_BYTES && begunAt - startedAt < TURN_MS;
}

function scheduleTurn(): void {
  if (isTurnScheduled) return;
  isTurnScheduled = true;
  setImmediate(runTurn);
}

function runTurn(): void {
  const place = hasRoom() ? waiting.take() : undefined;
  if (place === undefined) return endTurn();
  // Not in a loop: the time of this turn includes what callbacks do after an `await`.
  queueMicrotask(runTurn);
  place.isWaiting = false;
  virtual = Math.max(virtual, place.tag);
  place.owner.onInflateTurn();
}

function endTurn(): void {
  spent = 0;
  isTurnScheduled = false;
  if (!waiting.isEmpty) scheduleTurn();
}

/** One after the other: each may need as much memory as the limit of its endpoint allows. */
function inflateNextAside(): void {
  const place = isInflatingAside ? undefined : large.take();
  if (place === undefined) return;
  isInflatingAside = true;
  asideSince = performance.now();
  virtual = Math.max(virtual, place.tag);
  void place.owner.onInflateAside().finally(() => {
    isInflatingAside = false;
    inflateNextAside();
  });
}
