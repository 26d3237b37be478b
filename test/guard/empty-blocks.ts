/**
 * The order in which a deflate block gives the lengths of its code-length codes (RFC 1951 §3.2.7), as far as it is
 * needed.
 */
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];

/**
 * A compressed message of about so many bytes that inflates to nothing: blocks of 12 bytes with codes of their own and
 * no data. Building the tables for each is the slowest that one can do to zlib: about 80 µs for a kibibyte, 40 times
 * what a kibibyte that comes out costs.
 */
export function emptyBlocks(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let at = 0;
  const put = (value: number, bits: number) => {
    for (let i = 0; i < bits; i++, at++) bytes[at >> 3]! |= ((value >> i) & 1) << (at & 7);
  };
  while (at + 200 < length * 8) {
    put(0, 1); // Not the final block.
    put(2, 2); // Dynamic codes.
    put(0, 5); // 257 literals and lengths,
    put(0, 5); // one distance,
    put(ORDER.length - 4, 4);
    for (const symbol of ORDER) put(symbol === 18 ? 1 : symbol <= 1 ? 2 : 0, 3);
    // 256 symbols without a code, in two runs; the end of the block, of one bit; no distance.
    for (const run of [138, 118]) {
      put(0, 1);
      put(run - 11, 7);
    }
    put(0b11, 2);
    put(0b01, 2);
    put(0, 1);
  }
  // The empty stored block of a flush, without its lengths.
  put(0, 3);
  return bytes.subarray(0, (at + 7) >> 3);
}
