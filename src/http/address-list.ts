import { BlockList, isIP, SocketAddress } from 'node:net';

/** A set of addresses and CIDR blocks, IPv4 and IPv6. */
export interface AddressList {
  /** True when the address lies in one of the blocks. What is not an address (`''`, `unknown`) lies in none. */
  contains(address: string): boolean;
}

/** Contains nothing: no proxy is trusted. */
export const emptyAddressList: AddressList = { contains: () => false };

/**
 * Builds a list from addresses (`10.0.0.7`, `::1`) and CIDR blocks (`10.0.0.0/8`, `fc00::/7`).
 *
 * An IPv4 block also contains the same addresses written as IPv4-mapped IPv6 (`::ffff:10.0.0.7`).
 *
 * @throws {TypeError} when an entry is neither. The message names the entry.
 */
export function createAddressList(entries: readonly string[]): AddressList {
  if (entries.length === 0) return emptyAddressList;
  const blocks = new BlockList();
  for (const entry of entries) {
    const block = parseBlock(entry);
    if (!block)
      throw new TypeError(
        `not an address or CIDR block: ${JSON.stringify(entry)}; write for example "10.0.0.7", "192.168.0.0/24", "::1" or "fc00::/7"`,
      );
    blocks.addSubnet(block.network, block.bits, block.family);
  }
  return {
    contains(address) {
      const version = isIP(address);
      return version !== 0 && blocks.check(address, version === 6 ? 'ipv6' : 'ipv4');
    },
  };
}

/** Is it what `createAddressList` takes as an entry? */
export function isAddressOrBlock(text: string): boolean {
  return parseBlock(text) !== undefined;
}

function parseBlock(text: string): { network: string; bits: number; family: 'ipv4' | 'ipv6' } | undefined {
  const [network = '', bits, rest] = text.split('/');
  const version = isIP(network);
  const maxBits = version === 6 ? 128 : 32;
  const isBits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= maxBits);
  if (version === 0 || rest !== undefined || !isBits) return undefined;
  return { network, bits: bits === undefined ? maxBits : Number(bits), family: version === 6 ? 'ipv6' : 'ipv4' };
}

/**
 * `::ffff:192.0.2.1` (how a dual-stack socket reports an IPv4 peer) becomes `192.0.2.1`, in whatever spelling; other
 * addresses stay.
 */
export function unmapIpv4(address: string): string {
  if (!MAYBE_MAPPED.test(address) || isIP(address) !== 6) return address;
  // Node writes a mapped address in the one form that RFC 5952 §5 has for it.
  const spelled = new SocketAddress({ address, family: 'ipv6' }).address;
  return spelled.startsWith('::ffff:') && isIP(spelled.slice(7)) === 4 ? spelled.slice(7) : address;
}

/** Cheap, for the many addresses that are not; with a zone it cannot be one. */
const MAYBE_MAPPED = /^[0:]*:ffff:[\da-f.:]+$/i;
