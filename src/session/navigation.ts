import type { IncomingHttpHeaders } from 'node:http';

/**
 * True when a request loads a page into a window: `Sec-Fetch-Dest: document` (Fetch Metadata §2.1), or, where a client does not
 * send it (old browsers, plain http), a GET that prefers `text/html`. Frames, scripts, images and fetches are not.
 */
export function isDocumentNavigation(method: string | undefined, headers: IncomingHttpHeaders): boolean {
  const destination = headers['sec-fetch-dest'];
  if (destination !== undefined) return destination === 'document';
  return method === 'GET' && /^\s*text\/html\b/i.test(headers.accept ?? '');
}
