import { forwardedHeaders } from '../http/forwarded-headers.ts';
import { endToEndHeaders, withoutOwned } from '../http/hop-by-hop.ts';
import type { RequestHead } from '../http/request-head.ts';

/** What a backend learns about the session beside the request itself. */
export interface BackendIdentity {
  /** Name of the header that carries the `sid`. */
  readonly sessionHeader: string;
  /** The `sid` of the live session; undefined when there is none, and then the header is not sent at all. */
  readonly sid: string | undefined;
  /** Name of our session cookie, which stays with us because it holds the secret; undefined when there are no sessions. */
  readonly sessionCookieName: string | undefined;
}

/**
 * The headers of a request as a backend gets them: name, value, name, value ...
 *
 * The order of the steps is what makes it safe. What the client's `Connection` header names goes first, so that a client
 * cannot have our own headers removed by naming them there; then every client copy of a header that is ours; then ours are set.
 */
export function backendRequestHeaders(head: RequestHead, identity: BackendIdentity): string[] {
  const forwarded = forwardedHeaders(head);
  const owned = ['Host', identity.sessionHeader];
  for (let i = 0; i < forwarded.length; i += 2) owned.push(forwarded[i]!);

  const passed = withoutOwned(endToEndHeaders(head.rawHeaders), owned);
  // The client's Host is kept: backends compare it with Origin and build links from it.
  const headers = ['Host', head.host];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    const value =
      identity.sessionCookieName !== undefined && name.length === 6 && name.toLowerCase() === 'cookie'
        ? withoutCookie(passed[i + 1]!, identity.sessionCookieName)
        : passed[i + 1]!;
    if (value !== undefined) headers.push(name, value);
  }
  headers.push(...forwarded);
  if (identity.sid !== undefined) headers.push(identity.sessionHeader, identity.sid);
  return headers;
}

/**
 * The headers of a backend's response as the client gets them: name, value, name, value ...
 *
 * A backend sets every cookie but ours, and `Holdfast-Session` is a message to us only.
 */
export function clientResponseHeaders(rawHeaders: readonly string[], sessionCookieName: string | undefined): string[] {
  const passed = endToEndHeaders(rawHeaders);
  const headers: string[] = [];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    const lower = name.toLowerCase();
    if (lower === 'holdfast-session') continue;
    if (lower === 'set-cookie' && sessionCookieName !== undefined && cookieName(passed[i + 1]!) === sessionCookieName)
      continue;
    headers.push(name, passed[i + 1]!);
  }
  return headers;
}

/** Removes one cookie from a `Cookie` header, letter for letter the rest; undefined when nothing remains. */
function withoutCookie(header: string, name: string): string | undefined {
  if (!header.includes(name)) return header;
  const kept = header.split(';').filter(pair => cookieName(pair) !== name);
  const text = kept.join(';').trim();
  return text === '' ? undefined : text;
}

/** RFC 6265 §5.2: the name ends at the first `=`, and white space around it does not count. */
function cookieName(pair: string): string {
  const equals = pair.indexOf('=');
  return equals < 0 ? '' : pair.slice(0, equals).trim();
}
