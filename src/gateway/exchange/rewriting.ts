import { parseAuthority } from '../../http/authority.ts';
import { parseRefresh } from '../../http/refresh.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { PathRewrite } from '../routing/path-rewrite.ts';
import type { CookiePlace, UpstreamCookies } from '../upstream/cookies.ts';
import type { UrlClient } from './url-client.ts';

export interface RewritingOptions {
  readonly head: RequestHead;
  readonly upstream: {
    readonly servers: readonly { readonly url: string; readonly isTls: boolean }[];
    readonly cookies: UpstreamCookies;
  };
  /** Of the route; undefined when its paths are the backend's. */
  readonly rewrite?: PathRewrite | undefined;
  /** Its links carry its ticket. */
  readonly urlClient?: UrlClient | undefined;
}

/**
 * What one request and its answer say of places and cookies, in the words of the other side.
 *
 * A link of the backend is rewritten when it leads to a server of the upstream or to the public host, and the route has
 * a path for it. Whatever leads the client to the right place as it is stays letter for letter, and so does what leads
 * elsewhere.
 */
export class Rewriting implements CookiePlace {
  /**
   * Path and query that the backend is asked for: the path that was decided on, so that it cannot be read differently
   * there.
   */
  readonly target: string;
  readonly #options: RewritingOptions;

  constructor(options: RewritingOptions) {
    const { head, rewrite } = options;
    const path = rewrite ? rewrite.toBackend(head.path) : head.path;
    this.target = head.query === '' ? path : `${path}?${head.query}`;
    this.#options = options;
  }

  get hostname(): string {
    return parseAuthority(this.#options.head.host)?.hostname ?? '';
  }

  /** A `Cookie` header for the backend; undefined when nothing is left of it. */
  cookiesToBackend(header: string): string | undefined {
    return this.#options.upstream.cookies.toBackend(header);
  }

  /**
   * A header of the backend's answer for the client; undefined when the client must not get it.
   *
   * @param name in lower case.
   */
  toClient(name: string, value: string): string | undefined {
    const text = this.#toPublic(name, value);
    const { urlClient } = this.#options;
    return urlClient === undefined || text === undefined ? text : urlClient.toClient(name, text);
  }

  #toPublic(name: string, value: string): string | undefined {
    switch (name) {
      case 'set-cookie':
        return this.#options.upstream.cookies.toClient(value, this);
      case 'location':
        return this.#link(value, true);
      case 'content-location':
      // As in RFC 2068 §19.6.2.5; Apache rewrites it, too.
      case 'uri':
        return this.#link(value, false);
      case 'refresh': {
        const { start, end } = parseRefresh(value) ?? { start: 0, end: 0 };
        if (start === end) return value;
        return value.slice(0, start) + this.#link(value.slice(start, end), true) + value.slice(end);
      }
      default:
        return value;
    }
  }

  /** The public `Path` of a cookie. `/` is all of the backend, hence all of the route. */
  publicPath(path: string): string {
    const { head, rewrite } = this.#options;
    if (!rewrite) return path;
    const found = rewrite.toPublic(path, head.path, true);
    return path === '/' && found !== undefined && found.length > 1 ? found.replace(/\/$/, '') : (found ?? path);
  }

  /** @param isFollowed The client goes there at once. */
  #link(text: string, isFollowed: boolean): string {
    const { head, rewrite, upstream } = this.#options;
    // As in the request that the backend got.
    const host = `//${head.host || 'localhost'}`;
    const scheme = head.isSecure ? 'https:' : 'http:';
    // One character is one byte here, and browsers escape the bytes.
    const link = text.replace(/[\x80-\xff]/g, byte => `%${byte.charCodeAt(0).toString(16)}`);
    // The backend gets the client's Host, so this is what it takes for its own URL.
    const backendScheme = upstream.servers[0]?.isTls ? 'https:' : 'http:';
    const url = URL.parse(link, backendScheme + host + this.target);
    if (url?.username !== '' || url.password !== '') return text;
    // A server may have the public name as its own; then the public place is what is meant.
    const isPublic = this.#isPublicHost(url);
    if (!isPublic && !this.#isServer(url)) return text;
    const hasScheme = /^[a-z][a-z\d+.-]*:/i.test(link);
    const isRelative = !hasScheme && !/^[/\\]/.test(link);
    const path = rewrite ? rewrite.toPublic(url.pathname, head.path, isPublic && !isRelative) : url.pathname;
    if (path === undefined) return text;
    const rest = path + url.search + url.hash;
    const publicUrl = `${scheme}${host}${head.path}${head.query && `?${head.query}`}`;
    const here = (url.protocol.startsWith('ws') ? scheme.replace('http', 'ws') : scheme) + host + rest;
    const wanted =
      isPublic && hasScheme && this.#meansItsScheme(url, here, isFollowed) ? url.protocol + host + rest : here;
    if (URL.parse(link, publicUrl)?.href === URL.parse(wanted)?.href) return text;
    // A client that has named no host knows by which it came.
    if (head.host === '' && !rest.startsWith('//')) return rest;
    if (/^[/\\]{2}/.test(link)) return host + rest;
    // A path that begins with two slashes would be read as a host.
    return hasScheme || rest.startsWith('//') ? wanted : rest;
  }

  /**
   * The scheme of a link to the public host is what the backend says. With one exception: a server that is spoken to
   * without TLS may not know that TLS ends before it, and says `http` for want of anything better. Not when the link
   * leads to where its client is already: then the scheme is all that it is about.
   *
   * @param here The link with the client's own scheme.
   */
  #meansItsScheme({ protocol }: URL, here: string, isFollowed: boolean): boolean {
    const { head, upstream } = this.#options;
    if (isTls(protocol) || !head.isSecure || upstream.servers.every(server => server.isTls)) return true;
    const isRepeated = head.method === 'GET' || head.method === 'HEAD';
    const own = `https://${head.host}${head.path}${head.query && `?${head.query}`}`;
    return isFollowed && isRepeated && URL.parse(here.replace(/#.*/s, ''))?.href === URL.parse(own)?.href;
  }

  #isServer({ origin }: URL): boolean {
    return this.#options.upstream.servers.some(({ url }) => asHttp(url) === asHttp(origin));
  }

  #isPublicHost({ host, protocol }: URL): boolean {
    if (!/^(?:https?|wss?):$/.test(protocol)) return false;
    return URL.parse(`${protocol}//${this.#options.head.host || 'localhost'}`)?.host === host;
  }
}

function isTls(protocol: string): boolean {
  return protocol === 'https:' || protocol === 'wss:';
}

/** `ws:` is a way to say `http:` here. */
function asHttp(url: string): string {
  return url.replace(/^ws/, 'http');
}
