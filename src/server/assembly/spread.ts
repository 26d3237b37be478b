import type { Clock } from '../../base/clock.ts';

/** Between two looks at whose turn it is. */
const STEP_MS = 20;
/** Of few, none need wait longer for its turn than so much for each of them. */
const LONGEST_SHARE_MS = 100;

/** What can be told to go. */
interface Leaving {
  close(): void;
}

/**
 * Closes many, spread evenly over a time, each at a random moment of its share of it and in a random order: clients that
 * come back do not come back together. Few take less: 100 ms each.
 */
export class Spread {
  readonly #clock: Clock;
  readonly #due: (() => void)[];
  readonly #total: number;
  readonly #overMs: number;
  readonly #startedAt: number;
  readonly #done = Promise.withResolvers<void>();

  constructor(clock: Clock, leaving: Iterable<Leaving>, overMs: number) {
    this.#clock = clock;
    this.#due = shuffled([...leaving]).map(one => () => one.close());
    this.#total = this.#due.length;
    this.#overMs = Math.min(overMs, this.#total * LONGEST_SHARE_MS);
    this.#startedAt = clock.monotonic();
    this.#look();
  }

  /** When all were told. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Tells the rest at once. */
  hurry(): void {
    for (const close of this.#due.splice(0)) close();
    this.#done.resolve();
  }

  #look(): void {
    const passedMs = this.#clock.monotonic() - this.#startedAt;
    // The moment of each is drawn when its share begins.
    const told = this.#total - this.#due.length;
    const share = this.#overMs <= 0 ? this.#total : (this.#total * (passedMs + STEP_MS * Math.random())) / this.#overMs;
    const isOver = passedMs >= this.#overMs;
    const count = isOver ? this.#due.length : Math.max(0, Math.floor(share) - told);
    for (const close of this.#due.splice(0, count)) close();
    if (this.#due.length === 0) return this.#done.resolve();
    this.#clock.setTimeout(() => this.#look(), Math.min(STEP_MS, this.#overMs - passedMs));
  }
}

function shuffled<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
