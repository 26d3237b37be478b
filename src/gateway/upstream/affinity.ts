import { createHmac, hash } from 'node:crypto';
import { RecentMap } from '../../base/recent-map.ts';
import { clientNetwork } from '../../http/client-network.ts';
import { cookieValues, serializeSetCookie } from '../../http/cookies.ts';
import type { RequestHead } from '../../http/request-head.ts';
import type { RouteSeparator } from '../backend-session/observed/options.ts';
import type { UpstreamCookies } from './cookies.ts';
import type { UpstreamServer } from './server.ts';

/**
 * What ties a client to a server. `session`: the `sid` of its session. `route`: the suffix that the backend gives the
 * ids of its own sessions. `cookie`: a signed cookie of ours, for clients that have no session yet. `address`: its
 * address, for clients without cookies. `none`: nothing.
 */
export type AffinityKind = 'session' | 'route' | 'cookie' | 'address' | 'none';

export interface AffinityOptions {
  /**
   * `session`: the `sid`, or a hash of the id that the backend has given. `route`: the suffix of the backend's own
   * session ids. `cookie`: a signed one of ours, until there is a session. `address`: the client's address, with or
   * without a session: IPv4 whole, IPv6 by its /64, as trusted proxies report it. `none`.
   */
  by: AffinityKind;
  /** 503 while every server that a client is tied to is down, instead of moving it to another one. Default false. */
  strict?: boolean;
  /**
   * `route`: the backend's session cookie, default `JSESSIONID`. `cookie`: ours, default `holdfast-` and the name of
   * the upstream.
   */
  cookie?: string;
  /** `route`: the path or query parameter with the same meaning. Default: the name of the cookie in lower case. */
  urlParameter?: string;
  /** `route`: what begins the suffix. Default: the first `.`, `!` or `:` in the value. */
  separator?: RouteSeparator;
}

/** What a request says of the server it belongs to. */
export interface Tie {
  /** The same for every request of the client. */
  readonly key: string;
  /** The servers that the request names, best first; undefined when the key decides by its hash. */
  readonly named: readonly UpstreamServer[] | undefined;
  /** True when our cookie says it, which is then where a move is remembered. */
  readonly isFromCookie: boolean;
}

/** What the cookie of a request's client depends on. */
export interface TiedRequest {
  readonly isSecure: boolean;
  readonly isCookieHidden: boolean;
}

/** The name that servlet containers give it. */
const BACKEND_SESSION_COOKIE = 'JSESSIONID';

/** Moves that are remembered at most; then the one that was used least recently is forgotten. */
const MAX_MOVES = 100_000;

/** Finds out what ties a request to a server, and remembers the moves away from it. */
export class Affinity {
  readonly isStrict: boolean;
  /** The name of our own cookie; undefined when there is none. */
  readonly ownCookie: string | undefined;
  readonly by: AffinityKind;
  readonly #cookie: string;
  readonly #urlParameter: RegExp;
  readonly #separator: RouteSeparator | undefined;
  readonly #upstream: string;
  readonly #keys: readonly (string | Uint8Array)[];
  readonly #moves = new RecentMap<string, UpstreamServer>(MAX_MOVES);
  readonly #tokens = new WeakMap<UpstreamServer, string[]>();

  /** @throws {TypeError} when a cookie is to be signed and there is no key, or it cannot have that name. */
  constructor(
    upstream: string,
    affinity: AffinityKind | AffinityOptions,
    cookies: UpstreamCookies,
    keys: readonly (string | Uint8Array)[],
  ) {
    const options = typeof affinity === 'string' ? { by: affinity } : affinity;
    const { by, strict = false, cookie = by === 'cookie' ? defaultCookie(upstream) : BACKEND_SESSION_COOKIE } = options;
    const { urlParameter = cookie.toLowerCase() } = options;
    this.isStrict = strict;
    this.by = by;
    this.#upstream = upstream;
    this.#keys = keys;
    this.#separator = options.separator;
    // A cookie of the backend comes under its public name, a parameter of its URLs as it is.
    this.#cookie = by === 'route' ? cookies.publicName(cookie) : cookie;
    this.#urlParameter = new RegExp(`[;?&]${urlParameter.replace(/[^\w-]/g, '\\$&')}=([^;?&/]+)`);
    if (by !== 'cookie') return;
    if (keys.length === 0)
      throw new TypeError(`upstream "${upstream}": affinity by cookie needs a key to sign it with`);
    this.ownCookie = this.#cookie;
    this.#setCookie('', false);
  }

