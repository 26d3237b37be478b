import { isIP, SocketAddress } from 'node:net';
import { unmapIpv4 } from './address-list.ts';

/** The /64 that a household or a machine has, from which it may take a new address at any time (RFC 8981). */
const NETWORK_GROUPS = 4;

/**
 * What an address has in common with the others of its client: IPv4 is taken whole, of IPv6 the /64.
 *
 * Of a link-local address the whole, because all of a link are in one /64; of IPv4 that was translated (`64:ff9b::/96`,
 * RFC 6052 §2.1), as of IPv4-mapped IPv6, the IPv4 address.
 *
 * @returns undefined when it is not an address.
 */
export function clientNetwork(address: string): string | undefined {
  const plain = unmapIpv4(address.split('%', 1)[0]!);
  const version = isIP(plain);
  if (version !== 6) return version === 4 ? plain : undefined;
  const groups = groupsOf(plain);
  if (groups.slice(0, 6).join(':') === '64:ff9b:0:0:0:0') return ipv4Of(groups[6]!, groups[7]!);
  const isLinkLocal = /^fe[89ab]/.test(groups[0]!);
  return isLinkLocal ? groups.join(':') : `${groups.slice(0, NETWORK_GROUPS).join(':')}::/64`;
}

/** The eight groups, without leading zeros. */
function groupsOf(address: string): string[] {
  // Node writes some with dots at the end, for example `::1.2.3.4`.
  const { address: short } = new SocketAddress({ address, family: 'ipv6' });
  const text = short.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a, b, c, d] = bytes.map(Number) as [number, number, number, number];
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [left = '', right] = text.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  return [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail];
}

function ipv4Of(high: string, low: string): string {
  const [a, b] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return [a >> 8, a & 0xff, b >> 8, b & 0xff].join('.');
}
