import type { Clock, Timer } from '../base/clock.ts';

const TICK_MS = 100;
const SLOTS = 512;

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
 */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #slots: (WheelEntry | undefined)[] = new Array(SLOTS).fill(undefined);
  #size = 0;
  #tick = 0;
  #timer: Timer | undefined;
  #now: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#now = clock.monotonic();
  }

  /** Monotonic milliseconds, at most one tick old while the wheel turns: then it is free to read. */
  get now(): number {
    if (this.#size === 0) this.#now = this.#clock.monotonic();
    return this.#now;
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
    entry.wheelDue = this.#now + ms + TICK_MS;
    this.#insert(entry, this.#tick + Math.min(SLOTS - 1, Math.ceil((ms + TICK_MS) / TICK_MS)));
  }

  cancel(entry: WheelEntry): void {
    if (entry.wheelSlot < 0) return;
    if (entry.wheelPrevious) entry.wheelPrevious.wheelNext = entry.wheelNext;
    else this.#slots[entry.wheelSlot] = entry.wheelNext;
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry.wheelPrevious;
    entry.wheelNext = entry.wheelPrevious = undefined;
    entry.wheelSlot = -1;
    if (--this.#size === 0) {
      this.#clock.clearTimeout(this.#timer);
      this.#timer = undefined;
    }
  }

  #insert(entry: WheelEntry, tick: number): void {
    const slot = tick % SLOTS;
    entry.wheelSlot = slot;
    entry.wheelPrevious = undefined;
    entry.wheelNext = this.#slots[slot];
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry;
    this.#slots[slot] = entry;
    this.#size++;
  }

  #start(): void {
    this.#now = this.#clock.monotonic();
    this.#timer = this.#clock.setTimeout(() => this.#turn(), TICK_MS);
  }

  #turn(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    // The event loop may have been blocked for several ticks; more than one round needs each slot only once.
    const steps = Math.min(SLOTS, Math.max(1, Math.floor((now - this.#now) / TICK_MS)));
    this.#now = now;
    for (let step = 0; step < steps; step++) {
      const slot = ++this.#tick % SLOTS;
      let entry = this.#slots[slot];
      while (entry) {
        const next: WheelEntry | undefined = entry.wheelNext;
        if (entry.wheelDue <= now) {
          this.cancel(entry);
          entry.onTimer();
          // What an entry did may have taken out the next one: start the slot again.
          entry = next && next.wheelSlot !== slot ? this.#slots[slot] : next;
        } else {
          // Further away than the wheel is round, or the wheel ran ahead: it stays or moves to where it is due.
          const ticks = Math.min(SLOTS - 1, Math.max(1, Math.ceil((entry.wheelDue - now) / TICK_MS)));
          this.#move(entry, this.#tick + ticks);
          entry = next;
        }
      }
    }
    if (this.#size > 0) this.#timer ??= this.#clock.setTimeout(() => this.#turn(), TICK_MS);
  }

  #move(entry: WheelEntry, tick: number): void {
    if (entry.wheelPrevious) entry.wheelPrevious.wheelNext = entry.wheelNext;
    else this.#slots[entry.wheelSlot] = entry.wheelNext;
    if (entry.wheelNext) entry.wheelNext.wheelPrevious = entry.wheelPrevious;
    this.#size--;
    this.#insert(entry, tick);
  }
}
