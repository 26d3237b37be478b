/** Numbers that only grow, by what they count. */
export type Readings = Iterable<readonly [key: string, value: number]>;

/** Counts for itself, from its first day: an upstream server, a session manager. */
export interface Source {
  /** The object that counts. */
  readonly of: object;
  /** Reads it; also when it is not used any more. */
  read(): Readings;
}

/**
 * Sums what is counted by parts that a reload replaces. A total never goes back: what a part had counted stays in it
 * when the part is gone, and a new part begins at zero.
 */
export class GrowingTotals {
  readonly #totals = new Map<string, number>();
  readonly #last = new WeakMap<object, Map<string, number>>();
  #known: readonly Source[] = [];

  /**
   * Adds what was counted since the last call.
   *
   * @param sources Those that are in use. One that was there the last time, and is missing now, is read once more.
   */
  absorb(sources: readonly Source[]): void {
    const current = new Set(sources.map(source => source.of));
    for (const gone of this.#known) if (!current.has(gone.of)) this.#read(gone);
    for (const source of sources) this.#read(source);
    this.#known = sources;
  }

  of(key: string): number {
    return this.#totals.get(key) ?? 0;
  }

  /** The totals whose keys begin so, by the rest of the key. */
  *under(prefix: string): Generator<readonly [rest: string, total: number]> {
    for (const [key, total] of this.#totals) if (key.startsWith(prefix)) yield [key.slice(prefix.length), total];
  }

  #read({ of, read }: Source): void {
    let last = this.#last.get(of);
    if (!last) this.#last.set(of, (last = new Map()));
    for (const [key, value] of read()) {
      const grown = value - (last.get(key) ?? 0);
      last.set(key, value);
      this.#totals.set(key, (this.#totals.get(key) ?? 0) + Math.max(0, grown));
    }
  }
}
