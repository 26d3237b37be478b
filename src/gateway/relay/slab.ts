import type { Duplex } from 'node:stream';

const SLAB_BYTES = 64 * 1024;
/** Up to here a loop is faster than what a copy costs to begin. */
const SHORT_BYTES = 128;

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let used = 0;
/**
 * What begins with the slab, by length: messages of one application are alike, and a view costs more than their bytes.
 */
let views: (Buffer | undefined)[] = [];

/**
 * Writes bytes that the next read of any connection overwrites, to a TCP socket for which nothing waits.
 *
 * They are copied into memory that all relays share. The kernel nearly always takes all of a write at once; then the
 * same warm bytes serve the next one. What it did not take stays where it is until it has been written.
 */
export function writeFromSlab(target: Duplex, source: Buffer, start: number, end: number): void {
  const length = end - start;
  if (length > SLAB_BYTES) {
    target.write(Buffer.from(source.subarray(start, end)));
    return;
  }
  if (used + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
    views = [];
  }
  if (length > SHORT_BYTES) source.copy(slab, used, start, end);
  else for (let i = 0; i < length; i++) slab[used + i] = source[start + i]!;
  target.write(
    used === 0 && length <= SHORT_BYTES
      ? (views[length] ??= slab.subarray(0, length))
      : slab.subarray(used, used + length),
  );
  // Once a part of it is kept, it is used up and replaced.
  if (used > 0 || target.writableLength > 0) used += length;
}
