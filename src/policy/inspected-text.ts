/** Character sets in which ASCII is itself, so that a rule about ASCII sees what an application sees. */
const READABLE_CHARSETS: ReadonlySet<string> = new Set([
  'utf-8',
  'utf8',
  'us-ascii',
  'ascii',
  'iso-8859-1',
  'latin1',
  'windows-1252',
]);

/** Is a body with these headers text that can be read as it comes? */
export function isInspectable(contentType: string | undefined, contentEncoding: string | undefined): boolean {
  if (contentEncoding !== undefined && contentEncoding.trim().toLowerCase() !== 'identity') return false;
  const charsets = [...(contentType ?? '').matchAll(/;[ \t]*charset[ \t]*=[ \t]*"?([^\s";]*)/gi)].map(
    match => match[1]!,
  );
  return charsets.every(charset => READABLE_CHARSETS.has(charset.toLowerCase()));
}

/** `%41` as `A`, once. What is no escape stays, and bytes that are not UTF-8 become U+FFFD. */
export function percentDecoded(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    // An escape that is none, or bytes that are not UTF-8: as far as it goes.
  }
  return bytesDecoded(Buffer.from(text));
}

const PERCENT = 0x25;

/** In one pass and in place, as anybody may send a body that is nothing but escapes. */
function bytesDecoded(bytes: Buffer): string {
  let length = bytes.indexOf(PERCENT);
  for (let at = length; at < bytes.length; ) {
    const byte = bytes[at]!;
    const high = byte === PERCENT ? hexDigit(bytes[at + 1]) : -1;
    const low = high < 0 ? -1 : hexDigit(bytes[at + 2]);
    bytes[length++] = low < 0 ? byte : high * 16 + low;
    at += low < 0 ? 1 : 3;
  }
  return bytes.toString('utf8', 0, length);
}

/** -1: it is not one. */
function hexDigit(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
/** By the letter behind the backslash. Any other is itself. */
const JSON_ESCAPES: ReadonlyMap<number, number> = new Map(
  Object.entries({ b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }).map(([letter, character]) => [
    letter.charCodeAt(0),
    character.charCodeAt(0),
  ]),
);
/** What `String.fromCharCode` takes at a time. */
const MOST_UNITS = 8_192;

/** `\u0041` as `A`, and the other escapes of JSON; in one pass, too. */
export function jsonDecoded(text: string): string {
  const first = text.indexOf('\\');
  if (first === -1) return text;
  const units = new Uint16Array(text.length - first);
  let length = 0;
  for (let at = first; at < text.length; ) {
    const unit = text.charCodeAt(at);
    const next = unit === BACKSLASH && at + 1 < text.length ? text.charCodeAt(at + 1) : -1;
    const code = next === -1 ? unit : (next | 0x20) === LETTER_U ? hexOfFour(text, at + 2) : -1;
    units[length++] = code >= 0 ? code : (JSON_ESCAPES.get(next) ?? next);
    at += next === -1 ? 1 : code >= 0 ? 6 : 2;
  }
  let decoded = text.slice(0, first);
  for (let at = 0; at < length; at += MOST_UNITS)
    decoded += String.fromCharCode.apply(
      null,
      units.subarray(at, Math.min(length, at + MOST_UNITS)) as unknown as number[],
    );
  return decoded;
}

/** -1: they are not four digits. */
function hexOfFour(text: string, at: number): number {
  let code = 0;
  for (let i = at; i < at + 4; i++) {
    const digit = i < text.length ? hexDigit(text.charCodeAt(i)) : -1;
    if (digit < 0) return -1;
    code = code * 16 + digit;
  }
  return code;
}

export function decodedMessage(text: string): string {
  return jsonDecoded(text);
}

/** A body as an application reads it, by its type. Without one, or with that of several parts, as it is. */
export function decodedBody(text: string, contentType: string | undefined): string {
  const type = (contentType ?? '').split(';')[0]!.trim().toLowerCase();
  if (type === 'application/x-www-form-urlencoded') return percentDecoded(text.replaceAll('+', ' '));
  return /^application\/(?:[\w.-]+\+)?json$|^text\/json$/.test(type) ? jsonDecoded(text) : text;
}
