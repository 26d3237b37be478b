import { closeSync, openSync, readSync } from 'node:fs';
import { endianness } from 'node:os';

/** `mm_magic` of the first page, behind the header of pages (lmdb.h and mdb.c of LMDB 0.9 and 1.0). */
const MAGIC = 0xbeefc0de;
const MAGIC_AT = 24;

/**
 * Why a file that is there cannot be the data of LMDB, which does not look: it ends the process when it opens one that is
 * something else. An empty one is a new one to it.
 *
 * @returns undefined when it can be, is not there, or cannot be read, which LMDB says itself.
 */
export function dataFileProblem(file: string): string | undefined {
  const start = beginningOf(file);
  if (start === undefined || start.length === 0) return undefined;
  const isWhole = start.length >= MAGIC_AT + 4;
  const magic = isWhole && (endianness() === 'LE' ? start.readUInt32LE(MAGIC_AT) : start.readUInt32BE(MAGIC_AT));
  if (magic === MAGIC) return undefined;
  return `${file} is not a file of LMDB, or it is damaged; restore it, or move it away: the sessions in it are lost then`;
}

function beginningOf(file: string): Buffer | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    const start = Buffer.alloc(MAGIC_AT + 4);
    return start.subarray(0, readSync(descriptor, start, 0, start.length, 0));
  } catch {
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
