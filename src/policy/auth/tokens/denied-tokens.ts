import type { Clock } from '../../../base/clock.ts';
import type { Logger } from '../../../base/logger.ts';
import { WatchedFile } from '../watched-file.ts';

/**
 * Tokens that are refused before they expire, by their `jti`: a file with one in a line. Empty lines and lines that
 * begin with `#` say nothing.
 *
 * By the text of a token it could not be: the same token can be written in several ways that all verify, as an ECDSA
 * signature (r, s) is good as (r, n − s) too.
 */
export class DeniedTokens {
  readonly #file: WatchedFile<ReadonlySet<string>>;

  constructor(options: { file: string; what: string; clock: Clock; logger: Logger }) {
    this.#file = new WatchedFile({ ...options, parse: idsIn });
  }

  has(jti: string): boolean {
    return this.#file.value.has(jti);
  }

  onChange(listener: () => void): () => void {
    return this.#file.onChange(listener);
  }

  /** @throws {HoldfastError} ERR_CONFIG_INVALID when the file cannot be read. */
  start(): Promise<void> {
    return this.#file.start();
  }

  close(): void {
    this.#file.close();
  }
}

function idsIn(text: string): ReadonlySet<string> {
  const lines = text.split('\n').map(line => line.trim());
  return new Set(lines.filter(line => line !== '' && !line.startsWith('#')));
}
