import type { OptionNames } from '../../base/options.ts';
import { LONGEST_COOKIE_MS } from '../../base/session-times.ts';
import { cookieValues, prefixOf, type SetCookie, serializeSetCookie } from '../../http/cookies.ts';
import type { SessionTicket, TextStanding, Tickets } from './ticket.ts';

export interface SessionCookieOptions {
  /**
   * Used letter for letter. Default `__Host-holdfast` when every listener is TLS and neither domain nor path is set,
   * else `holdfast`.
   */
  readonly name?: string;
  /**
   * Default: the host that sets it, and no other. When it changes between releases, visitors go on with what their
   * browsers have.
   */
  readonly domain?: string;
  /**
   * Default `/`. A cookie of another path means nothing here, whatever its name is: a change signs visitors out.
   */
  readonly path?: string;
  /** Default `lax`. */
  readonly sameSite?: 'strict' | 'lax' | 'none';
  /**
   * The browser keeps it when it is closed, for as long as the session may live, 400 days at most. Default false: until
   * it is closed.
   */
  readonly persistent?: boolean;
  /**
   * For pages within pages of other sites: the browser keeps one cookie for each of these sites (CHIPS), also where it
   * blocks the cookies of third parties. With `sameSite: none`, hence over TLS only. Default false.
   */
  readonly partitioned?: boolean;
  /** True when clients can reach the sessions through TLS only. Default false. */
  readonly everyListenerIsSecure?: boolean;
}

export const COOKIE_OPTIONS: OptionNames<SessionCookieOptions> = {
  name: 'text',
  domain: 'text',
  path: 'text',
  sameSite: true,
  persistent: 'flag',
  partitioned: 'flag',
  everyListenerIsSecure: 'flag',
};

/** A browser sends one cookie of a name per domain and path that match. More than these are not looked at. */
const MAX_TRIED = 4;

/** For how long a browser keeps a cookie, in milliseconds; `browser`: until it is closed. */
export type CookieLife = number | 'browser';

/** The cookie that carries a session's ticket. */
export class SessionCookie {
  readonly name: string;
  readonly path: string;
  readonly sameSite: 'strict' | 'lax' | 'none';
  readonly #tickets: Tickets;
  readonly #attributes: Pick<SetCookie, 'domain' | 'path' | 'sameSite' | 'httpOnly' | 'partitioned'>;
  readonly #isAlwaysSecure: boolean;
  /** Where a login has not asked for another. */
  readonly life: CookieLife;

  /**
   * @param lifetimeMs How long a session may live; `Infinity`: for ever.
   * @throws {TypeError} when a browser would refuse the cookie.
   */
  constructor(tickets: Tickets, options: SessionCookieOptions = {}, lifetimeMs = Number.POSITIVE_INFINITY) {
    const { domain, path, sameSite = 'lax', partitioned = false, everyListenerIsSecure = false } = options;
    if (partitioned && sameSite !== 'none')
      throw new TypeError(
        `sessions: a cookie that is partitioned needs sameSite "none", not ${JSON.stringify(sameSite)}: others do not come with pages within pages of other sites`,
      );
    const isHostOnly = domain === undefined && (path === undefined || path === '/');
    this.name = options.name ?? (everyListenerIsSecure && isHostOnly ? '__Host-holdfast' : 'holdfast');
    this.path = path ?? '/';
    this.sameSite = sameSite;
    this.#tickets = tickets;
    this.#attributes = { domain, path: this.path, sameSite, httpOnly: true, partitioned };
    this.#isAlwaysSecure = everyListenerIsSecure || prefixOf(this.name) !== undefined || sameSite === 'none';
    this.life = options.persistent ? lifetimeMs : 'browser';
    this.clear(false); // a name, domain or path that cannot be sent is found here, not at the first login
  }

  /** Two with the same are one cookie for a browser. */
  get place(): string {
    const { domain = '', path } = this.#attributes;
    return `${this.name} ${path} ${domain.toLowerCase()}`;
  }

  /** True when the header has a cookie of this name, whatever it is worth. */
  isIn(header: string | undefined): boolean {
    return cookieValues(header, this.name, 1).length > 0;
  }

