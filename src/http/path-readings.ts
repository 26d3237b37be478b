import { decodeBytes, ESCAPES, toBytes } from './path-bytes.ts';
import { compatible, trimBlanks, validUtf8 } from './path-names.ts';

/** What a servlet container takes off each segment: a path parameter, `;jsessionid=…` (RFC 3986 §3.3). */
const PARAMETERS = /;[^/]*/g;
/** Decodings one after the other that a chain of servers may do. */
const MAX_DECODINGS = 3;
/** What a path may cost to be read in every way: readings, and characters of all of them. */
const MAX_READINGS = 300;
const MAX_READ_LENGTH = 32 * 1024;

/**
 * The form of a path that routes are matched on: what the most lenient server reads, as far as servers agree at all.
 *
 * Parameters are taken off each segment (`/app;a=b/x` is `/app/x`), and with them segments that are nothing else. What
 * may stand in a path as it is (`pchar` of RFC 3986 §3.3, but for `;`) is not escaped, everything else is.
 *
 * @param path in normal form (`path.ts`).
 */
export function matchingPath(path: string): string {
  if (!/[^\w\-.~!$&'()*+,=:@/]/.test(path)) return path;
  return escapeAlike(path.replace(PARAMETERS, '').replace(/\/{2,}/g, '/'));
}

/** The segments of a path as they are written, one for each segment of its `matchingPath`. */
export function writtenSegments(path: string): string[] {
  const segments = path.slice(1).split('/');
  return segments.filter((segment, i) => i === segments.length - 1 || !segment.startsWith(';'));
}

/** `;…` of a segment, or nothing. */
export function parametersOf(segment: string): string {
  const start = segment.indexOf(';');
  return start === -1 ? '' : segment.slice(start);
}

/** One way to read a path. */
export interface PathReading {
  /** In the form of `matchingPath`, but with its parameters where the server keeps them. */
  readonly path: string;
  /** Read so by mistake, or by a server that is lax beyond what is usual. */
  readonly isMistaken: boolean;
}

/** From one way to read a path to another; what it does not apply to stays as it is. */
type Step = (text: string) => string;

/** What servers do by design, in any order. */
const USUAL_STEPS: readonly Step[] = [
  resolve,
  // RFC 3986 §5.2.4 removes what stands before a `..`, and that may be an empty segment.
  text => (text.includes('//') ? text.replace(/\/{2,}/g, '/') : text),
  text => (text.includes(';') ? text.replace(PARAMETERS, '') : text),
  text => text.replaceAll('\\', '/'),
  text => cutAt(text, /\0/),
  shortestUtf8,
];

const MISTAKEN_STEPS: readonly Step[] = [
  // All parameters are taken to stand at the end.
  text => cutAt(text, /;/),
  // What was decoded is parsed again: with a query, with an authority before the path, and without line feeds and tabs
  // (WHATWG URL §4.4).
  text => cutAt(text, /[?#]/),
  text => (text.startsWith('//') ? text.replace(/^\/\/+[^/]*/, '') : text),
  text => text.replace(/[\t\n\r]/g, ''),
  // What was decoded is written into the line of a request.
  text => cutAt(text, /[\n\r]/),
  text => (/[\n\r]/.test(text) ? cutAt(text, /[ \n\r]/) : text),
  // Names lose their blanks before dot segments are removed.
  text => (BLANK_AT_AN_END.test(text) ? text.split('/').map(trimBlanks).join('/') : text),
  // Fullwidth letters, dots and slashes become those of ASCII.
  compatible,
  // Bytes that are no characters are left out.
  validUtf8,
];

/** A blank beside a slash, or at the end. */
const BLANK_AT_AN_END = /\/[\0- ]|[\0- ](?:\/|$)/;

/**
 * Everything that a server could take a path for: with parameters or without; cut off at a NUL; decoded up to three
 * times (`%252F`), overlong UTF-8 and the `%u002F` of IIS included; a backslash read as a slash; and dot segments and
 * empty ones removed before or after each of these, or never.
 *
 * Tomcat and Jetty take parameters off before they decode, others after; nginx, Go and WSGI servers decode `%2F` into a
 * slash; behind another proxy a path is decoded twice.
 *
 * @param path in normal form.
 * @param withMistakes Also what only mistakes make of it, `%3F` read as the start of a query for example.
 * @returns undefined when there are too many.
 */
export function pathReadings(path: string, withMistakes: boolean): readonly PathReading[] | undefined {
  const seen = new Set<string>();
  const readings = new Map<string, PathReading>();
  /** By the number of decodings. */
  const found: { text: string; isMistaken: boolean }[][] = Array.from({ length: MAX_DECODINGS + 1 }, () => []);
  let length = 0;
  const isWithinBounds = () => seen.size <= MAX_READINGS && length <= MAX_READ_LENGTH;
  const add = (text: string, decodings: number, isMistaken: boolean): void => {
    if (seen.has(text) || !isWithinBounds()) return;
    seen.add(text);
    length += text.length;
    if (!isWithinBounds()) return;
    found[decodings]!.push({ text, isMistaken });
    const reading = escapeAlike(text);
    if (!readings.has(reading)) readings.set(reading, { path: reading, isMistaken });
  };

  add(path, 0, false);
  // First all that is usual: it counts for more. The lists grow while they are read.
  for (const isMistaken of withMistakes ? [false, true] : [false])
    for (const [decodings, texts] of found.entries())
      for (const { text, isMistaken: wasMistaken } of texts) {
        if (isMistaken) for (const step of MISTAKEN_STEPS) add(step(text), decodings, true);
        if (isMistaken && !wasMistaken) continue;
        for (const step of USUAL_STEPS) add(step(text), decodings, isMistaken);
        if (decodings === MAX_DECODINGS || !text.includes('%')) continue;
        add(decodeBytes(text), decodings + 1, isMistaken);
        add(decodeBytes(decodeWide(text)), decodings + 1, isMistaken);
      }
  return isWithinBounds() ? [...readings.values()] : undefined;
}

function cutAt(text: string, pattern: RegExp): string {
  const start = text.search(pattern);
  return start === -1 ? text : text.slice(0, start);
}

/** `%u0061`, which IIS takes for one character. */
function decodeWide(text: string): string {
  if (!/%u/i.test(text)) return text;
  return text.replace(/%u([0-9a-f]{4})/gi, (_, hex: string) => toBytes(String.fromCharCode(Number.parseInt(hex, 16))));
}

/** A character in two to six bytes (RFC 2279) that has room in fewer. */
const OVERLONG =
  /[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}|\xf8[\x80-\x87][\x80-\xbf]{3}|\xfc[\x80-\x83][\x80-\xbf]{4}/g;

/** A character in more bytes than it has to have is not UTF-8 (RFC 3629 §3), and was read as such all the same. */
function shortestUtf8(text: string): string {
  if (!/[\xc0-\xfc]/.test(text)) return text;
  return text.replace(OVERLONG, bytes => {
    // The first of three bytes and more has no bits of the character then.
    let code = bytes.length === 2 ? bytes.charCodeAt(0) & 1 : 0;
    for (let i = 1; i < bytes.length; i++) code = (code << 6) | (bytes.charCodeAt(i) & 0x3f);
    return code > 0x10_ff_ff ? bytes : toBytes(String.fromCodePoint(code));
  });
}

/** Without dot segments. */
function resolve(text: string): string {
  if (!text.includes('/.')) return text;
  const segments: string[] = [];
  const parts = text.split('/');
  for (let i = 1; i < parts.length; i++) {
    const part = parts[i]!;
    if (part === '..') segments.pop();
    else if (part !== '.') segments.push(part);
    // `/a/.` and `/a/b/..` name the folder, with its slash.
    if (i === parts.length - 1 && (part === '.' || part === '..')) segments.push('');
  }
  return `/${segments.join('/')}`;
}

/** Escapes what a path cannot have as it is, and nothing else; parameters stay. */
function escapeAlike(path: string): string {
  return path.replace(/%[0-9a-f]{2}|[^\w\-.~!$&'()*+,;=:@/]/gi, part => ALIKE.get(part)!);
}

/** Every escape and every character that a path cannot have, in the form of `matchingPath`. */
const ALIKE: ReadonlyMap<string, string> = new Map(
  ESCAPES.flatMap((escapes, code): [string, string][] => {
    const character = String.fromCharCode(code);
    const escaped = escapes.at(-1)!;
    const alike = /[\w\-.~!$&'()*+,=:@]/.test(character) ? character : escaped;
    return [[character, escaped], ...escapes.map((written): [string, string] => [written, alike])];
  }),
);
