import { join, resolve } from 'node:path';
import { parseSize } from '../base/size.ts';
import type { Config } from '../config/config.ts';
import type { DiskOptions } from '../session/room/disk.ts';

/** Where generated keys are kept, and how far its disk, and those of stores, may be filled. */
export interface DataFolder {
  readonly path: string;
  readonly disk: DiskOptions;
}

export function dataFolderOf(
  { dataFolder = '.holdfast', diskReserve }: Pick<Config, 'dataFolder' | 'diskReserve'>,
  freeBytes?: DiskOptions['freeBytes'],
): DataFolder {
  const reserve = diskReserve === undefined ? undefined : parseSize(diskReserve);
  return {
    path: resolve(dataFolder),
    disk: { reserveBytes: reserve === Number.POSITIVE_INFINITY ? 0 : reserve, freeBytes },
  };
}

/** Where the keys of the data folder are. */
export function keysFolder({ path }: DataFolder): string {
  return join(path, 'keys');
}
