import { glob } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { readDocument } from '../config/include.ts';
import type { ReadConfig } from '../config/load.ts';
import { digestOfFile, modules } from '../config/modules.ts';
import { FileWatch } from '../drivers/file-watch.ts';

export interface ConfigWatchOptions {
  readonly clock: Clock;
  /** They hold something else than what was read. */
  onChange(): void;
  /** Files that other processes have loaded for the same configuration. Default: none. */
  others?(): Iterable<string>;
}

/**
 * Watches what a configuration is made from: its file, those that it includes, and modules. A change counts when it is
 * there at two looks: editors and copies write in place, and half a configuration is none.
 */
export class ConfigWatch {
  readonly #options: ConfigWatchOptions;
  #watch: FileWatch | undefined;
  #read: ReadConfig | undefined;
  /** What files held when they were read, or refused. */
  #taken = '';
  /** What they held at the last look. */
  #seen = '';

  constructor(options: ConfigWatchOptions) {
    this.#options = options;
  }

  /** What was read counts now, and what it is made from is watched. */
  async settle(read: ReadConfig): Promise<void> {
    this.#read = read;
    const loaded = await this.#loadedBy(read.files.keys());
    const files = this.#withImports(loaded);
    // A file may have changed since it was read. What others import is not read again: it counts as it is now, or it
    // would be another than what was read for ever.
    const isRead = new Set(loaded);
    const known = (file: string) => read.files.get(file) ?? (isRead.has(file) ? modules.digestOf(file) : undefined);
    this.#taken = this.#seen = await fingerprint(files, file => known(file) ?? digestOfFile(file));
    this.#watch?.close();
    this.#watch = new FileWatch({ files, clock: this.#options.clock, look: () => this.#look() });
    await this.#watch.look();
  }

  close(): void {
    this.#watch?.close();
  }

  async #look(): Promise<'same' | 'changed' | 'unsettled'> {
    const now = await fingerprint(await this.#filesNow(), digestOfFile);
    if (now === this.#taken) return 'same';
    if (now !== this.#seen) {
      this.#seen = now;
      return 'unsettled';
    }
    // Until it changes again nobody asks for it twice, also where it is refused.
    this.#taken = now;
    this.#options.onChange();
    return 'changed';
  }

  /** As the files say now, if they can be read. */
  async #filesNow(): Promise<string[]> {
    const files = [...this.#read!.files.keys()];
    const isDocument = /\.(?:ya?ml|json)$/.test(files[0]!);
    const now = isDocument ? await readDocument(files[0]!).catch(() => undefined) : undefined;
    return this.#withImports(await this.#loadedBy(now?.files.keys() ?? files));
  }

  /** These, and the modules of endpoints. */
  async #loadedBy(files: Iterable<string>): Promise<string[]> {
    const loaded = [...files];
    for await (const file of glob([...(this.#read!.config.endpoints ?? [])])) loaded.push(file);
    return loaded;
  }

  /** These, and the modules behind them. */
  #withImports(files: readonly string[]): string[] {
    const others = this.#options.others?.() ?? [];
    return [...new Set([...files, ...modules.importsOf(files), ...others])].sort();
  }
}

async function fingerprint(
  files: readonly string[],
  digestOf: (file: string) => string | undefined | Promise<string | undefined>,
): Promise<string> {
  const digests = await Promise.all(files.map(async file => `${file} ${(await digestOf(file)) ?? 'gone'}`));
  return digests.join('\n');
}
