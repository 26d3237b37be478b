import { type AST, RegExpParser } from '@eslint-community/regexpp';
import { CharacterSetBuilder, type CharacterSets } from './expression-characters.ts';

/**
 * Why an expression may not be used on what strangers send.
 *
 * - `exponential`, `polynomial`: for some text the time of a search grows faster than the text.
 * - `back-reference`, `lookaround`, `empty-repeat`, `modifiers`: cannot be judged.
 * - `too-large`: would take too long to be judged.
 */
export type BacktrackingFault =
  | 'exponential'
  | 'polynomial'
  | 'back-reference'
  | 'lookaround'
  | 'empty-repeat'
  | 'modifiers'
  | 'too-large';

/** Places of characters in an expression, a repeated one once for each time that it must be there. */
const MAX_POSITIONS = 400;
/** About a tenth of a second. */
const MAX_STEPS = 3_000_000;

/**
 * Can a backtracking matcher need more than linear time for this expression?
 *
 * It can when there are several ways to read one text, and more of them the longer the text is. The expression is made
 * an automaton with a state for each place of a character (Glushkov). Two ways round from a state to itself by one text
 * are exponential; two states with ways from the first to itself, from the first to the second, and from the second to
 * itself, by one text, are polynomial (Weber and Seidl, On the degree of ambiguity of finite automata, 1991). A search
 * that may begin anywhere is a state more, from which every place can be the first.
 *
 * It errs on the safe side: what can be repeated up to a number of times counts as repeated for ever, and nobody looks
 * whether there is a text on which the match fails at last. What can be written in one expression without repeating
 * (`a?a?a?`) is not counted.
 *
 * @param isWhole The expression is used on the whole text: `^(?:…)$`. Else it is searched for.
 */
export function backtrackingFault(
  { source, flags }: Pick<RegExp, 'source' | 'flags'>,
  isWhole: boolean,
): BacktrackingFault | undefined {
  try {
    const modes = { unicode: flags.includes('u'), unicodeSets: flags.includes('v') };
    const pattern = new RegExpParser().parsePattern(source, 0, source.length, modes);
    const places = new Places(new CharacterSetBuilder(flags), flags.includes('m'));
    const whole = places.alternatives(pattern.alternatives);
    const automaton = new Automaton(places);
    if (automaton.hasTwoWaysRound()) return 'exponential';
    if (automaton.hasGrowingChoice()) return 'polynomial';
    if (isWhole) return undefined;
    return automaton.hasGrowingSearch(whole, places.hasConditions) ? 'polynomial' : undefined;
  } catch (error) {
    if (error instanceof Unjudged) return error.fault;
    throw error;
  }
}

class Unjudged extends Error {
  readonly fault: BacktrackingFault;
  constructor(fault: BacktrackingFault) {
    super(fault);
    this.fault = fault;
  }
}

/** A part of an expression: the places it can begin and end with. */
interface Part {
  readonly canBeEmpty: boolean;
  /** `^`: empty at the beginning of the text, and nowhere else. */
  readonly isEmptyAnywhere: boolean;
  readonly first: readonly number[];
  /** Those of `first` that it can begin with in the middle of a text. */
  readonly firstAnywhere: readonly number[];
  readonly last: readonly number[];
}

const EMPTY: Part = { canBeEmpty: true, isEmptyAnywhere: true, first: [], firstAnywhere: [], last: [] };

/** The places of an expression, and which may follow which: twice where there are two ways. */
class Places {
  readonly sets: CharacterSets[] = [];
  readonly follow: number[][] = [];
  /** Whether it ends may hang on more than its characters. */
  hasConditions = false;
  readonly characters: CharacterSetBuilder;
  readonly #startsLines: boolean;

  constructor(characters: CharacterSetBuilder, startsLines: boolean) {
    this.characters = characters;
    this.#startsLines = startsLines;
  }

  alternatives(alternatives: readonly AST.Alternative[]): Part {
    const parts = alternatives.map(({ elements }) =>
      this.#sequence(elements.map(element => () => this.#part(element))),
    );
    return {
      canBeEmpty: parts.some(part => part.canBeEmpty),
      isEmptyAnywhere: parts.some(part => part.isEmptyAnywhere),
      first: parts.flatMap(part => part.first),
      firstAnywhere: parts.flatMap(part => part.firstAnywhere),
      last: parts.flatMap(part => part.last),
    };
  }

