/*
 * What is really there of bytes that an application passes. `instanceof`, `length` and `buffer` are what a value says
 * of itself: a subclass, a property of its own or a proxy can make them say anything, and native code that believes
 * it ends the process.
 */

const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
const nameOf = getterOf(typedArray, Symbol.toStringTag);
const lengthOf = getterOf(typedArray, 'byteLength');
const offsetOf = getterOf(typedArray, 'byteOffset');
const bufferOf = getterOf(typedArray, 'buffer');
const unsharedLengthOf = getterOf(ArrayBuffer.prototype, 'byteLength');
const { at } = Uint8Array.prototype;

function getterOf(prototype: object, name: string | symbol): (this: unknown) => unknown {
  return Object.getOwnPropertyDescriptor(prototype, name)!.get!;
}

/**
 * The kind of a typed array (`Uint8Array`, `Float64Array`), of every realm; undefined for all else, proxies included.
 */
export function typedArrayName(value: unknown): string | undefined {
  return nameOf.call(value) as string | undefined;
}

/** How many bytes there are. @throws {TypeError} when it is not a typed array. */
export function byteLengthOf(bytes: Uint8Array): number {
  return lengthOf.call(bytes) as number;
}

/** True when the buffer was taken away from the bytes: it was transferred, or has shrunk. */
export function isDetached(bytes: Uint8Array): boolean {
  if (byteLengthOf(bytes) > 0) return false;
  try {
    at.call(bytes, 0);
    return false;
  } catch {
    return true;
  }
}

/**
 * The same bytes in an array that has nothing of the application's: for code that believes what it says of itself.
 * Bytes that another thread can change are copied, because they may be read twice.
 *
 * @throws {TypeError} when it is not a typed array, or its buffer was taken away.
 */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  if (isDetached(bytes)) throw new TypeError('the buffer of the bytes was detached, or has shrunk');
  const buffer = bufferOf.call(bytes) as ArrayBuffer;
  const plain = new Uint8Array(buffer, offsetOf.call(bytes) as number, byteLengthOf(bytes));
  return isShared(buffer) ? new Uint8Array(plain) : plain;
}

function isShared(buffer: ArrayBufferLike): boolean {
  try {
    unsharedLengthOf.call(buffer);
    return false;
  } catch {
    return true;
  }
}
