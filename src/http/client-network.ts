import { isIP } from 'node:net';
import { RecentMap } from '../base/recent-map.ts';
import { addressOf, groupsOf } from './ip-address.ts';

/** 64 bits: what a household or a machine has, which may take a new address in it at any time (RFC 8981). */
const NETWORK_GROUPS = 4;

/** Clients come again and again, and are asked about several times each time. */
const MAX_KNOWN = 1_000;
/** With a zone an address can be of any length. */
const LONGEST_KNOWN = 64;
const known = new RecentMap<string, string>(MAX_KNOWN);

/**
 * What an address has in common with the others of its client: IPv4 is taken whole, of IPv6 the /64.
 *
 * Of a link-local address the whole, because all of a link are in one /64; of IPv4 that was translated (`64:ff9b::/96`,
 * RFC 6052 §2.1), as of IPv4-mapped IPv6, the IPv4 address.
 *
 * @returns undefined when it is not an address.
 */
export function clientNetwork(address: string): string | undefined {
  if (isIP(address) === 4) return address;
  const found = known.get(address);
  if (found !== undefined) return found;
  const network = networkOf(address);
  if (network !== undefined && address.length <= LONGEST_KNOWN) known.set(address, network);
  return network;
}

function networkOf(address: string): string | undefined {
  const read = groupsOf(address);
  if (!read) return undefined;
  const { family, groups } = read;
  if (family === 'ipv4') return addressOf(groups);
  if (addressOf(groups.slice(0, 6).concat(0, 0)) === '64:ff9b::') {
    const [high, low] = groups.slice(6) as [number, number];
    return addressOf([high >> 8, high & 0xff, low >> 8, low & 0xff]);
  }
  const isLinkLocal = (groups[0]! & 0xffc0) === 0xfe80;
  if (isLinkLocal) return addressOf(groups);
  return `${addressOf([...groups.slice(0, NETWORK_GROUPS), 0, 0, 0, 0])}/64`;
}
