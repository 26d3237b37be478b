const MIN_WORDS_BYTES = 64;

/** A mask key as one 32-bit word, first byte of the wire in the lowest byte, turned so that it fits payload byte `offset`. */
export function rotateMask(mask: number, offset: number): number {
  const bits = (offset & 3) << 3;
  return bits === 0 ? mask : (mask >>> bits) | (mask << (32 - bits));
}

/**
 * Unmasks (or masks) `bytes[start, end)` in place. RFC 6455 §5.3.
 *
 * `mask` fits the byte at `start` (see `rotateMask`). Long runs go by 32-bit words, which is about eight times as fast; below
 * some 64 bytes making the word view costs more than it saves.
 *
 * @returns true when every resulting byte is ASCII, which the caller needs to know and is free to compute here.
 */
export function applyMask(bytes: Uint8Array, start: number, end: number, mask: number): boolean {
  let position = start;
  let seen = 0;
  if (end - start >= MIN_WORDS_BYTES) {
    while (((bytes.byteOffset + position) & 3) !== 0) {
      seen |= bytes[position]! ^= mask & 0xff;
      mask = (mask >>> 8) | (mask << 24);
      position++;
    }
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + position, (end - position) >> 2);
    let seenWords = 0;
    for (let i = 0; i < words.length; i++) seenWords |= words[i]! ^= mask;
    if ((seenWords & 0x80808080) !== 0) seen |= 0x80;
    position += words.length << 2;
  }
  while (position < end) {
    seen |= bytes[position]! ^= mask & 0xff;
    mask = (mask >>> 8) | (mask << 24);
    position++;
  }
  return (seen & 0x80) === 0;
}
