import {
  type AddressBlock,
  blockText,
  GROUP_BITS,
  parseAddressBlock,
  readAddressBlock,
  widthDoubt,
} from './address-block.ts';
import { groupsOf } from './ip-address.ts';

/** Addresses and CIDR blocks that may come in, and that may not. */
export interface AddressLists {
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
}

type Verdict = 'allow' | 'deny';

/**
 * What two lists say of an address.
 *
 * Of the blocks that hold it the one with the longest prefix decides, whatever their order; where one block is in both
 * lists, `deny` does. An address that no block holds, and what is no address, is allowed when there is no `allow`. A
 * block holds addresses of its own family: `0.0.0.0/0` no IPv6 and `::/0` no IPv4, and IPv4-mapped IPv6 is IPv4.
 *
 * @throws {TypeError} when an entry is neither an address nor a block. The message names it.
 */
export function createAddressRules(lists: AddressLists): (address: string) => Verdict {
  const tree = treeOf(lists);
  const otherwise = defaultOf(lists);
  return text => {
    const address = groupsOf(text);
    return (address && lookUp(tree[address.family], address)) ?? otherwise;
  };
}

/** An entry that is legal and does not do what was meant. */
export interface DoubtfulRule {
  readonly kind: 'address-idle' | 'wide-block' | 'family-forgotten';
  readonly list: Verdict;
  /** Undefined: it concerns the list. */
  readonly index?: number;
  readonly message: string;
}

/** Entries that never matter, that are wider than they look, and a family that was forgotten. */
export function doubtfulRules(lists: AddressLists): DoubtfulRule[] {
  const tree = treeOf(lists);
  const blocksOf = (list: Verdict) => (lists[list] ?? []).map(entry => blockText(parseAddressBlock(entry)!));
  const [allowed, denied] = [blocksOf('allow'), blocksOf('deny')];
  const idleBecause = (list: Verdict, index: number, block: AddressBlock): string | undefined => {
    const text = blockText(block);
    if ((list === 'allow' ? allowed : denied).indexOf(text) < index) return `${text} is in the list already`;
    if (list === 'allow' && denied.includes(text)) return `${text} is under "deny" too, which counts more`;
    const { own, above } = find(tree[block.family], block);
    if (isCovered(own.zero) && isCovered(own.one)) return `smaller blocks decide for every address of ${text}`;
    // Without it the other entry would decide.
    if (list === 'deny' && allowed.includes(text)) return undefined;
    if (above) return above.verdict === list ? `${above.text} ${DOES[list]} it already` : undefined;
    return list === defaultOf(lists) ? `what is not under "${OTHER[list]}" is ${DONE[list]} anyway` : undefined;
  };
  return (['allow', 'deny'] as const).flatMap(list => {
    const doubts = (lists[list] ?? []).map((entry, index): Judged => {
      const block = parseAddressBlock(entry)!;
      const idle = idleBecause(list, index, block);
      return idle
        ? { kind: 'address-idle', list, index, message: `never matters: ${idle}; remove it` }
        : { kind: 'wide-block', list, index, message: widthDoubt(entry, block) };
    });
    const family: Judged = { kind: 'family-forgotten', list, message: forgottenFamily(lists[list] ?? []) };
    return [...doubts, family].filter(isDoubt);
  });
}

const DOES = { allow: 'allows', deny: 'denies' } as const;
const DONE = { allow: 'allowed', deny: 'denied' } as const;
const OTHER = { allow: 'deny', deny: 'allow' } as const;

type Judged = Omit<DoubtfulRule, 'message'> & { readonly message: string | undefined };

function isDoubt(doubt: Judged): doubt is DoubtfulRule {
  return doubt.message !== undefined;
}

/** Who writes "everything" for one family has hardly meant to leave the other one as it is. */
function forgottenFamily(entries: readonly string[]): string | undefined {
  const families = entries.map(entry => parseAddressBlock(entry)!);
  const all = families.find(({ bits }) => bits === 0);
  if (!all || families.some(({ family }) => family !== all.family)) return undefined;
  return all.family === 'ipv4'
    ? '"0.0.0.0/0" holds no IPv6 address; add "::/0" when those are meant too'
    : '"::/0" holds no IPv4 address; add "0.0.0.0/0" when those are meant too';
}

/** What is said of an address that no block holds. */
function defaultOf({ allow }: AddressLists): Verdict {
  return allow === undefined ? 'allow' : 'deny';
}

/** The blocks by their bits, from the first on. */
interface Node {
  zero?: Node;
  one?: Node;
  verdict?: Verdict;
}
type Tree = Readonly<Record<AddressBlock['family'], Node>>;

function treeOf(rules: AddressLists): Tree {
  const tree: Tree = { ipv4: {}, ipv6: {} };
  for (const list of ['allow', 'deny'] as const)
    for (const entry of rules[list] ?? []) {
      const block = readAddressBlock(entry);
      let node = tree[block.family];
      for (let bit = 0; bit < block.bits; bit++) node = node[sideOf(block, bit)] ??= {};
      node.verdict = list;
    }
  return tree;
}

function sideOf({ family, groups }: Pick<AddressBlock, 'family' | 'groups'>, bit: number): 'zero' | 'one' {
  const width = GROUP_BITS[family];
  const group = groups[Math.floor(bit / width)]!;
  return (group >> (width - 1 - (bit % width))) & 1 ? 'one' : 'zero';
}

function lookUp(tree: Node, address: Pick<AddressBlock, 'family' | 'groups'>): Verdict | undefined {
  let node: Node | undefined = tree;
  let { verdict } = tree;
  for (let bit = 0; (node = node[sideOf(address, bit)]); bit++) verdict = node.verdict ?? verdict;
  return verdict;
}

/** The node of a block, and the nearest block around it. */
function find(tree: Node, block: AddressBlock): { own: Node; above?: { verdict: Verdict; text: string } } {
  let above: { verdict: Verdict; text: string } | undefined;
  let own = tree;
  for (let bit = 0; bit < block.bits; bit++) {
    if (own.verdict) above = { verdict: own.verdict, text: blockText({ ...block, bits: bit }) };
    own = own[sideOf(block, bit)]!;
  }
  return { own, ...(above && { above }) };
}

/** Does a block within decide for every address of this node? */
function isCovered(node: Node | undefined): boolean {
  if (node === undefined) return false;
  return node.verdict !== undefined || (isCovered(node.zero) && isCovered(node.one));
}
