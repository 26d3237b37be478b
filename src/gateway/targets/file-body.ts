import type { BigIntStats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';

/** Files that are open at a time, for all clients together. Node reads four at a time anyway. */
const MAX_OPEN = 32;
/** What is read before it shows that the client takes anything. */
const FIRST_BYTES = 16 * 1024;
const NEXT_BYTES = 64 * 1024;
/** A client that takes nothing for so long does not have its file kept open. */
const KEPT_MS = 500;
/** Where there are no descriptors left, a file is tried again so often, at this distance. */
const ATTEMPTS = 20;
const ATTEMPT_MS = 100;

/** Places for open files. One whose client takes nothing is given up when another is wanted. */
class OpenFiles {
  #free = MAX_OPEN;
  /** The one that has waited longest for its client first. */
  readonly #stalled = new Set<() => void>();
  readonly #waiting: (() => void)[] = [];

  async take(): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    const place = new Promise<void>(resolve => this.#waiting.push(resolve));
    const [giveUp] = this.#stalled;
    giveUp?.();
    await place;
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }

  /** @returns whether the client has taken what it was sent; else the file is to be closed first. */
  async keepWhileTaken(taken: Promise<void>): Promise<boolean> {
    if (this.#waiting.length > 0) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const giveUp = () => resolve(false);
    const timer = setTimeout(giveUp, KEPT_MS);
    this.#stalled.add(giveUp);
    taken.then(() => resolve(true), giveUp);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#stalled.delete(giveUp);
    }
  }
}

/** Descriptors belong to the process, whatever serves its files. */
const openFiles = new OpenFiles();

/**
 * Writes a part of a file to a stream and ends it, at the pace of its reader.
 *
 * The file is open only while the reader takes what is read of it, so that clients that take nothing hold no
 * descriptors. Where another file is in its place when it is opened again, that is not sent: the stream is destroyed, as
 * for one that became shorter.
 *
 * @param length In bytes, from `start`.
 * @param onBegin Called before anything is written.
 * @throws what the file system says, before anything was written.
 */
export async function writeFile(
  path: string,
  start: number,
  length: number,
  stream: Writable,
  onBegin?: () => void,
): Promise<void> {
  const end = start + length;
  let at = start;
  let seen: BigIntStats | undefined;
  let taken: Promise<void> | undefined;
  if (length === 0) {
    onBegin?.();
    stream.end();
  }
  while (at < end && !stream.destroyed) {
    await openFiles.take();
    let file: FileHandle | undefined;
    try {
      file = await openWhenPossible(path);
      const stats = await file.stat({ bigint: true });
      if (seen && !isSame(seen, stats)) return void stream.destroy();
      seen = stats;
      do {
        const buffer = Buffer.allocUnsafe(Math.min(end - at, at === start ? FIRST_BYTES : NEXT_BYTES));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return void stream.destroy();
        if (at === start) onBegin?.();
        at += bytesRead;
        const chunk = buffer.subarray(0, bytesRead);
        if (at === end) return void stream.end(chunk);
        taken = write(stream, chunk);
        taken.catch(ignore); // thrown below, when the file is closed
      } while ((await openFiles.keepWhileTaken(taken)) && !stream.destroyed);
    } finally {
      await file?.close();
      openFiles.leave();
    }
    await taken;
  }
}

function ignore(): void {}

/** Resolves when all of it has left, or never will. Rejects when the stream cannot be written to. */
function write(stream: Writable, chunk: Buffer): Promise<void> {
  return new Promise((resolve: () => void) => {
    const settle = () => {
      stream.off('close', settle);
      resolve();
    };
    stream.on('close', settle);
    stream.write(chunk, settle);
  });
}

async function openWhenPossible(path: string): Promise<FileHandle> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await open(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if ((code !== 'EMFILE' && code !== 'ENFILE') || attempt === ATTEMPTS) throw error;
      await wait(ATTEMPT_MS);
    }
  }
}

/** What was written meanwhile would be seen by a file that had stayed open, too. */
function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev && a.birthtimeNs === b.birthtimeNs;
}
