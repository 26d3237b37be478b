/** How many begin in one turn. */
const IN_A_TURN = 4;

/** @returns false when there is nothing to do any more. */
type Begin = () => boolean;

/**
 * Lets costly work begin a little at a time: a few in each turn of the event loop, and the others wait for the next
 * ones, in the order in which they came. So thousands that come at once hold up nobody who has come before them for
 * longer than a few take.
 */
export class Turnstile {
  /** The oldest first. */
  readonly #waiting = new Set<Begin>();
  #left = IN_A_TURN;
  #isTurning = false;

  /** How many wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Calls `begin`, now or in a later turn. */
  enter(begin: Begin): void {
    if (!this.#isTurning) {
      this.#isTurning = true;
      setImmediate(this.#turn);
    }
    if (this.#left === 0) this.#waiting.add(begin);
    else if (begin()) this.#left--;
  }

  /** It does not want to begin any more. */
  leave(begin: Begin): void {
    this.#waiting.delete(begin);
  }

  readonly #turn = (): void => {
    this.#left = IN_A_TURN;
    this.#isTurning = this.#waiting.size > 0;
    if (!this.#isTurning) return;
    setImmediate(this.#turn);
    for (const begin of this.#waiting) {
      if (this.#left === 0) return;
      this.#waiting.delete(begin);
      if (begin()) this.#left--;
    }
  };
}