  #sequence(makers: readonly (() => Part)[]): Part {
    let all = EMPTY;
    for (const make of makers) {
      const next = make();
      this.#link(all.last, next.first);
      all = {
        canBeEmpty: all.canBeEmpty && next.canBeEmpty,
        isEmptyAnywhere: all.isEmptyAnywhere && next.isEmptyAnywhere,
        first: all.canBeEmpty ? [...all.first, ...next.first] : all.first,
        firstAnywhere: all.isEmptyAnywhere ? [...all.firstAnywhere, ...next.firstAnywhere] : all.firstAnywhere,
        last: next.canBeEmpty ? [...all.last, ...next.last] : next.last,
      };
    }
    return all;
  }

  #part(element: AST.Element): Part {
    switch (element.type) {
      case 'Character':
      case 'CharacterClass':
      case 'CharacterSet':
      case 'ExpressionCharacterClass':
        return this.#place(this.characters.of(element));
      case 'Group':
        if (element.modifiers) throw new Unjudged('modifiers');
        return this.alternatives(element.alternatives);
      case 'CapturingGroup':
        return this.alternatives(element.alternatives);
      case 'Quantifier':
        return this.#repeated(element);
      case 'Backreference':
        throw new Unjudged('back-reference');
      case 'Assertion':
        if (element.kind === 'start') return this.#startsLines ? EMPTY : { ...EMPTY, isEmptyAnywhere: false };
        this.hasConditions = true;
        // What it looks for is looked for anew from each place.
        if ('alternatives' in element && repeats(element.alternatives)) throw new Unjudged('lookaround');
        return EMPTY;
    }
  }

  #repeated({ element, min, max }: AST.Quantifier): Part {
    if (max === 0) return EMPTY;
    const once = () => this.#part(element);
    if (max === 1) return min === 1 ? once() : orEmpty(once());
    const isOneCharacter = /Character/.test(element.type) && element.type !== 'CapturingGroup';
    if (isOneCharacter && min > 1) {
      if (min > MAX_POSITIONS) throw new Unjudged('too-large');
      const copies = Array.from({ length: min }, () => once);
      if (max === min) return this.#sequence(copies);
      return this.#sequence([...copies, () => this.#loop(once(), 0)]);
    }
    const body = once();
    // For ever it is taken as often as there is something to take; a number of times it may be taken empty.
    if (body.canBeEmpty && (min > 1 || max < Number.POSITIVE_INFINITY)) throw new Unjudged('empty-repeat');
    return this.#loop(body, min);
  }

  #loop(body: Part, min: number): Part {
    this.#link(body.last, body.first);
    return min === 0 ? orEmpty(body) : body;
  }

  #place(set: CharacterSets): Part {
    if (this.sets.length === MAX_POSITIONS) throw new Unjudged('too-large');
    const place = this.sets.push(set) - 1;
    this.follow.push([]);
    return { canBeEmpty: false, isEmptyAnywhere: false, first: [place], firstAnywhere: [place], last: [place] };
  }

  #link(from: readonly number[], to: readonly number[]): void {
    for (const place of from) this.follow[place]!.push(...to);
  }
}

function orEmpty(part: Part): Part {
  return { ...part, canBeEmpty: true, isEmptyAnywhere: true };
}

function repeats(alternatives: readonly AST.Alternative[]): boolean {
  return alternatives.some(({ elements }) => elements.some(isRepeat));
}

function isRepeat(element: AST.Element): boolean {
  if (element.type === 'Quantifier') return element.max > 1 || isRepeat(element.element);
  return 'alternatives' in element && repeats(element.alternatives);
}

class Automaton {
  readonly #sets: readonly bigint[];
  readonly #follow: readonly (readonly number[])[];
  /** By one step or more. */
  readonly #reachable: readonly ReadonlySet<number>[];
  #steps = 0;

  constructor({ sets, follow, characters }: Places) {
    this.#sets = characters.masks(sets);
    this.#follow = follow;
    this.#reachable = follow.map((_, place) => this.#reach(follow[place]!, one => follow[one]!));
  }

