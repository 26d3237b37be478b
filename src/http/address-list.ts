import { BlockList, isIP } from 'node:net';
import { type AddressBlock, parseAddressBlock, readAddressBlock, widthDoubt } from './address-block.ts';
import { addressOf, unmapIpv4 } from './ip-address.ts';

/** A set of addresses and CIDR blocks, IPv4 and IPv6. */
export interface AddressList {
  /** True when the address lies in one of the blocks. What is not an address (`''`, `unknown`) lies in none. */
  contains(address: string): boolean;
}

/** Contains nothing: no proxy is trusted. */
export const emptyAddressList: AddressList = { contains: () => false };

/** A list that can become another one while it is in use. */
export class ReplaceableAddressList implements AddressList {
  #list: AddressList = emptyAddressList;

  contains(address: string): boolean {
    return this.#list.contains(address);
  }

  become(list: AddressList): void {
    this.#list = list;
  }
}

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
    const block = readAddressBlock(entry);
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

/** An entry of a list that is legal and probably not meant. */
export interface DoubtfulEntry {
  readonly kind: 'wide-block' | 'every-address-trusted';
  readonly index: number;
  readonly message: string;
}

/** Entries that are legal and probably not meant: a block that is wider than its address, or that holds everything. */
export function doubtfulEntries(entries: readonly string[]): DoubtfulEntry[] {
  return entries.flatMap((entry, index) => {
    const block = parseAddressBlock(entry);
    const doubt = block && doubtOf(entry, block);
    return doubt === undefined ? [] : [{ index, ...doubt }];
  });
}

const NAMES = { ipv4: 'IPv4', ipv6: 'IPv6' } as const;

function doubtOf(entry: string, block: AddressBlock): Omit<DoubtfulEntry, 'index'> | undefined {
  if (block.bits > 0) {
    const message = widthDoubt(entry, block);
    return message === undefined ? undefined : { kind: 'wide-block', message };
  }
  const other = block.family === 'ipv4' ? 'ipv6' : 'ipv4';
  const message = `"${entry}" holds every ${NAMES[block.family]} address, so any client may say who it is, and no ${NAMES[other]} address; name the proxies`;
  return { kind: 'every-address-trusted', message };
}
