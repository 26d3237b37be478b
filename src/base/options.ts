import { nearestName } from './nearest-name.ts';

/** The names of options, with those of the options inside an option in its place. */
export interface Names {
  readonly [name: string]: true | Names;
}

/** The names of all options of `T`: one that is missing, and one that `T` does not have, does not compile. */
export type OptionNames<T> = { readonly [K in keyof Required<T>]: true | Names };

/**
 * Refuses what is no object of options, and options that do not exist: a misspelled one would be without effect, and
 * nobody would know. One with the value `undefined` is no better.
 *
 * Of an object of a class, which may have fields of its own, only names like those of callbacks are looked at.
 *
 * @param call What the application has called, for the message.
 * @throws {TypeError} that names the nearest option there is.
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
  for (const name of isPlain(options) ? Object.keys(options) : callbacksOf(options)) {
    if (!Object.hasOwn(names, name)) throw unknownOption(call, path, name, Object.keys(names));
    const inner = names[name]!;
    const value = (options as Readonly<Record<string, unknown>>)[name];
    if (inner !== true && typeof value === 'object' && value !== null)
      checkNames(call, value, inner, `${path}${name}.`);
  }
}

function unknownOption(call: string, path: string, name: string, known: readonly string[]): TypeError {
  const near = nearestName(name, known);
  const remedy = near === undefined ? `known options: ${known.join(', ')}` : `did you mean "${near}"?`;
  return new TypeError(`${call}: unknown option ${JSON.stringify(path + name)}; ${remedy}`);
}

/** Also an object of another realm. */
function isPlain(value: object): boolean {
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