  /** The genuine tickets among the first four cookies of this name, each once. */
  read(header: string | undefined): SessionTicket[] {
    const values = cookieValues(header, this.name, MAX_TRIED);
    const tickets: SessionTicket[] = [];
    for (const value of values.length > 1 ? new Set(values) : values) {
      const ticket = this.#tickets.parse(value);
      if (ticket) tickets.push(ticket);
    }
    return tickets;
  }

  /** What `read` makes of each of the first four cookies of this name. */
  standings(header: string | undefined): TextStanding[] {
    return cookieValues(header, this.name, MAX_TRIED).map(value => this.#tickets.standingOf(value));
  }

  /** A `Set-Cookie` value. `Secure` when the request was, or when the cookie cannot do without. */
  write(ticket: SessionTicket, isSecure: boolean, life: CookieLife = this.life): string {
    return this.#serialize({ value: this.#tickets.write(ticket), maxAge: maxAgeOf(life) }, isSecure);
  }

  /** A `Set-Cookie` value that makes the client forget the cookie. */
  clear(isSecure: boolean): string {
    return this.#serialize({ value: '', maxAge: 0 }, isSecure);
  }

  /**
   * `Set-Cookie` values that make the client forget what was set before `domain` or `partitioned` was configured. To be sent
   * before any other: some browsers take the two for one cookie.
   *
   * Only where every cookie of this name is a ticket of these sessions, and there are several: what is somebody else's
   * stays.
   */
  clearFormer(header: string | undefined, isOurs: (sid: string) => boolean, isSecure: boolean): string[] {
    const former = this.#formerAttributes();
    if (former.length === 0) return [];
    const values = cookieValues(header, this.name, MAX_TRIED + 1);
    if (values.length < 2 || values.length > MAX_TRIED) return [];
    const areOurs = values.every(value => {
      const ticket = this.#tickets.parse(value);
      return ticket !== undefined && isOurs(ticket.sid);
    });
    return areOurs ? former.map(other => this.#serialize({ value: '', maxAge: 0, ...other }, isSecure)) : [];
  }

  /** Where a cookie may be that was set under other options, as far as these say. */
  #formerAttributes(): { domain?: undefined; partitioned?: false }[] {
    const { domain, partitioned } = this.#attributes;
    const hostOnly = domain === undefined ? [] : [{ domain: undefined }];
    if (!partitioned) return hostOnly;
    return [...hostOnly, { partitioned: false }, ...hostOnly.map(one => ({ ...one, partitioned: false as const }))];
  }

  /** The nonces in the header: one for each domain that they were ever set for. */
  readNonces(header: string | undefined): string[] {
    return cookieValues(header, this.nonceName, MAX_TRIED);
  }

  /** A `Set-Cookie` value that keeps a nonce for so many seconds. */
  writeNonce(nonce: string, maxAgeS: number, isSecure: boolean): string {
    return this.#serialize({ name: this.nonceName, value: nonce, maxAge: maxAgeS }, isSecure);
  }

  /** The name of the cookie that carries a nonce. */
  get nonceName(): string {
    return `${this.name}-new`;
  }

  /**
   * The name of the cookie that says that there is a session cookie, where browsers do not send that one with a link
   * from elsewhere (`sameSite: strict`). It opens nothing.
   */
  get markerName(): string {
    return `${this.name}-there`;
  }

  hasMarker(header: string | undefined): boolean {
    return cookieValues(header, this.markerName, 1).length > 0;
  }

  /**
   * A `Set-Cookie` value for it. @param life That of the session cookie; `gone`: makes the client forget it.
   */
  writeMarker(life: CookieLife | 'gone', isSecure: boolean): string {
    const [value, maxAge] = life === 'gone' ? ['', 0] : ['1', maxAgeOf(life)];
    return this.#serialize({ name: this.markerName, value, maxAge, sameSite: 'lax' }, isSecure);
  }

  #serialize(
    cookie: { [K in keyof SetCookie]?: SetCookie[K] | undefined } & { value: string },
    isSecure: boolean,
  ): string {
    const secure = isSecure || this.#isAlwaysSecure;
    return serializeSetCookie({ name: this.name, ...this.#attributes, ...cookie, secure });
  }
}

/** Seconds, as on the wire. */
function maxAgeOf(life: CookieLife): number | undefined {
  return life === 'browser' ? undefined : Math.ceil(Math.min(Math.max(life, 1), LONGEST_COOKIE_MS) / 1_000);
}
