import type { IncomingMessage } from 'node:http';
import type { RequestHead } from './request-head.ts';

/** The query parameter that a handshake shows one in: the name as it is read, in this case. */
const NAME = 'ticket';

/** How every ticket begins, so that it is known for one of ours wherever it stands. */
export const SOCKET_TICKET_PREFIX = 'holdfast-';

/** 256 bits in base64url. */
const RANDOM = '[\\w-]{43}';
const TICKET = new RegExp(`^${SOCKET_TICKET_PREFIX}${RANDOM}$`);
const ANYWHERE = new RegExp(`${SOCKET_TICKET_PREFIX}${RANDOM}`, 'g');

/** Could it be a one-time ticket of ours? */
export function isSocketTicket(text: string): boolean {
  return TICKET.test(text);
}

/** The text with `***` in place of each ticket. */
export function withoutSocketTickets(text: string): string {
  return text.includes(SOCKET_TICKET_PREFIX) ? text.replaceAll(ANYWHERE, `${SOCKET_TICKET_PREFIX}***`) : text;
}

/**
 * Takes one-time tickets out of the query of a request, and out of its `Referer`, so that no log, handler or backend
 * sees them: each parameter, whatever its name, that holds one of ours. Parameters of an application stay as they are
 * written, also those that are called `ticket`.
 *
 * @param isShown It is a handshake that may show a ticket: its parameter `ticket` is for us, whatever it holds.
 * @returns the request without them, and the ticket that a handshake shows; `''` where there are several, which is none.
 */
export function takeQueryTicket(
  head: RequestHead,
  request: Pick<IncomingMessage, 'url' | 'headers' | 'rawHeaders'>,
  isShown: boolean,
): { readonly head: RequestHead; readonly ticket: string | undefined } {
  const { referer } = head.headers;
  const { rest, taken, shown } = without(head.query, isShown);
  const cleaned = referer === undefined ? undefined : withoutTickets(referer, false);
  if (taken === 0 && cleaned === referer) return { head, ticket: undefined };
  if (taken > 0) request.url = withoutTickets(request.url ?? '', isShown);
  const rawHeaders = head.rawHeaders.map((value, index) =>
    index % 2 === 1 && head.rawHeaders[index - 1]!.toLowerCase() === 'referer' ? withoutTickets(value, false) : value,
  );
  const headers = cleaned === referer ? head.headers : { ...head.headers, referer: cleaned };
  if (cleaned !== referer) request.headers.referer = cleaned;
  return {
    head: { ...head, target: withoutTickets(head.target, isShown), query: rest, headers, rawHeaders },
    ticket: shown.length > 1 ? '' : shown[0],
  };
}

function withoutTickets(url: string, isShown: boolean): string {
  const start = url.indexOf('?');
  if (start === -1) return url;
  const hash = url.indexOf('#', start);
  const end = hash === -1 ? url.length : hash;
  const { rest, taken } = without(url.slice(start + 1, end), isShown);
  return taken === 0 ? url : url.slice(0, start) + (rest === '' ? '' : `?${rest}`) + url.slice(end);
}

/** The other parameters stay as they are written. */
function without(query: string, isShown: boolean): { rest: string; taken: number; shown: string[] } {
  const shown: string[] = [];
  if (query === '' || !(isShown || query.includes(SOCKET_TICKET_PREFIX))) return { rest: query, taken: 0, shown };
  const pairs = query.split('&');
  const kept = pairs.filter(pair => {
    const equals = pair.indexOf('=');
    const value = decoded(equals === -1 ? '' : pair.slice(equals + 1));
    const isOfHandshake = isShown && decoded(equals === -1 ? pair : pair.slice(0, equals)) === NAME;
    if (isOfHandshake) shown.push(value);
    return !isOfHandshake && !isSocketTicket(value);
  });
  const taken = pairs.length - kept.length;
  return { rest: taken === 0 ? query : kept.join('&'), taken, shown };
}

/** As applications read it; what cannot be read stays as it is. */
function decoded(text: string): string {
  if (!/[%+]/.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}
