import { forwardedHeaders, THROUGH_HEADER } from '../../http/forwarded-headers.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { headerName } from '../../http/header-name.ts';
import { endToEndHeaders, foldNames, passedHeaders, withoutOwned } from '../../http/hop-by-hop.ts';
import { joinHeaders, type ResponseHead } from '../../http/response-head.ts';
import { throughHeader } from '../routing/loop.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { BackendExchange } from './exchange.ts';
import { countedDown, countsForwards } from './max-forwards.ts';
import type { Rewriting } from './rewriting.ts';

/**
 * The headers of a request as a backend gets them: name, value, name, value ...
 *
 * The order of the steps is what makes it safe. What the client's `Connection` header names goes first, so that a
 * client cannot have our own headers removed by naming them there; then every client copy of a header that is ours, and
 * what only another server may say; then ours are set.
 *
 * @param added What the session adds.
 */
export function backendRequestHeaders(
  { head, sid, upstream, urlClient }: BackendExchange,
  rewriting: Rewriting,
  added: readonly HeaderLine[] = [],
): string[] {
  const { identity, own } = upstream;
  let owned = upstream.ownedHeaders;
  // All that we say of users is owned already; what a service says of them need not be.
  if (added.some(({ name }) => !owned.has(headerName(name).folded)))
    owned = new Set([...owned, ...foldNames(added.map(({ name }) => name))]);
  const passed = passedHeaders(head.rawHeaders, owned);
  const isCountedDown = countsForwards(head.method);
  const isForPage = urlClient?.rewriter !== undefined;
  // The client's Host is kept: backends compare it with Origin and build links from it. HTTP/1.1 needs one, as our own
  // checks have it.
  const headers = ['Host', head.host || 'localhost'];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    if (!identity.clientHeaders.passes(name, head.isPeerTrusted)) continue;
    if (isForPage && NOT_FOR_PAGES.has(headerName(name).lower)) continue;
    const value =
      name.length === 6 && name.toLowerCase() === 'cookie'
        ? rewriting.cookiesToBackend(passed[i + 1]!)
        : isCountedDown && name.toLowerCase() === 'max-forwards'
          ? countedDown(passed[i + 1]!)
          : passed[i + 1]!;
    if (value !== undefined) headers.push(name, value);
  }
  if (isForPage) headers.push('Accept-Encoding', 'identity');
  headers.push(...forwardedHeaders(head));
  if (own.requestIds?.header !== undefined && head.requestId !== undefined)
    headers.push(own.requestIds.header, head.requestId);
  if (own.instance !== undefined) headers.push(THROUGH_HEADER, throughHeader(head, own.instance));
  if (sid !== undefined) headers.push(identity.sessionHeader, sid);
  for (const { name, value } of added) headers.push(name, value);
  return headers;
}

/**
 * The headers of a backend's response as the client gets them, of a request as well as of a handshake: name, value, name,
 * value ...
 *
 * A backend sets every cookie and header but ours; `Holdfast-Session` is a message to us only, `Holdfast-Reason` and
 * `Holdfast-Url-Ticket` are ours. Links and cookies are those of the public side. `Upgrade` is there in a 426 alone, and then `Connection` must
 * name it.
 */
export function clientResponseHeaders(
  { status, rawHeaders }: Pick<ResponseHead, 'status' | 'rawHeaders'>,
  { own }: Upstream,
  rewriting: Rewriting,
): string[] {
  const endToEnd = endToEndHeaders(rawHeaders);
  // RFC 9110 §8.6: not in what never has a body. A client of HTTP/2 takes it for a violation.
  const passed = status < 200 || status === 204 ? withoutOwned(endToEnd, LENGTH) : endToEnd;
  const headers: string[] = [];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    const { lower } = headerName(name);
    if (lower.startsWith('holdfast-') && OURS.has(lower)) continue;
    if (own.headers.has(lower)) continue;
    const value = rewriting.toClient(lower, passed[i + 1]!);
    if (value !== undefined) headers.push(name, value);
  }
  // RFC 9110 §15.5.22: it must say what is wanted.
  const wanted = status === 426 ? joinHeaders(rawHeaders).upgrade : undefined;
  if (wanted !== undefined) headers.push('Upgrade', wanted);
  return headers;
}

const LENGTH = foldNames(['Content-Length']);

/** A page whose links are rewritten is needed plain, and whole: what a client has kept has another ticket in it. */
const NOT_FOR_PAGES: ReadonlySet<string> = new Set([
  ...['accept-encoding', 'range', 'if-range', 'if-none-match', 'if-modified-since'],
]);

/** Messages to us, or of ours. */
const OURS: ReadonlySet<string> = new Set(['holdfast-session', 'holdfast-reason', 'holdfast-url-ticket']);
