const MIN_WORDS_BYTES = 16;

// The word view of the buffer that was masked last: reads come into the same one again and again.
let words: Int32Array = new Int32Array(0);

/**
 * A mask key as one 32-bit word, first byte of the wire in the lowest byte, turned so that it fits payload byte
 * `offset`.
 */
export function rotateMask(mask: number, offset: number): number {
  const bits = (offset & 3) << 3;
  return bits === 0 ? mask : (mask >>> bits) | (mask << (32 - bits));
}

/**
 * Unmasks (or masks) `bytes[start, end)` in place. RFC 6455 §5.3.
 *
 * `mask` fits the byte at `start` (see `rotateMask`). Long runs go by 32-bit words, which is about eight times as fast.
 *
 * @returns true when every resulting byte is ASCII, which the caller needs to know and is free to compute here.
 */
export function applyMask(bytes: Uint8Array, start: number, end: number, mask: number): boolean {
  let position = start;
  let seen = 0;
  if (end - start >= MIN_WORDS_BYTES) {
    const base = bytes.byteOffset;
    while (((base + position) & 3) !== 0) {
      seen |= bytes[position]! ^= mask & 0xff;
      mask = (mask >>> 8) | (mask << 24);
      position++;
    }
    if (words.buffer !== bytes.buffer) words = new Int32Array(bytes.buffer, 0, bytes.buffer.byteLength >> 2);
    const last = (base + end) >> 2;
    let seenWords = 0;
    for (let i = (base + position) >> 2; i < last; i++) seenWords |= words[i]! ^= mask;
    if ((seenWords & 0x80808080) !== 0) seen |= 0x80;
    position = (last << 2) - base;
  }
  while (position < end) {
    seen |= bytes[position]! ^= mask & 0xff;
    mask = (mask >>> 8) | (mask << 24);
    position++;
  }
  return (seen & 0x80) === 0;
}
