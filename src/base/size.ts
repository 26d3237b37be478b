/**
 * An amount of bytes as people write it: `'4KiB'`, `'1MiB'`, `'2GiB'`, `'512B'`, or a number of bytes. `-1` means no
 * limit.
 */
export type Size = number | `${number}${'B' | 'KiB' | 'MiB' | 'GiB' | 'KB' | 'MB' | 'GB'}` | (string & {});

const UNIT_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};

/**
 * Turns a size into bytes; `-1` and `'-1'` become `Infinity` (no limit).
 *
 * @throws {TypeError} when the value is not a size. The message says what one looks like.
 */
export function parseSize(value: Size): number {
  if (value === -1 || value === '-1') return Number.POSITIVE_INFINITY;
  const bytes = bytesOf(value);
  if (bytes > Number.MAX_SAFE_INTEGER)
    throw new TypeError(`${JSON.stringify(value)} is too large a size; write -1 for no limit`);
  if (bytes >= 0 && Number.isInteger(bytes)) return bytes;
  throw new TypeError(
    `not a size: ${JSON.stringify(value)}; write for example "512B", "64KiB", "1MiB", or -1 for no limit`,
  );
}

/** `NaN` when it is none. */
function bytesOf(value: unknown): number {
  if (typeof value === 'number') return value;
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)\s*(B|[KMG]i?B)$/.exec(value) : null;
  return match ? Math.round(Number(match[1]) * UNIT_BYTES[match[2]!]!) : Number.NaN;
}
