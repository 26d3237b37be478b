import type { IncomingHttpHeaders } from 'node:http';
import { isOriginOf, parseOrigin, type RequestPlace } from './origin.ts';

/**
 * Whose page has made the browser send a request: one of the same site (`own`, also when there was no page), or one of
 * another. `opaque`: a page that does not say where it is (`Origin: null`), which may be a sandboxed one of another
 * site or one of ours under `Referrer-Policy: no-referrer`. `unknown`: nothing is said, as by programs, and by browsers
 * over plain http where they send no `Origin`.
 */
export type RequestSite = 'own' | 'other' | 'opaque' | 'unknown';

const OWN: ReadonlySet<string> = new Set(['same-origin', 'same-site', 'none']);
/** RFC 9110 §9.2.1. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/**
 * By `Sec-Fetch-Site`, which no page can set. Where the header is missing (old browsers, plain http), an `Origin` that
 * is not that of the place the request came to is another site's.
 *
 * @see Fetch Metadata Request Headers §2.4
 *
 * @example
 * import { requestSite } from 'holdfast/session';
 *
 * const here = { host: 'shop.example', isSecure: true, isSchemeKnown: true };
 * console.log(requestSite({ 'sec-fetch-site': 'cross-site' }, here)); // other
 */
export function requestSite(headers: IncomingHttpHeaders, place: RequestPlace): RequestSite {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return typeof site === 'string' && OWN.has(site) ? 'own' : 'other';
  if (headers.origin === undefined) return 'unknown';
  if (headers.origin === 'null') return 'opaque';
  const origin = parseOrigin(headers.origin);
  return origin && isOriginOf(origin, place) ? 'own' : 'other';
}

/**
 * True when browsers may send no `SameSite=Lax` cookie with such a request, although they have one (rfc6265bis §5.8.3).
 */
export function hidesLaxCookies(method: string, site: RequestSite): boolean {
  return (site === 'other' || site === 'opaque') && !SAFE.has(method);
}
