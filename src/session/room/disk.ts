import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { HoldfastError } from '../../base/errors.ts';
import type { OptionNames } from '../../base/options.ts';

/** Free space that is left alone: what runs on the same disk, and what ends sessions, needs some. */
export const DEFAULT_RESERVE_BYTES: number = 64 * 1024 * 1024;

/** How far a disk may be filled. */
export interface DiskOptions {
  /** Free space of the disk, in bytes, below which nothing is written. Default 64 MiB; 0: none. */
  readonly reserveBytes?: number | undefined;
  /** Bytes that are free where a path lies. Default: what the operating system says (`statfs`). For tests. */
  readonly freeBytes?: ((path: string) => number) | undefined;
}

export const DISK_OPTIONS: OptionNames<DiskOptions> = { reserveBytes: 'number', freeBytes: 'function' };

/** ERR_SESSION_NO_ROOM because of a disk: it gets no emptier when a session ends. */
export class NoDiskRoomError extends HoldfastError {
  readonly canEvict = false;

  constructor(path: string, freeBytes: number, reserveBytes: number) {
    const message = `${path}: its disk has ${mebibytes(freeBytes)} left, less than the reserve of ${mebibytes(reserveBytes)}; make room on it, or lower diskReserve`;
    super('ERR_SESSION_NO_ROOM', message, { status: 503, closeCode: 1013 });
  }
}

/** @throws {HoldfastError} ERR_SESSION_NO_ROOM when something new must not be written to this path. */
export function checkDisk(
  path: string,
  { reserveBytes = DEFAULT_RESERVE_BYTES, freeBytes = freeBytesOf }: DiskOptions,
): void {
  if (reserveBytes === 0) return;
  const free = freeBytes(path);
  if (free < reserveBytes) throw new NoDiskRoomError(path, free, reserveBytes);
}

/**
 * What an unprivileged program may still write; of a path that does not exist yet, where its folder is. `Infinity` when
 * nobody knows.
 */
export function freeBytesOf(path: string): number {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(at) === at) return Number.POSITIVE_INFINITY;
    }
  }
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(bytes < 10 * 1024 * 1024 ? 1 : 0)} MiB`;
}
