import { setFlagsFromString } from 'node:v8';
import type { Clock, Timer } from '../../base/clock.ts';
import { setDeadline } from '../../base/deadlines.ts';
import { toError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { digestOfFile, LOAD_TIMEOUT_MS } from '../../drivers/application-files.ts';
import type { ModuleExports } from './messages.ts';
import { type ThreadTask, WorkerThread } from './worker-thread.ts';

/** What a pool takes from the server it runs in. */
export interface ThreadServices {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A callback that was given to a pool. */
export interface GivenTask {
  /** No thread has taken it, and there is one that runs another. */
  readonly isWaiting: boolean;
  /** Its connection has begun to close. */
  abort(): void;
  /** Nobody waits for it any more: it is not begun, or has a second to end, and then its thread is ended. */
  giveUp(): void;
}

/** How long a callback that nobody waits for may go on. */
const GRACE_MS = 1_000;
/** How long a thread that is ended may take to be gone. It is not there for longer only in one long call of a built-in. */
const END_TIMEOUT_MS = 5_000;
/** When threads end by themselves, one after the other, the second is replaced after this, then after twice as much … */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Threads for the callbacks of the endpoints that share a dispatch policy. Each runs one at a time; any of them takes
 * the next.
 *
 * There are as many as there should be: one that has ended, in whatever way, is replaced, at once the first time and
 * with growing pauses when none works any more. The process lives on.
 */
export class ThreadPool {
  readonly #size: number;
  readonly #memoryMiB: number | undefined;
  readonly #threads = new Set<WorkerThread>();
  /** Modules, with the number of endpoints that they are of. */
  readonly #modules = new Map<string, number>();
  readonly #files = new Map<string, string | undefined>();
  /** Callbacks that no thread has taken. At most `threads`, and what tells connections of their end. */
  #waiting: ThreadTask[] = [];
  #services: ThreadServices | undefined;
  #failures = 0;
  /** Callbacks that have settled by themselves. */
  #settled = 0;
  /** Ended by us, because of a callback that was given up. */
  readonly #terminated = new WeakSet<WorkerThread>();
  readonly #givenUp = new WeakSet<ThreadTask>();
  /** Of callbacks that were given up and may go on still: resolve when they have settled, or had their time. */
  readonly #graces = new Map<ThreadTask, PromiseWithResolvers<void>>();
  readonly #replacements = new Set<Timer>();
  #closing: Promise<unknown> | undefined;

  constructor(size: number, memoryMiB: number | undefined) {
    this.#size = size;
    this.#memoryMiB = memoryMiB;
  }

  /** As it is now. `waiting` are callbacks. */
  get counts(): { readonly threads: number; readonly busy: number; readonly waiting: number } {
    const busy = [...this.#threads].filter(thread => thread.isAtWork).length;
    return { threads: this.#threads.size, busy, waiting: this.#waiting.length };
  }

  /** Threads like those of this pool, with nothing loaded. Default: as many. */
  another(size: number = this.#size): ThreadPool {
    return new ThreadPool(size, this.#memoryMiB);
  }

  /** Files of the application that its threads have loaded, and what they held; undefined: not the same in each. */
  get files(): ReadonlyMap<string, string | undefined> {
    return this.#files;
  }

  /** Those that hold something else than when they were loaded. Threads do not load them again. */
  async changedFiles(): Promise<string[]> {
    const now = [...this.#files].map(async ([path, loaded]) => {
      const isSame = loaded !== undefined && loaded === (await digestOfFile(path));
      return isSame ? [] : [path];
    });
    return (await Promise.all(now)).flat();
  }

  /**
   * Loads the module in every thread; the first one starts them.
   *
   * @returns what it exports.
   * @throws {Error} what loading it threw.
   */
  async open(module: string, services: ThreadServices): Promise<ModuleExports> {
    this.#services = services;
    // Threads that are being ended load nothing.
    await this.#closing;
    this.#modules.set(module, (this.#modules.get(module) ?? 0) + 1);
    try {
      letLoopsEnd();
      // Also those that are to come after a pause: the module is to be loaded in every thread now.
      this.#forgetReplacements();
      const others = [...this.#modules.keys()].filter(other => other !== module);
      while (this.#threads.size < this.#size) this.#addThread(others);
      const loaded = await Promise.all([...this.#threads].map(thread => this.#load(thread, module)));
      return loaded[0] ?? [];
    } catch (error) {
      await this.close(module);
      throw error;
    }
  }

  /** An endpoint has ended; with the last one the threads do. */
  async close(module: string): Promise<void> {
    const count = this.#modules.get(module) ?? 0;
    if (count > 1) this.#modules.set(module, count - 1);
    else this.#modules.delete(module);
    if (this.#modules.size > 0) return;
    this.#forgetReplacements();
    const unused = new Error('no endpoint has callbacks for it');
    this.#closing = Promise.all([...this.#threads].map(thread => this.#endAfterGrace(thread, unused)));
    await this.#closing;
    this.#files.clear();
  }

  #forgetReplacements(): void {
    for (const timer of this.#replacements) this.#services?.clock.clearTimeout(timer);
    this.#replacements.clear();
  }

  run(given: ThreadTask): GivenTask {
    const task: ThreadTask = {
      ...given,
      onSettled: error => {
        if (!this.#givenUp.has(task)) this.#settled++;
        this.#endGrace(task);
        given.onSettled(error);
      },
    };
    let seen = this.#settled;
    this.#waiting.push(task);
    this.#distribute();
    const pool = this;
    return {
      get isWaiting() {
        // Where nothing but what was given up has ended since the last look, its turn may never come.
        const hasMoved = pool.#settled !== seen;
        seen = pool.#settled;
        return hasMoved && pool.#waiting.includes(task) && [...pool.#threads].some(thread => thread.isAtWork);
      },
      abort: () => this.#threadOf(task)?.abort(),
      giveUp: () => this.#giveUp(task),
    };
  }

  #distribute(): void {
    for (const thread of this.#threads) {
      if (this.#waiting.length === 0) return;
      if (thread.isFree) thread.run(this.#waiting.shift()!);
    }
  }

  #threadOf(task: ThreadTask): WorkerThread | undefined {
    return [...this.#threads].find(thread => thread.isRunning(task));
  }

  #giveUp(task: ThreadTask): void {
    this.#givenUp.add(task);
    this.#waiting = this.#waiting.filter(one => one !== task);
    const thread = this.#threadOf(task);
    if (!thread) return;
    thread.abort();
    this.#graces.set(task, Promise.withResolvers());
    const { clock, logger } = this.#services!;
    setDeadline(clock, GRACE_MS, () => {
      this.#endGrace(task);
      if (!thread.isRunning(task)) return;
      logger.warn(
        { event: 'thread-terminated', connection: task.connection.id, callback: task.task.callback },
        `a callback that was given up has not ended in ${GRACE_MS} ms: its thread is ended, and another takes its place; look at connection.signal in long computations`,
      );
      this.#terminated.add(thread);
      void this.#end(thread, new Error('its callback was given up and did not end'));
    });
  }

  #endGrace(task: ThreadTask): void {
    this.#graces.get(task)?.resolve();
    this.#graces.delete(task);
  }

  /** What it runs at the end of its pool was given up, and may clean up still. */
  async #endAfterGrace(thread: WorkerThread, error: Error): Promise<void> {
    const grace = [...this.#graces].find(([task]) => thread.isRunning(task))?.[1];
    if (grace) {
      // Somebody waits for it: the process must not end before.
      thread.hold();
      await grace.promise;
    }
    await this.#end(thread, error);
  }

  /** @throws {Error} what loading it threw, or when it takes too long. */
  async #load(thread: WorkerThread, module: string): Promise<ModuleExports> {
    const { clock } = this.#services!;
    const late = new Error(`it has not been loaded after ${LOAD_TIMEOUT_MS / 1000} s`);
    const deadline = setDeadline(clock, LOAD_TIMEOUT_MS, () => void this.#end(thread, late));
    try {
      return await thread.load(module);
    } finally {
      deadline?.clear();
    }
  }

  /** Resolves when the thread is gone. One that does not go is said and left; another takes its place when it is gone. */
  async #end(thread: WorkerThread, error: Error): Promise<void> {
    const { clock, logger } = this.#services!;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const deadline = setDeadline(clock, END_TIMEOUT_MS, () => {
      logger.error(
        { event: 'thread-stuck', err: error },
        `a thread of handlers does not end after ${END_TIMEOUT_MS} ms: it is in one long call of a built-in function`,
      );
      resolve();
    });
    await Promise.race([thread.end(error), late]);
    deadline?.clear();
  }

  #addThread(modules: Iterable<string>): void {
    const thread = new WorkerThread(
      {
        onImported: this.#onImported,
        onFree: () => this.#distribute(),
        onNotBegun: this.#onNotBegun,
        onEnded: this.#onEnded,
      },
      this.#memoryMiB,
    );
    this.#threads.add(thread);
    for (const module of modules) this.#load(thread, module).catch(error => void this.#end(thread, toError(error)));
  }

  readonly #onImported = (path: string, digest: string | undefined): void => {
    // One that has taken the place of a lost thread may find another file than those beside it.
    const isSame = !this.#files.has(path) || this.#files.get(path) === digest;
    this.#files.set(path, isSame ? digest : undefined);
  };

  readonly #onNotBegun = (task: ThreadTask): void => {
    if (this.#givenUp.has(task)) return this.#endGrace(task);
    this.#waiting.unshift(task);
    this.#distribute();
  };

  readonly #onEnded = (thread: WorkerThread, error: Error): void => {
    this.#threads.delete(thread);
    if (this.#modules.size === 0) return;
    if (thread.hasProved || this.#terminated.has(thread)) this.#failures = 0;
    if (this.#terminated.has(thread)) this.#addAnother();
    else this.#replace(error);
  };

  #replace(error: Error): void {
    const { clock, logger } = this.#services!;
    const pauseMs = this.#failures === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), LONGEST_PAUSE_MS);
    this.#failures++;
    logger.error(
      { event: 'thread-ended', err: error },
      `a thread of handlers has ended; another takes its place in ${pauseMs} ms`,
    );
    if (pauseMs === 0) return this.#addAnother();
    const timer = clock.setTimeout(() => {
      this.#replacements.delete(timer);
      this.#addAnother();
    }, pauseMs);
    this.#replacements.add(timer);
  }

  #addAnother(): void {
    try {
      this.#addThread(this.#modules.keys());
    } catch (error) {
      // The operating system has no thread to give now.
      this.#failures = Math.max(this.#failures, 1);
      this.#replace(toError(error));
    }
  }
}

/**
 * V8 of Node 24 and 26 takes the check whether it should end out of some loops. Such a thread could not be ended, nor
 * could the process by `process.exit`. Without this optimisation all loops can.
 */
function letLoopsEnd(): void {
  setFlagsFromString('--no-turboshaft-loop-unrolling');
}
