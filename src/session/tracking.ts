import { SessionCookie, type SessionCookieOptions } from './cookie.ts';
import { NONCE_LIFETIME_MS, type SessionTicket, type Tickets } from './ticket.ts';

/** How a client shows which session is its own. */
export type TrackingKind = 'cookie' | 'header' | 'url';

export interface TrackingOptions {
  /**
   * `cookie` (default). `header`: for clients without cookies; the ticket is in a request header, and a new one in the same header of the
   * response. `url`: in links that the application encodes (`;holdfast=…`): it is seen in logs, histories and `Referer`; nothing else being
   * possible is the only reason for it.
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
}

/** A header of a response. */
export interface HeaderLine {
  readonly name: string;
  readonly value: string;
}

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
    return [this.cookie.name, this.cookie.nonceName];
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

  /** Tells the client its ticket. Under `url` only links can. */
  tell(ticket: SessionTicket, { isSecure }: TrackedRequest): HeaderLine[] {
    if (this.kind === 'cookie') return [{ name: 'Set-Cookie', value: this.cookie.write(ticket, isSecure) }];
    return this.kind === 'header' ? [{ name: this.headerName, value: this.#tickets.write(ticket) }] : [];
  }

  /** Makes the client forget its ticket. */
  forget({ isSecure }: TrackedRequest): HeaderLine[] {
    if (this.kind === 'cookie') return [{ name: 'Set-Cookie', value: this.cookie.clear(isSecure) }];
    return this.kind === 'header' ? [{ name: this.headerName, value: '' }] : [];
  }

  /** The ticket of the session that the request's nonce makes. */
  ticketOfNonce({ cookieHeader }: TrackedRequest, now: number): SessionTicket | undefined {
    const nonce = this.kind === 'cookie' ? this.cookie.readNonce(cookieHeader) : undefined;
    return nonce === undefined ? undefined : this.#tickets.ticketOf(nonce, now);
  }

  /** Gives the client a nonce, so that the parts of the page that it gets make one session. */
  tellNonce(random: string, now: number, { isSecure }: TrackedRequest): HeaderLine[] {
    if (this.kind !== 'cookie') return [];
    const nonce = this.#tickets.writeNonce(random, now);
    return [{ name: 'Set-Cookie', value: this.cookie.writeNonce(nonce, NONCE_LIFETIME_MS / 1000, isSecure) }];
  }

  /**
   * The URL with the ticket in it, under `url`; otherwise as it is. The servlets' `encodeURL`.
   *
   * Only paths get it: a URL with a scheme or a host may lead to somebody else, and one without a path keeps that of the page it is on.
   */
  encodeUrl(url: string, ticket: SessionTicket): string {
    if (this.kind !== 'url' || ELSEWHERE.test(url.replace(/[\t\n\r]/g, ''))) return url;
    const [, path, rest] = /^([^?#]*)(.*)$/s.exec(url)!;
    const bare = path!.replace(new RegExp(`;${this.urlParameter}=[^;/]*`, 'g'), '');
    return `${bare};${this.urlParameter}=${this.#tickets.write(ticket)}${rest}`;
  }

  #text(request: TrackedRequest): string | undefined {
    return this.kind === 'header' ? request.readHeader?.(this.headerName) || undefined : request.urlTicket;
  }
}
