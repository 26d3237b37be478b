import { checkChoice, kindOf } from '../../base/options.ts';
import type { HeaderLine } from '../../http/header-line.ts';
import { addToPath } from '../../http/page-links.ts';
import { hidesLaxCookies, type RequestSite } from '../../http/request-site.ts';
import { trackingProblem } from '../../http/tracking-list.ts';
import { type CookieLife, SessionCookie, type SessionCookieOptions } from './cookie.ts';
import type { SessionTicket, TextStanding, Tickets } from './ticket.ts';

/** How a client shows which session is its own. */
export type TrackingKind = 'cookie' | 'header' | 'url';

export const TRACKING_KINDS: readonly TrackingKind[] = ['cookie', 'header', 'url'];

export interface TrackingOptions {
  /**
   * `cookie` (default). `header`: for clients without cookies; the ticket is in a request header, and a new one in the
   * same header of the response. `url`: in links that the application encodes (`;holdfast=…`): it is seen in logs,
   * histories and `Referer`; nothing else being possible is the only reason for it.
   *
   * A list, for example `['cookie', 'url']`: of its kinds the first counts that a client shows, and the others are not
   * looked at then. A client that shows none gets its new session by all of them, until it shows one. `url` stands
   * last: what a client keeps wins over a link that somebody has sent to it.
   */
  readonly tracking?: TrackingKind | readonly TrackingKind[];
  readonly cookie?: SessionCookieOptions;
  /** With tracking by `header`. Default `Holdfast-Session-Ticket`. */
  readonly header?: string;
  /** With tracking by `url`: the name of the path parameter. Default `holdfast`. */
  readonly urlParameter?: string;
}

/** What tracking looks at in a request. */
export interface TrackedRequest {
  readonly cookieHeader: string | undefined;
  /** The request header of this name, in any case. Needed for tracking by `header` only. */
  readonly readHeader?: ((name: string) => string | undefined) | undefined;
  /** The value of the URL's path parameter. Needed for tracking by `url` only. */
  readonly urlTicket?: string | undefined;
  /** True when the client speaks TLS to us, or to a trusted proxy in front of us. */
  readonly isSecure: boolean;
  /** True when the request loads a page into a window. */
  readonly isDocumentNavigation?: boolean;
  /** Default `GET`. */
  readonly method?: string | undefined;
  /** Whose page sends it, see `requestSite`. Default `unknown`. */
  readonly site?: RequestSite | undefined;
  /**
   * The request is expected to come from another site and to sign its visitor in: the callback of a login by
   * `form_post`. `signIn` then sets the cookie over one that the request could not bring. Default false.
   */
  readonly isCrossSiteSignIn?: boolean | undefined;
}

/** One place in which a session is looked for. */
export interface LookedAt {
  readonly kind: TrackingKind;
  /** Of the cookie, header or path parameter. */
  readonly name: string;
  /** What is there; empty: nothing of this name. */
  readonly found: readonly TextStanding[];
}

/** It makes a session for 30 s only. A form may be open for longer. */
const NONCE_MAX_AGE_S = 86_400;

const DEFAULT_HEADER = 'Holdfast-Session-Ticket';
const DEFAULT_URL_PARAMETER = 'holdfast';
/** URLs with a scheme or a host (as browsers see them: URL standard §4.4), and those without a path. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: browsers leave them out.
const ELSEWHERE = /^[\x00-\x20]*([a-z][a-z\d+.-]*:|[/\\]{2}|[?#]|$)/i;

/** Finds tickets in requests and puts them on responses. */
export class Tracking {
  /** Each once; the first that a client shows counts. */
  readonly kinds: readonly TrackingKind[];
  /** Letter for letter; without tracking by `cookie` none of this name is ever set. */
  readonly cookie: SessionCookie;
  readonly headerName: string;
  readonly urlParameter: string;
  readonly #urlParameters: ReadonlySet<string>;
  /** Under which the tickets are good for something: the path of the cookie, `/` or without a slash at its end. */
  readonly path: string;
  readonly #tickets: Tickets;

  /**
   * @param lifetimeMs How long a session may live; `Infinity`: for ever.
   * @throws {TypeError} when a name cannot be used, or a list of kinds.
   */
  constructor(tickets: Tickets, options: TrackingOptions = {}, lifetimeMs = Number.POSITIVE_INFINITY) {
    this.kinds = trackingKinds(options.tracking);
    this.cookie = new SessionCookie(tickets, options.cookie, lifetimeMs);
    this.headerName = options.header ?? DEFAULT_HEADER;
    this.urlParameter = options.urlParameter ?? DEFAULT_URL_PARAMETER;
    this.#urlParameters = new Set([this.urlParameter]);
    this.path = options.cookie?.path?.replace(/(.)\/$/, '$1') ?? '/';
    this.#tickets = tickets;
    for (const name of [this.headerName, this.urlParameter])
      if (!/^[A-Za-z][\w-]*$/.test(name))
        throw new TypeError(
          `sessions: ${JSON.stringify(name)} cannot be used as a name; take letters, digits, - and _`,
        );
  }

