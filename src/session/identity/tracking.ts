import type { HeaderLine } from '../../http/header-line.ts';
import { hidesLaxCookies, type RequestSite } from '../../http/request-site.ts';
import { SessionCookie, type SessionCookieOptions } from './cookie.ts';
import type { SessionTicket, Tickets } from './ticket.ts';

/** How a client shows which session is its own. */
export type TrackingKind = 'cookie' | 'header' | 'url';

export interface TrackingOptions {
  /**
   * `cookie` (default). `header`: for clients without cookies; the ticket is in a request header, and a new one in the
   * same header of the response. `url`: in links that the application encodes (`;holdfast=…`): it is seen in logs,
   * histories and `Referer`; nothing else being possible is the only reason for it.
   */
  readonly tracking?: TrackingKind;
  readonly cookie?: SessionCookieOptions;
  /** With `tracking: 'header'`. Default `Holdfast-Session-Ticket`. */
  readonly header?: string;
  /** With `tracking: 'url'`: the name of the path parameter. Default `holdfast`. */
  readonly urlParameter?: string;
}

/** What tracking looks at in a request. */
export interface TrackedRequest {
  readonly cookieHeader: string | undefined;
  /** The request header of this name, in any case. Needed for `tracking: 'header'` only. */
  readonly readHeader?: ((name: string) => string | undefined) | undefined;
  /** The value of the URL's path parameter. Needed for `tracking: 'url'` only. */
  readonly urlTicket?: string | undefined;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /** True when the request loads a page into a window. */
  readonly isDocumentNavigation?: boolean;
  /** Default `GET`. */
  readonly method?: string | undefined;
  /** Whose page sends it, see `requestSite`. Default `unknown`. */
  readonly site?: RequestSite | undefined;
}

/** It makes a session for 30 s only. A form may be open for longer. */
const NONCE_MAX_AGE_S = 86_400;

