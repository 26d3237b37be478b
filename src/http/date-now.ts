/** The value of `Date` in an answer that is made now (RFC 9110 §6.6.1), where Node does not write it. */
export function dateNow(): string {
  return new Date().toUTCString();
}
