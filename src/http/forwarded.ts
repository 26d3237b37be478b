import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import type { AddressList } from './address-list.ts';
import { canonicalAddress } from './ip-address.ts';

/**
 * What the proxies in front of us say about the client. The caller MUST have checked that the peer is a trusted proxy.
 */
export interface ForwardedChain {
  /**
   * The hops from the client's side to ours, without our own peer. Nodes as written: address, address with port,
   * `unknown`, `_hidden`.
   */
  readonly hops: readonly string[];
  readonly protos: readonly string[];
  readonly hosts: readonly string[];
  /** Of the hosts that have none themselves. */
  readonly ports: readonly string[];
}

/** One element of a `Forwarded` header; names lower-case, values unquoted. */
export type ForwardedElement = Readonly<Record<string, string>>;

// Pairs and elements may be empty, as in `for=192.0.2.1;, ,`.
const PAIR = /[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)=(?:([!#$%&'*+.^_`|~\w:[\]-]+)|"((?:[^"\\]|\\.)*)")[ \t]*)?(;|,|$)/y;

/**
 * Parses a `Forwarded` header.
 *
 * @returns undefined when it does not follow the grammar. An unquoted IPv6 address is taken, because many proxies write
 * one.
 * @see RFC 7239 §4
 */
export function parseForwarded(text: string): ForwardedElement[] | undefined {
  const elements: ForwardedElement[] = [];
  let element: Record<string, string> = {};
  PAIR.lastIndex = 0;
  for (;;) {
    const match = PAIR.exec(text);
    if (!match) return undefined;
    const [, name, token, quoted = '', separator] = match;
    if (name !== undefined) {
      if (Object.hasOwn(element, name.toLowerCase())) return undefined;
      element[name.toLowerCase()] = token ?? quoted.replace(/\\(.)/g, '$1');
    }
    if (separator === ';') continue;
    if (Object.keys(element).length > 0) elements.push(element);
    if (separator === '') return elements;
    element = {};
  }
}

/**
 * Reads the chain from the request headers of a trusted peer.
 *
 * `X-Forwarded-For` wins over `Forwarded`: the common proxies write the first and pass a client's own copy of the
 * second on unchanged.
 *
 * @returns undefined when `Forwarded` is the source and is malformed.
 */
export function readForwardedChain(headers: IncomingHttpHeaders): ForwardedChain | undefined {
  const hops = list(headers['x-forwarded-for']);
  const text = headers.forwarded;
  if (hops.length > 0 || text === undefined)
    return {
      hops,
      protos: list(headers['x-forwarded-proto']),
      hosts: list(headers['x-forwarded-host']),
      ports: list(headers['x-forwarded-port']),
    };
  const elements = parseForwarded(text);
  return (
    elements && {
      hops: elements.map(element => element.for ?? 'unknown'),
      protos: elements.map(element => element.proto ?? ''),
      hosts: elements.map(element => element.host ?? ''),
      ports: [],
    }
  );
}

// Some proxies name the WebSocket schemes.
const IS_SECURE: ReadonlyMap<string, boolean> = new Map(
  Object.entries({ http: false, https: true, ws: false, wss: true }),
);

/** The client as a chain of trusted hops reports it. */
export interface ForwardedClient {
  readonly address: string;
  /** Undefined when no hop says it, or none that is a scheme. */
  readonly isSecure: boolean | undefined;
  readonly host: string | undefined;
  /** Undefined when no hop says it, or none that is a port. */
  readonly port: number | undefined;
}

/**
 * Walks the chain from our side to the client's: each hop is believed as long as the one that reported it is trusted.
 *
 * The first address that is not a trusted proxy is the client. Where a trusted proxy hides its peer (`unknown`), that
 * proxy is the last address known, and counts as the client. Scheme, host and port are taken from the same hop; from
 * the first one named when the lists are shorter.
 */
export function findClient(chain: ForwardedChain, peerAddress: string, trustedProxies: AddressList): ForwardedClient {
  const { hops, protos, hosts, ports } = chain;
  let address = peerAddress;
  let hopsWalked = 0;
  while (hopsWalked < hops.length && trustedProxies.contains(address)) {
    const reported = nodeAddress(hops[hops.length - 1 - hopsWalked]!);
    if (reported === undefined) break;
    address = reported;
    hopsWalked++;
  }
  const fromRight = (values: readonly string[]) =>
    values[Math.max(0, values.length - Math.max(1, hopsWalked))] || undefined;
  const proto = fromRight(protos)?.toLowerCase();
  return {
    address,
    isSecure: proto === undefined ? undefined : IS_SECURE.get(proto),
    host: fromRight(hosts),
    port: parsePort(fromRight(ports)),
  };
}

function parsePort(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port >= 1 && port <= 65_535 ? port : undefined;
}

/**
 * The address of a node without its port (RFC 7239 §6), in the one form that each has (RFC 5952); undefined where it is
 * not an address: `unknown`, `_hidden`.
 */
export function nodeAddress(node: string): string | undefined {
  const withoutPort = /^\[([^\]]*)\](?::\d+)?$/.exec(node)?.[1] ?? /^([\d.]+):\d+$/.exec(node)?.[1] ?? node;
  return isIP(withoutPort) === 0 ? undefined : canonicalAddress(withoutPort);
}

function list(header: string | string[] | undefined): string[] {
  if (header === undefined) return [];
  const text = typeof header === 'string' ? header : header.join(',');
  return text
    .split(',')
    .map(item => item.trim())
    .filter(item => item !== '');
}
