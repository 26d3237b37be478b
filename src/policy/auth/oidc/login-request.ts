import { createHash } from 'node:crypto';
import type { Clock } from '../../../base/clock.ts';
import { randomId } from '../../../base/ids.ts';
import { cookieValues, serializeSetCookie } from '../../../http/cookies.ts';
import type { SealedText } from './sealed-text.ts';

/** How long a user may take to sign in at the provider. */
export const LOGIN_REQUEST_MS = 600_000;

/** A login that has begun: what its end must fit to. */
export interface LoginRequest {
  /** Used once. */
  readonly id: string;
  /** Repeated in the ID token: it was made for this login (OpenID Connect Core §3.1.2.1). */
  readonly nonce: string;
  /** Of PKCE (RFC 7636): who has only seen the code can do nothing with it. */
  readonly verifier: string;
  /** Where on this site the user wanted to go. */
  readonly returnTo: string;
}

interface Sealed extends LoginRequest {
  /** Hash of what the browser has in its cookie. */
  readonly browser: string;
  readonly until: number;
}

/** What came back by a provider. `stranger`: begun by us, in another browser or before its cookie was lost. */
export type ReturnedRequest =
  | { readonly kind: 'own'; readonly request: LoginRequest }
  | { readonly kind: 'stranger'; readonly returnTo: string }
  | { readonly kind: 'over' };

/** A longer one is left out: the state is a part of URLs. */
const MAX_RETURN_LENGTH = 512;
const MAX_STATE_LENGTH = 2_048;
const BROWSER_BYTES = 16;
const BROWSER_LENGTH = 22;

/**
 * Logins that have begun. All of it is in the `state` that the provider gives back, sealed: a visitor who only begins
 * costs no memory, and the end can come to another process, or after a restart.
 */
export class LoginRequests {
  readonly #sealed: SealedText;
  readonly #place: string;
  readonly #clock: Clock;
  readonly #cookieName: string;
  /** The callback comes by a form of the provider's page, with which browsers send `SameSite=None` only. */
  readonly #isForm: boolean;

  /** @param options.place The scheme and where its pages are: a state of another one is none. */
  constructor(options: { sealed: SealedText; place: string; clock: Clock; cookie: string; isForm: boolean }) {
    this.#sealed = options.sealed;
    this.#place = `login ${options.place}`;
    this.#clock = options.clock;
    this.#cookieName = options.cookie;
    this.#isForm = options.isForm;
  }

  /**
   * @param cookieHeader Of the request: a browser that has begun other logins keeps its cookie.
   * @returns the state, and the cookie that binds it to this browser.
   */
  begin(
    request: Omit<LoginRequest, 'id'>,
    client: { readonly cookieHeader: string | undefined; readonly isSecure: boolean },
  ): { readonly state: string; readonly cookie: string } {
    const browser = this.#browserOf(client) ?? randomId(BROWSER_BYTES);
    const sealed: Sealed = {
      ...request,
      returnTo: request.returnTo.length > MAX_RETURN_LENGTH ? '/' : request.returnTo,
      id: randomId(16),
      browser: hashOf(browser),
      until: this.#clock.now() + LOGIN_REQUEST_MS,
    };
    return {
      state: this.#sealed.seal(JSON.stringify(sealed), this.#place),
      cookie: serializeSetCookie({
        name: this.#nameFor(client.isSecure),
        value: browser,
        path: '/',
        maxAge: LOGIN_REQUEST_MS / 1000,
        httpOnly: true,
        secure: client.isSecure,
        sameSite: this.#isForm && client.isSecure ? 'none' : 'lax',
      }),
    };
  }

  /** Is it a login of this browser that has begun here, and not too long ago? Never throws. */
  returned(
    state: string,
    client: { readonly cookieHeader: string | undefined; readonly isSecure: boolean },
  ): ReturnedRequest {
    const text = state.length > MAX_STATE_LENGTH ? undefined : this.#sealed.open(state, this.#place);
    if (text === undefined) return { kind: 'over' };
    const { browser, until, ...request } = JSON.parse(text) as Sealed;
    if (until <= this.#clock.now()) return { kind: 'over' };
    const shown = this.#browserOf(client);
    if (shown === undefined || hashOf(shown) !== browser) return { kind: 'stranger', returnTo: request.returnTo };
    return { kind: 'own', request };
  }

  /** Two of them say nothing: one was planted. */
  #browserOf({ cookieHeader, isSecure }: { cookieHeader: string | undefined; isSecure: boolean }): string | undefined {
    const values = cookieValues(cookieHeader, this.#nameFor(isSecure), 2);
    return values.length === 1 && values[0]!.length === BROWSER_LENGTH ? values[0] : undefined;
  }

  #nameFor(isSecure: boolean): string {
    return loginCookies(this.#cookieName)[isSecure ? 1 : 0];
  }
}

/** Without TLS and with it: then no other host can set it, and no page that was loaded without. */
export function loginCookies(name: string): readonly [string, string] {
  return [name, `__Host-${name}`];
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

/** A place on this site, as a browser would understand it; of anything else its beginning. */
export function placeOnSite(text: string | null | undefined, origin: string): string {
  if (!text?.startsWith('/') || !URL.canParse(text, origin)) return '/';
  const url = new URL(text, origin);
  const place = url.pathname + url.search;
  // Without tabs and dot segments, which can hide that it is the URL of another host.
  return url.origin === origin && !place.startsWith('//') ? place : '/';
}
