/** How many bytes a response sends for what its `write` or `end` is given; 0 for what is not a chunk. */
export function chunkBytes([chunk, encoding]: readonly unknown[]): number {
  if (chunk instanceof Uint8Array) return chunk.length;
  if (typeof chunk !== 'string') return 0;
  return Buffer.byteLength(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
}
