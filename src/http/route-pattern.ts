import { normalizePath } from './path.ts';
import { matchingPath } from './path-readings.ts';

/** One segment of a pattern: text that must be equal, or the name of a parameter. */
export type PatternSegment = { readonly text: string } | { readonly param: string };

/**
 * A route pattern, taken apart.
 *
 * - exact: `/chat`
 * - template: `/chat/:room`; a parameter is one whole segment that is not empty
 * - prefix: `/chat/*`, by segment: `/chat`, `/chat/` and `/chat/a/b`, not `/chatter`; may hold parameters
 */
export interface RoutePattern {
  readonly source: string;
  readonly kind: 'exact' | 'template' | 'prefix';
  readonly segments: readonly PatternSegment[];
  /** Equal for two patterns that match the same paths: parameter names are left out. */
  readonly shape: string;
}

/** What is wrong with a text that is not a pattern, and the segment that shows it. */
export interface PatternFault {
  readonly fault: /** It does not begin with `/`. */
    | 'start'
    /** It has a query or a fragment. */
    | 'query'
    /** A `*` elsewhere than alone in the last segment. */
    | 'star'
    /** `{name}`, as other routers write a parameter. */
    | 'braces'
    /** A parameter without a name of letters, digits and `_`. */
    | 'name'
    /** A `;`: path parameters are not matched. */
    | 'semicolon'
    /** An empty segment before the last one. */
    | 'empty'
    /** An empty segment before the `*`. */
    | 'empty-before-star'
    /** A dot segment, a backslash or a broken escape: no normal path has one. */
    | 'unmatchable'
    /** The second parameter of a name. */
    | 'repeated';
  readonly segment: string;
}

const REMEDIES: Readonly<Record<PatternFault['fault'], (segment: string) => string>> = {
  start: () => 'begin it with "/"',
  query: () => 'leave out the query and the fragment',
  star: () => 'a "*" stands only at the end, after "/"',
  braces: segment => `write ":${segment.slice(1, -1)}" instead of "${segment}"`,
  name: segment => `"${segment}" needs a name of letters, digits and "_" after the ":"`,
  semicolon: () => 'leave out the ";": path parameters are no part of what a route matches',
  empty: () => 'write "/" once',
  'empty-before-star': () => 'write one "/" before the "*"',
  unmatchable: segment =>
    `the segment "${segment}" can never match: a path has no dot segments, backslashes or broken escapes`,
  repeated: segment => `name the second "${segment}" differently`,
};

/**
 * Parses a route pattern. Text may be written readably (`/straße`) or escaped; it is compared in the form of
 * `matchingPath`.
 *
 * @throws {TypeError} when it is not a pattern. The message says how to write it.
 */
export function parseRoutePattern(source: string): RoutePattern {
  const pattern = readRoutePattern(source);
  if (!('fault' in pattern)) return pattern;
  const remedy = REMEDIES[pattern.fault](pattern.segment);
  throw new TypeError(
    `not a route pattern: ${JSON.stringify(source)}; ${remedy} (patterns are "/chat", "/chat/:room", "/chat/*")`,
  );
}

/** The pattern, or the first thing that is wrong with it. */
export function readRoutePattern(source: string): RoutePattern | PatternFault {
  if (!source.startsWith('/')) return { fault: 'start', segment: '' };
  if (/[?#]/.test(source)) return { fault: 'query', segment: '' };
  const isPrefix = source.endsWith('/*');
  const path = isPrefix ? source.slice(0, -2) : source;
  const segments: PatternSegment[] = [];
  const names = new Set<string>();
  let repeated: string | undefined;
  // The root prefix `/*` has no segments of its own.
  const texts = path === '' ? [] : path.slice(1).split('/');
  for (const [index, text] of texts.entries()) {
    const segment = readSegment(text);
    if ('fault' in segment) return segment;
    const isLast = index === texts.length - 1;
    if (text === '' && !isLast) return { fault: 'empty', segment: text };
    if (text === '' && isPrefix) return { fault: 'empty-before-star', segment: text };
    if ('param' in segment && names.has(segment.param)) repeated ??= text;
    if ('param' in segment) names.add(segment.param);
    segments.push(segment);
  }
  if (repeated !== undefined) return { fault: 'repeated', segment: repeated };
  return {
    source,
    kind: isPrefix ? 'prefix' : names.size > 0 ? 'template' : 'exact',
    segments,
    shape: segments.map(segment => ('param' in segment ? '/:' : `/${segment.text}`)).join('') + (isPrefix ? '/*' : ''),
  };
}

/** Is there a path that both match? */
export function mayMeet(a: RoutePattern, b: RoutePattern): boolean {
  const [short, long] = a.segments.length <= b.segments.length ? [a, b] : [b, a];
  if (short.segments.length < long.segments.length && short.kind !== 'prefix') return false;
  return short.segments.every((segment, index) => {
    const other = long.segments[index]!;
    if ('text' in segment && 'text' in other) return segment.text === other.text;
    // A parameter is never empty, as is what stands behind a slash at the end.
    return !('text' in segment && segment.text === '') && !('text' in other && other.text === '');
  });
}

function readSegment(text: string): PatternSegment | PatternFault {
  if (text.includes('*')) return { fault: 'star', segment: text };
  if (/^\{.*\}$/.test(text)) return { fault: 'braces', segment: text };
  if (text.startsWith(':'))
    return /^:[A-Za-z]\w*$/.test(text) ? { param: text.slice(1) } : { fault: 'name', segment: text };
  if (text.includes(';')) return { fault: 'semicolon', segment: text };
  const normal = text.isWellFormed()
    ? normalizePath(`/${text.replace(/[^\x21-\x7e]+/gu, encodeURIComponent)}`)
    : undefined;
  if (normal === undefined || (normal === '/' && text !== '')) return { fault: 'unmatchable', segment: text };
  return { text: matchingPath(normal).slice(1) };
}
