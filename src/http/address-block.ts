import { addressOf, groupsOf } from './ip-address.ts';

/** A block of addresses, as an entry of a list has it: the groups of an address, and how many of its bits count. */
export interface AddressBlock {
  readonly family: 'ipv4' | 'ipv6';
  readonly groups: readonly number[];
  readonly bits: number;
}

/** How many bits a group of an address has. */
export const GROUP_BITS = { ipv4: 8, ipv6: 16 } as const;

/**
 * Reads an address (`10.0.0.7`, `::1`) or a CIDR block (`10.0.0.0/8`, `fc00::/7`). IPv4-mapped IPv6 is IPv4
 * (`::ffff:10.0.0.0/104` is `10.0.0.0/8`). An entry has no zone.
 *
 * @returns undefined for what is neither.
 */
export function parseAddressBlock(text: string): AddressBlock | undefined {
  const [address = '', bits, rest] = text.split('/');
  const read = address.includes('%') ? undefined : groupsOf(address);
  if (!read || rest !== undefined || (bits !== undefined && !/^\d{1,3}$/.test(bits))) return undefined;
  const maxBits = read.family === 'ipv4' ? 32 : 128;
  // Of an IPv4 address that is written as IPv6, the first 96 bits say that it is one.
  const mappedBits = read.family === 'ipv4' && address.includes(':') ? 96 : 0;
  const ownBits = bits === undefined ? maxBits : Number(bits) - mappedBits;
  return ownBits >= 0 && ownBits <= maxBits ? { ...read, bits: ownBits } : undefined;
}

/** The same for what has to be one. @throws {TypeError} when it is neither; the message names it. */
export function readAddressBlock(entry: string): AddressBlock {
  const block = parseAddressBlock(entry);
  if (block) return block;
  throw new TypeError(
    `not an address or CIDR block: ${JSON.stringify(entry)}; write for example "10.0.0.7", "192.168.0.0/24", "::1" or "fc00::/7"`,
  );
}

/** Is it an address or a CIDR block? */
export function isAddressOrBlock(text: string): boolean {
  return parseAddressBlock(text) !== undefined;
}

/** The block with its first address, as it should be written: `10.0.0.0/8`; without its bits where it is one address. */
export function blockText(block: AddressBlock): string {
  const isOne = block.bits === (block.family === 'ipv4' ? 32 : 128);
  return addressOf(firstOf(block)) + (isOne ? '' : `/${block.bits}`);
}

/** What is wrong with an entry whose address is not the first of its block: probably a shorter block was meant. */
export function widthDoubt(entry: string, block: AddressBlock): string | undefined {
  if (firstOf(block).every((group, index) => group === block.groups[index])) return undefined;
  const size = block.family === 'ipv4' ? `, with ${(2 ** (32 - block.bits)).toLocaleString('en')} addresses` : '';
  return `"${entry}" is the block ${blockText(block)}${size}; write that, or the longer prefix that you mean`;
}

function firstOf({ family, groups, bits }: AddressBlock): number[] {
  const width = GROUP_BITS[family];
  return groups.map((group, index) => {
    const kept = Math.min(width, Math.max(0, bits - index * width));
    return group & ((0xffff << (width - kept)) & ((1 << width) - 1));
  });
}
