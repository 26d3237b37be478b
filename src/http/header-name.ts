import { RecentMap } from '../base/recent-map.ts';
import { foldName, isPrivate } from './private-headers.ts';

/** What is decided by the name of a header alone. */
export interface HeaderName {
  readonly lower: string;
  /**
   * The same for every spelling that a backend could take for one: CGI-like backends see `X-Session-ID` and
   * `x_session_id` as one variable.
   */
  readonly folded: string;
  /**
   * Of one connection, by its name: `Connection`, `Keep-Alive`, `Proxy-*`, `TE`, `Trailer`, `Transfer-Encoding`,
   * `Upgrade` (RFC 9110 §7.6.1), `HTTP2-Settings` (RFC 7540 §3.2.1). In every spelling, and so is a `Content-Length` in
   * any but its own: it says where the message ends to those only that read names leniently.
   */
  readonly isHopByHop: boolean;
  /** Only a server may send it, but programs believe it from any sender (`private-headers.ts`). */
  readonly isPrivate: boolean;
}

// `Proxy` is not a header of HTTP; a CGI program takes it for its proxy (httpoxy, CVE-2016-5385).
const HOP_BY_HOP = new Set([
  'connection',
  'proxy',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/**
 * Clients and servers send the same few names again and again; invented names must not take memory for ever.
 */
const MAX_KNOWN = 1000;
const known = new RecentMap<string, HeaderName>(MAX_KNOWN);

/** Looks a name up, in any case. */
export function headerName(name: string): HeaderName {
  const found = known.get(name);
  if (found) return found;
  const lower = name.toLowerCase();
  const folded = foldName(name);
  const made = {
    lower,
    folded,
    isHopByHop:
      HOP_BY_HOP.has(folded) || folded.startsWith('proxy-') || (folded === 'content-length' && lower !== folded),
    isPrivate: isPrivate(folded),
  };
  known.set(name, made);
  return made;
}
