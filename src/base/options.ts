import { nearestName } from './nearest-name.ts';

/** What values an option takes, and how messages say it. What is more than a kind is checked where it is read. */
const KINDS = {
  flag: { says: 'true or false', holds: (value: unknown) => typeof value === 'boolean' },
  number: { says: 'a number', holds: (value: unknown) => typeof value === 'number' && !Number.isNaN(value) },
  text: { says: 'a string', holds: (value: unknown) => typeof value === 'string' },
  function: { says: 'a function', holds: (value: unknown) => typeof value === 'function' },
  object: { says: 'an object', holds: (value: unknown) => kindOf(value) === 'an object' },
  // Of a `Headers` or a `Map` nothing would be read.
  fields: {
    says: 'an object of names and values',
    holds: (value: unknown) => kindOf(value) === 'an object' && isPlain(value as object),
  },
  list: { says: 'a list', holds: Array.isArray },
  measure: { says: 'a number or a string', holds: isMeasure },
  clock: { says: 'a clock', holds: (value: unknown) => hasMethods(value, ['now', 'monotonic', 'setTimeout']) },
  logger: { says: 'a logger', holds: (value: unknown) => hasMethods(value, ['debug', 'info', 'warn', 'error']) },
  output: { says: 'an object with a function "write"', holds: (value: unknown) => hasMethods(value, ['write']) },
} satisfies Readonly<Record<string, { says: string; holds: (value: unknown) => boolean }>>;

type Kind = keyof typeof KINDS;

/** The names of options: with a kind, with the names of the options inside, or `true` where another place checks it. */
export interface Names {
  readonly [name: string]: true | Kind | Names;
}

type KindOfOption<V> = [V] extends [boolean] ? 'flag' : [V] extends [number] ? 'number' : true | Kind | Names;

/** The names of all options of `T`: one that is missing, and one that `T` does not have, does not compile. */
export type OptionNames<T> = { readonly [K in keyof Required<T>]: KindOfOption<Exclude<T[K], undefined>> };

/**
 * Refuses what is no object of options, values of another kind, and options that do not exist: a misspelled one would be
 * without effect, and nobody would know. One with the value `undefined` is no better; one that exists has its default
 * then. `null` is a value.
 *
 * Of an object of a class, which may have fields of its own, only names like those of callbacks are looked at.
 *
 * @param call What the application has called, for the message.
 * @throws {TypeError} that names the nearest option there is, or what the value has to be.
 */
export function checkOptions(call: string, options: unknown, names: Names): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new TypeError(`${call}: options are an object, not ${kindOf(options)}`);
  checkNames(call, options, names, '');
}

/** @throws {TypeError} that names each needed option which is missing. */
export function checkNeeded(call: string, options: object, needed: readonly string[], example: string): void {
  const missing = needed.filter(name => (options as Readonly<Record<string, unknown>>)[name] === undefined);
  if (missing.length === 0) return;
  const names = missing.map(name => `"${name}"`).join(' and ');
  throw new TypeError(`${call}: needs ${names}, for example ${example}`);
}

/** Refuses a value that is none of a few texts; `undefined` is the default. @throws {TypeError} with the nearest one. */
export function checkChoice(call: string, name: string, value: unknown, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value as string)) return;
  const near = typeof value === 'string' ? nearestName(value, choices) : undefined;
  const given = typeof value === 'string' ? JSON.stringify(value.slice(0, 60)) : kindOf(value);
  const remedy = near === undefined ? '' : `; did you mean "${near}"?`;
  throw new TypeError(`${call}: "${name}" is one of ${choices.join(', ')}, not ${given}${remedy}`);
}

/** What a value is, with an article: `a string`, `a list`, `undefined`. Says nothing of what is in it. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function checkNames(call: string, options: object, names: Names, path: string): void {
  for (const name of isPlain(options) ? Object.keys(options) : callbacksOf(options))
    if (!Object.hasOwn(names, name)) throw unknownOption(call, path, name, Object.keys(names));
  for (const [name, kind] of Object.entries(names))
    if (kind !== true) checkValue(call, path + name, read(options, name), kind);
}

function checkValue(call: string, path: string, value: unknown, kind: Kind | Names): void {
  if (typeof kind === 'object') {
    // What is a text, or true or false, may stand for options: where it is read it is known.
    if (value === undefined || typeof value === 'string' || typeof value === 'boolean') return;
    if (kindOf(value) !== 'an object') throw new TypeError(`${call}: "${path}" is an object, not ${kindOf(value)}`);
    checkNames(call, value as object, kind, `${path}.`);
  } else if (value !== undefined && !KINDS[kind].holds(value)) {
    throw new TypeError(`${call}: "${path}" is ${KINDS[kind].says}, not ${described(value)}`);
  }
}

function described(value: unknown): string {
  if (Number.isNaN(value)) return 'NaN';
  return kindOf(value) === 'an object' && !isPlain(value as object) ? 'an object of a class' : kindOf(value);
}

function isMeasure(value: unknown): boolean {
  return KINDS.number.holds(value) || KINDS.text.holds(value);
}

/** True for an object, of whatever class, that has all of these methods. */
export function hasMethods(value: unknown, names: readonly string[]): value is object {
  return typeof value === 'object' && value !== null && names.every(name => typeof read(value, name) === 'function');
}

function read(value: object, name: string): unknown {
  return (value as Readonly<Record<string, unknown>>)[name];
}

function unknownOption(call: string, path: string, name: string, known: readonly string[]): TypeError {
  const near = nearestName(name, known);
  const remedy = near === undefined ? `known options: ${known.join(', ')}` : `did you mean "${near}"?`;
  return new TypeError(`${call}: unknown option ${JSON.stringify(path + name)}; ${remedy}`);
}

/** Of no class. Also an object of another realm. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function callbacksOf(options: object): string[] {
  const names = new Set<string>();
  // `Object.prototype` has none.
  for (let one: object = options; Object.getPrototypeOf(one) !== null; one = Object.getPrototypeOf(one))
    for (const name of Object.getOwnPropertyNames(one)) if (/^on[A-Z]/.test(name)) names.add(name);
  return [...names];
}
