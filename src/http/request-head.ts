import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { AddressList } from './address-list.ts';
import { parseAuthority } from './authority.ts';
import { type ClientCertificate, clientCertificateOf } from './client-certificate.ts';
import { findClient, readForwardedChain } from './forwarded.ts';
import type { HostNames } from './host-names.ts';
import { isKnownMethod, unknownMethod } from './methods.ts';
import { normalizePath } from './path.ts';
import { isSecureSocket, peerAddressOf } from './peer.ts';
import { type Refusal, refuse } from './refusal.ts';
import type { RequestIds } from './request-id.ts';
import { asksForWebSocket, parseUpgrade, type UpgradeRequest } from './upgrade-request.ts';
import { takeUrlTickets, type UrlTicket } from './url-ticket.ts';

/**
 * The facts of one request, taken from the wire once and judged by every later step.
 *
 * It holds strings and numbers only, never the request object, so that keeping it keeps nothing else alive.
 */
export interface RequestHead {
  readonly method: string;
  /** The request target as it stood on the request line. For logs; never for decisions. */
  readonly target: string;
  /**
   * The path after percent-decoding of unreserved characters, merging of `//` and removal of dot segments. Decisions
   * use this. `*` for `OPTIONS *`. It may have `%5C`, which is for the route to take.
   */
  readonly path: string;
  /** The same with slashes that follow each other as they came; left out when there are none. */
  readonly pathWithSlashes?: string | undefined;
  /** The query without its `?`; `''` when there is none. */
  readonly query: string;
  readonly httpVersion: string;
  /** Lower-case names; repeated headers joined as Node does. */
  readonly headers: IncomingHttpHeaders;
  /** Name, value, name, value ... as received. */
  readonly rawHeaders: readonly string[];
  /**
   * The host the client asked for (the `Host` header, or what a trusted proxy reports), lower-case, with its port when
   * it has one, or when a trusted proxy reports one (`X-Forwarded-Port`). `''` when a request of HTTP/1.0 names none.
   */
  readonly host: string;
  /**
   * The other end of the TCP connection, or whom its PROXY header names; `''` on a Unix socket. IPv4 is never written
   * as IPv6.
   */
  readonly peerAddress: string;
  readonly peerPort: number;
  /** True when the peer is a proxy whose forwarded headers are believed. */
  readonly isPeerTrusted: boolean;
  /** Who the client is, after trusted proxies were taken into account. */
  readonly clientAddress: string;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /**
   * True when `isSecure` is certain. On a plain connection that no trusted proxy explains, something undeclared may end
   * TLS in front of us.
   */
  readonly isSchemeKnown: boolean;
  /** True when the request asks for a WebSocket, in HTTP/1.1 or HTTP/2. */
  readonly isUpgrade: boolean;
  /** What it asks for then, or what is wrong with its handshake. */
  readonly upgrade: UpgradeRequest | Refusal | undefined;
  /** Tickets of sessions that stood in its URL, which does not have them any more: at most one of each name. */
  readonly urlTickets: readonly UrlTicket[];
  /** Names the request, in our logs and to its backend. Default: it has no name. */
  readonly requestId?: string | undefined;
  /** The certificate the client showed to us and that is good; undefined otherwise. */
  readonly clientCertificate: ClientCertificate | undefined;
}

export interface ReadRequestHeadOptions {
  /** Peers whose `Forwarded` and `X-Forwarded-*` headers are believed. */
  readonly trustedProxies: AddressList;
  /** The hosts that are answered, in `Host` and in what trusted proxies forward. Default: all. */
  readonly hosts?: HostNames | undefined;
  /** Names the requests. Default: they have no names. */
  readonly requestIds?: RequestIds | undefined;
  /** Path parameters that can hold a session's ticket. Default: none. */
  readonly urlParameters?: ReadonlySet<string> | undefined;
}

const NO_NAMES: ReadonlySet<string> = new Set();

