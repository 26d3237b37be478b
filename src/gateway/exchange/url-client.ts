import { PageLinks } from '../../http/page-links.ts';
import type { RequestHead } from '../../http/request-head.ts';
import { joinHeaders, removeHeaders } from '../../http/response-head.ts';
import {
  type CacheableResponse,
  forbidsStoring,
  isForSharedCaches,
  keepFromSharedCaches,
  mayHaveLinks,
  privateOf,
} from '../../http/shared-caches.ts';
import type { SessionManager } from '../../session/manager.ts';
import type { SessionBinding } from '../../session/request/binding.ts';
import type { HtmlLinks, HtmlLinksOptions } from './html-links.ts';

export interface UrlClientOptions {
  readonly head: RequestHead;
  /** Left out when the route has no sessions. */
  readonly held?:
    | { readonly binding: SessionBinding; readonly context: { readonly manager: SessionManager } }
    | undefined;
}

/** Makes what puts the ticket into the links of a page: `HtmlLinks`, which is loaded where a route asks for it. */
export type PageRewriter = new (options: HtmlLinksOptions) => HtmlLinks;

/** Beside `same-origin` the only policy by which no other site learns the path of a page. */
const STRICTEST = new Set(['no-referrer', 'same-origin']);
const POLICIES = new Set([
  ...STRICTEST,
  ...['no-referrer-when-downgrade', 'origin', 'strict-origin', 'origin-when-cross-origin'],
  ...['strict-origin-when-cross-origin', 'unsafe-url'],
]);

/** `Sec-Fetch-Dest` of what is asked for as a part of a page and is never a page itself. */
const NO_PAGES: ReadonlySet<string> = new Set([
  ...['audio', 'font', 'image', 'manifest', 'report', 'script', 'style', 'track', 'video', 'xslt'],
  ...['audioworklet', 'paintworklet', 'serviceworker', 'sharedworker', 'worker'],
]);

/** They name places to which browsers report URLs, also later and of other pages. */
const REPORTING = ['nel', 'report-to', 'reporting-endpoints'];

/**
 * A client that has a ticket in its URL, or is told its session by links: what answers to it need. Its ticket is what it
 * is when the answer is written, so that a login in it counts.
 */
export class UrlClient {
  readonly #head: RequestHead;
  readonly #held: UrlClientOptions['held'];
  #links: PageLinks | undefined;
  #text: string | undefined;
  /** Undefined where pages pass as they are. */
  readonly rewriter: PageRewriter | undefined;

  /** Undefined for every other client. */
  static of(options: UrlClientOptions, rewriter?: PageRewriter): UrlClient | undefined {
    const isTold = options.held?.binding.isToldByLinks === true;
    if (!isTold && options.head.urlTickets.length === 0) return undefined;
    return new UrlClient(options, isTold && mayBePage(options.head.headers) ? rewriter : undefined);
  }

  private constructor({ head, held }: UrlClientOptions, rewriter: PageRewriter | undefined) {
    this.#head = head;
    this.#held = held;
    this.rewriter = rewriter;
  }

  /** Writes the ticket into links; undefined when there is none to tell. */
  get links(): PageLinks | undefined {
    const text = this.#held?.binding.urlParameter;
    if (text === this.#text) return this.#links;
    this.#text = text;
    this.#links = text === undefined ? undefined : this.#linksWith(text);
    return this.#links;
  }

  #linksWith(text: string): PageLinks {
    const { host, isSecure, path, query, urlTickets } = this.#head;
    const { path: scope, urlParameter: name } = this.#held!.context.manager.tracking;
    return new PageLinks({
      url: `${isSecure ? 'https' : 'http'}://${host || 'localhost'}${path}${query && `?${query}`}`,
      parameter: { name, text },
      scope,
      hasParameter: urlTickets.some(ticket => text === `;${ticket.name}=${ticket.value}`),
    });
  }

  /**
   * A header of the answer as the client gets it.
   *
   * @param name in lower case.
   */
  toClient(name: string, value: string): string {
    switch (name) {
      case 'location':
      case 'content-location':
        return this.links?.add(value) ?? value;
      case 'refresh':
        return this.links?.refresh(value) ?? value;
      default:
        return value;
    }
  }

  /** What else the headers of an answer, name, value, name, value ..., say to this client. Changes the list. */
  protect(headers: string[]): void {
    const fields = joinHeaders(headers);
    const mayTell = this.#mayTell(fields['content-type']);
    if (!this.#hidesUrl(mayTell)) return;
    const asked = fields['cache-control'];
    const isStored = !forbidsStoring(asked);
    const policy = referrerPolicy(fields['referrer-policy']);
    removeHeaders(headers, name => {
      if (name === 'referrer-policy' || REPORTING.includes(name)) return true;
      return mayTell && ((isStored && name === 'cache-control') || isForSharedCaches(name));
    });
    headers.push('Referrer-Policy', policy);
    if (mayTell && isStored) headers.push('Cache-Control', privateOf(asked));
  }

  /** The same on a response of our own. */
  protectResponse(response: CacheableResponse): void {
    const mayTell = this.#mayTell(textOf(response.getHeader('Content-Type')));
    if (!this.#hidesUrl(mayTell)) return;
    response.setHeader('Referrer-Policy', referrerPolicy(textOf(response.getHeader('Referrer-Policy'))));
    for (const name of REPORTING) response.removeHeader(name);
    if (mayTell) keepFromSharedCaches(response);
  }

  /** The page has a ticket in its URL, or leads to one that has. */
  #hidesUrl(mayTell: boolean): boolean {
    return mayTell || this.#head.urlTickets.length > 0;
  }

  #mayTell(contentType = ''): boolean {
    return this.links !== undefined && mayHaveLinks(contentType);
  }
}

/**
 * False where the answer is needed as it was asked for: as a part of a page, by the client's word, or a part of a body by
 * a client that does not name HTML among what it takes. Over plain http browsers do not say what they need an answer
 * for, and scripts fetch parts of videos and documents as they fetch everything.
 */
function mayBePage({ 'sec-fetch-dest': destination = '', accept = '', range }: RequestHead['headers']): boolean {
  if (NO_PAGES.has(String(destination))) return false;
  return range === undefined || /\b(?:text\/html|application\/xhtml\+xml)\b/i.test(accept);
}

/** No other site learns of a URL with a ticket. A stricter policy stays. */
function referrerPolicy(value = ''): string {
  // Of several that a browser knows, the last one counts (Referrer Policy §8.1).
  const known = value.split(',').map(token => token.trim().toLowerCase());
  const last = known.findLast(token => POLICIES.has(token));
  return last !== undefined && STRICTEST.has(last) ? last : 'same-origin';
}

function textOf(value: unknown): string | undefined {
  return value === undefined ? undefined : String(value);
}