  /** What ties the request to a server of the list, or undefined when nothing does. */
  tieOf(
    { headers, path, query, clientAddress }: RequestHead,
    sid: string | undefined,
    servers: readonly UpstreamServer[],
  ): Tie | undefined {
    if (this.by === 'none') return undefined;
    if (this.by === 'address') {
      const network = clientNetwork(clientAddress);
      if (network !== undefined) return { key: network, named: undefined, isFromCookie: false };
    }
    if (this.by === 'route') {
      const value =
        this.#urlParameter.exec(`${path}?${query}`)?.[1] ?? cookieValues(headers.cookie, this.#cookie, 1)[0];
      const named = value === undefined ? [] : serversOfRoute(value, servers, this.#separator);
      if (named.length > 0) return { key: value!, named, isFromCookie: false };
    } else if (this.by === 'cookie') {
      const token = cookieValues(headers.cookie, this.#cookie, 1)[0];
      const server = token === undefined ? undefined : servers.find(one => this.#tokensOf(one).includes(token));
      if (server) return { key: token!, named: [server], isFromCookie: true };
    }
    return sid === undefined ? undefined : { key: sid, named: undefined, isFromCookie: false };
  }

  /** Where the client has moved to, when it has and that server is still there. */
  movedTo(tie: Tie, servers: readonly UpstreamServer[]): UpstreamServer | undefined {
    if (this.#moves.size === 0 || tie.isFromCookie) return undefined;
    const key = this.#memoryKey(tie);
    const server = this.#moves.get(key);
    if (!server) return undefined;
    if (servers.includes(server)) {
      this.#moves.set(key, server);
      return server;
    }
    this.#moves.delete(key);
    return undefined;
  }

  /** @returns what it is remembered under; undefined when the client keeps it itself. */
  remember(tie: Tie, server: UpstreamServer): string | undefined {
    if (tie.isFromCookie) return undefined;
    const key = this.#memoryKey(tie);
    this.adopt(key, server);
    return key;
  }

  /** Remembers what `remember` has returned, here or in another process. */
  adopt(key: string, server: UpstreamServer): void {
    this.#moves.set(key, server);
  }

  /** The server was removed: clients that moved there belong where they would have belonged without it. */
  forget(server: UpstreamServer): void {
    for (const [key, to] of this.#moves) if (to === server) this.#moves.delete(key);
  }

  /**
   * The `Set-Cookie` value that ties a client to a server, or undefined when it is tied to it already, or may be tied
   * to another one by a cookie that a page of another site cannot make it send.
   *
   * @param tie What the request said.
   */
  cookieFor(
    server: UpstreamServer,
    tie: Tie | undefined,
    { isSecure, isCookieHidden }: TiedRequest,
  ): string | undefined {
    if (this.ownCookie === undefined || (isCookieHidden && !tie?.isFromCookie)) return undefined;
    if (tie && (!tie.isFromCookie || tie.named![0] === server)) return undefined;
    return this.#setCookie(this.#tokensOf(server)[0]!, isSecure);
  }

  /** Ids of a backend's sessions are not ours to keep, and may be long; addresses are nobody else's business. */
  #memoryKey({ key, named }: Tie): string {
    return named === undefined && this.by !== 'address' ? key : hash('sha256', key, 'base64url');
  }

  #setCookie(value: string, secure: boolean): string {
    return serializeSetCookie({ name: this.#cookie, value, path: '/', httpOnly: true, sameSite: 'lax', secure });
  }

  /** What names a server to nobody but us, with every key; the first one is written. */
  #tokensOf(server: UpstreamServer): string[] {
    let tokens = this.#tokens.get(server);
    if (!tokens) {
      const text = `holdfast affinity\0${this.#upstream}\0${server.url}`;
      tokens = this.#keys.map(key => createHmac('sha256', key).update(text).digest('base64url').slice(0, 22));
      this.#tokens.set(server, tokens);
    }
    return tokens;
  }
}

/**
 * The servers that the id of a backend's session names by its suffix, best first.
 *
 * What follows the first separator is the route, whole: `id.a.b` has the route `a.b` (as in Apache's
 * `mod_proxy_balancer`). WebLogic names a second server (`id!first!second!time`), WebSphere each one that the session
 * has been on (`0001id:first:second`), and any of them may serve it.
 */
export function serversOfRoute<S extends { readonly route: string | undefined }>(
  id: string,
  servers: readonly S[],
  separator?: RouteSeparator,
): S[] {
  const at = separator ? id.indexOf(separator) : id.search(/[.!:]/);
  if (at < 0) return [];
  const suffix = id.slice(at + 1);
  const routes = id[at] === '.' ? [suffix] : [suffix, ...suffix.split(id[at]!)];
  const named = routes.flatMap(route => servers.filter(server => server.route === route && route !== ''));
  return [...new Set(named)];
}

/** A cookie name is a token (RFC 6265 §4.1.1), the name of an upstream any text. */
function defaultCookie(upstream: string): string {
  return `holdfast-${upstream.replace(/[^\w.-]/g, character => `~${character.codePointAt(0)!.toString(16)}`)}`;
}
