import { parseRefresh } from './refresh.ts';
import { takeTickets } from './url-ticket.ts';

/** The page whose links are written, as its client has it. */
export interface Page {
  /** Without a path parameter of ours. */
  readonly url: string;
  /** What its links get at the end of their path: the name of the parameter, and all of it, `;name=value`. */
  readonly parameter: { readonly name: string; readonly text: string };
  /** The path under which it is good for something: `/`, or without a slash at its end. */
  readonly scope: string;
  /** The client has the page under a URL with this parameter, so that links which keep its path keep that too. */
  readonly hasParameter: boolean;
}

/** What a browser leaves out around a URL (URL standard §4.4). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const EDGE = /[\x00-\x20]/;

/** Bytes that are other characters in another encoding than Latin-1: of those, some vanish from a host or become ASCII. */
const NOT_ASCII = /[\x80-\xff]/g;
/** No host has it. */
const STRANGER = '\ufffd';
const STRANGER_IN_URL = '%EF%BF%BD';

/**
 * Writes a path parameter into links of a page: those that lead to the page's own origin, and to no other place
 * whatever a browser makes of their spelling. All other links stay letter for letter.
 *
 * Of links, one character is one byte in an encoding that contains ASCII.
 */
export class PageLinks {
  readonly #page: Page;
  readonly #url: URL | null;
  readonly #names: ReadonlySet<string>;

  constructor(page: Page) {
    this.#page = page;
    this.#url = URL.parse(page.url);
    this.#names = new Set([page.parameter.name]);
  }

  /**
   * @param base From where relative links of the document lead. Default: the page.
   * @param isOfPage An empty link means the page all the same.
   */
  add(link: string, base: URL | undefined = undefined, isOfPage = false): string {
    if (isOfPage && link === '') return this.#toPage(base);
    const from = base ?? this.#url;
    const url = from && read(link, from);
    if (!url || !this.#isOwn(url)) return link;
    const [start, end] = inner(link);
    const text = link.slice(start, end);
    if (text === '' || text.startsWith('?') || text.startsWith('#')) return this.#onThisPath(link, text, url, base);
    const { text: parameter } = this.#page.parameter;
    const encoded = addToPath(link, this.#names, parameter);
    // Of odd spellings, what stands at the end may be part of the host.
    const result = read(encoded, from);
    const isRight = result !== null && this.isOwnOrigin(result) && result.pathname.endsWith(parameter);
    return isRight ? encoded : link;
  }

  /**
   * The value of a `Refresh` header, or of the `content` of its `meta` (HTML standard §4.2.5.3).
   *
   * @param base As in `add`.
   */
  refresh(value: string, base: URL | undefined = undefined): string {
    const refresh = parseRefresh(value);
    if (!refresh) return value;
    const { start, end, time } = refresh;
    if (start < value.length) return value.slice(0, start) + this.add(value.slice(start, end), base) + value.slice(end);
    const again = this.#toPage(base);
    return again === '' ? value : `${time}; url=${again}`;
  }

  /** Where a link of the page leads; null when nowhere, or where only those know who know its encoding. */
  resolve(link: string): URL | null {
    return this.#url && read(link, this.#url);
  }

  /** True when a URL leads to the page's own origin. */
  isOwnOrigin({ protocol, host }: URL): boolean {
    return protocol === this.#url?.protocol && host === this.#url.host;
  }

  /** The page itself; empty where its client has that with the parameter. */
  #toPage(base: URL | undefined): string {
    const link = this.add('');
    // The document reads even a path from its base.
    return link === '' || !base || this.isOwnOrigin(base) ? link : this.#url!.origin + link;
  }

  /** A link that names no path: it leads to that of the page, or of its base. */
  #onThisPath(link: string, text: string, url: URL, base: URL | undefined): string {
    // To another place of the page it is no request.
    if (base === undefined && (this.#page.hasParameter || text.startsWith('#'))) return link;
    // What begins so would be read as a host.
    if (url.pathname.startsWith('//')) return link;
    const before = text.startsWith('?') ? '' : url.search;
    if ((url.pathname + before).includes(STRANGER_IN_URL)) return link;
    return takeTickets(url.pathname, this.#names).rest + this.#page.parameter.text + before + text;
  }

  #isOwn(url: URL): boolean {
    if (!this.isOwnOrigin(url) || url.username !== '' || url.password !== '') return false;
    const { scope } = this.#page;
    if (scope === '/') return true;
    const path = takeTickets(url.pathname, this.#names).rest;
    return path === scope || path.startsWith(`${scope}/`);
  }
}

/**
 * Writes a path parameter to the end of a link's path, in the place of those that have its name, and says nothing of
 * where that leads.
 */
export function addToPath(link: string, names: ReadonlySet<string>, parameter: string): string {
  const [start, end] = inner(link);
  const { rest } = takeTickets(link.slice(start, end), names);
  const mark = rest.search(/[?#]/);
  const path = mark === -1 ? rest : rest.slice(0, mark);
  const isHostOnly = /^(?:[a-z]+:)?[/\\]{2,}[^/\\]*$/i.test(path);
  return link.slice(0, start) + path + (isHostOnly ? '/' : '') + parameter + rest.slice(path.length) + link.slice(end);
}

function read(link: string, from: URL): URL | null {
  return URL.parse(link.replace(NOT_ASCII, STRANGER), from.href);
}

/** Where a link begins and ends without what a browser leaves out around it. */
function inner(link: string): [start: number, end: number] {
  let start = 0;
  let end = link.length;
  while (start < end && EDGE.test(link[start]!)) start++;
  while (end > start && EDGE.test(link[end - 1]!)) end--;
  return [start, end];
}
