import { HoldfastError } from '../../base/errors.ts';
import { getOrInsert } from '../../base/get-or-insert.ts';
import { hostPatternsFor, normalizeHostPattern } from '../../http/host-names.ts';
import { matchingPath, writtenSegments } from '../../http/path-readings.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { type PatternSegment, parseRoutePattern, type RoutePattern } from '../../http/route-pattern.ts';

/** What a route matches, and what it leads to. */
export interface RouteEntry<T> {
  readonly pattern: string | RoutePattern;
  /** Exact host name, or `*.example.com` for every subdomain at any depth. Without port. Default: every host. */
  readonly host?: string;
  /** Default: every method. `GET` includes `HEAD`. */
  readonly methods?: readonly string[];
  /** For messages and logs. */
  readonly name: string;
  readonly value: T;
}

export interface RouteMatch<T> {
  readonly name: string;
  readonly value: T;
  /** Percent-decoded; a value that is not UTF-8 stays escaped. */
  readonly params: Readonly<Record<string, string>>;
  /**
   * What a prefix pattern left over, in normal form, parameters included: `''`, or beginning with `/`. Always `''` for
   * other patterns.
   */
  readonly rest: string;
}

/** The path has a route, the method has none: 405 with `Allow`. */
export interface MethodMismatch {
  readonly allowedMethods: readonly string[];
}

export interface Router<T> {
  /**
   * The most specific route for the path as the most lenient server reads it (`matchingPath`); undefined when nothing
   * is declared for it (404).
   */
  match(head: RoutedBy): RouteMatch<T> | MethodMismatch | undefined;
  /** The same for a path that is to be read letter by letter. */
  matchLiterally(head: RoutedBy): RouteMatch<T> | MethodMismatch | undefined;
}

/** What decides on the route. */
export type RoutedBy = Pick<RequestHead, 'host' | 'path' | 'method'>;

/**
 * Builds a router.
 *
 * Order of specificity, whatever the order of the entries: a route for the exact host beats one for `*.example.com`
 * (the longer suffix first) beats one for every host; then exact beats template beats prefix; a longer prefix beats a
 * shorter one; a text segment beats a parameter, left to right. The method is looked at last: a path whose most
 * specific pattern does not take the method is a 405.
 *
 * An exact pattern costs one lookup in a Map, prefixes one per segment of the path up to the length of the longest.
 *
 * @throws {HoldfastError} ERR_ROUTE_DUPLICATE when two entries match the same host, paths and method (parameter names
 * do not make a difference).
 * @throws {TypeError} when a pattern or host is not one.
 */
export function createRouter<T>(entries: readonly RouteEntry<T>[]): Router<T> {
  const hosts = new Map<string, HostRoutes<T>>();
  for (const entry of entries) {
    const host = entry.host === undefined ? '' : normalizeHostPattern(entry.host);
    const { pattern } = entry;
    const routes = getOrInsert(hosts, host, () => new HostRoutes<T>());
    routes.add(typeof pattern === 'string' ? parseRoutePattern(pattern) : pattern, entry);
  }
  const anyHost = hosts.get('');
  const isHostSpecific = hosts.size > (anyHost ? 1 : 0);

  const find = (host: string, path: string, method: string, written?: readonly string[]) => {
    const candidates = isHostSpecific ? hostPatternsFor(host) : [];
    for (const candidate of candidates) {
      const found = hosts.get(candidate)?.match(path, method, written);
      if (found) return found;
    }
    return anyHost?.match(path, method, written);
  };

  return {
    match({ host, path, method }) {
      const matching = matchingPath(path);
      if (matching === path) return find(host, path, method);
      const written = writtenSegments(path);
      const found = find(host, matching, method, written);
      if (found === undefined || 'allowedMethods' in found || found.rest === '') return found;
      // As many segments of it as are left over of the form that was matched.
      const length = found.rest.split('/').length - 1;
      return { ...found, rest: `/${written.slice(-length).join('/')}` };
    },
    matchLiterally: ({ host, path, method }) => find(host, path, method),
  };
}

/** An entry with the places of its parameters. */
interface Route<T> {
  readonly entry: RouteEntry<T>;
  readonly params: readonly { readonly name: string; readonly index: number }[];
}

/** The entries of one pattern: told apart by their methods. */
class PatternRoutes<T> {
  readonly segments: readonly PatternSegment[];
  readonly shape: string;
  readonly #byMethod = new Map<string, Route<T>>();
  #anyMethod: Route<T> | undefined;

  constructor(pattern: RoutePattern) {
    this.segments = pattern.segments;
    this.shape = pattern.shape;
  }

