import type { IncomingHttpHeaders } from 'node:http';
import { parseCookies } from './cookies.ts';
import { headerName } from './header-name.ts';
import { foldNames, withoutOwned } from './hop-by-hop.ts';
import { isRefusal } from './refusal.ts';
import type { RequestHead } from './request-head.ts';

/** Where in a request credentials stand. */
export type CredentialPlace =
  /** `inAnySpelling`: also what a CGI-like backend would take for it, such as `X_Name`. */
  | { readonly kind: 'header'; readonly name: string; readonly inAnySpelling?: true }
  | { readonly kind: 'cookie'; readonly name: string }
  /**
   * An offered subprotocol that begins so, and the one that may stand beside it for "none": that is selected in the
   * answer, unless the target selects another.
   */
  | { readonly kind: 'subprotocol'; readonly prefix: string; readonly standIn?: string | undefined };

/**
 * The request without what it was authenticated by, for its target. The others of its cookies and subprotocols stay, in
 * their order. What has nothing in these places is the same object.
 */
export function withoutCredentials(head: RequestHead, places: readonly CredentialPlace[]): RequestHead {
  return places.reduce(withoutOne, head);
}

function withoutOne(head: RequestHead, place: CredentialPlace): RequestHead {
  switch (place.kind) {
    case 'header':
      if (place.inAnySpelling) return withoutSpellings(head, place.name);
      return withHeader(head, place.name.toLowerCase(), () => undefined);
    case 'cookie':
      return withHeader(head, 'cookie', value => withoutCookie(value, place.name));
    case 'subprotocol': {
      const { prefix, standIn } = place;
      const isTaken = (name: string) => name === standIn || name.startsWith(prefix);
      const less = withHeader(head, 'sec-websocket-protocol', value => withoutNames(value, isTaken));
      const { upgrade } = less;
      if (less === head || upgrade === undefined || isRefusal(upgrade)) return less;
      const subprotocols = upgrade.subprotocols.filter(name => !isTaken(name));
      const fallback = upgrade.subprotocols.find(name => name === standIn);
      return { ...less, upgrade: { ...upgrade, subprotocols, ...(fallback && { fallbackSubprotocol: fallback }) } };
    }
  }
}

function withoutSpellings(head: RequestHead, name: string): RequestHead {
  const owned = foldNames([name]);
  const rawHeaders = withoutOwned(head.rawHeaders, owned);
  if (rawHeaders.length === head.rawHeaders.length) return head;
  const kept = Object.entries(head.headers).filter(([lower]) => !owned.has(headerName(lower).folded));
  return { ...head, headers: Object.fromEntries(kept), rawHeaders };
}

/** Every line of one name, changed; undefined leaves it out. */
function withHeader(head: RequestHead, name: string, change: (value: string) => string | undefined): RequestHead {
  const before = head.headers[name];
  if (before === undefined) return head;
  const changed = Array.isArray(before) ? before.flatMap(value => change(value) ?? []) : change(before);
  if (changed === before) return head;
  // A copy of which one is deleted is slow to read for ever after.
  const headers: IncomingHttpHeaders = {};
  for (const other in head.headers) if (other !== name) headers[other] = head.headers[other];
  if (changed !== undefined && changed.length > 0) headers[name] = changed;
  const rawHeaders: string[] = [];
  for (let i = 0; i < head.rawHeaders.length; i += 2) {
    const [rawName, rawValue] = [head.rawHeaders[i]!, head.rawHeaders[i + 1]!];
    const isIt = rawName.length === name.length && rawName.toLowerCase() === name;
    const value = isIt ? change(rawValue) : rawValue;
    if (value !== undefined) rawHeaders.push(rawName, value);
  }
  return { ...head, headers, rawHeaders };
}

function withoutCookie(header: string, name: string): string | undefined {
  const cookies = parseCookies(header);
  if (!cookies.some(cookie => cookie.name === name)) return header;
  const rest = header.split(';').filter(pair => pair.slice(0, Math.max(0, pair.indexOf('='))).trim() !== name);
  return rest.length === 0 ? undefined : rest.join(';').trim();
}

function withoutNames(header: string, isTaken: (name: string) => boolean): string | undefined {
  const names = header
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '');
  const rest = names.filter(name => !isTaken(name));
  if (rest.length === names.length) return header;
  return rest.length === 0 ? undefined : rest.join(', ');
}
