import type { Clock, Timer } from '../../base/clock.ts';

/** Something that should have happened by a time. */
export interface Deadline {
  readonly at: number;
  readonly onMissed: () => void;
  previous: Deadline | undefined;
  next: Deadline | undefined;
  isOver: boolean;
}

/** Deadlines of one length: in the order in which they begin they also end, so one timer is enough for all of them. */
export class Deadlines {
  readonly #clock: Clock;
  readonly #ms: number;
  #first: Deadline | undefined;
  #last: Deadline | undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  /** @param now On the monotonic clock. */
  add(now: number, onMissed: () => void): Deadline {
    const deadline: Deadline = { at: now + this.#ms, onMissed, previous: this.#last, next: undefined, isOver: false };
    if (this.#last) this.#last.next = deadline;
    else this.#first = deadline;
    this.#last = deadline;
    this.#timer ??= this.#clock.setTimeout(() => this.#look(), this.#ms);
    return deadline;
  }

  /** It has happened. */
  remove(deadline: Deadline): void {
    if (deadline.isOver) return;
    deadline.isOver = true;
    const { previous, next } = deadline;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    if (this.#first) return;
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    while (this.#first && this.#first.at <= now) {
      const missed = this.#first;
      this.remove(missed);
      missed.onMissed();
    }
    if (this.#first) this.#timer ??= this.#clock.setTimeout(() => this.#look(), Math.ceil(this.#first.at - now));
  }
}
