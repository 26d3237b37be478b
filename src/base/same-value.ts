/**
 * Are two values of a configuration the same? Lists and plain objects are by what is in them, a key that is undefined
 * being as if it were left out; dates, expressions and bytes by what they say; everything else (functions, endpoints,
 * stores) only when it is one and the same.
 */
export function sameValue(one: unknown, other: unknown): boolean {
  return compare(one, other, new Map());
}

/** @param compared Pairs that are being compared: a document with anchors may hold itself. */
function compare(one: unknown, other: unknown, compared: Map<object, object>): boolean {
  if (Object.is(one, other)) return true;
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return false;
  if (compared.get(one) === other) return true;
  compared.set(one, other);
  if (Array.isArray(one))
    return (
      Array.isArray(other) &&
      one.length === other.length &&
      one.every((value, index) => compare(value, other[index], compared))
    );
  if (one instanceof RegExp) return other instanceof RegExp && String(one) === String(other);
  if (one instanceof Date) return other instanceof Date && Object.is(one.getTime(), other.getTime());
  if (one instanceof Uint8Array)
    return other instanceof Uint8Array && one.length === other.length && one.every((byte, at) => byte === other[at]);
  if (one instanceof Map)
    return (
      other instanceof Map &&
      one.size === other.size &&
      [...one].every(([key, value]) => other.has(key) && compare(value, other.get(key), compared))
    );
  if (!isPlain(one) || !isPlain(other)) return false;
  const keys = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...keys].every(key => compare(one[key], other[key], compared));
}

function isPlain(value: object): value is Record<string, unknown> {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}
