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

/**
 * Takes a session's ticket out of a request's URL, and out of its `Referer`, so that no route, log or backend ever sees
 * it. Asked again, it has the ticket that was taken before.
 *
 * @param names The path parameters that can hold one.
 */
export function takeUrlTicket(request: IncomingMessage, names: ReadonlySet<string>): UrlTicket | undefined {
  if (names.size === 0) return undefined;
  const { rawHeaders, headers } = request;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]!.toLowerCase() !== 'referer') continue;
    rawHeaders[index + 1] = takeTicket(rawHeaders[index + 1]!, names).rest;
  }
  if (headers.referer !== undefined) headers.referer = takeTicket(headers.referer, names).rest;
  const { rest, ticket } = takeTicket(request.url ?? '', names);
  const carrier: Taken = request;
  if (!ticket) return carrier[TAKEN]?.find(({ name }) => names.has(name));
  request.url = rest;
  (carrier[TAKEN] ??= []).unshift(ticket);
  return ticket;
}

/**
 * A path parameter, also as programs spell it that escape more of a link than they should: what opens a session must
 * not stay for that.
 */
const PARAMETER = /(?:;|%3b)((?:[\w-]|%[4-6][0-9a-f]|%7[0-9a]|%3\d|%2d)+)(?:=|%3d)((?:(?!%3b|%2f)[^;/])*)/gi;

/** A URL without the tickets in its path. The first one counts; each goes. */
export function takeTicket(url: string, names: ReadonlySet<string>): { rest: string; ticket: UrlTicket | undefined } {
  let ticket: UrlTicket | undefined;
  const end = url.search(/[?#]/);
  const path = end === -1 ? url : url.slice(0, end);
  if (!/;|%3b/i.test(path)) return { rest: url, ticket };
  const rest = path.replace(PARAMETER, (whole, encoded: string, value: string) => {
    const name = decodeURIComponent(encoded);
    if (!names.has(name)) return whole;
    ticket ??= { name, value };
    return '';
  });
  return { rest: rest + url.slice(path.length), ticket };
}
