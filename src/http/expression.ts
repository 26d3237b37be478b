import { type BacktrackingFault, backtrackingFault } from './backtracking.ts';

/** Does a text of a configuration stand for an expression? It begins with `/` and ends with `/` or `/i`. */
export function isExpressionText(text: string): boolean {
  return /^\/.+\/i?$/s.test(text);
}

/**
 * The expression that a user has given, as text or as an object, to be asked about any number of texts: g and y, which
 * remember the place of the last match, are left out.
 *
 * @param use `whole`: it must match the whole text. `search`: a part of it.
 * @throws {TypeError} when it is none, or when some texts would take it more than linear time. The message says so.
 */
export function compileExpression(given: string | RegExp, use: 'whole' | 'search'): RegExp {
  const expression = typeof given === 'string' ? parse(given) : given;
  const fault = backtrackingFault(expression, use === 'whole');
  if (fault) throw new TypeError(`the expression ${shown(given)} is refused: ${FAULTS[fault]}`);
  // Nor m for the whole, which lets ^ and $ match within.
  return use === 'whole'
    ? new RegExp(`^(?:${expression.source})$`, expression.flags.replace(/[gym]/g, ''))
    : new RegExp(expression.source, expression.flags.replace(/[gy]/g, ''));
}

/** Why an expression cannot be used; undefined when it can. */
export function expressionProblem(given: string | RegExp, use: 'whole' | 'search'): string | undefined {
  try {
    compileExpression(given, use);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function parse(text: string): RegExp {
  const end = text.lastIndexOf('/');
  if (!isExpressionText(text))
    throw new TypeError(`${shown(text)} is not an expression; write it between slashes, for example "/[a-z]+/"`);
  try {
    return new RegExp(text.slice(1, end), text.slice(end + 1));
  } catch (error) {
    throw new TypeError(`the expression ${shown(text)} cannot be read: ${(error as Error).message}`);
  }
}

function shown(given: string | RegExp): string {
  const text = String(given);
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}

const REMEDY =
  'let what is repeated be told from what follows it: "[^.]+\\." instead of ".+\\.", no loop within a loop, and for a search a bounded tail such as "<script\\b"';

const FAULTS: Readonly<Record<BacktrackingFault, string>> = {
  exponential: `for some texts its time doubles with each character, so that one request could stop the server; ${REMEDY}`,
  polynomial: `for some texts its time grows with the square of their length or more, so that one request could stop the server; ${REMEDY}`,
  'back-reference':
    'what it takes to match a back-reference cannot be foreseen; write out what may stand there, or use several expressions',
  lookaround: 'it looks ahead or behind for something of any length, from each place anew; use several expressions',
  'empty-repeat':
    'it repeats a number of times what may be empty; repeat what is not, for example "a{0,30}" instead of "(a?){30}"',
  modifiers: 'flags of a part cannot be judged; give the flag to the whole, or write "[aA]"',
  'too-large': 'it is too large to be judged; write it shorter, or use several expressions',
};