  add(pattern: RoutePattern, entry: RouteEntry<T>): void {
    const params = pattern.segments.flatMap((segment, index) =>
      'param' in segment ? [{ name: segment.param, index }] : [],
    );
    const route = { entry, params };
    if (entry.methods === undefined) {
      if (this.#anyMethod) throw duplicate(this.#anyMethod.entry, entry);
      this.#anyMethod = route;
      return;
    }
    if (entry.methods.length === 0)
      throw new TypeError(`the route "${entry.name}" takes no method; leave methods out to take all`);
    for (const method of new Set(entry.methods.map(name => name.toUpperCase()))) {
      const other = this.#byMethod.get(method);
      if (other) throw duplicate(other.entry, entry);
      this.#byMethod.set(method, route);
    }
  }

  answer(method: string, segments: readonly string[], rest: string): RouteMatch<T> | MethodMismatch {
    const route =
      this.#byMethod.get(method) ?? (method === 'HEAD' ? this.#byMethod.get('GET') : undefined) ?? this.#anyMethod;
    if (!route) return { allowedMethods: this.#allowedMethods() };
    const { entry, params } = route;
    return {
      name: entry.name,
      value: entry.value,
      params: params.length === 0 ? NO_PARAMS : readParams(params, segments),
      rest,
    };
  }

  #allowedMethods(): string[] {
    const methods = new Set(this.#byMethod.keys());
    if (methods.has('GET')) methods.add('HEAD');
    return [...methods].sort();
  }
}

const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({});

/** The routes of one host, in the structures that find the most specific one first. */
class HostRoutes<T> {
  readonly #exact = new Map<string, PatternRoutes<T>>();
  // By number of segments, the most specific first.
  readonly #templates = new Map<number, PatternRoutes<T>[]>();
  readonly #textPrefixes = new Map<string, PatternRoutes<T>>();
  /** Length of the longest of them: what is longer need not be looked up. */
  #longestTextPrefix = 0;
  readonly #templatePrefixes = new Map<number, PatternRoutes<T>[]>();

  add(pattern: RoutePattern, entry: RouteEntry<T>): void {
    const isPrefix = pattern.kind === 'prefix';
    const isTemplate = pattern.segments.some(segment => 'param' in segment);
    if (isTemplate) {
      const table = isPrefix ? this.#templatePrefixes : this.#templates;
      const list = getOrInsert(table, pattern.segments.length, () => []);
      let routes = list.find(candidate => candidate.shape === pattern.shape);
      if (!routes) {
        routes = new PatternRoutes(pattern);
        list.push(routes);
        list.sort((a, b) => compareSegments(a.segments, b.segments));
      }
      routes.add(pattern, entry);
      return;
    }
    const table = isPrefix ? this.#textPrefixes : this.#exact;
    const key = isPrefix ? pattern.shape.slice(0, -2) : pattern.shape;
    if (isPrefix) this.#longestTextPrefix = Math.max(this.#longestTextPrefix, key.length);
    getOrInsert(table, key, () => new PatternRoutes<T>(pattern)).add(pattern, entry);
  }

  /** @param written The segments whose values are parameters, when they are not those of the path. */
  match(path: string, method: string, written?: readonly string[]): RouteMatch<T> | MethodMismatch | undefined {
    const exact = this.#exact.get(path);
    if (exact) return exact.answer(method, [], '');
    if (!path.startsWith('/')) return undefined;

    const hasTemplates = this.#templates.size > 0 || this.#templatePrefixes.size > 0;
    const segments = hasTemplates ? path.slice(1).split('/') : [];
    for (const routes of this.#templates.get(segments.length) ?? []) {
      if (fits(routes.segments, segments)) return routes.answer(method, written ?? segments, '');
    }
    return this.#matchPrefix(path, method, segments, written);
  }

  #matchPrefix(
    path: string,
    method: string,
    segments: readonly string[],
    written: readonly string[] = segments,
  ): RouteMatch<T> | MethodMismatch | undefined {
    let length = this.#templatePrefixes.size > 0 ? segments.length : 0;
    // From the whole path to '', one segment less each time: `/a/b`, `/a`, ``.
    for (let end = path.length; end !== -1; end = end === 0 ? -1 : path.lastIndexOf('/', end - 1)) {
      const text = end <= this.#longestTextPrefix ? this.#textPrefixes.get(path.slice(0, end)) : undefined;
      if (text) return text.answer(method, written, path.slice(end));
      for (const routes of this.#templatePrefixes.get(length) ?? []) {
        if (fits(routes.segments, segments)) return routes.answer(method, written, path.slice(end));
      }
      length--;
    }
    return undefined;
  }
}

/** Text before parameter, left to right. Both have the same length. */
function compareSegments(a: readonly PatternSegment[], b: readonly PatternSegment[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = Number('param' in a[i]!) - Number('param' in b[i]!);
    if (difference !== 0) return difference;
  }
  return 0;
}

function fits(pattern: readonly PatternSegment[], segments: readonly string[]): boolean {
  return pattern.every((segment, i) => ('param' in segment ? segments[i] !== '' : segment.text === segments[i]));
}

function readParams(places: Route<unknown>['params'], segments: readonly string[]): Record<string, string> {
  const params: Record<string, string> = {};
  for (const { name, index } of places) params[name] = decode(segments[index]!);
  return params;
}

function decode(segment: string): string {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function duplicate(first: RouteEntry<unknown>, second: RouteEntry<unknown>): HoldfastError {
  const describe = (entry: RouteEntry<unknown>) =>
    `"${entry.name}" (${[entry.methods?.join(','), (entry.host ?? '') + sourceOf(entry)].filter(Boolean).join(' ')})`;
  const message = `the routes ${describe(first)} and ${describe(second)} match the same requests; remove one, or give them different hosts, paths or methods`;
  return new HoldfastError('ERR_ROUTE_DUPLICATE', message);
}

function sourceOf({ pattern }: RouteEntry<unknown>): string {
  return typeof pattern === 'string' ? pattern : pattern.source;
}
