import { type FSWatcher, realpathSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock, Timer } from '../base/clock.ts';

export interface FileWatchOptions {
  readonly files: readonly string[];
  readonly clock: Clock;
  /**
   * Reads the files and takes what is new and good. MUST NOT reject.
   *
   * @returns `changed`; `unsettled` when it is looked at again at once, as it may be half written; `doubtful` when it is
   * looked at again in a second.
   */
  look(): Promise<'same' | 'changed' | 'unsettled' | 'doubtful'>;
}

/** Files that belong together are written one after the other. */
const SETTLE_MS = 200;
/** Until what did not fit together is looked at again. */
const RETRY_MS = 1_000;
/** Watching misses some changes: a folder above that was replaced by another, a file on another machine. */
const POLL_MS = 30_000;
const NEXT_LOOK_MS = { same: POLL_MS, changed: POLL_MS, unsettled: SETTLE_MS, doubtful: RETRY_MS };

/**
 * Says when files are to be looked at again: written in place, replaced, or reached through symbolic links that lead
 * elsewhere now, as certbot and Kubernetes do it.
 */
export class FileWatch {
  readonly #options: FileWatchOptions;
  #watchers: FSWatcher[] = [];
  #timer: Timer | undefined;
  #lookAtMs = 0;
  #isClosed = false;

  constructor(options: FileWatchOptions) {
    this.#options = options;
    this.#watch();
    this.#schedule(POLL_MS);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Looks now. Never rejects. */
  async look(): Promise<void> {
    const result = await this.#options.look();
    if (this.#isClosed) return;
    // The links may lead to other folders now.
    if (result !== 'same') this.#watch();
    this.#schedule(NEXT_LOOK_MS[result]);
  }

  close(): void {
    this.#isClosed = true;
    this.#options.clock.clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  #watch(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
    const folders = new Set<string>();
    for (const file of this.#options.files) {
      folders.add(dirname(file));
      try {
        folders.add(dirname(realpathSync(file)));
      } catch {
        // It is not there for the moment.
      }
    }
    for (const folder of folders) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#schedule(SETTLE_MS));
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // Too many watchers on this machine, or the folder is gone: the poll sees it, later.
      }
    }
  }

  /** Sooner than what is planned, or not at all: a folder in which something changes all the time puts nothing off. */
  #schedule(ms: number): void {
    const { clock } = this.#options;
    const atMs = clock.monotonic() + ms;
    if (this.#isClosed || (this.#timer !== undefined && this.#lookAtMs <= atMs)) return;
    clock.clearTimeout(this.#timer);
    this.#lookAtMs = atMs;
    this.#timer = clock.setTimeout(() => {
      this.#timer = undefined;
      void this.look();
    }, ms);
  }
}
