import { HoldfastError } from '../base/errors.ts';

/** The head of an HTTP/1 response. */
export interface ResponseHead {
  readonly status: number;
  /** `''` when there is none. */
  readonly statusMessage: string;
  readonly isHttp10: boolean;
  /** Name, value, name, value ... as received, without the white space around values. */
  readonly rawHeaders: readonly string[];
}

/** For a head and for trailers, where nothing else is said. */
export const MAX_HEAD_BYTES = 64 * 1024;
/** More than any server sends; each costs memory beside its bytes. */
const MAX_FIELDS = 1000;

const STATUS_LINE = /HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n/y;
/**
 * RFC 9110 §5.1, §5.5. No white space before the colon, and a line of its own: what folds a line begins with white
 * space.
 */
const FIELD_LINE = /([!#$%&'*+.^`|~\w-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)\r\n/y;

/** @param text Of which the first line is there as a whole. */
export function beginsWithStatusLine(text: string): boolean {
  STATUS_LINE.lastIndex = 0;
  return STATUS_LINE.test(text);
}

/**
 * Reads the head of an HTTP/1 response (RFC 9112 §4, §5), strictly: what other recipients might read in another way is
 * malformed. That is a bare line feed or carriage return, a folded line, white space before a colon, NUL and other
 * control characters.
 *
 * @param text The whole head with the empty line that ends it, one character for each byte.
 * @throws {HoldfastError} ERR_HTTP_BAD_RESPONSE
 */
export function parseResponseHead(text: string): ResponseHead {
  STATUS_LINE.lastIndex = 0;
  const line = STATUS_LINE.exec(text);
  if (line === null) throw malformed('it does not begin with the status line of HTTP/1');
  return {
    status: Number(line[2]),
    statusMessage: line[3] ?? '',
    isHttp10: line[1] === '0',
    rawHeaders: parseFields(text, STATUS_LINE.lastIndex),
  };
}

/**
 * Reads header or trailer fields up to the empty line that ends them: name, value, name, value ...
 *
 * @throws {HoldfastError} ERR_HTTP_BAD_RESPONSE
 */
export function parseFields(text: string, start: number): string[] {
  const fields: string[] = [];
  const last = text.length - 2;
  let at = start;
  while (at < last) {
    FIELD_LINE.lastIndex = at;
    const field = FIELD_LINE.exec(text);
    if (field === null) throw malformed('it has a line that is not a header field');
    if (fields.length === MAX_FIELDS * 2) throw malformed(`it has more than ${MAX_FIELDS} header fields`);
    fields.push(field[1]!, withoutEndingSpace(field[2]!));
    at = FIELD_LINE.lastIndex;
  }
  return fields;
}

/** Lower-case names; repeated headers joined with `, `. */
export function joinHeaders(rawHeaders: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    headers[name] = headers[name] === undefined ? rawHeaders[i + 1]! : `${headers[name]}, ${rawHeaders[i + 1]}`;
  }
  return headers;
}

/** Takes headers out of a list of name, value, name, value ... @param isRemoved Gets names in lower case. */
export function removeHeaders(rawHeaders: string[], isRemoved: (name: string, value: string) => boolean): void {
  let end = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (isRemoved(rawHeaders[i]!.toLowerCase(), rawHeaders[i + 1]!)) continue;
    rawHeaders[end++] = rawHeaders[i]!;
    rawHeaders[end++] = rawHeaders[i + 1]!;
  }
  rawHeaders.length = end;
}

/** Of a response that is not one, or that ends where it cannot be known. */
export function malformed(what: string): HoldfastError {
  return new HoldfastError('ERR_HTTP_BAD_RESPONSE', `the response cannot be read: ${what}`);
}

/** `trimEnd` takes characters for white space that HTTP does not. */
function withoutEndingSpace(value: string): string {
  let end = value.length;
  while (end > 0 && (value.charCodeAt(end - 1) === 0x20 || value.charCodeAt(end - 1) === 0x09)) end--;
  return end === value.length ? value : value.slice(0, end);
}
