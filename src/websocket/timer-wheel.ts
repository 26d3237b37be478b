import type { Clock, Timer } from '../base/clock.ts';
import { afterReading } from '../base/deadlines.ts';

const TICK_MS = 100;
const SLOTS = 512;
/** What counts of a standstill. */
const LONGEST_TURN_MS = 2 * TICK_MS;

/** Something that a wheel calls when its time has come. It belongs to one wheel, and is in it once or not at all. */
export abstract class WheelEntry {
  /** Set by the wheel only. */
  wheelDue = 0;
  wheelNext: WheelEntry | undefined;
  wheelPrevious: WheelEntry | undefined;
  wheelSlot = -1;

  abstract onTimer(): void;
}

/**
 * One timer for any number of connections: scheduling and cancelling cost a few assignments and no memory.
 *
 * Entries fire up to two ticks (200 ms) late and never early. The wheel turns only while it holds entries.
 *
 * Its time is that in which the process could run: of a standstill (a blocked event loop, a suspended machine) two
 * ticks count, and what has arrived is read before anything fires. So peers are not blamed for what they have sent and
 * this process has not read.
 */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #slots: (WheelEntry | undefined)[] = new Array(SLOTS).fill(undefined);
  #size = 0;
  #timer: Timer | undefined;
  #now = 0;
  /** What the clock showed when `#now` was set. */
  #readAt: number;
  /** The slot whose time has come last, counted from the beginning of time, and when that was. */
  #tick = 0;
  #tickAt = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#readAt = clock.monotonic();
  }

  /**
   * Whole milliseconds of the wheel's time, at most one tick old while the wheel turns: then it is free to read. Whole,
   * because a number with a fraction takes memory of its own in every object that keeps one.
   */
  get now(): number {
    if (this.#size === 0) this.#readClock();
    return Math.trunc(this.#now);
  }

  get size(): number {
    return this.#size;
  }

  /** (Re)schedules the entry; `Infinity` only cancels. */
  schedule(entry: WheelEntry, ms: number): void {
    this.cancel(entry);
    if (ms === Number.POSITIVE_INFINITY) return;
    if (this.#size === 0) this.#start();
    // One tick more, because `now` may be a tick old.
    entry.wheelDue = Math.ceil(this.#now + ms) + TICK_MS;
    this.#insert(entry);
  }

  cancel(entry: WheelEntry): void {
    if (entry.wheelSlot < 0) return;
    this.#remove(entry);
    if (this.#size > 0) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** What is due beyond one round of the wheel goes as far as it can, and is moved on from there. */
  #insert(entry: WheelEntry): void {
    const ticks = Math.ceil((entry.wheelDue - this.#tickAt) / TICK_MS);
    const slot = (this.#tick + Math.max(1, Math.min(SLOTS - 1, ticks))) % SLOTS;
    entry.wheelSlot = slot;
    entry.wheelPrevious = undefined;
    entry.wheelNext = this.#slots[slot];
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry;
    this.#slots[slot] = entry;
    this.#size++;
  }

  #remove(entry: WheelEntry): void {
    if (entry.wheelPrevious) entry.wheelPrevious.wheelNext = entry.wheelNext;
    else this.#slots[entry.wheelSlot] = entry.wheelNext;
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry.wheelPrevious;
    entry.wheelNext = entry.wheelPrevious = undefined;
    entry.wheelSlot = -1;
    this.#size--;
  }

  #readClock(): void {
    const readAt = this.#clock.monotonic();
    this.#now += readAt - this.#readAt;
    this.#readAt = readAt;
  }

  #start(): void {
    this.#readClock();
    this.#tickAt = this.#now;
    this.#timer = this.#clock.setTimeout(() => this.#turn(), TICK_MS);
  }

  #turn(): void {
    this.#timer = undefined;
    const readAt = this.#clock.monotonic();
    this.#now += Math.min(readAt - this.#readAt, LONGEST_TURN_MS);
    this.#readAt = readAt;
    afterReading(() => this.#fireDue());
  }

  #fireDue(): void {
    while (this.#tickAt + TICK_MS <= this.#now) {
      this.#tickAt += TICK_MS;
      this.#fire(++this.#tick % SLOTS);
    }
    if (this.#size > 0) this.#timer ??= this.#clock.setTimeout(() => this.#turn(), TICK_MS);
  }

  #fire(slot: number): void {
    let entry = this.#slots[slot];
    while (entry) {
      const next: WheelEntry | undefined = entry.wheelNext;
      this.#remove(entry);
      if (entry.wheelDue <= this.#tickAt) entry.onTimer();
      else this.#insert(entry);
      // What an entry did may have taken out the next one: start the slot again.
      entry = next && next.wheelSlot !== slot ? this.#slots[slot] : next;
    }
  }
}