  /** Two different ways by one text from a place back to itself. */
  hasTwoWaysRound(): boolean {
    const size = this.#sets.length;
    const isOfOneLoop = (a: number, b: number) => this.#reachable[a]!.has(b) && this.#reachable[b]!.has(a);
    for (const [from, next] of this.#follow.entries())
      for (const to of next) if (next.indexOf(to) !== next.lastIndexOf(to) && isOfOneLoop(from, to)) return true;

    const back = new Map<number, number[]>();
    const pairsAfter = (pair: number): number[] => {
      const [a, b] = [Math.floor(pair / size), pair % size];
      const after: number[] = [];
      for (const one of this.#follow[a]!)
        for (const other of this.#follow[b]!) {
          this.#count();
          const isRead = (this.#sets[one]! & this.#sets[other]!) !== 0n;
          if (isRead && isOfOneLoop(a, one) && isOfOneLoop(b, other)) after.push(one * size + other);
        }
      for (const other of after) {
        const before = back.get(other);
        if (before) before.push(pair);
        else back.set(other, [pair]);
      }
      return after;
    };
    const loops = this.#loops().map(place => place * size + place);
    const apart = this.#reach(loops, pairsAfter);
    for (const loop of loops) apart.add(loop);
    const together = this.#reach(loops, pair => back.get(pair) ?? []);
    return [...together].some(pair => apart.has(pair) && Math.floor(pair / size) !== pair % size);
  }

  /** Two places, each of which comes back to itself by a text that also leads from the first to the second. */
  hasGrowingChoice(): boolean {
    const loops = this.#loops();
    return loops.some(first => loops.some(second => first !== second && this.#grows(first, second)));
  }

  #grows(first: number, second: number): boolean {
    if (!this.#reachable[first]!.has(second)) return false;
    const size = this.#sets.length;
    const goal = (first * size + second) * size + second;
    const found = this.#reach([(first * size + first) * size + second], triple => {
      const c = triple % size;
      const b = Math.floor(triple / size) % size;
      const a = Math.floor(triple / size / size);
      const after: number[] = [];
      for (const one of this.#follow[a]!) {
        if (!this.#reachable[one]!.has(first)) continue;
        for (const three of this.#follow[c]!) {
          const both = this.#sets[one]! & this.#sets[three]!;
          if (both === 0n || !this.#reachable[three]!.has(second)) continue;
          for (const two of this.#follow[b]!) {
            this.#count();
            if ((both & this.#sets[two]!) === 0n) continue;
            if (two === second || this.#reachable[two]!.has(second)) after.push((one * size + two) * size + three);
          }
        }
      }
      return after;
    });
    return found.has(goal);
  }

  /**
   * Are there texts in which a search that fails reads the rest from each of its beginnings? One that comes to an end
   * of the expression does not fail, where nothing else is asked there.
   */
  hasGrowingSearch({ firstAnywhere, last }: Part, hasConditions: boolean): boolean {
    const size = this.#sets.length;
    const start = size;
    const isEnd = new Set(hasConditions ? [] : last);
    const follow = (place: number) =>
      (place === start ? firstAnywhere : this.#follow[place]!).filter(one => !isEnd.has(one));
    return this.#loops().some(loop => {
      if (isEnd.has(loop)) return false;
      const found = this.#reach([start * (size + 1) + loop], pair => {
        const [a, b] = [Math.floor(pair / (size + 1)), pair % (size + 1)];
        const after: number[] = [];
        for (const two of follow(b)) {
          if (!this.#reachable[two]!.has(loop)) continue;
          if (a === start) after.push(start * (size + 1) + two);
          for (const one of follow(a)) {
            this.#count();
            if ((this.#sets[one]! & this.#sets[two]!) !== 0n) after.push(one * (size + 1) + two);
          }
        }
        return after;
      });
      return found.has(loop * (size + 1) + loop);
    });
  }

  /** Places that come back to themselves. */
  #loops(): number[] {
    return [...this.#follow.keys()].filter(place => this.#reachable[place]!.has(place));
  }

  #reach(from: readonly number[], after: (one: number) => readonly number[]): Set<number> {
    const reached = new Set<number>();
    const open = [...from];
    // The beginning counts as reached only when something leads back to it.
    const expanded = new Set<number>();
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      if (expanded.has(one)) continue;
      expanded.add(one);
      for (const next of after(one)) {
        this.#count();
        reached.add(next);
        if (!expanded.has(next)) open.push(next);
      }
    }
    return reached;
  }

  #count(): void {
    this.#steps += 1;
    if (this.#steps > MAX_STEPS) throw new Unjudged('too-large');
  }
}
