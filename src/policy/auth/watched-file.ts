import { readFile } from 'node:fs/promises';
import type { Clock } from '../../base/clock.ts';
import { HoldfastError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/message-of.ts';
import { FileWatch } from '../../drivers/file-watch.ts';

export interface WatchedFileOptions<T> {
  readonly file: string;
  /** For messages: `the password file`. */
  readonly what: string;
  /** @throws {Error} whose message names the line and the remedy, and nothing secret. */
  parse(text: string): T;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * What a file says, read again within a second of a change. What cannot be read or understood changes nothing and is
 * logged once: what was good before stays in force.
 *
 * A change counts when it is read twice the same: `htpasswd`, editors and copies write in place, and half a list of
 * users is a list of users.
 */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #listeners = new Set<() => void>();
  #watch: FileWatch | undefined;
  #text: string | undefined;
  #value: T | undefined;
  /** What was there at the last look and is not in force. */
  #seen: { readonly text: string; isJudged: boolean } | undefined;

  constructor(options: WatchedFileOptions<T>) {
    this.#options = options;
  }

  /** After `start`. */
  get value(): T {
    return this.#value!;
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when the file cannot be read, or holds what cannot be used. */
  async start(): Promise<void> {
    const { file, what, parse, clock } = this.#options;
    try {
      const text = await readFile(file, 'utf8');
      this.#value = parse(text);
      this.#text = text;
    } catch (cause) {
      const message = `${what} ${file} cannot be used: ${messageOf(cause)}`;
      throw new HoldfastError('ERR_CONFIG_INVALID', message, { cause });
    }
    this.#watch = new FileWatch({ files: [file], clock, look: () => this.#look() });
  }

  /** Calls back after each change. @returns ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Looks now. Never rejects. */
  async look(): Promise<void> {
    await this.#watch?.look();
  }

  close(): void {
    this.#watch?.close();
    this.#listeners.clear();
  }

  async #look(): Promise<'same' | 'changed' | 'unsettled' | 'doubtful'> {
    const { file, what, parse, logger } = this.#options;
    let text: string;
    let failure: unknown;
    try {
      text = await readFile(file, 'utf8');
    } catch (error) {
      failure = error;
      text = `\0${messageOf(error)}`;
    }
    if (text === this.#text) {
      this.#seen = undefined;
      return 'same';
    }
    if (this.#seen?.text !== text) {
      this.#seen = { text, isJudged: false };
      return 'unsettled';
    }
    if (this.#seen.isJudged) return 'same';
    this.#seen.isJudged = true;
    try {
      if (failure !== undefined) throw failure;
      this.#value = parse(text);
    } catch (error) {
      logger.error(
        { event: 'file-refused', file },
        `${what} ${file} cannot be used: ${messageOf(error)}; what it said before stays in force`,
      );
      return 'doubtful';
    }
    this.#text = text;
    this.#seen = undefined;
    logger.info({ event: 'file-changed', file }, `${what} ${file} has changed and is in force`);
    for (const listener of this.#listeners) listener();
    return 'changed';
  }
}
