import type { IncomingMessage } from 'node:http';

/** A session's ticket as it stood in a URL, `/cart;holdfast=<ticket>?page=2`. */
export interface UrlTicket {
  /** Name of the path parameter. */
  readonly name: string;
  readonly value: string;
}

/** What was taken out of its URL: what holds the session of a request later than another finds it here. */
const TAKEN = Symbol('holdfast url tickets');
type Taken = IncomingMessage & { [TAKEN]?: UrlTicket[] };

const NONE: readonly UrlTicket[] = [];

/**
 * Takes the tickets of sessions out of a request's URL, and out of its `Referer`, so that no route, log or backend ever
 * sees them. Asked again, it has those that were taken before.
 *
 * @param names The path parameters that can hold one.
 * @returns the first of each name.
 */
export function takeUrlTickets(request: IncomingMessage, names: ReadonlySet<string>): readonly UrlTicket[] {
  if (names.size === 0) return NONE;
  const { rawHeaders, headers } = request;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() !== 'referer') continue;
    rawHeaders[index + 1] = takeTickets(rawHeaders[index + 1]!, names).rest;
  }
  if (headers.referer !== undefined) headers.referer = takeTickets(headers.referer, names).rest;
  const { rest, tickets } = takeTickets(request.url ?? '', names);
  const carrier: Taken = request;
  if (tickets.length > 0) {
    request.url = rest;
    (carrier[TAKEN] ??= []).unshift(...tickets);
  }
  return carrier[TAKEN]?.filter(({ name }) => names.has(name)) ?? NONE;
}

/**
 * A path parameter, also as programs spell it that escape more of a link than they should: what opens a session must
 * not stay for that.
 */
const PARAMETER = /(?:;|%3b)((?:[\w-]|%[4-6][0-9a-f]|%7[0-9a]|%3\d|%2d)+)(?:=|%3d)((?:(?!%3b|%2f)[^;/])*)/gi;

/** A URL without the tickets in its path. Of each name the first one counts; each goes. */
export function takeTickets(
  url: string,
  names: ReadonlySet<string>,
): { readonly rest: string; readonly tickets: readonly UrlTicket[] } {
  const end = url.search(/[?#]/);
  const path = end === -1 ? url : url.slice(0, end);
  if (!/;|%3b/i.test(path)) return { rest: url, tickets: NONE };
  const tickets: UrlTicket[] = [];
  const rest = path.replace(PARAMETER, (whole, encoded: string, value: string) => {
    const name = decodeURIComponent(encoded);
    if (!names.has(name)) return whole;
    if (!tickets.some(ticket => ticket.name === name)) tickets.push({ name, value });
    return '';
  });
  return { rest: rest + url.slice(path.length), tickets };
}
