/** What happened, in its order, and a way to wait for it. */
export class Journal {
  readonly entries: string[] = [];
  #wake: (() => void)[] = [];

  add(entry: string): void {
    this.entries.push(entry);
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Resolves when the entry is there, `count` times. */
  async until(entry: string, count = 1): Promise<void> {
    while (this.entries.filter(one => one === entry).length < count)
      await new Promise<void>(resolve => this.#wake.push(resolve));
  }
}

/** A promise to be settled from outside. */
export type Gate = PromiseWithResolvers<void>;

export function gate(): Gate {
  return Promise.withResolvers<void>();
}
