import { closeSync, constants, type FSWatcher, openSync, watch, write } from 'node:fs';
import { join } from 'node:path';

const BYTE = Buffer.from('.');
const FLAGS = constants.O_RDWR | constants.O_CREAT;

/**
 * Tells the processes that share a folder that there is something new in it: one byte of a file is written, and the
 * operating system tells whoever watches the file. Rings may merge, and where files cannot be watched (no watches left,
 * some network and virtual disks) none is heard: whoever listens must also look from time to time.
 */
export class Doorbell {
  readonly #path: string;
  #file: number | undefined;
  #watcher: FSWatcher | undefined;
  #isRinging = false;
  #isWanted = false;
  #isClosed = false;

  constructor(folder: string) {
    this.#path = join(folder, 'doorbell');
  }

  /** Whether a ring would be heard, as far as is known. */
  get isListening(): boolean {
    return this.#watcher !== undefined;
  }

  /** Not in this thread: while the disk is busy, even one byte may have to wait. */
  ring(): void {
    this.#isWanted = true;
    if (this.#isRinging || this.#isClosed) return;
    try {
      const file = this.#open();
      this.#isRinging = true;
      this.#isWanted = false;
      write(file, BYTE, 0, 1, 0, () => {
        // An error too: a full disk, say. The others look from time to time.
        this.#isRinging = false;
        if (this.#isClosed) closeSync(file);
        else if (this.#isWanted) this.ring(); // for what was new only after the ring before
      });
    } catch {
      // cannot be opened: as above
    }
  }

  listen(onRing: () => void): void {
    try {
      this.#open();
      this.#watcher = watch(this.#path, { persistent: false }, onRing).on('error', () => this.stopListening());
    } catch {
      // no watches left
    }
  }

  stopListening(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  close(): void {
    this.stopListening();
    this.#isClosed = true;
    if (this.#file !== undefined && !this.#isRinging) closeSync(this.#file);
  }

  #open(): number {
    this.#file ??= openSync(this.#path, FLAGS, 0o600);
    return this.#file;
  }
}
