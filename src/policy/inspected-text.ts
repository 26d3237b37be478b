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
  return text.replace(/(?:%[0-9a-f]{2})+/gi, escapes => Buffer.from(escapes.replaceAll('%', ''), 'hex').toString());
}

const JSON_ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

/** `\u0041` as `A`, and the other escapes of JSON. */
export function jsonDecoded(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\(?:u([0-9a-f]{4})|([\s\S]))/gi, (_, code: string | undefined, other: string | undefined) =>
    code === undefined ? (JSON_ESCAPES[other!] ?? other!) : String.fromCharCode(Number.parseInt(code, 16)),
  );
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
