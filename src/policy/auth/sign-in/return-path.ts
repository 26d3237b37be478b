import type { RequestHead } from '../../../http/request-head.ts';

/** Beyond it a page asked for is forgotten: it stands in URLs, whose length servers and browsers limit. */
const MAX_LENGTH = 2_048;
/** Visible ASCII without a backslash, which browsers take for a slash; `//` would be another host. */
const PATH = /^\/(?![/\\])[\x21-\x5b\x5d-\x7e]*$/;

/**
 * A path with its query that leads to a page of this site and nowhere else, wherever the text comes from.
 *
 * @returns undefined when it is none, or longer than 2,048 characters.
 */
export function returnPath(text: string | null | undefined): string | undefined {
  if (text === null || text === undefined || text.length > MAX_LENGTH || !PATH.test(text)) return undefined;
  // What browsers make of it.
  const url = URL.canParse(text, HERE) ? new URL(text, HERE) : undefined;
  if (url?.origin !== HERE || url.pathname.startsWith('//')) return undefined;
  return text;
}

const HERE = 'http://here.invalid';

/**
 * The page that a request asked for, to be shown after the login. Of a form that was sent it is the page with the form,
 * as the form itself is lost.
 */
export function pageAskedFor(head: RequestHead): string | undefined {
  if (head.method === 'GET' || head.method === 'HEAD')
    return returnPath(head.query === '' ? head.path : `${head.path}?${head.query}`);
  return returnPath(pageBefore(head));
}

/** The path and query of the page of this host that has made the browser send a request, as far as it says so. */
export function pageBefore({ headers, host }: Pick<RequestHead, 'headers' | 'host'>): string | undefined {
  const { referer } = headers;
  if (referer === undefined || referer.length > 2 * MAX_LENGTH || !URL.canParse(referer)) return undefined;
  const page = new URL(referer);
  return page.host === host ? page.pathname + page.search : undefined;
}
