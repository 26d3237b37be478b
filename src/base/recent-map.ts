/**
 * A map with room for so many entries: when there are more, it forgets those that were set longest ago. What was set
 * again counts as new; reading changes nothing.
 *
 * A 64th is forgotten at a time. To find the first entry of a map costs a step for each that was removed before it: one
 * at a time would be 60 µs for each entry beyond 100,000.
 */
export class RecentMap<K, V> extends Map<K, V> {
  readonly #max: number;

  constructor(max: number) {
    super();
    this.#max = max;
  }

  override set(key: K, value: V): this {
    this.delete(key);
    super.set(key, value);
    if (this.size <= this.#max) return this;
    const rest = this.#max - Math.floor(this.#max / 64);
    for (const oldest of this.keys()) {
      this.delete(oldest);
      if (this.size <= rest) break;
    }
    return this;
  }
}
