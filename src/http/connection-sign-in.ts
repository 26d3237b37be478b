/** By the families of their names: `GSS-Negotiate`, `Nego2` ... The only registered one is `Negotiate` (RFC 4559). */
const SCHEME = /(?:^|,)[ \t]*(?:negotiate|nego|ntlm|kerberos|spnego|gss)[\w!#$%&'*+.^`|~-]*(?=[ \t,]|$)/i;

/** The headers that name a scheme, by their lengths: what most headers cost is one look. */
const NAMES: Readonly<Record<number, string>> = {
  13: 'authorization',
  15: 'persistent-auth',
  16: 'www-authenticate',
  18: 'proxy-authenticate',
};

/**
 * Is a request or an answer part of a sign-in of its connection, and not of itself?
 *
 * Programs that speak NTLM, Negotiate, Kerberos or the like take everything that comes on the connection later for the user's, with credentials or
 * without. So nobody else's request may be sent on it. `Persistent-Auth` ([MS-N2HT] 3.2.5) says so for any scheme, whatever its value.
 *
 * @param rawHeaders name, value, name, value ...
 * @see RFC 9110 §16.4.2, RFC 4559 §6
 */
export function isConnectionSignIn(rawHeaders: readonly string[]): boolean {
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    const wanted = NAMES[name.length];
    if (wanted === undefined || name.toLowerCase() !== wanted) continue;
    if (wanted === 'persistent-auth' || SCHEME.test(rawHeaders[i + 1]!)) return true;
  }
  return false;
}
