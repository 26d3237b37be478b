import { cookieValues, prefixOf, type SetCookie, serializeSetCookie } from '../../../http/cookies.ts';
import { isOriginOf, parseOrigin } from '../../../http/origin.ts';
import type { RequestHead } from '../../../http/request-head.ts';
import { createSecret } from '../../../session/identity/ids.ts';
import { KEY_ID_LENGTH, MAC_LENGTH } from '../../../session/identity/key-ring.ts';
import type { SignInPlace } from '../scheme.ts';
import { keysOf } from './session-keys.ts';

/** How long a form may be open before it is sent. */
export const FORM_LIFETIME_MS = 8 * 60 * 60_000;

const TOKEN = new RegExp(`^([0-9a-z]{1,11})\\.([\\w-]{${KEY_ID_LENGTH}})\\.([\\w-]{${MAC_LENGTH}})$`);
const COOKIE = /^[\w-]{43}$/;

/** Names of the cookies that tokens of a place are bound to. */
export function formCookies({ sessions }: SignInPlace): readonly string[] {
  return [nameFor(sessions, false), nameFor(sessions, true)];
}

/** Named after that of the sessions, so that those of two applications do not meet. */
function nameFor({ cookieName, cookiePath }: SignInPlace['sessions'], isSecure: boolean): string {
  const name = `${cookieName}-form`;
  const isHostOnly = isSecure && cookiePath === '/' && prefixOf(name) === undefined;
  return isHostOnly ? `__Host-${name}` : name;
}

/** What a form has to bring: the token in a field, and the cookie that it is bound to. */
export interface IssuedToken {
  readonly token: string;
  /** For `Set-Cookie`; undefined: the client has the cookie. */
  readonly cookie: string | undefined;
}

/**
 * Tokens that tell forms of our pages from those of other sites: signed, for 8 hours, and bound to a cookie that other
 * sites neither see nor set. Nothing is stored, and every process with the same keys knows them.
 */
export class FormTokens {
  readonly #place: SignInPlace;

  constructor(place: SignInPlace) {
    this.#place = place;
  }

  issue(head: Pick<RequestHead, 'headers' | 'isSecure'>, now: number): IssuedToken {
    const known = this.#cookiesOf(head)[0];
    const nonce = known ?? createSecret();
    const expires = (now + FORM_LIFETIME_MS).toString(36);
    const keys = keysOf(this.#place.sessions);
    const keyId = keys.signingKeyId;
    const token = `${expires}.${keyId}.${keys.sign(this.#text(expires, nonce))}`;
    return { token, cookie: known === undefined ? this.#write(nonce, head.isSecure) : undefined };
  }

  verify(token: string, head: Pick<RequestHead, 'headers' | 'isSecure'>, now: number): boolean {
    const [, expires, keyId, mac] = TOKEN.exec(token) ?? [];
    if (expires === undefined || Number.parseInt(expires, 36) < now) return false;
    const keys = keysOf(this.#place.sessions);
    return this.#cookiesOf(head).some(nonce => keys.verify(keyId!, this.#text(expires, nonce), mac!));
  }

  /** Another path may have one of the same name: two are tried, as more are nobody's mistake. */
  #cookiesOf({ headers, isSecure }: Pick<RequestHead, 'headers' | 'isSecure'>): string[] {
    return cookieValues(headers.cookie, this.#cookie(isSecure).name, 2).filter(value => COOKIE.test(value));
  }

  #text(expires: string, nonce: string): string {
    return `form token\0${this.#place.prefix}\0${expires}\0${nonce}`;
  }

  #write(value: string, isSecure: boolean): string {
    return serializeSetCookie({ ...this.#cookie(isSecure), value });
  }

  #cookie(isSecure: boolean): Omit<SetCookie, 'value'> {
    const { sessions } = this.#place;
    const name = nameFor(sessions, isSecure);
    return { name, path: sessions.cookiePath, secure: isSecure, httpOnly: true, sameSite: 'lax' };
  }
}

/**
 * Whose page has sent a form: one of the same origin, one of another, or nobody says. Stricter than `requestSite`: a
 * page of a sibling host is another's.
 */
export function formOrigin(head: RequestHead): 'same' | 'other' | 'unknown' {
  const site = head.headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin' ? 'same' : site === 'none' ? 'unknown' : 'other';
  const { origin } = head.headers;
  if (origin === undefined || origin === 'null') return 'unknown';
  const parsed = parseOrigin(origin);
  return parsed && isOriginOf(parsed, head) ? 'same' : 'other';
}
