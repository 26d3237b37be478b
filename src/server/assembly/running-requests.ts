/** The requests that one configuration has begun to judge, until they are answered, and what else uses its sessions. */
export class RunningRequests {
  #count = 0;
  #waiting: (() => void)[] = [];

  get count(): number {
    return this.#count;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    this.#count--;
    if (this.#count === 0) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** When none is left. No other may begin by then. */
  over(): Promise<void> {
    return this.#count === 0 ? Promise.resolve() : new Promise(resolve => this.#waiting.push(resolve));
  }
}
