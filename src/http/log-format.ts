import { HoldfastError } from '../base/errors.ts';

/** One value of a line: a directive of Apache's `LogFormat`, with what stands between `%` and its letter. */
export interface LogFormatDirective {
  /** Its letter, or `^ti` and `^to` for trailers. */
  readonly name: string;
  /** What stands in `{}`. */
  readonly argument: string | undefined;
  /** Statuses of which (or, when excluded, of all others) the value is written; of the rest it is `-`. */
  readonly statuses: ReadonlySet<number> | undefined;
  readonly isExcluded: boolean;
  /** Where its `%` stands: 1 for the first character. */
  readonly place: number;
}

/** Text as it is, or a directive. */
export type LogFormatItem = string | LogFormatDirective;

/** Those that have a value here. `e` and `n` are Apache's own, and have none. */
const DIRECTIVES = 'aABbCDfhHiIklLmoOpPqrRsStTuUvVxX';
const NEED_ARGUMENT: Readonly<Record<string, string>> = {
  C: 'the name of a cookie, %{theme}C',
  i: 'the name of a header, %{Referer}i',
  o: 'the name of a header, %{Content-Type}o',
  x: 'the name of a variable, %{SSL_PROTOCOL}x',
  '^ti': 'the name of a trailer, %{Digest}^ti',
  '^to': 'the name of a trailer, %{Digest}^to',
};
/** The variables of mod_ssl that a line can have. */
export const TLS_VARIABLES: readonly string[] = ['SSL_PROTOCOL', 'SSL_CIPHER', 'SSL_TLS_SNI'];
/** Letters of `%{…}t` that are understood behind a `%`. */
export const TIME_LETTERS = 'aAbBCdDeFGgHhIjklmMnpPrRsSTtuUVwWyYzZcxX%';
const WORDS_OF_TIME = new Set(['', 'sec', 'msec', 'usec', 'msec_frac', 'usec_frac']);

const WHY_NOT: Readonly<Record<string, string>> = {
  e: "the environment of a request is Apache's own, and there is none here; take it out, or write a header of the request, %{NAME}i",
  n: "notes are Apache's own, between its modules; take it out",
  c: 'the old form of mod_ssl; write %{SSL_PROTOCOL}x or %{SSL_CIPHER}x',
};

/**
 * Reads the text of an Apache `LogFormat`: what `mod_log_config` and `mod_logio` know, and of `mod_ssl` a few variables.
 *
 * `\"`, `\\`, `\n` and `\t` are understood as in a configuration file of Apache.
 *
 * @throws {HoldfastError} ERR_CONFIG_INVALID for a directive that is unknown, is not closed, or needs what is not there;
 * the message says at which character.
 * @see https://httpd.apache.org/docs/2.4/mod/mod_log_config.html#formats
 */
export function parseLogFormat(text: string): LogFormatItem[] {
  const items: LogFormatItem[] = [];
  let literal = '';
  let at = 0;
  while (at < text.length) {
    const character = text[at]!;
    if (character === '\\') {
      literal += unescaped(text, at);
      at += at + 1 < text.length ? 2 : 1;
    } else if (character !== '%') {
      literal += character;
      at++;
    } else if (text[at + 1] === '%') {
      literal += '%';
      at += 2;
    } else {
      const { directive, end } = readDirective(text, at);
      if (literal !== '') items.push(literal);
      literal = '';
      items.push(directive);
      at = end;
    }
  }
  if (literal !== '') items.push(literal);
  return items;
}

function unescaped(text: string, at: number): string {
  const next = text[at + 1];
  switch (next) {
    case '"':
    case '\\':
      return next;
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return `\\${next ?? ''}`;
  }
}

function readDirective(text: string, start: number): { directive: LogFormatDirective; end: number } {
  let argument: string | undefined;
  let statuses: Set<number> | undefined;
  let isExcluded = false;
  let at = start + 1;
  for (; ; at++) {
    const character = text[at];
    if (character === undefined) throw wrong(text, start, at, 'ends before its letter');
    if (character === '!') isExcluded = !isExcluded;
    else if (character === '{') {
      const close = text.indexOf('}', at);
      if (close === -1) throw wrong(text, start, text.length, 'has a "{" that is not closed');
      argument = text.slice(at + 1, close);
      at = close;
    } else if (character >= '0' && character <= '9') {
      const [digits] = /^\d+/.exec(text.slice(at))!;
      statuses ??= new Set();
      statuses.add(Number(digits));
      at += digits.length - 1;
      // `<` and `>` tell a request from where Apache has taken it by itself; here both are one.
    } else if (character !== ',' && character !== '<' && character !== '>') break;
  }
  const end = text[at] === '^' ? at + 3 : at + 1;
  const name = text.slice(at, end);
  checkDirective(text, start, end, name, argument);
  return { directive: { name, argument, statuses, isExcluded, place: start + 1 }, end };
}

function checkDirective(text: string, start: number, end: number, name: string, argument: string | undefined): void {
  const why = WHY_NOT[name];
  if (why !== undefined) throw wrong(text, start, end, `cannot be written: ${why}`);
  if (name !== '^ti' && name !== '^to' && !(name.length === 1 && DIRECTIVES.includes(name)))
    throw wrong(text, start, end, `is not a directive of a LogFormat; a percent sign itself is written "%%"`);
  const needed = NEED_ARGUMENT[name];
  if (needed !== undefined && (argument === undefined || argument === ''))
    throw wrong(text, start, end, `needs ${needed}`);
  if (name === 'x' && !TLS_VARIABLES.includes(argument!))
    throw wrong(text, start, end, `cannot be written: of mod_ssl there are ${TLS_VARIABLES.join(', ')}`);
  if (name === 't') checkTime(text, start, end, argument ?? '');
}

function checkTime(text: string, start: number, end: number, argument: string): void {
  const format = argument.replace(/^(?:begin|end):/, '');
  if (WORDS_OF_TIME.has(format)) return;
  for (const [letter] of format.matchAll(/%(?:$|[\s\S])/g))
    if (letter.length < 2 || !TIME_LETTERS.includes(letter[1]!))
      throw wrong(text, start, end, `has ${JSON.stringify(letter)}, which is not understood in a time`);
}

function wrong(text: string, start: number, end: number, what: string): HoldfastError {
  const part = JSON.stringify(text.slice(start, end));
  return new HoldfastError('ERR_CONFIG_INVALID', `${part} at character ${start + 1} of the LogFormat ${what}`);
}