  /** True when browsers send the cookie only where a page of ours has made the request (`SameSite=Strict`). */
  get isStrict(): boolean {
    return this.#hasMarker;
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
    if (!this.kinds.includes('cookie') || this.cookie.sameSite === 'none' || site === 'own') return false;
    if (site === 'opaque' && this.#comesWithOurs(cookieHeader)) return false;
    if (hidesLaxCookies(method, site)) return true;
    if (!this.#hasMarker) return false;
    // The marker comes with every link, and with nothing else from another site.
    if (site !== 'unknown') return !isDocumentNavigation || this.cookie.hasMarker(cookieHeader);
    return this.cookie.hasMarker(cookieHeader) && !this.cookie.isIn(cookieHeader);
  }

  /** True when the client of a live session that it shows in a cookie has yet to be told that it has one. */
  lacksMarker(request: TrackedRequest): boolean {
    return this.#hasMarker && !this.cookie.hasMarker(request.cookieHeader) && this.shownBy(request) === 'cookie';
  }

  /**
   * Tells the client that it has a session, or no longer has one, where the cookie itself does not come with every
   * request that it is good for.
   */
  mark({ isSecure }: TrackedRequest, life: CookieLife | 'gone'): HeaderLine[] {
    return this.#hasMarker ? [{ name: 'Set-Cookie', value: this.cookie.writeMarker(life, isSecure) }] : [];
  }

  /**
   * The kind by which a client shows what only a client of ours can have: a genuine ticket, of whatever session. In
   * cookies a genuine nonce, and under `strict` the marker, say the same: this client keeps cookies. Undefined: it
   * shows nothing of ours.
   */
  shownBy(request: TrackedRequest): TrackingKind | undefined {
    return this.kinds.find(kind =>
      kind === 'cookie'
        ? this.#comesWithOurs(request.cookieHeader) || this.#isMarked(request)
        : this.#parse(kind, request) !== undefined,
    );
  }

  /** The genuine tickets of a request, each once, at most four: those of the first kind that it shows. */
  read(request: TrackedRequest): SessionTicket[] {
    for (const kind of this.kinds) {
      if (kind === 'cookie') {
        const tickets = this.cookie.read(request.cookieHeader);
        const isShown = tickets.length > 0 || (this.kinds.length > 1 && this.shownBy(request) === kind);
        if (isShown) return tickets;
      } else {
        const ticket = this.#parse(kind, request);
        if (ticket) return [ticket];
      }
    }
    return [];
  }

  /** Where `read` looks, and what it finds there: for whoever asks why a client has no session. */
  explain(request: TrackedRequest): LookedAt[] {
    return this.kinds.map(kind => {
      const name = { cookie: this.cookie.name, header: this.headerName, url: this.urlParameter }[kind];
      if (kind === 'cookie') return { kind, name, found: this.cookie.standings(request.cookieHeader) };
      const text = this.#text(kind, request);
      return { kind, name, found: text === undefined ? [] : [this.#tickets.standingOf(text)] };
    });
  }

  /** True when the client shows something, whatever it is worth. */
  isIn(request: TrackedRequest): boolean {
    return this.kinds.some(kind => this.#isInKind(kind, request));
  }

  /**
   * By which kinds a client is told a ticket: by the one that it shows. One that shows none, or a link of a session
   * that is over, gets a new session by all that may be: by no cookie where one may be hidden, and by no header where a
   * page of a browser could read it.
   *
   * @param isNew This request makes the session.
   */
  toldBy(request: TrackedRequest, isNew: boolean): readonly TrackingKind[] {
    if (this.kinds.length === 1) return this.kinds;
    const shown = this.shownBy(request);
    if (shown !== undefined && (shown !== 'url' || !isNew)) return [shown];
    return this.kinds.filter(kind => {
      if (kind === 'cookie') return request.isCrossSiteSignIn || !this.mayBeHidden(request);
      return kind === 'url' || isFromProgram(request);
    });
  }

  /**
   * Tells the client its ticket. What it is told by `url` only links can say.
   *
   * @param over Sids of the other sessions that the request has shown, and that are over.
   * @param isNew This request makes the session.
   * @param life For how long a browser is to keep it.
   */
  tell(
    ticket: SessionTicket,
    request: TrackedRequest,
    over: ReadonlySet<string>,
    isNew: boolean,
    life: CookieLife,
  ): HeaderLine[] {
    return this.toldBy(request, isNew).flatMap(kind => {
      if (kind === 'cookie') return this.#tellByCookie(ticket, request, over, life);
      return kind === 'header' ? [{ name: this.headerName, value: this.#tickets.write(ticket) }] : [];
    });
  }

  #tellByCookie(
    ticket: SessionTicket,
    request: TrackedRequest,
    over: ReadonlySet<string>,
    life: CookieLife,
  ): HeaderLine[] {
    const { cookieHeader, isSecure } = request;
    const former = this.cookie.clearFormer(cookieHeader, sid => sid === ticket.sid || over.has(sid), isSecure);
    return [
      ...former.map(value => ({ name: 'Set-Cookie', value })),
      { name: 'Set-Cookie', value: this.cookie.write(ticket, isSecure, life) },
      ...this.mark(request, life),
    ];
  }

  /** Makes the client forget what it has shown. A link is dead by the end of its session. */
  forget(request: TrackedRequest): HeaderLine[] {
    return this.kinds.flatMap(kind => {
      if (!this.#isInKind(kind, request)) return [];
      if (kind === 'cookie')
        return [{ name: 'Set-Cookie', value: this.cookie.clear(request.isSecure) }, ...this.mark(request, 'gone')];
      return kind === 'header' ? [{ name: this.headerName, value: '' }] : [];
    });
  }

  /** The ticket of the session that the request's nonce makes. */
  ticketOfNonce({ cookieHeader }: TrackedRequest, now: number): SessionTicket | undefined {
    if (!this.kinds.includes('cookie')) return undefined;
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
    if (!this.kinds.includes('cookie')) return [];
    const nonce = this.#tickets.writeNonce(random, now);
    return [{ name: 'Set-Cookie', value: this.cookie.writeNonce(nonce, NONCE_MAX_AGE_S, isSecure) }];
  }

  /** Where the cookie is kept; undefined without one. */
  get cookiePlace(): string | undefined {
    return this.kinds.includes('cookie') ? this.cookie.place : undefined;
  }

  /** A ticket as clients show it. */
  textOf(ticket: SessionTicket): string {
    return this.#tickets.write(ticket);
  }

  /** What of a request shows a ticket: by the first of the kinds. */
  fieldsFor(text: string): { readonly cookieHeader?: string; readonly header?: string; readonly urlTicket?: string } {
    const [kind] = this.kinds;
    if (kind === 'cookie') return { cookieHeader: `${this.cookie.name}=${text}` };
    return kind === 'header' ? { header: text } : { urlTicket: text };
  }

  /** The path parameter that shows this ticket, `;holdfast=v1…`, for the end of a URL's path. */
  parameterOf(ticket: SessionTicket): string {
    return `;${this.urlParameter}=${this.#tickets.write(ticket)}`;
  }

  /**
   * The URL with the ticket in it. The servlets' `encodeURL`.
   *
   * Only paths get it: a URL with a scheme or a host may lead to somebody else, and one without a path keeps that of
   * the page it is on.
   */
  encodeUrl(url: string, ticket: SessionTicket): string {
    if (ELSEWHERE.test(url.replace(/[\t\n\r]/g, ''))) return url;
    return addToPath(url, this.#urlParameters, this.parameterOf(ticket));
  }

  /**
   * A genuine cookie of ours has come that browsers send as they send the session's: that one would have come as well.
   */
  #comesWithOurs(cookieHeader: string | undefined): boolean {
    if (this.cookie.read(cookieHeader).length > 0) return true;
    return this.cookie.readNonces(cookieHeader).some(nonce => this.#tickets.isNonce(nonce));
  }

  get #hasMarker(): boolean {
    return this.cookie.sameSite === 'strict' && this.kinds.includes('cookie');
  }

  #isMarked({ cookieHeader }: TrackedRequest): boolean {
    return this.#hasMarker && this.cookie.hasMarker(cookieHeader);
  }

  #isInKind(kind: TrackingKind, request: TrackedRequest): boolean {
    return kind === 'cookie' ? this.cookie.isIn(request.cookieHeader) : this.#text(kind, request) !== undefined;
  }

  #parse(kind: 'header' | 'url', request: TrackedRequest): SessionTicket | undefined {
    const text = this.#text(kind, request);
    return text === undefined ? undefined : this.#tickets.parse(text);
  }

  #text(kind: 'header' | 'url', request: TrackedRequest): string | undefined {
    return kind === 'header' ? request.readHeader?.(this.headerName) || undefined : request.urlTicket;
  }
}

/**
 * The kinds of a `tracking`, which is one or a list of them.
 *
 * @throws {TypeError} when it is neither, or the list names one twice, none, or `url` before another.
 */
function trackingKinds(tracking: TrackingOptions['tracking'] = 'cookie'): readonly TrackingKind[] {
  const kinds = typeof tracking === 'string' ? [tracking] : tracking;
  if (!Array.isArray(kinds))
    throw new TypeError(
      `SessionManager: "tracking" is one of ${TRACKING_KINDS.join(', ')} or a list of them, not ${kindOf(tracking)}`,
    );
  for (const kind of kinds) checkChoice('SessionManager', 'tracking', kind ?? '', TRACKING_KINDS);
  const problem = trackingProblem(kinds);
  if (problem !== undefined) throw new TypeError(`SessionManager: "tracking" ${problem}`);
  return [...kinds];
}

/** Nothing says that a browser has sent it, whose pages could read the headers of the answer. */
function isFromProgram({ site = 'unknown', isDocumentNavigation = false }: TrackedRequest): boolean {
  return site === 'unknown' && !isDocumentNavigation;
}
