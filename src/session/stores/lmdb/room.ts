import { HoldfastError } from '../../../base/errors.ts';
import type { OptionNames } from '../../../base/options.ts';
import { DEFAULT_ANONYMOUS_SHARE } from '../../room/cap.ts';
import {
  DEFAULT_RESERVE_BYTES,
  DISK_OPTIONS,
  type DiskOptions,
  freeBytesOf,
  mebibytes,
  NoDiskRoomError,
} from '../../room/disk.ts';

/** How much a folder may hold. What is not given stays as it is. */
export interface RoomOptions extends DiskOptions {
  /**
   * Bytes that everything in the folder may take. What has ended makes room for others; the file itself does not
   * shrink. Default: what the disk has.
   */
  readonly maxBytes?: number | undefined;
  /** Share of the room, from 0 to 1, that what belongs to anonymous sessions may fill. Default 0.8. */
  readonly anonymousShare?: number | undefined;
}

export const ROOM_OPTIONS: OptionNames<RoomOptions> = { maxBytes: 'number', anonymousShare: 'number', ...DISK_OPTIONS };

/**
 * What a write is for. `upkeep` ends something, or writes in place what is there already, and goes on below the
 * reserve: the reserve is there for it. Only when the disk is so full that the library itself is in danger, it is
 * refused as well.
 */
export type WritePurpose = 'anonymous' | 'owned' | 'upkeep';

/** For how long what was measured is good. */
const MEASURE_EVERY_MS = 1_000;
/** Pages that a write may touch besides those of its values: LMDB writes copies, and gives the old ones free later. */
const PAGES_BYTES = 16 * 1024;
/**
 * What upkeep may need at a time: a batch of ends on as many pages, twice, because pages come free one transaction
 * later.
 */
const FLOOR_BYTES = 8 * 1024 * 1024;
/** Of the reserve, where that is small. */
const FLOOR_SHARE = 1 / 4;

/**
 * Whether there is room for a write: by the free space of the disk, and by what the folder may hold. Measured at
 * intervals, and by what was written since.
 */
export class LmdbRoom {
  readonly #path: string;
  readonly #usedBytes: () => number;
  #freeBytes = freeBytesOf;
  #reserve = DEFAULT_RESERVE_BYTES;
  #max = Number.POSITIVE_INFINITY;
  #anonymousShare: number = DEFAULT_ANONYMOUS_SHARE;
  #measuredAt = Number.NEGATIVE_INFINITY;
  #free = 0;
  #used = 0;
  /** Asked for since it was measured. */
  #taken = 0;

  constructor(path: string, usedBytes: () => number) {
    this.#path = path;
    this.#usedBytes = usedBytes;
  }

  limit({ reserveBytes, maxBytes, anonymousShare, freeBytes }: RoomOptions): void {
    this.#freeBytes = freeBytes ?? this.#freeBytes;
    this.#reserve = reserveBytes ?? this.#reserve;
    this.#max = maxBytes ?? this.#max;
    this.#anonymousShare = anonymousShare ?? this.#anonymousShare;
    this.#measuredAt = Number.NEGATIVE_INFINITY;
  }

  /** @throws {HoldfastError} ERR_SESSION_NO_ROOM when this many bytes must not be written. */
  take(bytes: number, purpose: WritePurpose): void {
    const needed = bytes + PAGES_BYTES;
    if (!this.#isRoomFor(needed, purpose)) throw this.#noRoom(purpose);
    this.#taken += needed;
  }

  hasRoomFor(purpose: WritePurpose, bytes = 0): boolean {
    return this.#isRoomFor(bytes + PAGES_BYTES, purpose);
  }

  #isRoomFor(bytes: number, purpose: WritePurpose): boolean {
    const now = performance.now();
    // Others write to the disk as well, and what was asked for may have taken more: the nearer the end, the oftener.
    if (
      now - this.#measuredAt >= MEASURE_EVERY_MS ||
      (this.#taken > 0 && (this.#taken + bytes) * 4 > this.#left(purpose))
    ) {
      this.#measuredAt = now;
      this.#taken = 0;
      this.#free = this.#reserve === 0 ? Number.POSITIVE_INFINITY : this.#freeBytes(this.#path);
      this.#used = this.#usedBytes();
    }
    return bytes <= this.#left(purpose);
  }

  /** Bytes, when it was measured. */
  #left(purpose: WritePurpose): number {
    if (purpose === 'upkeep') return this.#free - Math.min(FLOOR_BYTES, this.#reserve * FLOOR_SHARE);
    const all = Math.min(this.#max, this.#used + this.#free - this.#reserve);
    return (purpose === 'anonymous' ? all * this.#anonymousShare : all) - this.#used;
  }

  #noRoom(purpose: WritePurpose): HoldfastError {
    const isDisk = this.#used + this.#free - this.#reserve < this.#max;
    const options = { status: 503, closeCode: 1013 };
    if (purpose === 'anonymous' && this.#left('owned') >= PAGES_BYTES) {
      const share = `anonymous sessions fill ${Math.round(this.#anonymousShare * 100)} % of the room in ${this.#path}, all that they may (anonymousShare)`;
      const remedy = isDisk ? 'make room on the disk' : 'raise maxSize, or shorten idleTimeout';
      return new HoldfastError('ERR_SESSION_NO_ROOM', `${share}; ${remedy}`, options);
    }
    if (purpose === 'upkeep' || isDisk) return new NoDiskRoomError(this.#path, this.#free, this.#reserve);
    const message = `${this.#path}: ${mebibytes(this.#used)} of the ${mebibytes(this.#max)} that it may hold are in use; raise maxSize, or shorten idleTimeout`;
    return new HoldfastError('ERR_SESSION_NO_ROOM', message, options);
  }
}
