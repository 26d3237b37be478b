/** What a servlet container takes off each segment: a path parameter, `;jsessionid=…` (RFC 3986 §3.3). */
const PARAMETERS = /;[^/]*/g;
/** Decodings one after the other that a chain of servers may do. */
const MAX_DECODINGS = 3;
/** What a path may cost to be read in every way: readings, and characters of all of them. */
const MAX_READINGS = 100;
const MAX_READ_LENGTH = 32 * 1024;

/**
 * The form of a path that routes are matched on: what the most lenient server reads, as far as servers agree at all.
 *
 * Parameters are taken off each segment (`/app;a=b/x` is `/app/x`), and with them segments that are nothing else. What may stand in a path as it is
 * (`pchar` of RFC 3986 §3.3, but for `;`) is not escaped, everything else is.
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

/**
 * Everything that a server could take a path for: with parameters or without, cut off at the first one or at a NUL, decoded up to three times (`%252F`),
 * overlong UTF-8 included, a backslash read as a slash, and dot segments and empty ones removed before or after each of these, or never.
 *
 * Tomcat and Jetty take parameters off before they decode, others after; nginx, Go and WSGI servers decode `%2F` into a slash; behind
 * another proxy a path is decoded twice.
 *
 * @param path in normal form.
 * @returns paths in the form of `matchingPath`, but for parameters of those that keep them; undefined when there are too many.
 */
export function pathReadings(path: string): ReadonlySet<string> | undefined {
  const readings = new Set<string>();
  const seen = new Set<string>();
  let length = 0;
  const read = (text: string, decodings: number): void => {
    if (seen.has(text)) return;
    seen.add(text);
    length += text.length;
    if (seen.size > MAX_READINGS || length > MAX_READ_LENGTH) return;
    readings.add(escapeAlike(text));
    read(resolve(text), decodings);
    // RFC 3986 §5.2.4 removes what stands before a `..`, and that may be an empty segment.
    if (text.includes('//')) read(text.replace(/\/{2,}/g, '/'), decodings);
    if (text.includes(';')) {
      read(text.replace(PARAMETERS, ''), decodings);
      read(text.slice(0, text.indexOf(';')), decodings);
    }
    if (text.includes('\\')) read(text.replaceAll('\\', '/'), decodings);
    if (text.includes('\0')) read(text.slice(0, text.indexOf('\0')), decodings);
    if (decodings === MAX_DECODINGS || !text.includes('%')) return;
    const decoded = decode(text);
    read(decoded, decodings + 1);
    read(decodeOverlong(decoded), decodings + 1);
  };
  read(path, 0);
  return seen.size > MAX_READINGS || length > MAX_READ_LENGTH ? undefined : readings;
}

/** What a server that is lax with names takes a path for: without case, without a slash at its end, without dots and blanks at the end of segments. */
export function laxPath(path: string): string {
  const segments = path.toLowerCase().split('/').map(trimEnd);
  return `/${segments.filter(segment => segment !== '').join('/')}`;
}

/** Not by an expression: one that is anchored at the end would be tried at each dot of a long row. */
function trimEnd(segment: string): string {
  let end = segment.length;
  for (;;) {
    if (segment.endsWith('.', end)) end--;
    else if (segment.endsWith('%20', end) || segment.endsWith('%09', end)) end -= 3;
    else return segment.slice(0, end);
  }
}

/** One character for each byte. */
function decode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** ASCII in two or three bytes is no UTF-8 (RFC 3629 §3), and was read as such all the same. */
function decodeOverlong(text: string): string {
  return text.replace(/[\xc0\xc1][\x80-\xbf]|\xe0[\x80\x81][\x80-\xbf]/g, bytes => {
    const lead = bytes.length === 2 ? bytes.charCodeAt(0) & 0x1f : bytes.charCodeAt(1) & 0x3f;
    return String.fromCharCode(((lead << 6) | (bytes.charCodeAt(bytes.length - 1) & 0x3f)) & 0x7f);
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
  return path.replace(/%([0-9a-f]{2})|[^\w\-.~!$&'()*+,;=:@/]/gi, (part, hex: string | undefined) => {
    const code = hex === undefined ? part.charCodeAt(0) : Number.parseInt(hex, 16);
    const character = String.fromCharCode(code);
    if (hex !== undefined && /[\w\-.~!$&'()*+,=:@]/.test(character)) return character;
    return `%${code.toString(16).toUpperCase().padStart(2, '0')}`;
  });
}
