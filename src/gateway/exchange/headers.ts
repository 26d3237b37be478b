import type { ClientHeaders } from '../../http/client-headers.ts';
import { FORWARDED_HEADERS, forwardedHeaders } from '../../http/forwarded-headers.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { headerName } from '../../http/header-name.ts';
import { endToEndHeaders, foldNames, passedHeaders } from '../../http/hop-by-hop.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { OwnNames } from '../own-names.ts';
import { THROUGH_HEADER, throughHeader } from '../routing/loop.ts';
import type { Rewriting } from './rewriting.ts';

/** What a backend learns about the session beside the request itself. */
export interface BackendIdentity {
  /** Name of the header that carries the `sid`. */
  readonly sessionHeader: string;
  /** Headers that only we may set, that one included. */
  readonly owned: readonly string[];
  /** What of the client's other headers passes. */
  readonly clientHeaders: ClientHeaders;
  /** The `sid` of the live session; undefined when there is none, and then the header is not sent at all. */
  readonly sid: string | undefined;
  /** Other headers about the session. */
  readonly added?: readonly HeaderLine[] | undefined;
  readonly own: OwnNames;
  readonly rewriting: Rewriting;
}

/**
 * The headers of a request as a backend gets them: name, value, name, value ...
 *
 * The order of the steps is what makes it safe. What the client's `Connection` header names goes first, so that a
 * client cannot have our own headers removed by naming them there; then every client copy of a header that is ours, and
 * what only another server may say; then ours are set.
 */
export function backendRequestHeaders(head: RequestHead, identity: BackendIdentity): string[] {
  let owned = ownedBy(identity);
  if (identity.added && identity.added.length > 0)
    owned = new Set([...owned, ...foldNames(identity.added.map(({ name }) => name))]);
  const passed = passedHeaders(head.rawHeaders, owned);
  // The client's Host is kept: backends compare it with Origin and build links from it. HTTP/1.1 needs one, as our own
  // checks have it.
  const headers = ['Host', head.host || 'localhost'];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    if (!identity.clientHeaders.passes(name, head.isPeerTrusted)) continue;
    const value =
      name.length === 6 && name.toLowerCase() === 'cookie'
        ? identity.rewriting.cookiesToBackend(passed[i + 1]!)
        : passed[i + 1]!;
    if (value !== undefined) headers.push(name, value);
  }
  headers.push(...forwardedHeaders(head));
  if (identity.own.instance !== undefined) headers.push(THROUGH_HEADER, throughHeader(head, identity.own.instance));
  if (identity.sid !== undefined) headers.push(identity.sessionHeader, identity.sid);
  for (const { name, value } of identity.added ?? []) headers.push(name, value);
  return headers;
}

const ownedNames = new WeakMap<readonly string[], { readonly own: OwnNames; readonly folded: ReadonlySet<string> }>();

/** What no client may set. Upstream and server stay the same from request to request, so it is put together once. */
function ownedBy({ owned, own }: BackendIdentity): ReadonlySet<string> {
  let known = ownedNames.get(owned);
  if (known?.own !== own) {
    known = { own, folded: foldNames(['Host', THROUGH_HEADER, ...owned, ...own.headers, ...FORWARDED_HEADERS]) };
    ownedNames.set(owned, known);
  }
  return known.folded;
}

/**
 * The headers of a backend's response as the client gets them: name, value, name, value ...
 *
 * A backend sets every cookie and header but ours; `Holdfast-Session` is a message to us only, `Holdfast-Reason` one of
 * ours. Links and cookies are those of the public side.
 */
export function clientResponseHeaders(rawHeaders: readonly string[], own: OwnNames, rewriting: Rewriting): string[] {
  const passed = endToEndHeaders(rawHeaders);
  const headers: string[] = [];
  for (let i = 0; i < passed.length; i += 2) {
    const name = passed[i]!;
    const { lower } = headerName(name);
    if (lower === 'holdfast-session' || lower === 'holdfast-reason' || own.headers.has(lower)) continue;
    const value = rewriting.toClient(lower, passed[i + 1]!);
    if (value !== undefined) headers.push(name, value);
  }
  return headers;
}
