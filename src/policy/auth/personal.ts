import { isDocumentNavigation } from '../../http/navigation.ts';
import type { RequestHead } from '../../http/request-head.ts';

/** A page that a person opens: neither a WebSocket nor `fetch` can do anything with a page to sign in on. */
export function isPersonal(head: RequestHead): boolean {
  if (head.isUpgrade) return false;
  const mode = head.headers['sec-fetch-mode'];
  return mode === undefined ? isDocumentNavigation(head) : mode === 'navigate';
}
