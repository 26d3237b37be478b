/** A broken rule: where (as a path of keys) and what. */
export interface BrokenRule {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** Keys and values as they were written, of any type. */
export type Fields = Readonly<Record<string, unknown>>;

/** How messages name a route: by its name, else by its paths. */
export function title(route: { name?: unknown; path?: unknown; mount?: unknown; endpoint?: unknown }): string {
  const names = [route.name, route.path, route.mount, fields(route.endpoint).patterns];
  const name = names.find(value => typeof value === 'string' || (Array.isArray(value) && typeof value[0] === 'string'));
  return name === undefined ? 'this route' : `route "${[name].flat().join(', ')}"`;
}

/** What has no keys, whatever it was. */
export const NOTHING: Fields = {};

/** The keys of a value of any type: none, when it is not an object. */
export function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : NOTHING;
}

/** What keys and values are written as: no object of a class, which may have parts that are nobody's business. */
export function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** Is a key at the top of a document left out? There may be anchors, and the schema for an editor. */
export function isExtension(key: string): boolean {
  return key.startsWith('x-') || key === '$schema';
}
