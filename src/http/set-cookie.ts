/** A cookie as a browser takes it from a `Set-Cookie` header. */
export interface ReceivedCookie {
  readonly name: string;
  /** Without the double quotes that may surround it, as `parseCookies` gives it when it comes back. */
  readonly value: string;
  /** In lower case, without the dot that it may begin with; empty when there is none. */
  readonly domain: string;
  /** Empty when there is none. */
  readonly path: string;
  /** True when the header takes the cookie away: it has expired already. */
  readonly isExpired: boolean;
}

/** RFC 6265 §5.1.1. */
const DATE_DELIMITERS = /[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+/;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];

/**
 * Reads a `Set-Cookie` header as browsers do: leniently, the last of several equal attributes counts, and what makes no
 * sense is left out.
 *
 * @param now Milliseconds since the Unix epoch.
 * @returns undefined for a header without a name. Never throws.
 * @see RFC 6265 §5.2
 */
export function parseSetCookie(header: string, now: number): ReceivedCookie | undefined {
  const [pair = '', ...attributes] = header.split(';');
  const equals = pair.indexOf('=');
  const name = pair.slice(0, Math.max(0, equals)).trim();
  if (name === '') return undefined;
  const value = pair
    .slice(equals + 1)
    .trim()
    .replace(/^"(.*)"$/, '$1');
  let domain = '';
  let path = '';
  let maxAge: number | undefined;
  let expires: number | undefined;
  for (const attribute of attributes) {
    const [key = '', ...rest] = attribute.split('=');
    const text = rest.join('=').trim();
    switch (key.trim().toLowerCase()) {
      case 'domain':
        domain = text.replace(/^\./, '').toLowerCase();
        break;
      case 'path':
        path = text;
        break;
      case 'max-age':
        if (/^-?\d+$/.test(text)) maxAge = Number(text);
        break;
      case 'expires':
        expires = parseCookieDate(text) ?? expires;
        break;
    }
  }
  // RFC 6265 §5.3: Max-Age counts before Expires.
  const isExpired = maxAge === undefined ? expires !== undefined && expires <= now : maxAge <= 0;
  return { name, value, domain, path, isExpired };
}

/** A date in any of the ways that cookies have them, in milliseconds since the Unix epoch. RFC 6265 §5.1.1. */
function parseCookieDate(text: string): number | undefined {
  let time: RegExpExecArray | undefined;
  let day: number | undefined;
  let month: number | undefined;
  let year: number | undefined;
  for (const token of text.split(DATE_DELIMITERS)) {
    const digits = /^(\d{1,4})(?!\d)/.exec(token)?.[1];
    const clock = /^(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)/.exec(token);
    const monthIndex = MONTHS.indexOf(token.slice(0, 3).toLowerCase());
    if (clock) time ??= clock;
    else if (digits && digits.length <= 2 && day === undefined) day = Number(digits);
    else if (monthIndex >= 0) month ??= monthIndex;
    else if (digits && digits.length >= 2) year ??= Number(digits);
  }
  if (!time || day === undefined || month === undefined || year === undefined) return undefined;
  if (year < 100) year += year < 70 ? 2000 : 1900;
  const [hour, minute, second] = time.slice(1).map(Number) as [number, number, number];
  if (day < 1 || day > 31 || year < 1601 || hour > 23 || minute > 59 || second > 59) return undefined;
  const date = new Date(Date.UTC(year, month, day, hour, minute, second));
  // The 30th of February would be one of March.
  return date.getUTCDate() === day ? date.getTime() : undefined;
}
