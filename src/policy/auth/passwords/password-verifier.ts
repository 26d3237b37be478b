import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../../base/clock.ts';
import { type Deadline, setDeadline } from '../../../base/deadlines.ts';
import { HoldfastError, toError } from '../../../base/errors.ts';
import type { Logger } from '../../../base/logger.ts';
import { clientNetwork } from '../../../http/client-network.ts';
import type { FromThread, ToThread } from './messages.ts';
import type { Match } from './verify-password.ts';

export interface PasswordVerifierOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default: one less than the machine has cores, at least 1 and at most 4. */
  readonly threads?: number | undefined;
  /** The program of the threads. Default: the one beside this file. */
  readonly program?: URL;
}

/** `busy`: too many wait, or it has waited for too long. `failed`: the thread has ended. Neither says anything of the password. */
export type Verified = Match | 'busy' | 'failed';

/** The program of the threads, as the sources run, or as they were built. */
const ENTRY = new URL(`./password-thread${extname(import.meta.filename)}`, import.meta.url);
const MOST_THREADS = 4;
/** Passwords that wait for a thread, of all clients and of one network (an address; of IPv6 a /64). */
export const MOST_WAITING = 1_024;
export const MOST_WAITING_OF_NETWORK = 128;
/** How long one may wait. */
export const LONGEST_WAIT_MS = 10_000;

interface Job extends ToThread {
  readonly network: string;
  readonly settle: (verified: Verified) => void;
  deadline: Deadline | undefined;
}

/**
 * Compares passwords with hashes in threads, so that the event loop goes on: a hash takes tens of milliseconds of a
 * core, by intention.
 *
 * What waits is bounded, in number and time. Networks take turns: one that asks for many waits for itself, and when all
 * places are taken, one of the network with the most gives way to a network with fewer.
 */
export class PasswordVerifier {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #size: number;
  readonly #program: URL;
  readonly #threads = new Set<PasswordThread>();
  /** What waits, by network, the one whose turn is next first. */
  readonly #waiting = new Map<string, Job[]>();
  #count = 0;
  #isClosed = false;

  constructor({
    clock,
    logger,
    threads = Math.min(MOST_THREADS, availableParallelism() - 1),
    program = ENTRY,
  }: PasswordVerifierOptions) {
    this.#clock = clock;
    this.#logger = logger;
    this.#size = Math.max(1, threads);
    this.#program = program;
  }

  /**
   * The first login may be far off: what it needs is looked for now. No thread is tried, which would take a good part of
   * the time and memory of a start.
   *
   * @throws {HoldfastError} ERR_SERVER_FAILED when the program of the threads is not there, as in a bundle without it.
   */
  start(): void {
    const path = fileURLToPath(this.#program);
    if (existsSync(path)) return;
    const message = `auth: there is no ${path}, which compares passwords in threads; put the files of the package beside each other, as they were`;
    throw new HoldfastError('ERR_SERVER_FAILED', message);
  }

  /** @param address Of the client: who waits with it. */
  verify(password: string, hash: ToThread['hash'], address: string): Promise<Verified> {
    return new Promise(settle => {
      if (this.#isClosed) return settle('failed');
      const network = clientNetwork(address) ?? '';
      this.#add({ password, hash, network, settle, deadline: undefined });
      this.#next();
    });
  }

  /** Whoever waits has `failed`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const jobs of [...this.#waiting.values()]) for (const job of [...jobs]) this.#giveUp(job, 'failed');
    await Promise.all([...this.#threads].map(thread => thread.end()));
  }

  #add(job: Job): void {
    const own = this.#waiting.get(job.network);
    if ((own?.length ?? 0) >= MOST_WAITING_OF_NETWORK) return job.settle('busy');
    if (this.#count >= MOST_WAITING && !this.#makeRoom(own?.length ?? 0)) return job.settle('busy');
    if (own) own.push(job);
    else this.#waiting.set(job.network, [job]);
    this.#count++;
    job.deadline = setDeadline(this.#clock, LONGEST_WAIT_MS, () => this.#giveUp(job, 'busy'));
  }

  /** @returns false when no network has more than one that has `count` and comes. */
  #makeRoom(count: number): boolean {
    let most: readonly Job[] = [];
    for (const jobs of this.#waiting.values()) if (jobs.length > most.length) most = jobs;
    if (most.length <= count + 1) return false;
    this.#giveUp(most.at(-1)!, 'busy');
    return true;
  }

  #giveUp(job: Job, verified: Verified): void {
    const jobs = this.#waiting.get(job.network);
    const index = jobs?.indexOf(job) ?? -1;
    if (index < 0) return;
    jobs!.splice(index, 1);
    this.#count--;
    if (jobs!.length === 0) this.#waiting.delete(job.network);
    job.deadline?.clear();
    job.settle(verified);
  }

  /** Gives what waits to the threads that are free. */
  #next(): void {
    while (this.#count > 0 && !this.#isClosed) {
      const thread = [...this.#threads].find(({ isFree }) => isFree) ?? this.#begin();
      if (!thread) return;
      const [network, jobs] = this.#waiting.entries().next().value!;
      const job = jobs.shift()!;
      this.#count--;
      // To the end: the others are next.
      this.#waiting.delete(network);
      if (jobs.length > 0) this.#waiting.set(network, jobs);
      job.deadline?.clear();
      thread.run({ password: job.password, hash: job.hash }, job.settle);
    }
  }

  #begin(): PasswordThread | undefined {
    if (this.#threads.size >= this.#size) return undefined;
    const thread = new PasswordThread(this.#program, {
      onFree: () => this.#next(),
      onEnded: error => {
        if (!this.#threads.delete(thread) || this.#isClosed) return;
        this.#logger.error(
          { event: 'password-thread-lost', err: error },
          'a thread that compares passwords has ended; the login that it was at gets 503, and the next one another thread',
        );
        this.#next();
      },
    });
    this.#threads.add(thread);
    return thread;
  }
}

interface ThreadOwner {
  onFree(): void;
  onEnded(error: Error): void;
}

/** A thread that compares one password at a time. It keeps the process alive only while it does. */
class PasswordThread {
  readonly #worker: Worker;
  readonly #exited = Promise.withResolvers<void>();
  #settle: ((verified: Verified) => void) | undefined;
  #error: Error | undefined;

  constructor(program: URL, owner: ThreadOwner) {
    // As text: a process that was given its program as text, with `--input-type`, starts no thread from a file.
    this.#worker = new Worker(`import(${JSON.stringify(program.href)})`, { eval: true, name: 'holdfast-passwords' });
    this.#worker.unref();
    this.#worker.on('message', (match: FromThread) => {
      this.#done(match);
      owner.onFree();
    });
    this.#worker.on('error', (error: unknown) => {
      this.#error = toError(error);
    });
    this.#worker.on('exit', code => {
      owner.onEnded(this.#error ?? new Error(`it has ended with exit code ${code}`));
      this.#done('failed');
      this.#exited.resolve();
    });
  }

  get isFree(): boolean {
    return this.#settle === undefined;
  }

  run(message: ToThread, settle: (verified: Verified) => void): void {
    this.#settle = settle;
    this.#worker.ref();
    this.#worker.postMessage(message);
  }

  async end(): Promise<void> {
    this.#worker.ref();
    void this.#worker.terminate();
    await this.#exited.promise;
  }

  #done(verified: Verified): void {
    this.#worker.unref();
    const settle = this.#settle;
    this.#settle = undefined;
    settle?.(verified);
  }
}
