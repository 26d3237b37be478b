import type { OutgoingHeaders } from '../websocket/protocol/handshake.ts';

/** The headers of a 101 with our cookies beside those that the endpoint or backend sets. */
export function withCookies(headers: OutgoingHeaders, setCookies: readonly string[]): OutgoingHeaders {
  if (setCookies.length === 0) return headers;
  const name = Object.keys(headers).find(key => key.toLowerCase() === 'set-cookie') ?? 'Set-Cookie';
  const own = headers[name] ?? [];
  return { ...headers, [name]: [...(typeof own === 'string' ? [own] : own), ...setCookies] };
}
