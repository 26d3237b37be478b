import { joinHeaders, removeHeaders } from '../../http/response-head.ts';
import { forbidsTransforming } from '../../http/shared-caches.ts';
import type { HtmlLinks, LeftBecause } from '../exchange/html-links.ts';
import type { UrlClient } from '../exchange/url-client.ts';
import type { Upstream } from '../upstream/upstream.ts';

/** Of them the bytes of ASCII that HTML is made of stand for nothing else. */
const CONTAIN_ASCII =
  /^(?:utf-?8|(?:us-)?ascii|iso-?8859-?\d+|latin-?\d|(?:windows|cp)-?(?:874|125\d|31j)|(?:x-mac-.+|macintosh)|koi8-[ru]|euc-(?:jp|kr)|(?:x-)?s(?:hift)?[_-]?jis|ms932|gb(?:2312|k|18030)|big5(?:-hkscs)?|tis-620|ibm866)$/i;

/** What holds for the bytes of the backend's page, and no longer for those that its client gets. */
export const OF_OTHER_BYTES: ReadonlySet<string> = new Set([
  'content-length',
  'content-md5',
  'content-digest',
  'repr-digest',
  'digest',
  'etag',
  'last-modified',
  'accept-ranges',
]);

const REASONS: Readonly<Record<LeftBecause | 'encoded', string>> = {
  encoded: 'the backend sends it encoded, although it was asked not to',
  charset: 'its encoding is not one that contains ASCII',
  'too-long': 'a link is longer than 64 KiB',
  'late-base': 'a base that leads elsewhere would take links with tickets along; it was made empty',
  script: 'where a script ends is not certain',
};

/**
 * What puts the ticket into the links of an answer, where it is a page; undefined where it passes as it is.
 *
 * @param headers Of the answer as the client gets it, name, value, name, value ...: what a rewritten page cannot keep is
 * removed, of an answer to HEAD as well.
 */
export function beginPage(
  { links, rewriter }: UrlClient,
  status: number,
  headers: string[],
  upstream: Upstream,
): HtmlLinks | undefined {
  if (!links || !rewriter || status < 200 || status === 204 || status === 206 || status === 304) return undefined;
  const fields = joinHeaders(headers);
  const type = fields['content-type'] ?? '';
  if (!/^\s*text\/html\s*(?:;|$)/i.test(type)) return undefined;
  if (forbidsTransforming(fields['cache-control'])) return undefined;
  // A file that is kept, and sent to others: it is no page of a session.
  if (/^\s*attachment\s*(?:;|$)/i.test(fields['content-disposition'] ?? '')) return undefined;
  const encoding = fields['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (encoding !== 'identity') return left(upstream, 'encoded');
  const charset = /;\s*charset\s*=\s*["']?([^"';\s]+)/i.exec(type)?.[1];
  if (charset !== undefined && !CONTAIN_ASCII.test(charset)) return left(upstream, 'charset');
  removeHeaders(headers, name => OF_OTHER_BYTES.has(name));
  return new rewriter({ links, isCharsetKnown: charset !== undefined, onLeft: why => left(upstream, why) });
}

/** Once for each reason: each page of an application may be such a one. */
function left(upstream: Upstream, reason: keyof typeof REASONS): undefined {
  const fields = { event: 'links-not-rewritten', reason };
  upstream.warnOnce(
    `links: ${reason}`,
    fields,
    `links of a page carry no ticket: ${REASONS[reason]}; later ones are not named`,
  );
}
