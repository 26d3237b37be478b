/** Tasks that begin in one turn of the event loop at most. */
const MAX_IN_TURN = 64;

/**
 * Runs the tasks of one key one after the other, in the order of the calls; those of different keys do not wait for
 * each other.
 *
 * However quick the tasks are, the event loop turns now and then: whoever calls again when a call is done keeps nothing
 * else from running, such as the timer for which another waits.
 */
export class KeyedQueue {
  readonly #last = new Map<string, Promise<unknown>>();
  #inTurn = 0;

  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const start = () => {
      const turn = this.#turn();
      return turn ? turn.then(task) : task();
    };
    const run = before ? before.then(start, start) : start();
    this.#last.set(key, run);
    try {
      return await run;
    } finally {
      if (this.#last.get(key) === run) this.#last.delete(key);
    }
  }

  /** Resolves when all that was asked for until now is done, well or not. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#last.values());
  }

  #turn(): Promise<void> | undefined {
    if (this.#inTurn++ === 0) {
      setImmediate(() => {
        this.#inTurn = 0;
      });
    }
    return this.#inTurn > MAX_IN_TURN ? new Promise(resolve => setImmediate(resolve)) : undefined;
  }
}
