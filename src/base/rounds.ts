/** An item of a round, and the promise that waits for what comes of it. */
export interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Does together what was asked for while the round before was under way, in the order of the calls; one round after the
 * other.
 */
export class Rounds<Item, Result> {
  readonly #run: (round: readonly Waiting<Item, Result>[]) => Promise<void>;
  readonly #most: number;
  readonly #waiting: Waiting<Item, Result>[] = [];
  #isRunning = false;

  /**
   * @param run Resolves or rejects each item of the round; when it throws, those that are left are rejected with that.
   * @param most Items of one round.
   */
  constructor(
    run: (round: readonly Waiting<Item, Result>[]) => Promise<void>,
    most: number = Number.POSITIVE_INFINITY,
  ) {
    this.#run = run;
    this.#most = most;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (this.#isRunning) return;
      this.#isRunning = true;
      queueMicrotask(() => void this.#runAll()); // so that what one turn asks for is one round
    });
  }

  async #runAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const round = this.#waiting.splice(0, this.#most);
      try {
        await this.#run(round);
      } catch (error) {
        for (const { reject } of round) reject(error);
      }
    }
    this.#isRunning = false;
  }
}
