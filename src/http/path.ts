/** What is taken besides, for a route whose application needs it. */
export interface PathTolerance {
  /** Slashes that follow each other stay as they are. */
  readonly keepsSlashes?: boolean;
  /** `%5C` is taken. A backslash as it is never is. */
  readonly takesBackslash?: boolean;
}

const UNRESERVED = /[A-Za-z0-9._~-]/;
// What normalisation leaves as it is: no escape, no empty segment, no segment that begins with a dot, printable ASCII
// only.
const ALREADY_NORMAL = /^(?:\/(?![./])[\x21\x22\x24\x26-\x2e\x30-\x5b\x5d-\x7e]*)+$/;

/**
 * Brings a path into the one form that decisions are made on, so that no spelling of a path walks around a route or a
 * policy.
 *
 * Escapes of unreserved characters are decoded and the others upper-cased (RFC 3986 §6.2.2), runs of `/` become one,
 * dot segments are removed (§5.2.4), bytes outside ASCII are escaped. `%2F` stays escaped: it is data within a segment,
 * not a separator.
 *
 * @param path begins with `/`, without the query; one character per byte, as Node's parser gives it.
 * @returns undefined when the path cannot be trusted: an incomplete escape, a NUL, a control character, a backslash
 * (some backends read it as `/`), a `#`, or a dot segment with a parameter (`/..;x/`, a dot segment to servlet
 * containers only).
 */
export function normalizePath(path: string, tolerance: PathTolerance = {}): string | undefined {
  if (ALREADY_NORMAL.test(path)) return path;
  const { keepsSlashes = false, takesBackslash = false } = tolerance;
  const decoded = decodeUnreserved(path, takesBackslash);
  if (decoded === undefined) return undefined;
  const segments: string[] = [];
  const parts = decoded.split('/');
  for (let i = 1; i < parts.length; i++) {
    const part = parts[i]!;
    const isLast = i === parts.length - 1;
    if (/^\.\.?;/.test(part)) return undefined;
    if (part === '..') segments.pop();
    else if (part !== '.' && (part !== '' || (keepsSlashes && !isLast))) segments.push(part);
    // `/a/`, `/a/.` and `/a/b/..` name the folder, with its slash.
    if (isLast && (part === '' || part === '.' || part === '..')) segments.push('');
  }
  return `/${segments.join('/')}`;
}

function decodeUnreserved(path: string, takesBackslash: boolean): string | undefined {
  let out = '';
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 0x25) {
      const hex = path.slice(i + 1, i + 3);
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) return undefined;
      const value = Number.parseInt(hex, 16);
      if (value === 0 || (value === 0x5c && !takesBackslash)) return undefined;
      const character = String.fromCharCode(value);
      out += UNRESERVED.test(character) ? character : `%${hex.toUpperCase()}`;
      i += 2;
    } else if (code <= 0x20 || code === 0x7f || code === 0x23 || code === 0x5c || code > 0xff) {
      return undefined;
    } else {
      out += code < 0x80 ? path[i] : `%${code.toString(16).toUpperCase()}`;
    }
  }
  return out;
}
