const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** RFC 9110 §5.6.2: what header names, cookie names, subprotocols and extension names are made of. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** RFC 9110 §5.5: no control characters but the tab; CR and LF would begin a header of their own. */
export function isFieldValue(text: string): boolean {
  return FIELD_VALUE.test(text);
}

/**
 * True when a header that is a comma-separated list (RFC 9110 §5.6.1) names this token; `token` in lower case, the
 * header in any.
 */
export function hasToken(header: string | undefined, token: string): boolean {
  return header?.split(',').some(item => item.trim().toLowerCase() === token) ?? false;
}
