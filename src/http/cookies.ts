import { isToken } from './token.ts';

/** One pair of a `Cookie` header. */
export interface Cookie {
  readonly name: string;
  readonly value: string;
}

/** What a `Set-Cookie` header says. Times are seconds, as on the wire. */
export interface SetCookie {
  readonly name: string;
  readonly value: string;
  /** Absent: the host that answered, without its subdomains. */
  readonly domain?: string;
  /** Absent: the folder of the request's path. */
  readonly path?: string;
  /** Seconds; 0 deletes the cookie. Absent: until the browser closes. */
  readonly maxAge?: number;
  readonly secure?: boolean;
  readonly httpOnly?: boolean;
  readonly sameSite?: 'strict' | 'lax' | 'none';
  /** One for each site whose pages it is used within (CHIPS: draft-cutler-httpbis-partitioned-cookies §2.1). */
  readonly partitioned?: boolean;
}

const COOKIE_OCTETS = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/; // RFC 6265 §4.1.1
const PATH_OCTETS = /^\/[\x20-\x3a\x3c-\x7e]*$/;
const DOMAIN = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/i;
const SAME_SITE = { strict: 'Strict', lax: 'Lax', none: 'None' } as const;
const MAX_PAIR_BYTES = 4096; // rfc6265bis §5.6: browsers drop a longer name and value
const SPACE = 0x20;
const TAB = 0x09;
const QUOTE = 0x22;

/**
 * Every cookie of a `Cookie` header in the order sent, duplicates included (RFC 6265 §5.4).
 *
 * Values are as on the wire, without the double quotes that may surround them: nothing is percent-decoded. A part
 * without `=` is skipped. Never throws.
 */
export function parseCookies(header: string | undefined): Cookie[] {
  const cookies: Cookie[] = [];
  if (!header) return cookies;
  for (let start = 0; start < header.length; ) {
    const semicolon = header.indexOf(';', start);
    const end = semicolon === -1 ? header.length : semicolon;
    const equals = header.indexOf('=', start);
    if (equals !== -1 && equals < end) {
      const name = trim(header, start, equals);
      if (name !== '') cookies.push({ name, value: unquote(trim(header, equals + 1, end)) });
    }
    start = end + 1;
  }
  return cookies;
}

/** The values of the cookies with exactly this name (case counts), in the order sent, at most `limit`. */
export function cookieValues(header: string | undefined, name: string, limit = Number.POSITIVE_INFINITY): string[] {
  const values: string[] = [];
  if (!header?.includes(name)) return values;
  for (const cookie of parseCookies(header)) {
    if (cookie.name !== name) continue;
    if (values.length === limit) break;
    values.push(cookie.value);
  }
  return values;
}

/**
 * A `Set-Cookie` header value.
 *
 * @throws {TypeError} when a browser would refuse or misread the cookie: a name or value outside RFC 6265 §4.1.1, more
 * than 4096 bytes, `SameSite=None` or `Partitioned` without `Secure`, or a `__Host-` / `__Secure-` name without what it promises
 * (rfc6265bis §4.1.3).
 */
export function serializeSetCookie(cookie: SetCookie): string {
  checkSetCookie(cookie);
  let header = `${cookie.name}=${cookie.value}`;
  if (cookie.maxAge !== undefined) header += `; Max-Age=${cookie.maxAge}`;
  if (cookie.domain !== undefined) header += `; Domain=${cookie.domain}`;
  if (cookie.path !== undefined) header += `; Path=${cookie.path}`;
  if (cookie.secure) header += '; Secure';
  if (cookie.httpOnly) header += '; HttpOnly';
  if (cookie.sameSite) header += `; SameSite=${SAME_SITE[cookie.sameSite]}`;
  if (cookie.partitioned) header += '; Partitioned';
  return header;
}

function checkSetCookie(cookie: SetCookie): void {
  const { name, value, domain, path, maxAge } = cookie;
  const fail = (why: string): never => {
    throw new TypeError(`cookie ${JSON.stringify(name)}: ${why}`);
  };
  if (!isToken(name)) fail('the name must be an HTTP token (RFC 9110 §5.6.2)');
  if (!COOKIE_OCTETS.test(value)) fail('the value must be ASCII without space, quote, comma, semicolon or backslash');
  if (name.length + value.length > MAX_PAIR_BYTES) fail(`name and value are longer than ${MAX_PAIR_BYTES} bytes`);
  if (path !== undefined && !isCookiePath(path)) fail(`not a path: ${JSON.stringify(path)}; it starts with "/"`);
  if (domain !== undefined && !isCookieDomain(domain)) fail(`not a domain: ${JSON.stringify(domain)}`);
  if (maxAge !== undefined && !Number.isSafeInteger(maxAge)) fail(`max age must be whole seconds, not ${maxAge}`);
  if (cookie.sameSite === 'none' && !cookie.secure) fail('SameSite=None needs Secure');
  if (cookie.partitioned && !cookie.secure) fail('Partitioned needs Secure');
  const needs = prefixOf(name);
  if (needs && !cookie.secure) fail(`the prefix ${needs} needs Secure, hence https`);
  if (path === undefined ? needs === '__Host-' : hostPrefixConflict(cookie))
    fail('the prefix __Host- needs Path=/ and no Domain');
}

/** Can a `Set-Cookie` have this `Path`? Printable ASCII without `;` that begins with `/`. */
export function isCookiePath(text: string): boolean {
  return PATH_OCTETS.test(text);
}

/** Can a `Set-Cookie` have this `Domain`? Labels of letters, digits and `-`, without a dot in front. */
export function isCookieDomain(text: string): boolean {
  return DOMAIN.test(text);
}

/**
 * What a cookie has that browsers do not take with a `__Host-` name: a domain, or another path than `/` (rfc6265bis
 * §4.1.3.2). Undefined when its name or its place is another.
 *
 * @param cookie Left out, its path is `/`.
 */
export function hostPrefixConflict(cookie: {
  readonly name: string;
  readonly domain?: unknown;
  readonly path?: unknown;
}): 'domain' | 'path' | undefined {
  if (prefixOf(cookie.name) !== '__Host-') return undefined;
  if (cookie.domain !== undefined) return 'domain';
  return cookie.path === undefined || cookie.path === '/' ? undefined : 'path';
}

/** The prefix that binds a cookie name to rules of the browser, which compares it without regard to case. */
export function prefixOf(name: string): '__Host-' | '__Secure-' | undefined {
  if (/^__host-/i.test(name)) return '__Host-';
  if (/^__secure-/i.test(name)) return '__Secure-';
  return undefined;
}

function trim(text: string, start: number, end: number): string {
  while (start < end && isSpace(text.charCodeAt(start))) start++;
  while (end > start && isSpace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isSpace(code: number): boolean {
  return code === SPACE || code === TAB;
}

function unquote(value: string): string {
  const isQuoted = value.length >= 2 && value.charCodeAt(0) === QUOTE && value.charCodeAt(value.length - 1) === QUOTE;
  return isQuoted ? value.slice(1, -1) : value;
}
