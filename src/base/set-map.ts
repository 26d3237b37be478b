/** A set of values for each key. A key is there as long as its set has a value. */
export class SetMap<K, V> extends Map<K, Set<V>> {
  add(key: K, value: V): void {
    const values = this.get(key);
    if (values) values.add(value);
    else this.set(key, new Set([value]));
  }

  remove(key: K, value: V): void {
    const values = this.get(key);
    if (values?.delete(value) && values.size === 0) this.delete(key);
  }
}
