import { HoldfastError } from '../../base/errors.ts';
import type { CallArgs, CallName, Calls } from './calls.ts';
import { type Change, type MainThread, titleOf } from './main-thread.ts';

const isAborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')!.get!;

/** A callback that runs in this thread, and what it has done in the main thread, as long as it has not settled. */
export class RunningCallback {
  readonly #main: MainThread;
  readonly #id: number;
  /** Calls that the callback may not have awaited. */
  readonly #unsettled = new Set<Promise<unknown>>();
  #abort: AbortController | undefined;
  #isAborted: boolean;
  #hasEnded = false;

  /** @param isAborted Its connection has begun to close before. */
  constructor(main: MainThread, id: number, isAborted: boolean) {
    this.#main = main;
    this.#id = id;
    this.#isAborted = isAborted;
  }

  /** Right also in the middle of a computation, when the event loop of the thread stands still. */
  get isAborted(): boolean {
    if (!this.#isAborted && !this.#hasEnded && this.#main.isAborted(this.#id)) this.abort();
    return this.#isAborted;
  }

  get signal(): AbortSignal {
    if (this.#abort) return this.#abort.signal;
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    Object.defineProperties(signal, {
      aborted: { get: () => this.isAborted || isAborted.call(signal) },
      throwIfAborted: {
        value: () => {
          if (this.isAborted) throw signal.reason;
        },
      },
    });
    if (this.#isAborted) this.#abort.abort();
    return signal;
  }

  abort(): void {
    this.#isAborted = true;
    this.#abort?.abort();
  }

  /** Has it done at once: the thread sleeps until then. */
  now<N extends CallName>(name: N, args: CallArgs<N>, transfer?: ArrayBuffer[]): ReturnType<Calls[N]> {
    this.#check(name);
    return this.#main.now(this.#id, name, args, transfer);
  }

  later<N extends CallName>(name: N, args: CallArgs<N>, change?: Change): Promise<Awaited<ReturnType<Calls[N]>>> {
    this.#check(name);
    const promise = this.#main.later(this.#id, name, args, change);
    // Nothing is lost when nobody waits until all that was sent has left, and a slow reader would hold the thread.
    if (name === 'drained') return promise;
    this.#unsettled.add(promise);
    const forget = () => void this.#unsettled.delete(promise);
    promise.then(forget, forget);
    return promise;
  }

  /** Resolves when nothing that it has begun is under way: an `update` that it did not await, for example. */
  async end(): Promise<void> {
    while (this.#unsettled.size > 0) await Promise.allSettled(this.#unsettled);
    this.#hasEnded = true;
  }

  #check(name: CallName): void {
    if (!this.#hasEnded) return;
    const message = `${titleOf(name)}: the callback of this connection has ended; in a thread a connection can be used until then, so return a promise that settles when all is done`;
    throw new HoldfastError('ERR_WS_OUTSIDE_CALLBACK', message);
  }
}
