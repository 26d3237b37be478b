/**
 * Sids that are known to have ended, the latest ones: whoever still asks for them needs no answer from the store. A sid
 * never comes back.
 */
export class EndedSessions {
  readonly #max: number;
  readonly #sids = new Set<string>();

  constructor(max: number) {
    this.#max = max;
  }

  add(sid: string): void {
    this.#sids.delete(sid);
    this.#sids.add(sid);
    if (this.#sids.size <= this.#max) return;
    const [oldest] = this.#sids;
    this.#sids.delete(oldest!);
  }

  has(sid: string): boolean {
    return this.#sids.has(sid);
  }
}