/**
 * Reads the facts of a request. A session's ticket is taken out of its URL, so that no route, log or backend sees it.
 *
 * @returns a refusal with 400 (ERR_HTTP_BAD_REQUEST) when the target, the `Host` or a trusted proxy's header cannot be
 * understood, and for everything that asks for a forward proxy: `CONNECT`, or an absolute target for another authority
 * than `Host`; 501 for a transfer coding other than `chunked`, and for a method that HTTP/1 could not bring
 * (ERR_HTTP_METHOD_UNKNOWN); 421 (ERR_POLICY_HOST) for a host that is not one of `hosts`.
 */
export function readRequestHead(request: IncomingMessage, options: ReadRequestHeadOptions): RequestHead | Refusal {
  const urlTickets = takeUrlTickets(request, options.urlParameters ?? NO_NAMES);
  const { headers, rawHeaders, socket, httpVersion } = request;
  const method = request.method ?? '';
  const target = request.url ?? '';
  // HTTP/2 brings every method, and Node's parser takes those of RTSP for ones of HTTP.
  if (!isKnownMethod(method)) return unknownMethod(method);

  // RFC 9112 §3.2: exactly one Host, or 400. HTTP/1.0 does not know it, and the plain checks of load balancers leave it
  // out.
  const hostCount = countHeader(rawHeaders, 'host');
  const isHostless = hostCount === 0 && httpVersion === '1.0';
  if (hostCount !== 1 && !isHostless) return badRequest('the request needs exactly one Host header');
  const sentHost = isHostless ? '' : normalizeHost(headers.host!);
  if (sentHost === undefined) return badRequest('the Host header is not a host name or address');

  const coding = headers['transfer-encoding'];
  // RFC 9112 §6.1: HTTP/1.0 has none, so a server before us may have seen the body end elsewhere.
  if (coding !== undefined && httpVersion === '1.0')
    return unframed(400, 'an HTTP/1.0 request has a Transfer-Encoding');
  // Node takes the chunks off and no other coding, which a handler or backend would take for the content.
  if (coding !== undefined && coding.toLowerCase() !== 'chunked')
    return unframed(501, `the Transfer-Encoding is ${JSON.stringify(coding)}; only chunked is understood`);

  const location = splitTarget(method, target, sentHost);
  if (typeof location === 'string') return badRequest(location);
  const ownHost = location.host;
  if (!isAnswered(ownHost, options)) return misdirected(ownHost);
  const path = location.path === '*' ? '*' : normalizePath(location.path, { takesBackslash: true });
  if (path === undefined) return badRequest('the path has an invalid escape or a character that is not allowed');

  const peerAddress = peerAddressOf(socket);
  const isEncrypted = isSecureSocket(socket);
  const isUpgrade = asksForWebSocket(request);
  const facts = {
    method,
    target,
    path,
    ...(location.path.includes('//') && {
      pathWithSlashes: normalizePath(location.path, { keepsSlashes: true, takesBackslash: true }),
    }),
    query: location.query,
    httpVersion,
    headers,
    rawHeaders,
    peerAddress,
    peerPort: socket.remotePort ?? 0,
    isUpgrade,
    upgrade: isUpgrade ? parseUpgrade({ method, host: ownHost, httpVersion, headers, isUpgrade }) : undefined,
    urlTickets,
    clientCertificate: clientCertificateOf(socket),
  };
  if (!options.trustedProxies.contains(peerAddress))
    return {
      ...facts,
      host: ownHost,
      isPeerTrusted: false,
      requestId: options.requestIds?.of(request, false),
      clientAddress: peerAddress,
      isSecure: isEncrypted,
      isSchemeKnown: isEncrypted,
    };

  const chain = readForwardedChain(headers);
  if (chain === undefined) return badRequest(`the trusted proxy ${peerAddress} sent a malformed Forwarded header`);
  const client = findClient(chain, peerAddress, options.trustedProxies);
  const host = client.host === undefined ? ownHost : normalizeHost(client.host);
  if (host === undefined || !chain.hosts.every(isHost))
    return badRequest(`the trusted proxy ${peerAddress} forwarded a host that is not a host name or address`);
  if (!isAnswered(host, options)) return misdirected(host);
  const isSecure = client.isSecure ?? isEncrypted;
  return {
    ...facts,
    host: client.port === undefined ? host : withPort(host, client.port),
    isPeerTrusted: true,
    requestId: options.requestIds?.of(request, true),
    clientAddress: client.address,
    isSecure,
    isSchemeKnown: client.isSecure !== undefined || isEncrypted,
  };
}

