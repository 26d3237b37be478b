import { headerName } from './header-name.ts';
import { foldName } from './private-headers.ts';

// Without these a message has no target or no end; naming them in Connection is an attack, never a wish.
const NEVER_HOP_BY_HOP = new Set(['host', 'content-length']);

/**
 * What of a message's headers is meant for the next hop: without `Connection`, every header it names, and the other
 * headers of one connection only (`Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade`,
 * `HTTP2-Settings`).
 *
 * Order, case and repetition are kept. `Host` and `Content-Length` stay even when `Connection` names them.
 *
 * @param rawHeaders name, value, name, value ... as Node gives them.
 * @see RFC 9110 §7.6.1
 */
export function endToEndHeaders(rawHeaders: readonly string[]): string[] {
  return passedHeaders(rawHeaders, NOTHING);
}

/**
 * The same, and without the sender's copies of headers that only we may set, in every spelling.
 *
 * @param owned Made by `foldNames`.
 */
export function passedHeaders(rawHeaders: readonly string[], owned: ReadonlySet<string>): string[] {
  let named = NOTHING;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 10 && headerName(rawHeaders[i]!).lower === 'connection')
      named = new Set([...named, ...rawHeaders[i + 1]!.split(',').map(name => name.trim().toLowerCase())]);
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const { lower, folded, isHopByHop } = headerName(rawHeaders[i]!);
    if (isHopByHop || owned.has(folded)) continue;
    if (named !== NOTHING && named.has(lower) && !NEVER_HOP_BY_HOP.has(lower)) continue;
    kept.push(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  return kept;
}

const NOTHING: ReadonlySet<string> = new Set();

/** Names in the form in which all their spellings are the same. */
export function foldNames(names: readonly string[]): ReadonlySet<string> {
  return new Set(names.map(foldName));
}

/**
 * Removes the sender's copies of headers that only we may set, in every spelling a backend could take for one of them:
 * CGI-like backends see `X-Session-ID`, `x_session_id` and `X.Session.Id` as the same variable.
 *
 * Call it after `endToEndHeaders` and before setting ours; in the other order `Connection: X-Session-ID` removes ours.
 *
 * @param owned Made by `foldNames`.
 */
export function withoutOwned(rawHeaders: readonly string[], owned: ReadonlySet<string>): string[] {
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (!owned.has(headerName(rawHeaders[i]!).folded)) kept.push(rawHeaders[i]!, rawHeaders[i + 1]!);
  return kept;
}
