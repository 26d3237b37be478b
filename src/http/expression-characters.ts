import type { AST } from '@eslint-community/regexpp';

/** Characters from the first to the last, both included. */
type Range = readonly [number, number];

/** The characters that stand at one place of an expression. */
export type CharacterSets = readonly Range[];

const LAST = 0x10_ffff;
const ALL: CharacterSets = [[0, LAST]];
const DIGITS: CharacterSets = [[0x30, 0x39]];
const WORD: CharacterSets = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** ECMAScript WhiteSpace and LineTerminator, those above U+00A0 taken together. */
const SPACE: CharacterSets = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: CharacterSets = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const BEYOND_ASCII: Range = [0x80, LAST];

/** Which characters a place takes; rather too many than too few. */
export class CharacterSetBuilder {
  readonly #ignoresCase: boolean;
  readonly #dotIsAll: boolean;
  readonly #isUnicode: boolean;

  constructor(flags: string) {
    this.#ignoresCase = flags.includes('i');
    this.#dotIsAll = flags.includes('s');
    this.#isUnicode = /[uv]/.test(flags);
  }

  of(element: AST.Character | AST.CharacterClass | AST.CharacterSet | AST.ExpressionCharacterClass): CharacterSets {
    switch (element.type) {
      case 'Character':
        // Without u and v a character beyond the first plane is two to the matcher.
        return this.#inBothCases([[element.value, element.value]]);
      case 'CharacterSet':
        return this.#named(element);
      case 'ExpressionCharacterClass':
        return ALL;
      case 'CharacterClass': {
        const inside: Range[] = [];
        for (const one of element.elements) {
          if (one.type === 'Character') inside.push([one.value, one.value]);
          else if (one.type === 'CharacterClassRange') inside.push([one.min.value, one.max.value]);
          else if (one.type === 'CharacterSet') inside.push(...this.#named(one));
          else return ALL;
        }
        // In both cases first: `[^a]` with the flag i takes no "A".
        return element.negate ? without(this.#toNegate(inside)) : this.#inBothCases(inside);
      }
    }
  }

  /** Each set as bits, of which two have one in common when there is a character in both. */
  masks(sets: readonly CharacterSets[]): bigint[] {
    const bounds = [...new Set(sets.flat().flatMap(([from, to]) => [from, to + 1]))].sort((a, b) => a - b);
    return sets.map(set => {
      let mask = 0n;
      for (const [index, bound] of bounds.entries())
        if (set.some(([from, to]) => from <= bound && bound <= to)) mask |= 1n << BigInt(index);
      return mask;
    });
  }

  #named(set: AST.CharacterSet): CharacterSets {
    switch (set.kind) {
      case 'any':
        return this.#dotIsAll ? ALL : without(LINE_ENDS);
      case 'digit':
        return set.negate ? without(DIGITS) : DIGITS;
      case 'space':
        return set.negate ? without(SPACE) : SPACE;
      case 'word':
        return set.negate ? without(WORD) : this.#inBothCases(WORD);
      case 'property':
        return ALL;
    }
  }

  #inBothCases(ranges: CharacterSets): CharacterSets {
    if (!this.#ignoresCase) return ranges;
    const both: Range[] = [...ranges];
    for (const [from, to] of ranges) {
      both.push(...cut(from, to, 0x41, 0x5a, 0x20), ...cut(from, to, 0x61, 0x7a, -0x20));
      // Which letters beyond ASCII are one is a long list: they count as one.
      if (to >= BEYOND_ASCII[0]) both.push(BEYOND_ASCII, ...(this.#isUnicode ? LETTERS_WITH_OTHERS : []));
      // Of these the Kelvin sign and the long s are the same.
      else if (this.#isUnicode && LETTERS_WITH_OTHERS.some(([letter]) => from <= letter && letter <= to))
        both.push(BEYOND_ASCII);
    }
    return both;
  }

  /** As few as are certain: what is taken out of all characters must not be too many. */
  #toNegate(ranges: CharacterSets): CharacterSets {
    if (!this.#ignoresCase) return ranges;
    const both: Range[] = [...ranges];
    for (const [from, to] of ranges) both.push(...cut(from, to, 0x41, 0x5a, 0x20), ...cut(from, to, 0x61, 0x7a, -0x20));
    return both;
  }
}

const LETTERS_WITH_OTHERS: CharacterSets = [
  [0x4b, 0x4b],
  [0x53, 0x53],
  [0x6b, 0x6b],
  [0x73, 0x73],
];

/** The part from `low` to `high`, moved by `distance`. */
function cut(from: number, to: number, low: number, high: number, distance: number): Range[] {
  const [first, last] = [Math.max(from, low), Math.min(to, high)];
  return first <= last ? [[first + distance, last + distance]] : [];
}

function without(ranges: CharacterSets): CharacterSets {
  const rest: Range[] = [];
  let next = 0;
  for (const [from, to] of [...ranges].sort(([a], [b]) => a - b)) {
    if (from > next) rest.push([next, from - 1]);
    next = Math.max(next, to + 1);
  }
  if (next <= LAST) rest.push([next, LAST]);
  return rest;
}
