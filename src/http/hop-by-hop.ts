// `Proxy` is no header at all; a CGI program takes it for its proxy (httpoxy, CVE-2016-5385).
const HOP_BY_HOP = new Set(['connection', 'proxy', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']);
// Without these a message has no target or no end; naming them in Connection is an attack, never a wish.
const NEVER_HOP_BY_HOP = new Set(['host', 'content-length']);

/**
 * What of a message's headers is meant for the next hop: without `Connection`, every header it names, and the other headers of one
 * connection only (`Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade`).
 *
 * Order, case and repetition are kept. `Host` and `Content-Length` stay even when `Connection` names them.
 *
 * @param rawHeaders name, value, name, value ... as Node gives them.
 * @see RFC 9110 §7.6.1
 */
export function endToEndHeaders(rawHeaders: readonly string[]): string[] {
  const named = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== 'connection') continue;
    for (const name of rawHeaders[i + 1]!.split(',')) named.add(name.trim().toLowerCase());
  }
  return without(rawHeaders, name => {
    const lower = name.toLowerCase();
    if (NEVER_HOP_BY_HOP.has(lower)) return false;
    return HOP_BY_HOP.has(lower) || lower.startsWith('proxy-') || named.has(lower);
  });
}

/**
 * Removes the sender's copies of headers that only we may set, in every spelling a backend could take for one of them: CGI-like
 * backends see `X-Session-ID`, `x_session_id` and `X.Session.Id` as the same variable.
 *
 * Call it after `endToEndHeaders` and before setting ours; in the other order `Connection: X-Session-ID` removes ours.
 */
export function withoutOwned(rawHeaders: readonly string[], ownedNames: readonly string[]): string[] {
  const owned = new Set(ownedNames.map(fold));
  return without(rawHeaders, name => owned.has(fold(name)));
}

function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

function without(rawHeaders: readonly string[], isRemoved: (name: string) => boolean): string[] {
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!isRemoved(rawHeaders[i]!)) kept.push(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  return kept;
}