const DEFAULT_HEADER = 'Holdfast-Session-Ticket';
const DEFAULT_URL_PARAMETER = 'holdfast';
/** URLs with a scheme or a host (as browsers see them), and those without a path. */
const ELSEWHERE = /^\s*([a-z][a-z\d+.-]*:|[/\\]{2}|[?#]|$)/i;

/** Finds tickets in requests and puts them on responses. */
export class Tracking {
  readonly kind: TrackingKind;
  /** Letter for letter; under `header` and `url` no cookie of this name is ever set. */
  readonly cookie: SessionCookie;
  readonly headerName: string;
  readonly urlParameter: string;
  readonly #tickets: Tickets;

  /**
   * @param lifetimeMs How long a session may live; `Infinity`: for ever.
   * @throws {TypeError} when a name cannot be used.
   */
  constructor(tickets: Tickets, options: TrackingOptions = {}, lifetimeMs = Number.POSITIVE_INFINITY) {
    this.kind = options.tracking ?? 'cookie';
    this.cookie = new SessionCookie(tickets, options.cookie, lifetimeMs);
    this.headerName = options.header ?? DEFAULT_HEADER;
    this.urlParameter = options.urlParameter ?? DEFAULT_URL_PARAMETER;
    this.#tickets = tickets;
    for (const name of [this.headerName, this.urlParameter])
      if (!/^[A-Za-z][\w-]*$/.test(name))
        throw new TypeError(
          `sessions: ${JSON.stringify(name)} cannot be used as a name; take letters, digits, - and _`,
        );
  }

  /** Names of the cookies that it may set. */
  get ownCookies(): readonly string[] {
    const { name, nonceName, markerName } = this.cookie;
    return this.#hasMarker ? [name, nonceName, markerName] : [name, nonceName];
  }

  /**
   * True when the client may have a cookie of ours that browsers do not send with such a request, because a page of
   * another site has made it: then nothing may be set over it, or that page would sign the visitor out.
   */
  mayBeHidden(request: TrackedRequest): boolean {
    const { cookieHeader, method = 'GET', site = 'unknown', isDocumentNavigation = false } = request;
    if (this.kind !== 'cookie' || this.cookie.sameSite === 'none' || site === 'own') return false;
    if (site === 'opaque' && this.#comesWithOurs(cookieHeader)) return false;
    if (hidesLaxCookies(method, site)) return true;
    if (!this.#hasMarker) return false;
    // The marker comes with every link, and with nothing else from another site.
    if (site !== 'unknown') return !isDocumentNavigation || this.cookie.hasMarker(cookieHeader);
    return this.cookie.hasMarker(cookieHeader) && !this.cookie.isIn(cookieHeader);
  }

  /** True when the client of a live session has yet to be told that it has one. */
  lacksMarker({ cookieHeader }: TrackedRequest): boolean {
    return this.#hasMarker && !this.cookie.hasMarker(cookieHeader);
  }

  /**
   * Tells the client that it has a session, or no longer has one, where the cookie itself does not come with every
   * request that it is good for.
   */
  mark({ isSecure }: TrackedRequest, isThere = true): HeaderLine[] {
    return this.#hasMarker ? [{ name: 'Set-Cookie', value: this.cookie.writeMarker(isThere, isSecure) }] : [];
  }

  /** The genuine tickets of a request, each once, at most four. */
  read(request: TrackedRequest): SessionTicket[] {
    if (this.kind === 'cookie') return this.cookie.read(request.cookieHeader);
    const text = this.#text(request);
    const ticket = text === undefined ? undefined : this.#tickets.parse(text);
    return ticket ? [ticket] : [];
  }

  /** True when the client shows something, whatever it is worth. */
  isIn(request: TrackedRequest): boolean {
    return this.kind === 'cookie' ? this.cookie.isIn(request.cookieHeader) : this.#text(request) !== undefined;
  }

  /**
   * Tells the client its ticket. Under `url` only links can.
   *
   * @param over Sids of the other sessions that the request has shown, and that are over.
   */
  tell(ticket: SessionTicket, request: TrackedRequest, over: ReadonlySet<string>): HeaderLine[] {
    if (this.kind === 'cookie') {
      const { cookieHeader, isSecure } = request;
      const former = this.cookie.clearHostOnly(cookieHeader, sid => sid === ticket.sid || over.has(sid), isSecure);
      return [
        ...(former === undefined ? [] : [{ name: 'Set-Cookie', value: former }]),
        { name: 'Set-Cookie', value: this.cookie.write(ticket, isSecure) },
        ...this.mark(request),
      ];
    }
    return this.kind === 'header' ? [{ name: this.headerName, value: this.#tickets.write(ticket) }] : [];
  }

  /** Makes the client forget its ticket. */
  forget(request: TrackedRequest): HeaderLine[] {
    if (this.kind === 'cookie')
      return [{ name: 'Set-Cookie', value: this.cookie.clear(request.isSecure) }, ...this.mark(request, false)];
    return this.kind === 'header' ? [{ name: this.headerName, value: '' }] : [];
  }

  /** The ticket of the session that the request's nonce makes. */
  ticketOfNonce({ cookieHeader }: TrackedRequest, now: number): SessionTicket | undefined {
    if (this.kind !== 'cookie') return undefined;
    for (const nonce of this.cookie.readNonces(cookieHeader)) {
      const ticket = this.#tickets.ticketOf(nonce, now);
      if (ticket) return ticket;
    }
    return undefined;
  }

  /**
   * Gives the client a nonce, so that the parts of the page that it gets make one session, and that its forms are known
   * for ours.
   */
  tellNonce(random: string, now: number, { isSecure }: TrackedRequest): HeaderLine[] {
    if (this.kind !== 'cookie') return [];
    const nonce = this.#tickets.writeNonce(random, now);
    return [{ name: 'Set-Cookie', value: this.cookie.writeNonce(nonce, NONCE_MAX_AGE_S, isSecure) }];
  }

  /**
   * The URL with the ticket in it, under `url`; otherwise as it is. The servlets' `encodeURL`.
   *
   * Only paths get it: a URL with a scheme or a host may lead to somebody else, and one without a path keeps that of
   * the page it is on.
   */
  encodeUrl(url: string, ticket: SessionTicket): string {
    if (this.kind !== 'url' || ELSEWHERE.test(url.replace(/[\t\n\r]/g, ''))) return url;
    const [, path, rest] = /^([^?#]*)(.*)$/s.exec(url)!;
    const bare = path!.replace(new RegExp(`;${this.urlParameter}=[^;/]*`, 'g'), '');
    return `${bare};${this.urlParameter}=${this.#tickets.write(ticket)}${rest}`;
  }

  /**
   * A genuine cookie of ours has come that browsers send as they send the session's: that one would have come as well.
   */
  #comesWithOurs(cookieHeader: string | undefined): boolean {
    if (this.cookie.read(cookieHeader).length > 0) return true;
    return this.cookie.readNonces(cookieHeader).some(nonce => this.#tickets.isNonce(nonce));
  }

  get #hasMarker(): boolean {
    return this.kind === 'cookie' && this.cookie.sameSite === 'strict';
  }

  #text(request: TrackedRequest): string | undefined {
    return this.kind === 'header' ? request.readHeader?.(this.headerName) || undefined : request.urlTicket;
  }
}
