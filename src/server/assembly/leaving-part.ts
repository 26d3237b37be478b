/** A part that counts no more, and goes when nothing uses it, unless a later configuration has it again. */
export class LeavingPart<Part = unknown> {
  readonly part: Part;
  readonly #idle: () => Promise<void>;
  readonly #close: () => unknown;
  readonly #wanted = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #held: PromiseWithResolvers<void> | undefined;
  #state: 'leaving' | 'closing' | 'wanted' = 'leaving';

  constructor(part: Part, steps: { idle(): Promise<void>; close(): unknown }) {
    this.part = part;
    this.#idle = steps.idle;
    this.#close = steps.close;
  }

  /** It does not go before `release`, which has to follow. @returns false: it is too late. */
  hold(): boolean {
    if (this.#state !== 'leaving') return false;
    this.#held = Promise.withResolvers();
    return true;
  }

  release(isWanted: boolean): void {
    if (isWanted) {
      this.#state = 'wanted';
      this.#wanted.resolve();
    }
    this.#held?.resolve();
    this.#held = undefined;
  }

  /** Resolves when it is closed, or wanted. Rejects with what closing it throws. */
  async leave(): Promise<void> {
    try {
      await Promise.race([this.#idle(), this.#wanted.promise]);
      while (this.#held) await this.#held.promise;
      if (this.#state === 'wanted') return;
      this.#state = 'closing';
      await this.#close();
    } finally {
      this.#gone.resolve();
    }
  }

  /** It is closed. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }
}
