import { normalizePath, type PathTolerance } from '../../http/path.ts';
import { matchingPath, parametersOf, writtenSegments } from '../../http/path-readings.ts';
import { parseRoutePattern, type RoutePattern } from '../../http/route-pattern.ts';
import { type RewriteFault, rewriteFaults } from '../../http/route-rewrite.ts';

/**
 * The paths of one route as its backend knows them, and back: Apache's `ProxyPass` and `ProxyPassReverse`.
 *
 * Works on paths in normal form, whose segments are taken over as they are, escapes and parameters included. So no path
 * can come out that leads above what was written. Patterns match the `matchingPath`, as those of routes do; parameters
 * of the last segment of a pattern are kept.
 */
export class PathRewrite {
  /** What the route's paths are for the backend. */
  readonly backendPattern: RoutePattern;
  readonly #publicPattern: RoutePattern;
  readonly #tolerance: PathTolerance;

  /**
   * @param to Takes the place of the pattern: with `/app/*` and `/other`, `/app/a` is `/other/a`; with `/chat/:room`
   * and `/rooms/:room`, `/chat/1` is `/rooms/1`. `/` with a prefix leaves the rest alone.
   * @param tolerance What the paths of links may have besides.
   * @throws {TypeError} when it is no path, or has a parameter that the pattern does not.
   */
  constructor(pattern: RoutePattern, to: string, tolerance: PathTolerance = {}) {
    const target = parseRoutePattern(to);
    const [broken] = rewriteFaults([pattern.source], to);
    if (broken)
      throw new TypeError(
        `not a rewrite of ${JSON.stringify(pattern.source)}: ${JSON.stringify(to)}; ${remedyOf(broken)}`,
      );
    const isRoot = pattern.kind === 'prefix' && to === '/';
    this.#publicPattern = pattern;
    this.#tolerance = tolerance;
    this.backendPattern = { ...target, kind: pattern.kind, segments: isRoot ? [] : target.segments };
  }

  /** @param path one that the route's pattern matches. */
  toBackend(path: string): string {
    return write(this.backendPattern, read(this.#publicPattern, path)!);
  }

  /**
   * The public path of one that a backend has named; undefined when it has none here.
   *
   * @param requestPath The public path of the request, for parameters that the backend's path does not have.
   * @param mayBePublic The backend may know its public paths: what lies below the route already is left alone, when the
   * route is the deeper one.
   */
  toPublic(path: string, requestPath: string, mayBePublic: boolean): string | undefined {
    const normal = normalizePath(path, this.#tolerance);
    if (normal === undefined) return undefined;
    const isDeeper = this.#publicPattern.segments.length > this.backendPattern.segments.length;
    if (mayBePublic && isDeeper && read(this.#publicPattern, normal)) return undefined;
    return this.readingToPublic(normal, requestPath);
  }

  /**
   * The public path of what a backend could take the path of a request for (`pathReadings`); undefined when that is
   * none of this route.
   */
  readingToPublic(reading: string, requestPath: string): string | undefined {
    const found = read(this.backendPattern, reading);
    if (!found) return undefined;
    const { params } = read(this.#publicPattern, requestPath)!;
    return write(this.#publicPattern, { ...found, params: { ...params, ...found.params } });
  }
}

function remedyOf(broken: RewriteFault): string {
  if (broken.fault === 'star') return 'leave out the "*": what follows the prefix is appended';
  if (broken.fault === 'slash') return 'leave out the "/" at its end';
  return `the path has no "${broken.parameter}"`;
}

/** A path taken apart by a pattern, everything as it was written. */
interface PathMatch {
  readonly params: Readonly<Record<string, string>>;
  /** Path parameters (`;…`) of the last segment that is text in the pattern. */
  readonly parameters: string;
  /** What a prefix left over: empty, or beginning with `/`. */
  readonly rest: string;
}

function read({ kind, segments: pattern }: RoutePattern, path: string): PathMatch | undefined {
  const segments = writtenSegments(path);
  if (kind === 'prefix' ? segments.length < pattern.length : segments.length !== pattern.length) return undefined;
  const params: Record<string, string> = Object.create(null);
  let parameters = '';
  for (const [index, one] of pattern.entries()) {
    const segment = segments[index]!;
    const text = matchingPath(`/${segment}`).slice(1);
    if ('text' in one ? one.text !== text : text === '') return undefined;
    if ('param' in one) params[one.param] = segment;
    parameters = 'param' in one ? '' : parametersOf(segment);
  }
  return {
    params,
    parameters,
    rest: segments
      .slice(pattern.length)
      .map(segment => `/${segment}`)
      .join(''),
  };
}

function write({ segments }: RoutePattern, { params, parameters, rest }: PathMatch): string {
  const written = segments.map(segment => `/${'text' in segment ? segment.text : params[segment.param]}`).join('');
  const path = written + (segments.length === 0 && rest !== '' ? '' : parameters) + rest;
  // Two slashes would be read as a host.
  return path.startsWith('/') ? path.replace(/^\/{2,}/, '/') : `/${path}`;
}
