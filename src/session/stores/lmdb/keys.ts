import { hash } from 'node:crypto';

export const NOTHING = Buffer.alloc(0);
const NUMBER_BYTES = 8;
const UTF_8 = 0;
const UTF_16 = 1;

/**
 * The key of any text. LMDB's are short, and texts (sids, names, ledger keys) come from anybody: short plain ones are
 * kept as they are, others as their hash. No key is the beginning of another, so several can be put together.
 */
export function keyOf(text: string): Buffer {
  if (/^[\w-]{1,63}$/.test(text)) {
    const key = Buffer.allocUnsafe(1 + text.length);
    key[0] = text.length;
    key.write(text, 1, 'latin1');
    return key;
  }
  // UTF-16, because UTF-8 makes one of all unpaired surrogates.
  return Buffer.concat([Buffer.from([0]), hash('sha256', Buffer.from(text, 'utf16le'), 'buffer')]);
}

/** Two keys as one. `keysBelow` finds all that begin with the first. */
export function joinKeys(first: Buffer, second: Buffer): Buffer {
  return Buffer.concat([first, second]);
}

/** The range of what `joinKeys` made with this first key. No second key begins with 0xff. */
export function keysBelow(first: Buffer): { start: Buffer; end: Buffer } {
  return { start: first, end: Buffer.concat([first, Buffer.from([0xff])]) };
}

/** A whole number from 0, so that keys lie in its order. */
export function numberKey(number: number): Buffer {
  const key = Buffer.allocUnsafe(NUMBER_BYTES);
  key.writeBigUInt64BE(BigInt(number), 0);
  return key;
}

export function numberOf(key: Buffer): number {
  return Number(key.readBigUInt64BE(0));
}

/** An entry of an index by time. */
export function timeKey(at: number, key: Buffer): Buffer {
  return joinKeys(numberKey(Math.max(0, Math.ceil(at))), key);
}

/** The end (not included) of the entries at `at` and earlier. */
export function afterTime(at: number): Buffer {
  return numberKey(Math.max(0, Math.floor(at) + 1));
}

/** The two things that `timeKey` put together; the time is that of the next whole millisecond. */
export function splitTimeKey(entry: Buffer): { at: number; key: Buffer } {
  return { at: numberOf(entry), key: Buffer.from(entry.subarray(NUMBER_BYTES)) };
}

/** Any text as bytes, also one with unpaired surrogates. */
export function encodeText(text: string): Buffer {
  return text.isWellFormed()
    ? Buffer.concat([Buffer.from([UTF_8]), Buffer.from(text, 'utf8')])
    : Buffer.concat([Buffer.from([UTF_16]), Buffer.from(text, 'utf16le')]);
}

export function decodeText(bytes: Buffer): string {
  return bytes.toString(bytes[0] === UTF_8 ? 'utf8' : 'utf16le', 1);
}
