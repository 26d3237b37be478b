import { type Clock, LONGEST_TIMER_MS, type Timer } from './clock.ts';

/** How often a deadline looks whether the process could run meanwhile. */
const STEPS = 8;
const LONGEST_STEP_MS = 500;

declare const setImmediate: (callback: () => void) => unknown;

/**
 * Calls back when everything that has arrived by now has been read. Timers run before the sockets are read: in a
 * process that was busy for longer than a deadline, the deadline is over while the answer waits in the kernel.
 */
export function afterReading(callback: () => void): void {
  setImmediate(callback);
}

/**
 * The time in which this process could run. Of a standstill (a busy event loop, a suspended machine) only a little
 * counts: what happens in it is not the fault of the peers that this time is measured for.
 */
export class RunningTime {
  readonly #clock: Clock;
  readonly #mostMs: number;
  #now = 0;
  #readAt: number;

  /** @param mostMs What counts at most from one reading to the next: it has to be read at least this often. */
  constructor(clock: Clock, mostMs: number) {
    this.#clock = clock;
    this.#mostMs = mostMs;
    this.#readAt = clock.monotonic();
  }

  /** Milliseconds from an arbitrary start. */
  read(): number {
    const readAt = this.#clock.monotonic();
    this.#now += Math.min(readAt - this.#readAt, this.#mostMs);
    this.#readAt = readAt;
    return this.#now;
  }
}

/** Something that should happen in time. */
export class Deadline {
  /** In the running time of its list. */
  readonly at: number;
  readonly onMissed: () => void;
  readonly #list: Deadlines;
  previous: Deadline | undefined;
  next: Deadline | undefined;
  isOver = false;

  constructor(list: Deadlines, at: number, onMissed: () => void) {
    this.#list = list;
    this.at = at;
    this.onMissed = onMissed;
  }

  /** It has happened, or does not matter any more. */
  clear(): void {
    this.#list.remove(this);
  }
}

/**
 * Deadlines of one length: in the order in which they begin they also end, so one timer is enough for all of them.
 *
 * They are of the time in which this process could run, and are judged after everything that has arrived was read. So a
 * peer is not blamed for what this process had no time to send or to read; one that is silent misses its deadline all
 * the same.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #stepMs: number;
  readonly #time: RunningTime;
  #first: Deadline | undefined;
  #last: Deadline | undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
    this.#stepMs = Math.max(1, Math.min(ms / STEPS, LONGEST_STEP_MS));
    this.#time = new RunningTime(clock, 2 * this.#stepMs);
  }

  add(onMissed: () => void): Deadline {
    const now = this.#time.read();
    const deadline = new Deadline(this, now + this.#ms, onMissed);
    deadline.previous = this.#last;
    if (this.#last) this.#last.next = deadline;
    else this.#first = deadline;
    this.#last = deadline;
    this.#wait(now);
    return deadline;
  }

  remove(deadline: Deadline): void {
    if (deadline.isOver) return;
    deadline.isOver = true;
    const { previous, next } = deadline;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    // What has left the list holds nothing of it: an old one would keep all that came after it, and what they call.
    deadline.previous = deadline.next = undefined;
    if (this.#first) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wait(now: number): void {
    if (!this.#first) return;
    const ms = Math.min(this.#stepMs, this.#first.at - now);
    this.#timer ??= this.#clock.setTimeout(() => this.#look(), Math.max(0, Math.ceil(ms)));
  }

  #look(): void {
    this.#timer = undefined;
    const now = this.#time.read();
    if (this.#first!.at > now) return this.#wait(now);
    afterReading(() => {
      while (this.#first && this.#first.at <= now) {
        const missed = this.#first;
        this.remove(missed);
        missed.onMissed();
      }
      this.#wait(now);
    });
  }
}

/** By clock and length. */
const lists = new WeakMap<Clock, Map<number, Deadlines>>();

/**
 * Calls back when the milliseconds are over, of those in which this process could run, and what has arrived by then was
 * read. Every deadline that a peer is held to is one of these. Like the timers of a clock it does not keep the process
 * alive.
 *
 * @param ms One of a few values, as configured. `Infinity`, or more than 25 days: never, and it returns undefined.
 */
export function setDeadline(clock: Clock, ms: number, onMissed: () => void): Deadline | undefined {
  if (ms > LONGEST_TIMER_MS) return undefined;
  let ofClock = lists.get(clock);
  if (!ofClock) lists.set(clock, (ofClock = new Map()));
  let list = ofClock.get(ms);
  if (!list) ofClock.set(ms, (list = new Deadlines(clock, ms)));
  return list.add(onMissed);
}
