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
 */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #listeners = new Set<() => void>();
  #watch: FileWatch | undefined;
  #text: string | undefined;
  #value: T | undefined;
  #refused: { text: string; isLogged: boolean } | undefined;

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

  async #look(): Promise<'same' | 'changed' | 'doubtful'> {
    const { file, what, parse, logger } = this.#options;
    let text = '';
    try {
      text = await readFile(file, 'utf8');
      if (text === this.#text) {
        this.#refused = undefined;
        return 'same';
      }
      this.#value = parse(text);
    } catch (error) {
      // Twice the same, or it may have been read while it was being written.
      const isSure = this.#refused?.text === text;
      if (isSure && !this.#refused!.isLogged)
        logger.error(
          { event: 'file-refused', file },
          `${what} ${file} cannot be used: ${messageOf(error)}; what it said before stays in force`,
        );
      const isKnown = isSure && this.#refused!.isLogged;
      this.#refused = { text, isLogged: isSure };
      return isKnown ? 'same' : 'doubtful';
    }
    this.#text = text;
    this.#refused = undefined;
    logger.info({ event: 'file-changed', file }, `${what} ${file} has changed and is in force`);
    for (const listener of this.#listeners) listener();
    return 'changed';
  }
}
