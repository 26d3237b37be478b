import { OwnNames } from '../own-names.ts';

export interface UpstreamCookiesConfig {
  /**
   * What browsers see before the name of each of the upstream's cookies; it gets no cookie without it. For applications
   * that use the same names.
   */
  prefix?: string;
  /**
   * Takes the place of a `Domain` that the upstream sets; `false` removes each. Default: one that is not a domain of
   * the public host is removed.
   */
  domain?: string | false;
  /**
   * The `Path` of every cookie that the upstream sets. Default: the backend's, mapped back where the route rewrites it.
   */
  path?: string;
}

/** Where a cookie is going. */
export interface CookiePlace {
  /** The public host, without port. */
  readonly hostname: string;
  /** The public form of a path that the backend has named. */
  publicPath(path: string): string;
}

/** Names that browsers bind to rules of their own, by how they begin (rfc6265bis §4.1.3). They must stay in front. */
const MARK = /^__(?:host-http|host|http|secure)-/i;

/**
 * The cookies of an upstream, under other names and in other places for the browser than for the backend: Apache's
 * `ProxyPassReverseCookieDomain` and `ProxyPassReverseCookiePath`, and a prefix for the names.
 */
export class UpstreamCookies {
  /** Empty when there is none. */
  readonly prefix: string;
  readonly #domain: string | false | undefined;
  readonly #path: string | undefined;
  readonly #own: OwnNames;

  constructor({ prefix = '', domain, path }: UpstreamCookiesConfig = {}, own: OwnNames = new OwnNames()) {
    this.prefix = prefix;
    this.#own = own;
    this.#domain = domain;
    this.#path = path;
  }

  /** The name that a browser knows a cookie of the backend by. */
  publicName(name: string): string {
    const mark = MARK.exec(name)?.[0] ?? '';
    return mark + this.prefix + name.slice(mark.length);
  }

  /**
   * A `Cookie` header as the backend gets it: letter for letter what is kept.
   *
   * Left out are our own cookies, also those that would have one of their names without the prefix; with a prefix all
   * that do not have it, and without one those that have the prefix of another upstream.
   *
   * @returns undefined when nothing remains.
   */
  toBackend(header: string): string | undefined {
    const { cookies } = this.#own;
    const pairs = header.split(';');
    const kept: string[] = [];
    for (const pair of pairs) {
      const name = nameOf(pair);
      if (cookies.has(name)) continue;
      if (this.prefix === '') {
        if (!this.#isOfAnother(name)) kept.push(pair);
        continue;
      }
      const backendName = this.#backendName(name);
      if (backendName === undefined || cookies.has(backendName)) continue;
      kept.push(pair.slice(0, pair.indexOf(name)) + backendName + pair.slice(pair.indexOf(name) + name.length));
    }
    if (kept.length === pairs.length && this.prefix === '') return header;
    const text = kept.join(';').trim();
    return text === '' ? undefined : text;
  }

  /** A `Set-Cookie` value as the browser gets it; undefined when the backend may not set it. */
  toClient(header: string, place: CookiePlace): string | undefined {
    const { cookies } = this.#own;
    const [pair = '', ...attributes] = header.split(';');
    const name = nameOf(pair);
    // A cookie without a name comes back as its value, which can look like a name and a value.
    const seenAs = name === '' ? nameOf(pair.replace(/^\s*=/, '')) : name;
    if (name === '' && (this.prefix !== '' || cookies.has(seenAs))) return undefined;
    const publicName = this.publicName(name);
    if (cookies.has(name) || cookies.has(publicName)) return undefined;
    if (this.prefix === '' && this.#isOfAnother(seenAs)) return undefined;
    const parts = [name === publicName ? pair : publicName + pair.slice(pair.indexOf('='))];
    // What such a name promises is lost with another path, and then the browser takes none.
    const isHostOnly = /^__host-/i.test(name);
    for (const attribute of attributes) {
      const key = attribute.slice(0, attribute.includes('=') ? attribute.indexOf('=') : undefined).trim();
      const value = attribute.slice(attribute.indexOf('=') + 1).trim();
      if (/^domain$/i.test(key)) parts.push(...this.#domainOf(attribute, value, place));
      else if (/^path$/i.test(key) && !isHostOnly) parts.push(this.#pathOf(attribute, value, place));
      else parts.push(attribute);
    }
    const hasPath = attributes.some(attribute => /^\s*path\s*=/i.test(attribute));
    if (this.#path !== undefined && !hasPath && !isHostOnly) parts.push(` Path=${this.#path}`);
    return parts.join(';');
  }

  /** Undefined for a name that no cookie of the backend has. */
  #backendName(publicName: string): string | undefined {
    const mark = MARK.exec(publicName)?.[0] ?? '';
    if (!publicName.startsWith(this.prefix, mark.length)) return undefined;
    const name = mark + publicName.slice(mark.length + this.prefix.length);
    // `app1___Host-x` would become a name whose rules no browser has kept.
    return name !== '' && this.publicName(name) === publicName ? name : undefined;
  }

  /** Only without a prefix of our own. */
  #isOfAnother(name: string): boolean {
    const mark = MARK.exec(name)?.[0] ?? '';
    return [...this.#own.cookiePrefixes].some(prefix => name.startsWith(prefix, mark.length));
  }

  #domainOf(attribute: string, value: string, { hostname }: CookiePlace): string[] {
    if (this.#domain === false) return [];
    if (this.#domain !== undefined) return [` Domain=${this.#domain}`];
    // RFC 6265 §5.2.3 and §5.1.3. A browser refuses a cookie of another domain, such as the backend's own host.
    const domain = value.replace(/^\./, '').toLowerCase();
    return domain === '' || hostname === domain || hostname.endsWith(`.${domain}`) ? [attribute] : [];
  }

  #pathOf(attribute: string, value: string, place: CookiePlace): string {
    const path = this.#path ?? (value.startsWith('/') ? place.publicPath(value) : value);
    return path === value ? attribute : ` Path=${path}`;
  }
}

/** RFC 6265 §5.2: the name ends at the first `=`, and white space around it does not count. */
function nameOf(pair: string): string {
  const equals = pair.indexOf('=');
  return equals < 0 ? '' : pair.slice(0, equals).trim();
}
