import type { Clock } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import { WatchedFile } from '../watched-file.ts';
import type { KeyHint, KeySet, VerificationKey } from './key-set.ts';

/** Where the keys of an issuer come from. */
export interface KeySource {
  /**
   * The keys that could have signed a token; none when there is none, which is certain then.
   *
   * @throws {KeysUnavailable} when that cannot be said now.
   */
  keysFor(hint: KeyHint): Promise<readonly VerificationKey[]>;
  /** Changes with the keys: what was verified under another may no longer be. NaN, equal to none: all are too old. */
  readonly version: number;
  /** @throws {HoldfastError} ERR_CONFIG_INVALID for a file that cannot be used. */
  start(): Promise<void>;
  close(): void;
}

/** A token cannot be judged, because keys could not be fetched. */
export class KeysUnavailable extends Error {}

/** Keys of a file, which is watched. */
export class FileKeys implements KeySource {
  readonly #file: WatchedFile<KeySet>;
  #version = 0;

  constructor(options: { file: string; what: string; clock: Clock; logger: Logger; parse(text: string): KeySet }) {
    this.#file = new WatchedFile(options);
    this.#file.onChange(() => this.#version++);
  }

  get version(): number {
    return this.#version;
  }

  keysFor(hint: KeyHint): Promise<readonly VerificationKey[]> {
    return this.#file.value.keysFor(hint);
  }

  start(): Promise<void> {
    return this.#file.start();
  }

  close(): void {
    this.#file.close();
  }
}
