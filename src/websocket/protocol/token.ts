const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** RFC 9110 §5.6.2: what header names, subprotocols and extension names are made of. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}
