import { preferredMediaType } from './media.ts';
import type { RequestHead } from './request-head.ts';

/**
 * True when a person opens a page: the only requests that create a session by themselves.
 *
 * Browsers say so with `Sec-Fetch-Dest: document`, which page scripts cannot set (frames, images and fetches say something else).
 * Where the header is missing, a GET that likes `text/html` best counts.
 */
export function isDocumentNavigation(head: RequestHead): boolean {
  const destination = head.headers['sec-fetch-dest'];
  if (destination !== undefined) return destination === 'document';
  return head.method === 'GET' && preferredMediaType(head.headers.accept) === 'text/html';
}
