import type { HeaderLine } from '../../http/header-line.ts';
import type { OutgoingHeaders } from '../../websocket/protocol/handshake.ts';

/**
 * The headers of a 101 with those that tell the client of its session, beside the cookies that the endpoint or backend
 * sets.
 */
export function withSessionHeaders(headers: OutgoingHeaders, lines: readonly HeaderLine[]): OutgoingHeaders {
  const all = { ...headers };
  for (const line of lines) {
    const name = Object.keys(all).find(key => key.toLowerCase() === line.name.toLowerCase()) ?? line.name;
    const own = all[name] ?? [];
    all[name] = [...(typeof own === 'string' ? [own] : own), line.value];
  }
  return all;
}
