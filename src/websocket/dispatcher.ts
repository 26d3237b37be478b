import { parseSize } from '../base/size.ts';
import type { DispatchOptions } from './endpoint-options.ts';
import { ThreadPool } from './threads/thread-pool.ts';

/** More are no mistake of a person's any more: each has a heap of its own. */
export const MAX_THREADS = 128;
const MIB = 1024 * 1024;
/** With less a thread does not get as far as its module. */
const LEAST_THREAD_MIB = 16;

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
  #threads: ThreadPool | undefined;
  #nextThreads: ThreadPool | undefined;
  #running = 0;
  #waiting: DispatchWaiter[] = [];

  /** @throws {TypeError} when a number is not a whole positive one. */
  constructor(options: DispatchOptions) {
    const { threads, queue = 1024, whenFull = 'wait' } = options;
    if ((options.concurrency === undefined) === (threads === undefined))
      throw new TypeError(
        'dispatch: needs "concurrency" or "threads", and takes one of them: each thread runs one callback at a time',
      );
    this.#threads = threadsOf(options);
    const concurrency = (options.concurrency ?? threads)!;
    if (!(concurrency >= 1) || (!Number.isInteger(concurrency) && concurrency !== Number.POSITIVE_INFINITY))
      throw new TypeError(`dispatch.concurrency: not a positive whole number: ${concurrency}`);
    if (!(queue >= 0)) throw new TypeError(`dispatch.queue: not a count: ${queue}`);
    if (whenFull !== 'wait' && whenFull !== 'close')
      throw new TypeError(`dispatch.whenFull: not a policy: ${JSON.stringify(whenFull)}; write wait or close`);
    this.#concurrency = concurrency;
    this.#queue = queue;
    this.whenFull = whenFull;
  }

  /** Where callbacks that a module exports run. */
  get threads(): ThreadPool | undefined {
    return this.#threads;
  }

  /** Those that modules are to be loaded in now: `threads`, or what takes their place. */
  get newestThreads(): ThreadPool | undefined {
    return this.#nextThreads ?? this.#threads;
  }

  /** Others like them are to take the place of its threads, which keep what they have loaded. */
  renewThreads(): { commit(): void; abandon(): void } {
    this.#nextThreads = this.#threads?.another();
    return {
      commit: () => {
        this.#threads = this.newestThreads;
        this.#nextThreads = undefined;
      },
      abandon: () => {
        this.#nextThreads = undefined;
      },
    };
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

function threadsOf({ threads, threadMemory }: DispatchOptions): ThreadPool | undefined {
  if (threads === undefined) {
    if (threadMemory === undefined) return undefined;
    throw new TypeError('dispatch.threadMemory: goes with "threads"; add them or remove it');
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new TypeError(`dispatch.threads: not a whole number from 1 to ${MAX_THREADS}: ${threads}`);
  if (threadMemory === undefined) return new ThreadPool(threads, undefined);
  const mib = memoryOf(threadMemory);
  if (!(mib >= LEAST_THREAD_MIB))
    throw new TypeError(`dispatch.threadMemory: a thread needs ${LEAST_THREAD_MIB}MiB or more, not ${threadMemory}`);
  return new ThreadPool(threads, Number.isFinite(mib) ? mib : undefined);
}

function memoryOf(size: NonNullable<DispatchOptions['threadMemory']>): number {
  try {
    return Math.floor(parseSize(size) / MIB);
  } catch (cause) {
    throw new TypeError(`dispatch.threadMemory: ${(cause as Error).message}`, { cause });
  }
}
