import { normalizePath } from '../../http/path.ts';
import { matchingPath } from '../../http/path-readings.ts';

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

/**
 * Parses a route pattern. Text may be written readably (`/straße`) or escaped; it is compared in the form of `matchingPath`.
 *
 * @throws {TypeError} when it is not a pattern. The message says how to write it.
 */
export function parseRoutePattern(source: string): RoutePattern {
  if (!source.startsWith('/')) throw invalid(source, 'begin it with "/"');
  if (/[?#]/.test(source)) throw invalid(source, 'leave out the query and the fragment');
  const isPrefix = source.endsWith('/*');
  const path = isPrefix ? source.slice(0, -2) : source;
  // The root prefix `/*` has no segments of its own.
  const segments =
    path === ''
      ? []
      : path
          .slice(1)
          .split('/')
          .map((text, i, all) => parseSegment(source, text, i === all.length - 1));
  const names = segments.flatMap(segment => ('param' in segment ? [segment.param] : []));
  const repeated = names.find((name, i) => names.indexOf(name) !== i);
  if (repeated !== undefined) throw invalid(source, `name the second ":${repeated}" differently`);
  if (isPrefix && path.endsWith('/')) throw invalid(source, 'write one "/" before the "*"');
  return {
    source,
    kind: isPrefix ? 'prefix' : names.length > 0 ? 'template' : 'exact',
    segments,
    shape: segments.map(segment => ('param' in segment ? '/:' : `/${segment.text}`)).join('') + (isPrefix ? '/*' : ''),
  };
}

function parseSegment(source: string, text: string, isLast: boolean): PatternSegment {
  if (text.includes('*')) throw invalid(source, 'a "*" stands only at the end, after "/"');
  if (/^\{.*\}$/.test(text)) throw invalid(source, `write ":${text.slice(1, -1)}" instead of "${text}"`);
  if (text.startsWith(':')) {
    if (!/^:[A-Za-z]\w*$/.test(text))
      throw invalid(source, `"${text}" needs a name of letters, digits and "_" after the ":"`);
    return { param: text.slice(1) };
  }
  if (text.includes(';'))
    throw invalid(source, 'leave out the ";": path parameters are no part of what a route matches');
  if (text === '' && !isLast) throw invalid(source, 'write "/" once');
  const normal = normalizePath(`/${text.replace(/[^\x21-\x7e]+/gu, encodeURIComponent)}`);
  if (normal === undefined || (normal === '/' && text !== '')) {
    throw invalid(
      source,
      `the segment "${text}" can never match: a path has no dot segments, backslashes or broken escapes`,
    );
  }
  return { text: matchingPath(normal).slice(1) };
}

function invalid(source: string, remedy: string): TypeError {
  return new TypeError(
    `not a route pattern: ${JSON.stringify(source)}; ${remedy} (patterns are "/chat", "/chat/:room", "/chat/*")`,
  );
}
