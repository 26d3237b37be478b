import { isToken } from '../../http/token.ts';

/** One element of a `Sec-WebSocket-Extensions` header. */
export interface Extension {
  readonly name: string;
  /** Values as text, without quotes; true for a parameter without a value. */
  readonly params: ReadonlyMap<string, string | true>;
}

/**
 * Reads a `Sec-WebSocket-Extensions` header (RFC 6455 §9.1), elements in their order.
 *
 * An element that is malformed, or names a parameter twice, is undefined in the result: the elements of an offer are
 * alternatives, so a bad one says nothing about the others.
 */
export function parseExtensions(header: string): (Extension | undefined)[] {
  return splitOutsideQuotes(header, ',')
    .filter(element => element !== '')
    .map(parseExtension);
}

function parseExtension(element: string): Extension | undefined {
  const [name, ...texts] = splitOutsideQuotes(element, ';');
  if (name === undefined || !isToken(name)) return undefined;
  const params = new Map<string, string | true>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const key = equals < 0 ? text : text.slice(0, equals).trimEnd();
    const value = equals < 0 ? true : unquote(text.slice(equals + 1).trimStart());
    // RFC 6455 §9.1: a quoted value must be a token, too, once it is unquoted.
    if (!isToken(key) || params.has(key) || (value !== true && !isToken(value))) return undefined;
    params.set(key, value);
  }
  return { name, params };
}

function unquote(value: string): string {
  if (value.length < 2 || !value.startsWith('"') || !value.endsWith('"')) return value;
  return value.slice(1, -1).replace(/\\(.)/g, '$1');
}

/** The trimmed parts between separators. A quote that is never closed reaches to the end. */
function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') quoted = !quoted;
    else if (character === '\\' && quoted) at++;
    else if (character === separator && !quoted) {
      parts.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}