/** Who the client of a request is, as `clientAddress` of its head, also when the rest of it cannot be understood. */
export function clientAddressOf(
  { socket, headers }: Pick<IncomingMessage, 'socket' | 'headers'>,
  { trustedProxies }: ReadRequestHeadOptions,
): string {
  const peerAddress = peerAddressOf(socket);
  const chain = trustedProxies.contains(peerAddress) ? readForwardedChain(headers) : undefined;
  return chain ? findClient(chain, peerAddress, trustedProxies).address : peerAddress;
}

/** Who sends such a request may see another where it ends: the connection must not carry one more. */
function badRequest(reason: string): Refusal {
  return unframed(400, reason);
}

/** The connection must not carry another request: where that begins is not certain. */
function unframed(status: number, reason: string): Refusal {
  return refuse(status, 'ERR_HTTP_BAD_REQUEST', reason, { headers: { Connection: 'close' } });
}

/** A client without a Host is not a browser, and could send any Host. */
function isAnswered(host: string, { hosts }: ReadRequestHeadOptions): boolean {
  return hosts === undefined || host === '' || hosts.include(host);
}

/** RFC 9110 §15.5.20. */
function misdirected(host: string): Refusal {
  const reason = `the host ${JSON.stringify(host)} is not one that this listener answers to; add it to its "hosts"`;
  return refuse(421, 'ERR_POLICY_HOST', reason, { body: 'This host is not served here.\n' });
}

/**
 * In the one spelling that a URL has, so that later steps can build one without a check; undefined when it could not be
 * the host of one.
 */
function normalizeHost(text: string): string | undefined {
  const authority = parseAuthority(text);
  if (!authority) return undefined;
  return authority.port === undefined ? authority.hostname : `${authority.hostname}:${authority.port}`;
}

/**
 * A host with the port that a trusted proxy forwards, where it has none itself and the port is not the default one. The
 * default port of the other scheme is that of a hop behind the one that ends TLS, and says nothing of the client's.
 */
function withPort(host: string, port: number): string {
  const isDefault = port === 443 || port === 80;
  return host === '' || isDefault || parseAuthority(host)?.port !== undefined ? host : `${host}:${port}`;
}

/** Each entry of the list is checked, because the whole list is passed on to the next proxy. */
function isHost(text: string): boolean {
  return text === '' || parseAuthority(text) !== undefined;
}

/** Host, path and query of the request target, or what is wrong with it (RFC 9112 §3.2). */
function splitTarget(
  method: string,
  target: string,
  sentHost: string,
): Pick<RequestHead, 'host' | 'path' | 'query'> | string {
  if (method === 'CONNECT') return 'CONNECT asks for a forward proxy, which this is not';
  if (target === '*' && method === 'OPTIONS') return { host: sentHost, path: '*', query: '' };
  let host: string | undefined = sentHost;
  let start = 0;
  if (!target.startsWith('/')) {
    const absolute = /^https?:\/\/([^/?#]*)/i.exec(target);
    if (!absolute) return 'the request target is neither a path nor an http URL';
    host = normalizeHost(absolute[1]!);
    if (host === undefined || (sentHost !== '' && host !== sentHost))
      return 'the request target names another host than the Host header; this is not a forward proxy';
    start = absolute[0].length;
  }
  const mark = target.indexOf('?', start);
  const path = target.slice(start, mark === -1 ? undefined : mark);
  return { host, path: path === '' ? '/' : path, query: mark === -1 ? '' : target.slice(mark + 1) };
}

export function countHeader(rawHeaders: readonly string[], name: string): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const candidate = rawHeaders[i]!;
    if (candidate.length === name.length && candidate.toLowerCase() === name) count++;
  }
  return count;
}
