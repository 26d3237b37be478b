import type { HeaderLine } from './header-line.ts';

/** What of a response object is needed here: `node:http` and `node:http2` have it. */
export interface CacheableResponse {
  getHeader(name: string): unknown;
  getHeaderNames(): readonly string[];
  setHeader(name: string, value: string): unknown;
  removeHeader(name: string): void;
}

/**
 * Makes an answer private that would give one client's cookie to others when a shared cache kept it.
 *
 * `no-store` stays. What speaks to shared caches past `Cache-Control` is removed (RFC 9213 and its forerunners).
 */
export function keepFromSharedCaches(response: CacheableResponse): void {
  const asked = String(response.getHeader('Cache-Control'));
  if (!forbidsStoring(asked)) response.setHeader('Cache-Control', privateOf(asked));
  for (const name of response.getHeaderNames()) if (isForSharedCaches(name)) response.removeHeader(name);
}

/** False for what has no links that lead on. */
export function mayHaveLinks(contentType: string): boolean {
  return !/^\s*(?:(?:image|audio|video|font)\/|text\/css\b)/i.test(contentType);
}

/** Adds headers that are for one client, and makes the answer private where there are any. */
export function appendPrivate(
  response: CacheableResponse & { appendHeader(name: string, value: string): unknown },
  lines: readonly HeaderLine[],
): void {
  for (const { name, value } of lines) response.appendHeader(name, value);
  if (lines.length > 0) keepFromSharedCaches(response);
}

/** The `Cache-Control` of an answer for one client, instead of the one it had. What must not be changed stays so. */
export function privateOf(cacheControl: string | undefined): string {
  return forbidsTransforming(cacheControl) ? 'private, no-cache, no-transform' : 'private, no-cache';
}

/**
 * The same, where the client itself may keep the answer for as long as it could before; where nothing is said, it asks
 * again each time.
 */
export function withoutSharing(cacheControl = ''): string {
  if (cacheControl === '') return 'private, no-cache';
  const directives = Array.from(cacheControl.matchAll(DIRECTIVE), ([text]) => text.trim());
  const kept = directives.filter(one => one !== '' && !SHARING.test(one));
  if (forbidsStoring(cacheControl)) return kept.join(', ');
  return ['private', ...(kept.length > 0 ? kept : ['no-cache'])].join(', ');
}

/** With its value, in which there may be commas between quotes. */
const DIRECTIVE = /(?:"[^"]*"|[^,"])+/g;
/** What says which caches may keep an answer (RFC 9111 §5.2.2). */
const SHARING = /^(?:public|private|s-maxage|proxy-revalidate)(?:=|$)/i;

/** RFC 9110 §7.7. */
export function forbidsTransforming(cacheControl: string | undefined): boolean {
  return cacheControl !== undefined && /\bno-transform\b/i.test(cacheControl);
}

export function forbidsStoring(cacheControl: string | undefined): boolean {
  return cacheControl !== undefined && /\bno-store\b/i.test(cacheControl);
}

/**
 * `CDN-Cache-Control`, those of single vendors by the same pattern, `Surrogate-Control`, and what nginx takes instead.
 */
export function isForSharedCaches(name: string): boolean {
  return /^(?:.+-cache-control|surrogate-control|x-accel-expires)$/i.test(name);
}
