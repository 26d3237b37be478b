import { readFile } from 'node:fs/promises';
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { SetMap } from '../base/set-map.ts';
import { applicationFile, digestOf, digestOfFile, LOAD_TIMEOUT_MS } from '../drivers/application-files.ts';

type Namespace = Readonly<Record<string, unknown>>;

interface Version {
  readonly digest: string;
  readonly namespace: Promise<Namespace>;
}

/**
 * Modules of the application that can be loaded again when their files have changed.
 *
 * Node keeps every module that it has loaded, by its URL: another version has another URL, and the one before stays in
 * memory. What a module imports comes from what was loaded before, changed or not; `outdated` knows which of it has
 * changed.
 */
export class Modules {
  readonly #versions = new Map<string, Version[]>();
  /** Of the version that was asked for last. */
  readonly #current = new Map<string, string>();
  /** How often each was loaded: Node keeps what failed, too. */
  readonly #loads = new Map<string, number>();
  /** Files of the application that loaded modules import, by who imports them. */
  readonly #imports = new SetMap<string, string>();
  /** What these held when they were loaded. */
  readonly #digests = new Map<string, Promise<string | undefined>>();
  #isWatching = false;

  /** From now on it notes which files modules import. */
  watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    registerHooks({
      resolve: (specifier, context, next) => {
        const found = next(specifier, context);
        this.#note(context.parentURL, found.url);
        return found;
      },
    });
  }

  /** Loads a module; again, if its file holds something else than before. Rejects with what the module throws. */
  async load(path: string): Promise<Namespace> {
    const digest = digestOf(await readFile(path));
    this.#current.set(path, digest);
    const known = this.#versions.get(path) ?? [];
    const same = known.find(version => version.digest === digest);
    if (same) return same.namespace;
    const { href } = pathToFileURL(path);
    const number = (this.#loads.get(path) ?? 0) + 1;
    this.#loads.set(path, number);
    const namespace = imported(number === 1 ? href : `${href}?version=${number}`);
    this.#versions.set(path, [...known, { digest, namespace }]);
    // One that fails is tried again: what it lacks may come.
    namespace.catch(() => this.#forget(path, digest));
    return namespace;
  }

  /** Of what a module's file held when it was last asked for here. */
  digestOf(path: string): string | undefined {
    return this.#current.get(path);
  }

  /** Those that were loaded here. */
  get loaded(): Iterable<string> {
    return this.#versions.keys();
  }

  /** How many versions of modules are in memory that were replaced by others. */
  get replaced(): number {
    return [...this.#versions.values()].reduce((sum, { length }) => sum + length - 1, 0);
  }

  /** The files that these modules import, however far away, as far as they are the application's own. */
  importsOf(paths: Iterable<string>): Set<string> {
    const found = new Set<string>();
    const left = [...paths];
    for (let path = left.pop(); path !== undefined; path = left.pop())
      for (const imported of this.#imports.get(path) ?? []) {
        if (found.has(imported)) continue;
        found.add(imported);
        left.push(imported);
      }
    return found;
  }

  /** What it held when it was imported first. */
  digestAtImport(path: string): Promise<string | undefined> | undefined {
    return this.#digests.get(path);
  }

  /** Those of them that hold something else than when they were loaded. */
  async outdated(paths: Iterable<string>): Promise<string[]> {
    const loaded = new Set(paths);
    const changed: string[] = [];
    for (const path of this.importsOf(loaded)) {
      if (this.#versions.has(path) && loaded.has(path)) continue;
      if ((await this.#digests.get(path)) !== (await digestOfFile(path))) changed.push(path);
    }
    return changed;
  }

  #forget(path: string, digest: string): void {
    const left = (this.#versions.get(path) ?? []).filter(version => version.digest !== digest);
    if (left.length > 0) this.#versions.set(path, left);
    else this.#versions.delete(path);
  }

  #note(parentUrl: string | undefined, url: string): void {
    const [parent, child] = [applicationFile(parentUrl), applicationFile(url)];
    if (parent === undefined || child === undefined) return;
    this.#imports.add(parent, child);
    if (!this.#digests.has(child)) this.#digests.set(child, digestOfFile(child));
  }
}

/**
 * @throws {Error} when the module waits for what never comes: Node would end the process without a word, or wait for as long
 * as something else keeps it running.
 */
function imported(url: string): Promise<Namespace> {
  return new Promise((resolve: (namespace: Namespace) => void, reject) => {
    const onIdle = () => reject(new Error('it waits at its top level for something that never comes'));
    const onLate = () =>
      reject(new Error(`it waits at its top level, and was not there after ${LOAD_TIMEOUT_MS / 1_000} s`));
    process.once('beforeExit', onIdle);
    const timer = setTimeout(onLate, LOAD_TIMEOUT_MS).unref();
    import(url).then(resolve, reject).finally(() => {
      process.off('beforeExit', onIdle);
      clearTimeout(timer);
    });
  });
}

/** Of this process, as the modules are. */
export const modules: Modules = new Modules();
