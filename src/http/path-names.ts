import { isUtf8 } from 'node:buffer';
import { decodeBytes, toBytes } from './path-bytes.ts';

/**
 * What is left of a row of accents: the time to put them in order grows with the square of their number (UAX #15 §13
 * allows 30).
 */
const ACCENTS = /(\p{M}{1,30})\p{M}*/gu;
/** `name:stream:$TYPE` of NTFS: with a type, it is the file or the folder itself. */
const STREAM_WITH_TYPE = /:[^:]*:\$[a-z_]+$/;

/**
 * What a server that is lax with names takes a path for. Two paths that such a server could take for the same are the
 * same text, which is not a path to be sent.
 *
 * Names are compared without case, in the form of compatibility (NFKC: `ä` in one or two characters, fullwidth letters,
 * the Kelvin sign) and without characters that are not seen, as file systems do; in UTF-8 or Latin-1; without blanks at
 * their ends, which `trim` takes off both, and without dots at the end, with `+` for a blank; and as NTFS does without
 * a stream. Empty names, and with them a slash at the end, are left out.
 *
 * @param path in the form of `matchingPath`.
 */
export function laxPath(path: string): string {
  const names = fold(path.includes('%') ? decode(path) : path)
    .replaceAll('+', ' ')
    .split('/')
    .map(laxName);
  return `/${names.filter(name => name !== '').join('/')}`;
}

function laxName(name: string): string {
  const trimmed = trimEnds(name);
  return trimmed.includes(':$') ? trimEnds(trimmed.replace(STREAM_WITH_TYPE, '')) : trimmed;
}

/** Escaped slashes and percent signs stay: they are other names here, and other paths among the readings. */
function decode(path: string): string {
  const bytes = decodeBytes(path.replace(/%(?=2[5F])/g, '%25'));
  const text = decodeUtf8(bytes);
  // Else each name for itself: one that is not UTF-8 does not make others of it.
  return (
    text ??
    bytes
      .split('/')
      .map(name => decodeUtf8(name) ?? name)
      .join('/')
  );
}

function decodeUtf8(bytes: string): string | undefined {
  const buffer = Buffer.from(bytes, 'latin1');
  return isUtf8(buffer) ? buffer.toString() : undefined;
}

/** By way of upper case: `ı` and `ß` have other letters there, and are `i` and `ss` to those who compare in it. */
function fold(path: string): string {
  if (/^[\0-\x7f]*$/.test(path)) return path.toLowerCase();
  const seen = path.replace(/\p{Default_Ignorable_Code_Point}+/gu, '');
  const folded = toCompatible(seen).toLowerCase().toUpperCase().toLowerCase();
  return folded.normalize('NFKC').replaceAll('i\u0307', 'i');
}

function toCompatible(text: string): string {
  return text.replace(ACCENTS, '$1').normalize('NFKC');
}

/**
 * Without blanks at both ends. Not by an expression: one that is anchored at the end would be tried at each blank of a
 * long row.
 */
export function trimBlanks(name: string): string {
  let start = 0;
  while (start < name.length && isBlank(name, start)) start++;
  let end = name.length;
  while (end > start && isBlank(name, end - 1)) end--;
  return name.slice(start, end);
}

/** Without dots at the end as well. */
function trimEnds(name: string): string {
  let end = name.length;
  while (end > 0 && (name[end - 1] === '.' || isBlank(name, end - 1))) end--;
  return trimBlanks(name.slice(0, end));
}

/** Control characters are blanks to Java, U+0085 to .NET and Python, the others of Unicode to all that trim. */
function isBlank(name: string, at: number): boolean {
  const code = name.charCodeAt(at);
  return code <= 0x20 || code === 0x7f || code === 0x85 || (code >= 0xa0 && /\s/.test(name[at]!));
}

/**
 * The form of compatibility (NFKC), in which `／` and `．．` are `/` and `..`, of a text with a character for each byte of
 * UTF-8.
 */
export function compatible(bytes: string): string {
  return /[\xc2-\xf4]/.test(bytes) ? toBytes(toCompatible(Buffer.from(bytes, 'latin1').toString())) : bytes;
}

/** The same without the bytes that are no UTF-8. */
export function validUtf8(bytes: string): string {
  return /[\x80-\xff]/.test(bytes) ? toBytes(Buffer.from(bytes, 'latin1').toString().replaceAll('\ufffd', '')) : bytes;
}
