const refuse = {
  value(): never {
    throw new TypeError('a value read from a session cannot be changed in place; change a copy and set it');
  },
};

// Own properties instead of subclasses: the prototype stays the built-in one, which is what comparisons and other libraries look at.
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

function mutators(names: readonly string[]): PropertyDescriptorMap {
  return Object.fromEntries(names.map(name => [name, refuse]));
}
