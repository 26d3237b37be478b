import type { DispatchOptions } from './endpoint-options.ts';

/** Someone who waits for a slot. */
export interface DispatchWaiter {
  /** A slot may be free now: try again. */
  onSlotFree(): void;
}

/**
 * Limits how many asynchronous callbacks of the endpoints that share it are unsettled at once: the work manager of a
 * container.
 *
 * Waiters are served in the order in which they came. A callback that turns out to be synchronous takes no slot.
 */
export class Dispatcher {
  readonly whenFull: 'wait' | 'close';
  readonly #concurrency: number;
  readonly #queue: number;
  #running = 0;
  #waiting: DispatchWaiter[] = [];

  /** @throws {TypeError} when a number is not a whole positive one. */
  constructor(options: DispatchOptions) {
    const { concurrency, queue = 1024, whenFull = 'wait' } = options;
    if (!(concurrency >= 1) || (!Number.isInteger(concurrency) && concurrency !== Number.POSITIVE_INFINITY))
      throw new TypeError(`dispatch.concurrency: not a positive whole number: ${concurrency}`);
    if (!(queue >= 0)) throw new TypeError(`dispatch.queue: not a count: ${queue}`);
    if (whenFull !== 'wait' && whenFull !== 'close')
      throw new TypeError(`dispatch.whenFull: not a policy: ${JSON.stringify(whenFull)}; write wait or close`);
    this.#concurrency = concurrency;
    this.#queue = queue;
    this.whenFull = whenFull;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get hasRoom(): boolean {
    return this.#running < this.#concurrency;
  }

  take(): void {
    this.#running++;
  }

  release(): void {
    this.#running--;
    while (this.hasRoom && this.#waiting.length > 0) this.#waiting.shift()!.onSlotFree();
  }

  /**
   * Puts the waiter in the queue. @returns false when the queue was full before; the waiter is in it all the same if
   * `whenFull` is `wait`.
   */
  wait(waiter: DispatchWaiter): boolean {
    const isFull = this.#waiting.length >= this.#queue;
    if (!isFull || this.whenFull === 'wait') this.#waiting.push(waiter);
    return !isFull;
  }
}
