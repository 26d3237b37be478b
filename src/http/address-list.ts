import { BlockList, isIP } from 'node:net';
import { addressOf, groupsOf, unmapIpv4 } from './ip-address.ts';

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
 * A block holds addresses of its own family: `0.0.0.0/0` no IPv6 address, and `::/0` no IPv4 address. IPv4-mapped IPv6
 * is IPv4, in addresses (`::ffff:10.0.0.7`) and in entries (`::ffff:10.0.0.0/104` is `10.0.0.0/8`). The zone of an
 * address makes no difference, and an entry has none.
 *
 * @throws {TypeError} when an entry is neither. The message names the entry.
 */
export function createAddressList(entries: readonly string[]): AddressList {
  if (entries.length === 0) return emptyAddressList;
  // One for each family: in one list, Node takes an IPv4 address for an IPv6 one where a block of IPv6 is wide enough.
  const blocks = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const entry of entries) {
    const block = parseBlock(entry);
    if (!block)
      throw new TypeError(
        `not an address or CIDR block: ${JSON.stringify(entry)}; write for example "10.0.0.7", "192.168.0.0/24", "::1" or "fc00::/7"`,
      );
    blocks[block.family].addSubnet(addressOf(block.groups), block.bits, block.family);
  }
  return {
    contains(address) {
      const plain = unmapIpv4(address.split('%', 1)[0]!);
      const version = isIP(plain);
      if (version === 0) return false;
      const family = version === 4 ? 'ipv4' : 'ipv6';
      return blocks[family].check(plain, family);
    },
  };
}

/** Is it what `createAddressList` takes as an entry? */
export function isAddressOrBlock(text: string): boolean {
  return parseBlock(text) !== undefined;
}

/** Entries that are legal and probably not meant: a block that is wider than its address, or that holds everything. */
export function doubtfulEntries(entries: readonly string[]): { index: number; message: string }[] {
  return entries.flatMap((entry, index) => {
    const block = parseBlock(entry);
    const doubt = block && doubtOf(entry, block);
    return doubt === undefined ? [] : [{ index, message: doubt }];
  });
}

interface Block {
  readonly family: 'ipv4' | 'ipv6';
  readonly groups: readonly number[];
  readonly bits: number;
}

const NAMES = { ipv4: 'IPv4', ipv6: 'IPv6' } as const;

function doubtOf(entry: string, { family, groups, bits }: Block): string | undefined {
  const other = family === 'ipv4' ? 'ipv6' : 'ipv4';
  if (bits === 0)
    return `"${entry}" holds every ${NAMES[family]} address, so any client may say who it is, and no ${NAMES[other]} address; name the proxies`;
  const width = family === 'ipv4' ? 8 : 16;
  const first = groups.map((group, index) => {
    const kept = Math.min(width, Math.max(0, bits - index * width));
    return group & ((0xffff << (width - kept)) & ((1 << width) - 1));
  });
  if (first.every((group, index) => group === groups[index])) return undefined;
  const size = family === 'ipv4' ? `, with ${(2 ** (32 - bits)).toLocaleString('en')} addresses` : '';
  return `"${entry}" is the block ${addressOf(first)}/${bits}${size}; write that, or the longer prefix that you mean`;
}

function parseBlock(text: string): Block | undefined {
  const [address = '', bits, rest] = text.split('/');
  const read = address.includes('%') ? undefined : groupsOf(address);
  if (!read || rest !== undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
  const maxBits = read.family === 'ipv4' ? 32 : 128;
  // Of an IPv4 address that is written as IPv6, the first 96 bits say that it is one.
  const mappedBits = read.family === 'ipv4' && address.includes(':') ? 96 : 0;
  const ownBits = bits === undefined ? maxBits : Number(bits) - mappedBits;
  return ownBits >= 0 && ownBits <= maxBits ? { ...read, bits: ownBits } : undefined;
}
