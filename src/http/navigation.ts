import type { IncomingHttpHeaders } from 'node:http';
import { preferredMediaType } from './media.ts';

/**
 * True when a person opens a page: the only requests that create a session by themselves. Takes a `RequestHead` or an
 * `IncomingMessage`.
 *
 * Browsers say so with `Sec-Fetch-Dest: document`, which page scripts cannot set (frames, images and fetches say
 * something else). Where the header is missing (old browsers, plain http), a GET that likes `text/html` best counts.
 *
 * @see Fetch Metadata Request Headers §2.1
 *
 * @example
 * import { isDocumentNavigation } from 'holdfast/session';
 *
 * console.log(isDocumentNavigation({ method: 'GET', headers: { 'sec-fetch-dest': 'document' } })); // true
 */
export function isDocumentNavigation(request: {
  readonly method?: string | undefined;
  readonly headers: Readonly<Pick<IncomingHttpHeaders, 'accept' | 'sec-fetch-dest'>>;
}): boolean {
  const { method, headers } = request;
  const destination = headers['sec-fetch-dest'];
  if (destination !== undefined) return destination === 'document';
  return method === 'GET' && preferredMediaType(headers.accept) === 'text/html';
}

/**
 * True when a browser asks whether a page of another site may send a request (CORS). It comes without cookies, and
 * nothing that its answer sets is kept.
 *
 * @see Fetch §4.8
 *
 * @example
 * import { isPreflight } from 'holdfast/session';
 *
 * const headers = { 'access-control-request-method': 'PUT' };
 * console.log(isPreflight({ method: 'OPTIONS', headers })); // true
 */
export function isPreflight(request: {
  readonly method?: string | undefined;
  readonly headers: Readonly<IncomingHttpHeaders>;
}): boolean {
  return request.method === 'OPTIONS' && request.headers['access-control-request-method'] !== undefined;
}
