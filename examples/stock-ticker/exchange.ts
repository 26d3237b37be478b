/** Every price at one moment. A later one makes all earlier ones worthless. */
export interface Board {
  readonly number: number;
  readonly prices: Readonly<Record<string, number>>;
}

/** An exchange whose prices wander. A real one would be a feed. */
export class Exchange {
  #number = 0;
  readonly #prices: Map<string, number>;

  constructor(shares: number) {
    this.#prices = new Map(Array.from({ length: shares }, (_, index) => [symbol(index), 50 + Math.random() * 100]));
  }

  has(share: unknown): share is string {
    return this.#prices.has(String(share));
  }

  get board(): Board {
    const prices = Object.fromEntries(Array.from(this.#prices, ([share, price]) => [share, Number(price.toFixed(2))]));
    return { number: this.#number, prices };
  }

  tick(): Board {
    for (const [share, price] of this.#prices) this.#prices.set(share, price * (0.99 + Math.random() * 0.02));
    this.#number++;
    return this.board;
  }
}

/** AAA, AAB, … */
function symbol(index: number): string {
  return [676, 26, 1].map(place => String.fromCharCode(65 + (Math.floor(index / place) % 26))).join('');
}
