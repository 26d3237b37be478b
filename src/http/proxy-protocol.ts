import { isIP, SocketAddress } from 'node:net';
import { unmapIpv4 } from './ip-address.ts';

/** What a proxy says about the connection it passes on, before the first byte of that connection. */
export interface ProxyHeader {
  /** Bytes of the header; the connection's own bytes follow. */
  readonly length: number;
  /**
   * Undefined when the proxy speaks for itself (its health checks) or does not know the client: then its own address
   * counts.
   */
  readonly source: { readonly address: string; readonly port: number } | undefined;
  /** True when the proxy says that the client speaks TLS to it; undefined when it says nothing (version 1 cannot). */
  readonly isSecure: boolean | undefined;
}

/**
 * `incomplete`: more bytes are needed. `absent`: these bytes are no PROXY header. `malformed`: they begin as one and
 * are none.
 */
export type ProxyHeaderResult = ProxyHeader | 'incomplete' | 'absent' | { readonly malformed: string };

/** "CR LF" included; the longest line of version 1 that the specification allows. */
const MAX_V1_BYTES = 107;
const V1_START = Buffer.from('PROXY ');
const V2_START = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const V2_FIXED_BYTES = 16;
/** Addresses need 36 bytes; what a cloud's load balancer adds about itself stays far below. */
const MAX_V2_BYTES = 4096;

const FAMILY_INET = 1;
const FAMILY_INET6 = 2;
const TRANSPORT_STREAM = 1;
const TLV_SSL = 0x20;
const CLIENT_SSL = 0x01;

/**
 * Reads a PROXY header, version 1 or 2, at the beginning of `bytes`. Never throws.
 *
 * The caller MUST have checked that the peer may send one.
 *
 * @see https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt §2
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeaderResult {
  if (beginsWith(bytes, V2_START)) return parseVersion2(bytes);
  return beginsWith(bytes, V1_START) ? parseVersion1(bytes) : 'absent';
}

/** As far as there are bytes. */
function beginsWith(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function parseVersion1(bytes: Buffer): ProxyHeaderResult {
  const end = bytes.subarray(0, MAX_V1_BYTES).indexOf('\r\n');
  if (end < 0) return bytes.length < MAX_V1_BYTES ? 'incomplete' : malformed('the line is longer than 107 bytes');
  const length = end + 2;
  const [, protocol, source = '', destination = '', sourcePort, destinationPort, ...more] = bytes
    .toString('latin1', 0, end)
    .split(' ');
  if (protocol === 'UNKNOWN') return { length, source: undefined, isSecure: undefined };
  const version = protocol === 'TCP4' ? 4 : protocol === 'TCP6' ? 6 : 0;
  if (version === 0) return malformed('the protocol is none of TCP4, TCP6 and UNKNOWN');
  const port = toPort(sourcePort);
  const isWhole = more.length === 0 && port !== undefined && toPort(destinationPort) !== undefined;
  if (!isWhole || isIP(source) !== version || isIP(destination) !== version)
    return malformed(`the line does not hold two addresses and two ports of ${protocol}`);
  return { length, source: { address: canonical(source), port }, isSecure: undefined };
}

function toPort(text: string | undefined): number | undefined {
  return text !== undefined && /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined;
}

function parseVersion2(bytes: Buffer): ProxyHeaderResult {
  if (bytes.length < V2_FIXED_BYTES) return 'incomplete';
  const version = bytes[12]! >> 4;
  const command = bytes[12]! & 0xf;
  const family = bytes[13]! >> 4;
  const transport = bytes[13]! & 0xf;
  const length = V2_FIXED_BYTES + bytes.readUInt16BE(14);
  if (version !== 2) return malformed(`the version is ${version}`);
  if (command > 1) return malformed(`the command is ${command}; 0 (LOCAL) and 1 (PROXY) are known`);
  if (length > MAX_V2_BYTES) return malformed(`the header is longer than ${MAX_V2_BYTES} bytes`);
  if (bytes.length < length) return 'incomplete';
  // LOCAL: the proxy's own connection, a health check. The rest of the header is to be skipped.
  if (command === 0) return { length, source: undefined, isSecure: undefined };
  const addressBytes = family === FAMILY_INET ? 4 : family === FAMILY_INET6 ? 16 : 0;
  if (addressBytes === 0) return { length, source: undefined, isSecure: undefined };
  if (transport !== TRANSPORT_STREAM)
    return malformed('the connection is TCP and the header speaks of another transport');
  const addressesEnd = V2_FIXED_BYTES + 2 * addressBytes + 4;
  if (length < addressesEnd) return malformed('the header is too short for its addresses');
  const source = {
    address: addressText(bytes.subarray(V2_FIXED_BYTES, V2_FIXED_BYTES + addressBytes)),
    port: bytes.readUInt16BE(V2_FIXED_BYTES + 2 * addressBytes),
  };
  let isSecure: boolean | undefined;
  for (let at = addressesEnd; at < length; ) {
    const valueAt = at + 3;
    const end = valueAt <= length ? valueAt + bytes.readUInt16BE(at + 1) : Number.POSITIVE_INFINITY;
    if (end > length) return malformed('a field is longer than the header');
    if (bytes[at] === TLV_SSL && end > valueAt) isSecure = (bytes[valueAt]! & CLIENT_SSL) !== 0;
    at = end;
  }
  return { length, source, isSecure };
}

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  return canonical(groups.join(':'));
}

/** One spelling for each address: bans and limits compare text. */
function canonical(address: string): string {
  if (isIP(address) === 4) return address;
  return unmapIpv4(new SocketAddress({ address, family: 'ipv6' }).address);
}

function malformed(reason: string): { malformed: string } {
  return { malformed: reason };
}
