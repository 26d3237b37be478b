import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import type { Logger } from '../../base/logger.ts';

/** Has connections that can be ended when descriptors run short. */
export interface ConnectionHolder {
  /** Ends connections that wait for a request, those that have waited longest first. @returns how many. */
  endIdle(limit: number): number;
  /**
   * Ends connections that have not brought a request yet, the oldest first, but for those that were just opened.
   * @returns how many.
   */
  endUnused(limit: number): number;
  readonly logger: Logger;
}

/**
 * Of all descriptors one in so many is not for clients, within these bounds: for backends, files, stores and
 * certificates.
 */
const RESERVED_SHARE = 8;
const MIN_RESERVED = 16;
const MAX_RESERVED = 256;
/** Descriptors that are held so that there are some, whatever takes the rest. */
const HELD = 8;
/** How often it is looked whether there is any descriptor left. */
const LOOK_MS = 1_000;
/** How old a count may be. Counting takes about a microsecond for each. */
const MAX_AGE_MS = 1_000;
const MIN_AGE_MS = 50;
const WARN_EVERY_MS = 60_000;

/**
 * The descriptors of this process, which every connection, file and backend takes from.
 *
 * Clients get no more than what leaves a reserve for everything else: for a new one a connection that waits for a
 * request is ended, then one that has
 * not brought any. Where there is none either, the new one is closed at once, rather than left to a kernel that cannot
 * hand it over.
 *
 * Where the limit cannot be found out, there is none.
 */
export class Descriptors {
  readonly #holders = new Set<ConnectionHolder>();
  readonly #held: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #limit = Number.POSITIVE_INFINITY;
  #used = 0;
  #countedAt = Number.NEGATIVE_INFINITY;
  #warnedAt = Number.NEGATIVE_INFINITY;

  add(holder: ConnectionHolder): void {
    this.#holders.add(holder);
    if (this.#timer) return;
    this.#hold();
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  remove(holder: ConnectionHolder): void {
    this.#holders.delete(holder);
    if (this.#holders.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const descriptor of this.#held.splice(0)) closeSync(descriptor);
  }

  /** A client has connected. @returns false when there is no room for it, and none could be made. */
  admit(): boolean {
    this.#used++;
    const now = performance.now();
    const age = now - this.#countedAt;
    if (age >= MAX_AGE_MS * (1 + this.#used / 10_000) || (this.#free <= this.#reserved && age >= MIN_AGE_MS))
      this.#count(now);
    if (this.#free > this.#reserved) return true;
    this.#makeRoom(this.#wanted - this.#free);
    return this.#free > this.#reserved;
  }

  /**
   * Runs what opens one file at a time and closes it, without waiting: also where everything else has taken all
   * descriptors.
   */
  lend<T>(work: () => T): T {
    this.#letOne();
    try {
      return work();
    } finally {
      this.#hold();
    }
  }

  get #free(): number {
    return this.#limit - this.#used;
  }

  /** Some more than are needed now, so that it is not done for each client. */
  get #wanted(): number {
    return Math.ceil(this.#reserved * 1.25);
  }

  get #reserved(): number {
    return Math.min(MAX_RESERVED, Math.max(MIN_RESERVED, this.#limit / RESERVED_SHARE));
  }

  #makeRoom(wanted: number): void {
    let ended = 0;
    for (const holder of this.#holders) if (ended < wanted) ended += holder.endIdle(wanted - ended);
    for (const holder of this.#holders) if (ended < wanted) ended += holder.endUnused(wanted - ended);
    this.#used -= ended;
    this.#warn(ended);
  }

  #warn(ended: number): void {
    const now = performance.now();
    if (now - this.#warnedAt < WARN_EVERY_MS) return;
    this.#warnedAt = now;
    const [holder] = this.#holders;
    holder?.logger.warn(
      { event: 'descriptors-short', limit: this.#limit, used: this.#used, ended },
      'descriptors run short: connections that wait for a request are ended, and clients for which there is no room; raise the limit of open files (ulimit -n)',
    );
  }

  /** With none left the kernel could not hand a client over, so that `admit` would not hear of it. */
  #look(): void {
    if (this.#hold()) return;
    this.#makeRoom(this.#wanted);
    // One is enough for all that connect, when each is closed at once.
    if (!this.#hold()) this.#letOne();
  }

  #letOne(): void {
    const descriptor = this.#held.pop();
    if (descriptor !== undefined) closeSync(descriptor);
  }

  /** @returns false when there is none left. */
  #hold(): boolean {
    try {
      while (this.#held.length <= HELD) this.#held.push(openSync('/dev/null', 'r'));
      this.#letOne();
      return true;
    } catch (error) {
      return !isShortage(error);
    }
  }

  #count(now: number): void {
    this.#countedAt = now;
    try {
      this.#limit = readLimit();
      // Less the one with which they are read.
      this.#used = readdirSync('/proc/self/fd').length - 1;
    } catch (error) {
      if (isShortage(error)) this.#used = this.#limit;
      else this.#limit = Number.POSITIVE_INFINITY;
    }
  }
}

/** No descriptor is left, of this process or of the machine. */
export function isShortage(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE';
}

/** The limit can be changed from outside at any time (`prlimit`). */
function readLimit(): number {
  const [, soft] = /^Max open files\s+(\w+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Of this process. Infinity where it cannot be found out. */
export function openFilesLimit(): number {
  try {
    return readLimit();
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** They belong to the process, whatever serves in it. */
export const descriptors = new Descriptors();
