import { isIP, SocketAddress } from 'node:net';

/** Cheap, for the many addresses that are not; with a zone it cannot be one. */
const MAYBE_MAPPED = /^[0:]*:ffff:[\da-f.:]+$/i;

/** As a socket says it of each client. */
const USUAL_MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/;

/**
 * `::ffff:192.0.2.1` (how a dual-stack socket reports an IPv4 peer) becomes `192.0.2.1`, in whatever spelling; other
 * addresses stay.
 */
export function unmapIpv4(address: string): string {
  const usual = USUAL_MAPPED.exec(address)?.[1];
  if (usual !== undefined && isIP(usual) === 4) return usual;
  if (!MAYBE_MAPPED.test(address) || isIP(address) !== 6) return address;
  // Node writes a mapped address in the one form that RFC 5952 §5 has for it.
  const spelled = new SocketAddress({ address, family: 'ipv6' }).address;
  return spelled.startsWith('::ffff:') && isIP(spelled.slice(7)) === 4 ? spelled.slice(7) : address;
}

/** An address in the one form that logs and lists have of it: IPv4 never as IPv6, IPv6 as RFC 5952 writes it. */
export function canonicalAddress(address: string): string {
  const plain = unmapIpv4(address.toLowerCase());
  if (isIP(plain) !== 6 || plain.includes('%')) return plain;
  return new SocketAddress({ address: plain, family: 'ipv6' }).address;
}

/** The groups of an address, without its zone: four of 8 bits, or eight of 16. Undefined for what is not an address. */
export function groupsOf(address: string): { family: 'ipv4' | 'ipv6'; groups: number[] } | undefined {
  const plain = unmapIpv4(address.split('%', 1)[0]!);
  const version = isIP(plain);
  if (version === 4) return { family: 'ipv4', groups: plain.split('.').map(Number) };
  if (version !== 6) return undefined;
  const [left = '', right] = plain.split('::');
  const [head, tail] = [sixteenBits(left), sixteenBits(right ?? '')];
  return { family: 'ipv6', groups: [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail] };
}

/** An address of these groups, IPv6 as RFC 5952 writes it. */
export function addressOf(groups: readonly number[]): string {
  if (groups.length === 4) return groups.join('.');
  const address = groups.map(group => group.toString(16)).join(':');
  return new SocketAddress({ address, family: 'ipv6' }).address;
}

/** The last two may be written as an IPv4 address. */
function sixteenBits(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap(part => {
    if (!part.includes('.')) return [Number.parseInt(part, 16)];
    const [a, b, c, d] = part.split('.').map(Number) as [number, number, number, number];
    return [a * 256 + b, c * 256 + d];
  });
}
