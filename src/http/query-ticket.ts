import type { IncomingMessage } from 'node:http';
import type { RequestHead } from './request-head.ts';

/** Of the query parameter. */
const NAME = 'ticket';

/**
 * Takes a one-time ticket out of the query of a request, and out of its `Referer`, so that no log, handler or backend
 * sees it.
 *
 * @returns the request without it, and the ticket; `''` where there are several, which is none.
 */
export function takeQueryTicket(
  head: RequestHead,
  request: Pick<IncomingMessage, 'url' | 'headers' | 'rawHeaders'>,
): { readonly head: RequestHead; readonly ticket: string | undefined } {
  const { referer } = head.headers;
  const { rest, values } = without(head.query);
  if (values.length === 0 && !referer?.includes(`${NAME}=`)) return { head, ticket: undefined };
  request.url = withoutTicket(request.url ?? '');
  const rawHeaders = head.rawHeaders.map((value, index) =>
    index % 2 === 1 && head.rawHeaders[index - 1]!.toLowerCase() === 'referer' ? withoutTicket(value) : value,
  );
  const headers = referer === undefined ? head.headers : { ...head.headers, referer: withoutTicket(referer) };
  if (referer !== undefined) request.headers.referer = headers.referer;
  return {
    head: { ...head, target: withoutTicket(head.target), query: rest, headers, rawHeaders },
    ticket: values.length > 1 ? '' : values[0],
  };
}

function withoutTicket(url: string): string {
  const start = url.indexOf('?');
  if (start === -1) return url;
  const hash = url.indexOf('#', start);
  const end = hash === -1 ? url.length : hash;
  const { rest } = without(url.slice(start + 1, end));
  return url.slice(0, start) + (rest === '' ? '' : `?${rest}`) + url.slice(end);
}

/** The other parameters stay as they are written. */
function without(query: string): { rest: string; values: string[] } {
  const values: string[] = [];
  if (!query.includes(NAME)) return { rest: query, values };
  const rest = query.split('&').filter(pair => {
    const isTicket = pair === NAME || pair.startsWith(`${NAME}=`);
    if (isTicket) values.push(pair.slice(NAME.length + 1));
    return !isTicket;
  });
  return { rest: values.length === 0 ? query : rest.join('&'), values };
}
