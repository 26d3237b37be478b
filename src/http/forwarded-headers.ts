import { isIPv6 } from 'node:net';
import { RecentMap } from '../base/recent-map.ts';
import { defaultPort, parseAuthority } from './authority.ts';
import { readForwardedChain } from './forwarded.ts';
import type { RequestHead } from './request-head.ts';

/** Names of the headers that `forwardedHeaders` makes. */
export const FORWARDED_HEADERS = [
  'X-Forwarded-For',
  'X-Forwarded-Proto',
  'X-Forwarded-Host',
  'X-Forwarded-Port',
  'Forwarded',
] as const;

/** Names the servers like this one that a request has come through (`gateway/routing/loop.ts`). */
export const THROUGH_HEADER = 'X-Forwarded-Through';

/**
 * The headers that describe the client to a backend: always the same five headers, as name, value, name, value ...
 *
 * Remove a client's own copies of them first (`withoutOwned` in `http/hop-by-hop.ts`).
 *
 * From an untrusted peer nothing that it said remains. From a trusted one the lists (`X-Forwarded-For`, `Forwarded`)
 * are continued with the peer's address. Scheme, host and port are always one value, the client's own, with the port
 * that the host has: backends compare them as a whole. Both forms tell the same chain, the one that `clientAddress` was found in, so that a backend may
 * read either. The scheme of a WebSocket is http or https. Where the client has named no host (HTTP/1.0), nothing is
 * said about host and port.
 *
 * @see RFC 7239 §5 and §7.4
 */
export function forwardedHeaders(head: RequestHead): string[] {
  const proto = head.isSecure ? 'https' : 'http';
  const host = hostFacts(head.host);
  const port = host.port ?? defaultPort(proto)!;
  const peer = head.peerAddress || 'unknown';
  const earlier = (head.isPeerTrusted ? readForwardedChain(head.headers)?.hops : undefined) ?? [];
  let forwarded = `for=${toNode(peer)};${head.host === '' ? '' : `host=${host.quoted};`}proto=${proto}`;
  for (const hop of earlier.toReversed()) forwarded = `for=${toNode(hop)}, ${forwarded}`;
  const values = [[...earlier, peer].join(', '), proto, head.host, head.host === '' ? '' : String(port), forwarded];
  const headers: string[] = [];
  for (let i = 0; i < values.length; i++) if (values[i] !== '') headers.push(FORWARDED_HEADERS[i]!, values[i]!);
  return headers;
}

interface HostFacts {
  /** Undefined when none is written. */
  readonly port: number | undefined;
  readonly quoted: string;
}

/**
 * A server has few names, and requests use them again and again; invented names must not take memory for ever.
 */
const MAX_HOSTS = 100;
const hosts = new RecentMap<string, HostFacts>(MAX_HOSTS);

function hostFacts(host: string): HostFacts {
  const known = hosts.get(host);
  if (known) return known;
  const made = { port: parseAuthority(host)?.port, quoted: quote(host) };
  hosts.set(host, made);
  return made;
}

/** An IPv6 address stands in brackets (RFC 7239 §6). */
function toNode(hop: string): string {
  return quote(hop.includes(':') && isIPv6(hop) ? `[${hop}]` : hop);
}

function quote(value: string): string {
  return /^[!#$%&'*+.^_`|~\w-]+$/.test(value) ? value : `"${value.replace(/["\\]/g, '\\$&')}"`;
}
