/** Stands for all names beyond the bound. */
export const OTHER = 'other';

/**
 * Names that become values of a label: so many, and then one more for all others. A configuration that changes a
 * thousand times makes no more series than that.
 */
export class BoundedNames {
  readonly #names = new Set<string>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** The name itself, or `other` when there are too many. */
  of(name: string): string {
    if (this.#names.has(name)) return name;
    if (this.#names.size >= this.#most) return OTHER;
    this.#names.add(name);
    return name;
  }
}
