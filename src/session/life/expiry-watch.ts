import type { Clock, Timer } from '../../base/clock.ts';

/**
 * Something that ends by itself when its time is over. It belongs to one watch. The fields are set by the watch only.
 */
export interface Watched {
  /** It was known to live until then when it was last looked at. */
  livesUntil: number;
  /** When it is looked at next; `Infinity`: it is not among those that wait for their time. */
  dueAt: number;
  /** Where the watch has it. */
  watchIndex: number;
}

export interface ExpiryWatchOptions<T> {
  readonly clock: Clock;
  /** The time in which the others are. */
  now(): number;
  /** When it is over, as far as this process knows. */
  expiresAt(watched: T): number;
  /** True: it is over whatever other processes know, and has been ended. */
  endAtOnce?(watched: T): boolean;
  /**
   * Asks where all processes keep what they know. Resolves with the time until which it lives, or with undefined when
   * it is over, and has been ended. Rejects when that cannot be known now, which ends nothing.
   */
  ask(watched: T): Promise<number | undefined>;
  /** It could not be asked: once for each try, however many of them wait. */
  onOutage(error: unknown): void;
}

/** What waits in no watch yet: the fields to begin with. */
export const UNWATCHED: Watched = {
  livesUntil: Number.POSITIVE_INFINITY,
  dueAt: Number.POSITIVE_INFINITY,
  watchIndex: -1,
};

/** The machine's clock may be set, or the machine be suspended, and no timer notices. */
const LONGEST_LOOK_AWAY_MS = 10_000;
/** So many in one turn of the event loop: each may close sockets. */
const MAX_IN_A_TURN = 200;
/** So many are asked about at once. */
const TOGETHER = 50;
/** When it could not be asked. */
const ASK_AGAIN_MS = 1_000;
/** Where clocks differ, what has just been found alive may look over. */
const LEAST_PAUSE_MS = 20;

/**
 * Ends any number of things, each when its time is over, with one timer for all of them.
 *
 * A binary heap: what is due next is at the top, and putting in, moving and taking out cost a few swaps and no memory.
 * Being used costs nothing at all: when the time comes it is seen that there is more of it.
 */
export class ExpiryWatch<T extends Watched> {
  readonly #options: ExpiryWatchOptions<T>;
  readonly #heap: T[] = [];
  /** Over as far as this process knows, in order; and those of them that are being asked about. */
  readonly #toAsk = new Set<T>();
  readonly #asked = new Set<T>();
  #askAgainAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #isClosed = false;

  constructor(options: ExpiryWatchOptions<T>) {
    this.#options = options;
  }

  /** Begins to watch it, or learns of another time. `Infinity`: it does not end by itself. */
  schedule(watched: T, livesUntil: number): void {
    watched.livesUntil = livesUntil;
    this.#toAsk.delete(watched);
    this.#put(watched, livesUntil);
  }

  /** It is not to be watched any more. */
  cancel(watched: T): void {
    this.#toAsk.delete(watched);
    this.#asked.delete(watched);
    this.#take(watched);
  }

  close(): void {
    this.#isClosed = true;
    this.#toAsk.clear();
    this.#stopTimer();
  }

  #look(): void {
    this.#stopTimer();
    const now = this.#options.now();
    for (let looks = 0; looks < MAX_IN_A_TURN && !this.#isClosed; looks++) {
      const [next] = this.#heap;
      if (!next || next.dueAt > now) break;
      this.#take(next);
      this.#judge(next, now);
    }
    this.#ask();
    this.#wait();
  }

  #judge(watched: T, now: number): void {
    const { expiresAt, endAtOnce } = this.#options;
    const livesUntil = expiresAt(watched);
    if (now < livesUntil) this.schedule(watched, livesUntil);
    else if (endAtOnce?.(watched)) return;
    else if (now < this.#askAgainAt) this.#put(watched, this.#askAgainAt);
    else this.#toAsk.add(watched);
  }

  #ask(): void {
    for (const watched of this.#toAsk) {
      if (this.#asked.size >= TOGETHER || this.#isClosed) return;
      this.#toAsk.delete(watched);
      if (this.#asked.has(watched)) continue;
      this.#asked.add(watched);
      this.#options.ask(watched).then(
        livesUntil => {
          if (this.#asked.delete(watched) && livesUntil !== undefined)
            this.schedule(watched, Math.max(livesUntil, this.#options.now() + LEAST_PAUSE_MS));
          this.#ask();
        },
        error => {
          this.#askLater(this.#asked.delete(watched) ? [watched] : [], error);
        },
      );
    }
  }

  /** It would be the same for the others. */
  #askLater(failed: readonly T[], error: unknown): void {
    const now = this.#options.now();
    if (now >= this.#askAgainAt && !this.#isClosed) {
      this.#askAgainAt = now + ASK_AGAIN_MS;
      this.#options.onOutage(error);
    }
    for (const watched of [...failed, ...this.#toAsk]) this.#put(watched, this.#askAgainAt);
    this.#toAsk.clear();
  }

  #wait(): void {
    const [next] = this.#heap;
    if (!next || this.#isClosed) return;
    const { clock, now } = this.#options;
    const at = now();
    const ms = Math.max(0, Math.min(Math.ceil(next.dueAt - at), LONGEST_LOOK_AWAY_MS));
    if (this.#timer && this.#timerAt <= at + ms) return;
    this.#stopTimer();
    this.#timerAt = at + ms;
    this.#timer = clock.setTimeout(() => this.#look(), ms);
  }

  #stopTimer(): void {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
  }

  #put(watched: T, dueAt: number): void {
    if (dueAt === Number.POSITIVE_INFINITY || this.#isClosed) {
      this.#take(watched);
      return;
    }
    const index = watched.dueAt === Number.POSITIVE_INFINITY ? this.#heap.push(watched) - 1 : watched.watchIndex;
    watched.dueAt = dueAt;
    this.#settle(watched, index);
    this.#wait();
  }

  #take(watched: T): void {
    if (watched.dueAt === Number.POSITIVE_INFINITY) return;
    watched.dueAt = Number.POSITIVE_INFINITY;
    const last = this.#heap.pop()!;
    if (last !== watched) this.#settle(last, watched.watchIndex);
    if (this.#heap.length === 0) this.#stopTimer();
  }

  /** Moves it up or down from there to where it belongs. */
  #settle(watched: T, from: number): void {
    const heap = this.#heap;
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent]!.dueAt <= watched.dueAt) break;
      this.#place(heap[parent]!, index);
      index = parent;
    }
    for (;;) {
      let child = 2 * index + 1;
      if (child + 1 < heap.length && heap[child + 1]!.dueAt < heap[child]!.dueAt) child++;
      if (child >= heap.length || heap[child]!.dueAt >= watched.dueAt) break;
      this.#place(heap[child]!, index);
      index = child;
    }
    this.#place(watched, index);
  }

  #place(watched: T, index: number): void {
    this.#heap[index] = watched;
    watched.watchIndex = index;
  }
}
