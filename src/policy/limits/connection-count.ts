/** What other processes have, of one key. */
export interface CountedElsewhere {
  of(key: string): number;
}

/** How many connections each key has. It keeps nothing of a key without any. */
export class ConnectionCount {
  readonly max: number;
  readonly #counts = new Map<string, number>();
  #elsewhere: CountedElsewhere | undefined;
  #onChange: ((key: string, count: number) => void) | undefined;

  constructor(max: number) {
    this.max = max;
  }

  /** From now on counts are those of all processes. */
  share(elsewhere: CountedElsewhere, onChange: (key: string, count: number) => void): void {
    this.#elsewhere = elsewhere;
    this.#onChange = onChange;
  }

  /** Of this process, by key. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  hasRoom(key: string): boolean {
    return (this.#counts.get(key) ?? 0) + (this.#elsewhere?.of(key) ?? 0) < this.max;
  }

  enter(key: string): void {
    this.#set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  leave(key: string): void {
    this.#set(key, (this.#counts.get(key) ?? 0) - 1);
  }

  #set(key: string, count: number): void {
    if (count > 0) this.#counts.set(key, count);
    else this.#counts.delete(key);
    this.#onChange?.(key, Math.max(0, count));
  }
}
