/** The same without what is there and undefined, so that it takes the place of nothing where options are merged. */
export function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
