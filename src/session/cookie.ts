import { cookieValues, prefixOf, type SetCookie, serializeSetCookie } from '../http/cookies.ts';
import { SECRET_LENGTH, SID_LENGTH } from './identity.ts';
import { KEY_ID_LENGTH, type KeyRing, MAC_LENGTH } from './key-ring.ts';

export interface SessionCookieOptions {
  /** Used letter for letter. Default `__Host-holdfast` when every listener is TLS and neither domain nor path is set, else `holdfast`. */
  readonly name?: string;
  readonly domain?: string;
  /** Default `/`. */
  readonly path?: string;
  /** Default `lax`. */
  readonly sameSite?: 'strict' | 'lax' | 'none';
  /** True when clients can reach the sessions through TLS only. Default false. */
  readonly everyListenerIsSecure?: boolean;
}

/** What a genuine cookie claims. Whether the session lives and the secret is still its secret is not decided here. */
export interface SessionTicket {
  readonly sid: string;
  readonly secret: string;
}

/** A browser sends one cookie of a name per domain and path that match. More than these are not looked at. */
const MAX_TRIED = 4;

const SHAPE = new RegExp(
  `^v1\\.([\\w-]{${SID_LENGTH}})\\.([\\w-]{${SECRET_LENGTH}})\\.([\\w-]{${KEY_ID_LENGTH}})\\.([\\w-]{${MAC_LENGTH}})$`,
);
const VALUE_LENGTH = 'v1'.length + 4 + SID_LENGTH + SECRET_LENGTH + KEY_ID_LENGTH + MAC_LENGTH;

/** Writes and reads the cookie `v1.<sid>.<secret>.<key id>.<mac>`; the MAC covers everything before it, including the dot. */
export class SessionCookie {
  readonly name: string;
  readonly #keys: KeyRing;
  readonly #attributes: Pick<SetCookie, 'domain' | 'path' | 'sameSite' | 'httpOnly'>;
  readonly #isAlwaysSecure: boolean;

  /** @throws {TypeError} when a browser would refuse the cookie. */
  constructor(keys: KeyRing, options: SessionCookieOptions = {}) {
    const { domain, path, sameSite = 'lax', everyListenerIsSecure = false } = options;
    const isHostOnly = domain === undefined && (path === undefined || path === '/');
    this.name = options.name ?? (everyListenerIsSecure && isHostOnly ? '__Host-holdfast' : 'holdfast');
    this.#keys = keys;
    this.#attributes = { domain, path: path ?? '/', sameSite, httpOnly: true };
    this.#isAlwaysSecure = everyListenerIsSecure || prefixOf(this.name) !== undefined || sameSite === 'none';
    this.clear(false); // a name, domain or path that cannot be sent is found here, not at the first login
  }

  /** True when the header has a cookie of this name, whatever it is worth. */
  isIn(header: string | undefined): boolean {
    return cookieValues(header, this.name, 1).length > 0;
  }

  /** The genuine tickets among the first four cookies of this name, each once. */
  read(header: string | undefined): SessionTicket[] {
    const tickets: SessionTicket[] = [];
    const tried = new Set(cookieValues(header, this.name, MAX_TRIED));
    for (const value of tried) {
      const ticket = this.#parse(value);
      if (ticket) tickets.push(ticket);
    }
    return tickets;
  }

  /** A `Set-Cookie` value. `Secure` when the request was, or when the cookie cannot do without. */
  write(ticket: SessionTicket, isSecure: boolean): string {
    const signed = `v1.${ticket.sid}.${ticket.secret}.${this.#keys.signingKeyId}.`;
    return this.#serialize({ value: signed + this.#keys.sign(signed) }, isSecure);
  }

  /** A `Set-Cookie` value that makes the client forget the cookie. */
  clear(isSecure: boolean): string {
    return this.#serialize({ value: '', maxAge: 0 }, isSecure);
  }

  #serialize(cookie: Pick<SetCookie, 'value' | 'maxAge'>, isSecure: boolean): string {
    return serializeSetCookie({
      name: this.name,
      ...cookie,
      ...this.#attributes,
      secure: isSecure || this.#isAlwaysSecure,
    });
  }

  #parse(value: string): SessionTicket | undefined {
    if (value.length !== VALUE_LENGTH) return undefined;
    const match = SHAPE.exec(value);
    if (!match) return undefined;
    const [, sid, secret, keyId, mac] = match as unknown as [string, string, string, string, string];
    const isGenuine = this.#keys.verify(keyId, value.slice(0, -MAC_LENGTH), mac);
    return isGenuine ? { sid, secret } : undefined;
  }
}
