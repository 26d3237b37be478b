/*
 * The stored format of an attribute's value (docs/decisions/0015-stored-format.md): a byte for the version, then one
 * value. A value is a tag and what the tag says. Lengths are LEB128; everything else is little-endian.
 */

/** First byte of every encoded value. A reader refuses a version it does not know. */
export const FORMAT_VERSION = 1;

/** Never reused for something else. A new one takes a new format version, for the values that hold it. */
export const Tag = {
  undefined: 0,
  null: 1,
  false: 2,
  true: 3,
  integer: 4,
  double: 5,
  bigint: 6,
  latin1: 7,
  utf8: 8,
  utf16: 9,
  array: 10,
  object: 11,
  nullObject: 12,
  map: 13,
  set: 14,
  date: 15,
  regExp: 16,
  error: 17,
  arrayBuffer: 18,
  view: 19,
  instance: 20,
} as const;

/** Index = code in the stored format. */
export const ERRORS = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError] as const;
/** Index = code in the stored format. */
export const VIEWS = [
  Uint8Array,
  Uint8ClampedArray,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
  Buffer,
  Float16Array,
] as const;
export const LITTLE_ENDIAN: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The elements of a typed array of this code, in the other byte order. */
export function swapped(bytes: Uint8Array, code: number): Uint8Array<ArrayBuffer> {
  const size = (VIEWS[code] as { BYTES_PER_ELEMENT?: number }).BYTES_PER_ELEMENT ?? 1;
  const copy = Uint8Array.from(bytes);
  for (let start = 0; start + size <= copy.length; start += size) copy.subarray(start, start + size).reverse();
  return copy;
}
