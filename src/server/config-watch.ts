import { glob } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import { sameValue } from '../base/same-value.ts';
import { readDocument } from '../config/include.ts';
import type { ReadConfig } from '../config/load.ts';
import { modules } from '../config/modules.ts';
import { digestOfFile } from '../drivers/application-files.ts';
import { FileWatch } from '../drivers/file-watch.ts';

export interface ConfigWatchOptions {
  readonly clock: Clock;
  /** They hold something else than what was read. */
  onChange(): void;
  /**
   * Files that other processes, or threads, have loaded for the same configuration, with what they held then, where
   * that is known. Default: none.
   */
  others?(): Digests;
}

/** What files hold, by their paths; undefined: that is not known. */
export type Digests = ReadonlyMap<string, string | undefined>;

/** What a configuration is made from. */
interface Content {
  /** Its files, and the modules of endpoints. One that comes or goes is a change. */
  readonly files: Digests;
  /** What modules import. They may import more while they run, which is not a change. */
  readonly imports: Digests;
}

/**
 * Watches what a configuration is made from: its file, those that it includes, and modules. A change counts when it is
 * there at two looks: editors and copies write in place, and half a configuration is none.
 */
export class ConfigWatch {
  readonly #options: ConfigWatchOptions;
  #watch: FileWatch | undefined;
  #read: ReadConfig | undefined;
  /** When it was read, or refused. */
  #taken: Content | undefined;
  /** At the last look. */
  #seen: Content | undefined;

  constructor(options: ConfigWatchOptions) {
    this.#options = options;
  }

  /** What was read counts now, and what it is made from is watched. */
  async settle(read: ReadConfig): Promise<void> {
    this.#read = read;
    const loaded = await this.#loadedBy(read.files.keys());
    const others = this.#options.others?.();
    // A file may have changed since it was read. What modules here import is not read again: it counts as it is now, or
    // it would be another than was read for ever.
    const taken = {
      files: await digests(loaded, async file => read.files.get(file) ?? modules.digestOf(file) ?? digestOfFile(file)),
      imports: await digests(
        (await this.#importsOf(loaded)).keys(),
        async file => others?.get(file) ?? digestOfFile(file),
      ),
    };
    this.#taken = this.#seen = taken;
    this.#watch?.close();
    const files = [...taken.files.keys(), ...taken.imports.keys()];
    this.#watch = new FileWatch({ files, clock: this.#options.clock, look: () => this.#look() });
    await this.#watch.look();
  }

  close(): void {
    this.#watch?.close();
  }

  async #look(): Promise<'same' | 'changed' | 'unsettled'> {
    const files = await this.#filesNow();
    const imported = await this.#importsOf(files);
    const now = { files: await digests(files, digestOfFile), imports: await digests(imported.keys(), digestOfFile) };
    const [taken, seen] = [this.#taken!, this.#seen!];
    this.#seen = now;
    // What was imported meanwhile is compared with what it held then.
    if (isSame(now, { ...taken, imports: new Map([...imported, ...taken.imports]) })) return 'same';
    if (!isSame(now, seen)) return 'unsettled';
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
    return this.#loadedBy(now?.files.keys() ?? files);
  }

  /** These, and the modules of endpoints. */
  async #loadedBy(files: Iterable<string>): Promise<string[]> {
    const loaded = [...files];
    for await (const file of glob([...(this.#read!.config.endpoints ?? [])])) loaded.push(file);
    return loaded;
  }

  /** What these files import, and what was loaded elsewhere, with what it held then, where that is known. */
  async #importsOf(files: readonly string[]): Promise<Digests> {
    const imports = new Map(this.#options.others?.());
    for (const file of modules.importsOf(files)) imports.set(file, await modules.digestAtImport(file));
    for (const file of files) imports.delete(file);
    return imports;
  }
}

/** The digest of a file that is not there. */
const GONE = 'gone';

async function digests(
  files: Iterable<string>,
  digestOf: (file: string) => Promise<string | undefined>,
): Promise<Digests> {
  return new Map(await Promise.all(Array.from(files, async file => [file, (await digestOf(file)) ?? GONE] as const)));
}

function isSame(one: Content, other: Content): boolean {
  const isAsThere = ([file, digest]: [string, string | undefined]) => (other.imports.get(file) ?? digest) === digest;
  return sameValue(one.files, other.files) && [...one.imports].every(isAsThere);
}
