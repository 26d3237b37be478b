import { types } from 'node:util';

const refuse = {
  value(): never {
    throw new TypeError('a value read from a session cannot be changed in place; change a copy and set it');
  },
};

// Own properties instead of subclasses: the prototype stays the built-in one, which is what comparisons and other
// libraries look at.
const mapMutators = mutators(['set', 'delete', 'clear']);
const setMutators = mutators(['add', 'delete', 'clear']);
const dateMutators = mutators(Object.getOwnPropertyNames(Date.prototype).filter(name => name.startsWith('set')));

/** Makes every mutating method of the map throw. Its keys and values are the caller's to freeze. */
export function freezeMap<K, V>(map: Map<K, V>): ReadonlyMap<K, V> {
  return Object.freeze(Object.defineProperties(map, mapMutators));
}

/** Makes every mutating method of the set throw. Its members are the caller's to freeze. */
export function freezeSet<V>(set: Set<V>): ReadonlySet<V> {
  return Object.freeze(Object.defineProperties(set, setMutators));
}

/** Makes every `set…` method of the date throw. */
export function freezeDate(date: Date): Readonly<Date> {
  return Object.freeze(Object.defineProperties(date, dateMutators));
}

/**
 * Freezes data that a function of the application made: arrays, plain objects, Maps, Sets and Dates, however deep.
 * Instances of classes and bytes in it are left as they are.
 */
export function deepFreeze(value: unknown): void {
  freezeReachable(value, new Set());
}

function freezeReachable(value: unknown, seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  seen.add(value);
  const members = membersOf(value);
  if (!members) return;
  freezeItself(value);
  for (const member of members) freezeReachable(member, seen);
}

/** What it consists of; undefined for what is not plain data. */
function membersOf(value: object): readonly unknown[] | undefined {
  if (types.isMap(value)) return [...value].flat(1);
  if (types.isSet(value)) return [...value];
  if (types.isDate(value)) return [];
  const prototype = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null
    ? Object.values(value)
    : undefined;
}

/**
 * Freezes the object and, of a Map, Set or Date, the content too. Bytes stay as they are: the language cannot freeze
 * them.
 */
export function freezeItself(value: object): void {
  if (!Object.isExtensible(value) || ArrayBuffer.isView(value)) return;
  if (types.isMap(value)) freezeMap(value);
  else if (types.isSet(value)) freezeSet(value);
  else if (types.isDate(value)) freezeDate(value);
  else Object.freeze(value);
}

function mutators(names: readonly string[]): PropertyDescriptorMap {
  return Object.fromEntries(names.map(name => [name, refuse]));
}
