/**
 * By the families of their names: `GSS-Negotiate`, `Nego2`, `CredSSP` ... The only registered one is `Negotiate` (RFC
 * 4559).
 */
const FAMILY = "(?:(?:nego|ntlm|kerberos|spnego|gss|pku2u)[\\w!#$%&'*+.^`|~-]*|[a-z0-9]+ssp)";
/** Somewhere in a value, also where a careless reader alone would take it for a scheme. */
const SCHEME = new RegExp(`(?:^|,)[ \\t]*${FAMILY}(?=[ \\t,]|$)`, 'i');
const SCHEME_NAME = new RegExp(`^${FAMILY}$`, 'i');
/** Each of them proves the one request that it comes with. */
const ONE_REQUEST = /^(?:basic|bearer|digest)$/i;

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
 * Programs that speak NTLM, Negotiate, Kerberos or the like take everything that comes on the connection later for the
 * user's, with credentials or without. So no other client's request may be sent on it. `Persistent-Auth` ([MS-N2HT]
 * 3.2.5) says so for any scheme, whatever its value.
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

/**
 * An answer that asks for a sign-in, for a client whose connection cannot be signed in: without the challenges that
 * need it.
 *
 * @param rawHeaders name, value, name, value ...
 * @returns undefined when no other challenge is left.
 * @see RFC 9110 §11.6.1
 */
export function withoutConnectionSignIn(rawHeaders: readonly string[]): string[] | undefined {
  const isPersistent = rawHeaders.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'persistent-auth');
  const isOfConnection = (scheme: string) => SCHEME_NAME.test(scheme) || (isPersistent && !ONE_REQUEST.test(scheme));
  let hasOther = false;
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name, value] = [rawHeaders[i]!, rawHeaders[i + 1]!];
    const lower = name.toLowerCase();
    if (lower === 'persistent-auth') continue;
    if (lower !== 'www-authenticate') {
      kept.push(name, value);
      continue;
    }
    const others = challengesIn(value).filter(({ scheme }) => !isOfConnection(scheme));
    if (others.length === 0) continue;
    hasOther = true;
    kept.push(name, others.map(({ text }) => text).join(', '));
  }
  return hasOther ? kept : undefined;
}

/** What stands between commas that are not in quotes. */
const ELEMENT = /(?:"(?:[^"\\]|\\.)*(?:"|$)|[^",])+/g;
/** A scheme, with what belongs to it behind it; a parameter has `=` there. */
const CHALLENGE = /^([\w!#$%&'*+.^`|~-]+)(?:[ \t]+(?![ \t=])|$)/;

/**
 * The challenges of a value, each with its parameters as they were written. What stands before the first scheme has
 * none.
 */
function challengesIn(value: string): { readonly scheme: string; text: string }[] {
  const challenges: { readonly scheme: string; text: string }[] = [];
  for (const [element] of value.matchAll(ELEMENT)) {
    const text = element.trim();
    if (text === '') continue;
    const scheme = CHALLENGE.exec(text)?.[1];
    const last = challenges.at(-1);
    if (scheme === undefined && last !== undefined) last.text += `, ${text}`;
    else challenges.push({ scheme: scheme ?? '', text });
  }
  return challenges;
}
