import type { IncomingMessage } from 'node:http';
import { headerName } from '../../http/header-name.ts';
import { endToEndHeaders, passedHeaders } from '../../http/hop-by-hop.ts';
import { hasToken, isFieldValue, isToken } from '../../http/token.ts';
import type { BackendExchange } from './exchange.ts';

/**
 * RFC 9110 §6.5.1: what frames, routes, authenticates or modifies a message, or says how its content is read, has no
 * meaning behind it; and recipients that merge trailers into the headers would act on it.
 */
const NEVER_A_TRAILER = new Set([
  ...['content-length', 'content-encoding', 'content-type', 'content-range', 'host', 'expect', 'range', 'max-forwards'],
  ...['authorization', 'www-authenticate', 'proxy-authenticate', 'authentication-info', 'persistent-auth'],
  ...['cookie', 'set-cookie', 'cache-control', 'location', 'age', 'date', 'expires', 'vary', 'pragma', 'retry-after'],
  ...['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'if-range'],
  ...['holdfast-session', 'holdfast-reason', 'holdfast-url-ticket'],
]);

/** Does the client take trailers? HTTP/1.0 has none. */
export function takesTrailers({ httpVersion, headers }: Pick<IncomingMessage, 'httpVersion' | 'headers'>): boolean {
  return httpVersion !== '1.0' && hasToken(headers.te as string | undefined, 'trailers');
}

const NONE: ReadonlySet<string> = new Set();

/**
 * The trailers of an answer that the client gets.
 *
 * @param without Names in lower case that are left out.
 */
export function clientTrailers(rawTrailers: readonly string[], without = NONE): [string, string][] {
  const trailers = endToEndHeaders(rawTrailers);
  const pairs: [string, string][] = [];
  for (let i = 0; i < trailers.length; i += 2)
    if (mayBeTrailer(trailers[i]!, without)) pairs.push([trailers[i]!, trailers[i + 1]!]);
  return pairs;
}

/** The trailers of a request that its backend gets: none that could not be a header of it. Name, value, name ... */
export function backendTrailers(rawTrailers: readonly string[], exchange: BackendExchange): string[] {
  const trailers = passedHeaders(rawTrailers, exchange.upstream.ownedHeaders);
  const kept: string[] = [];
  for (let i = 0; i < trailers.length; i += 2) {
    const [name, value] = [trailers[i]!, trailers[i + 1]!];
    if (mayBeTrailer(name) && passesClient(name, exchange) && isFieldValue(value)) kept.push(name, value);
  }
  return kept;
}

/**
 * Of the names in a `Trailer` header those that a client may get; undefined when there is none.
 *
 * @param without As in `clientTrailers`.
 */
export function announcedToClient(rawHeaders: readonly string[], without = NONE): string | undefined {
  return announced(rawHeaders, name => !headerName(name).isHopByHop && mayBeTrailer(name, without));
}

/** Of the names in a `Trailer` header those that a backend may get; undefined when there is none. */
export function announcedToBackend(exchange: BackendExchange): string | undefined {
  const owned = exchange.upstream.ownedHeaders;
  return announced(exchange.head.rawHeaders, name => {
    const { folded, isHopByHop } = headerName(name);
    return !isHopByHop && !owned.has(folded) && mayBeTrailer(name) && passesClient(name, exchange);
  });
}

function announced(rawHeaders: readonly string[], isTaken: (name: string) => boolean): string | undefined {
  let names: string[] | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 7 && rawHeaders[i]!.toLowerCase() === 'trailer')
      (names ??= []).push(...rawHeaders[i + 1]!.split(',').map(name => name.trim()));
  const taken = names?.filter(name => isToken(name) && isTaken(name));
  return taken === undefined || taken.length === 0 ? undefined : taken.join(', ');
}

function mayBeTrailer(name: string, without = NONE): boolean {
  const { lower } = headerName(name);
  return !NEVER_A_TRAILER.has(lower) && !without.has(lower);
}

function passesClient(name: string, { head, upstream }: BackendExchange): boolean {
  return upstream.identity.clientHeaders.passes(name, head.isPeerTrusted);
}
