/** A key is at least as long, whatever it is written in. */
export const MIN_KEY_BYTES = 32;

const HEX = /^(?:[0-9a-f]{2})+$/i;
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/** What keys from files were read as by releases that took the text of a file for the key, however it was written. */
const textReadings = new WeakMap<Uint8Array, Uint8Array>();

/**
 * The key that a file holds: bytes in base64, base64url or hexadecimal digits, with white space, line ends and a byte
 * order mark as they come, or the bytes themselves. Undefined when it is neither: a text that means something else, or
 * less than 32 bytes.
 */
export function keyInFile(content: Buffer): Uint8Array | undefined {
  const text = textOf(content);
  const key = text === undefined ? Buffer.from(content) : decode(text);
  if (key === undefined || key.length < MIN_KEY_BYTES) return undefined;
  const reading = Buffer.from(content.toString().trim());
  if (text === undefined && reading.length >= MIN_KEY_BYTES) textReadings.set(key, reading);
  return key;
}

/**
 * The keys of a file that a configuration names: the first signs, every one verifies.
 *
 * The first is the text of the file, as it stands: so read it all processes of the release before, which may still run
 * and would sign out whoever comes with a ticket that is signed by another.
 */
export function keysInNamedFile(content: Buffer): Uint8Array[] {
  const text = Buffer.from(content.toString().trim());
  const key = keyInFile(content);
  return [...(text.length >= MIN_KEY_BYTES || !key ? [text] : []), ...(key ? [key] : [])];
}

/**
 * The same key in each way of writing it, as it was given first: a program that has the bytes and one that has the text
 * of a file verify each other's tickets.
 */
export function formsOf(given: Uint8Array): Uint8Array[] {
  const text = textOf(Buffer.from(given.buffer, given.byteOffset, given.byteLength));
  const decoded = text === undefined ? undefined : decode(text);
  const key = Buffer.from(decoded && decoded.length >= MIN_KEY_BYTES ? decoded : given);
  const hex = key.toString('hex');
  const written = [key.toString('base64url'), key.toString('base64'), hex, hex.toUpperCase()].map(form =>
    Buffer.from(form),
  );
  const reading = textReadings.get(given);
  return [given, ...(text === undefined ? [] : [Buffer.from(text)]), key, ...written, ...(reading ? [reading] : [])];
}

/** Without what surrounds it; undefined for bytes that are no text. */
function textOf(content: Buffer): string | undefined {
  const encoding = content[0] === 0xff && content[1] === 0xfe ? 'utf-16le' : 'utf-8';
  try {
    // `trim` removes a byte order mark as well.
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(content).trim();
  } catch {
    return undefined;
  }
}

/** Digits first: they are letters of base64 too. */
function decode(text: string): Buffer | undefined {
  const letters = text.replaceAll(/\s/g, '');
  if (HEX.test(letters) && letters.length >= 2 * MIN_KEY_BYTES) return Buffer.from(letters, 'hex');
  return BASE64.test(letters) ? Buffer.from(letters, 'base64') : undefined;
}
