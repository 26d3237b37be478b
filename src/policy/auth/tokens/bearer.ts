import { cookieValues } from '../../../http/cookies.ts';
import { isRefusal, type Refusal, refuse } from '../../../http/refusal.ts';
import type { RequestHead } from '../../../http/request-head.ts';
import type { CredentialPlace } from '../../../http/without-credentials.ts';
import { BEARER_SUBPROTOCOL, BEARER_SUBPROTOCOL_PREFIX } from './bearer-subprotocol.ts';

import { bearerChallenge } from './challenge.ts';

/** Where a scheme looks for a bearer token. Never in the query: URLs are logged, kept and sent on as `Referer`. */
export interface BearerPlaces {
  /** `Authorization: Bearer …`. Default: true. */
  header?: boolean;
  /** The cookie of this name. Default: none. */
  cookie?: string;
  /**
   * A subprotocol `bearer.<token>` that a WebSocket's client offers beside a real one: browsers cannot set headers of a
   * handshake. Default: true.
   */
  subprotocol?: boolean;
  /**
   * The target gets the token, too, in `Authorization` or the cookie; never as a subprotocol. Default: false, nobody
   * gets it but us.
   */
  passCredentials?: boolean;
}

/** The bearer token of a request. */
export type ShownToken =
  | { readonly kind: 'none' }
  | { readonly kind: 'token'; readonly token: string }
  /** 400. */
  | { readonly kind: 'refused'; readonly refusal: Refusal };

const NONE: ShownToken = { kind: 'none' };
/** RFC 6750 §2.1: a `b64token`. */
const TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/;

/**
 * Finds the bearer token of a request (RFC 6750 §2).
 *
 * @returns a refusal with 400 for more than one token, wherever they are, and for one that stands where no token can
 * be. Of what is in `Authorization` for another scheme, such as Basic, it knows nothing.
 */
export function findBearer(head: RequestHead, places: BearerPlaces, realm: string): ShownToken {
  const found: string[] = [];
  const bad = (description: string): ShownToken => ({ kind: 'refused', refusal: badRequest(realm, description) });
  if (places.header !== false) {
    const fields = authorizationsOf(head).filter(value => /^bearer(?: |$)/i.test(value));
    if (fields.length > 0 && authorizationsOf(head).length > 1)
      return bad('the request has more than one Authorization header');
    for (const value of fields) found.push(value.slice('bearer'.length).trim());
  }
  if (places.cookie !== undefined) {
    // Two of one name come from two hosts or paths: which of them is meant cannot be known.
    found.push(...new Set(cookieValues(head.headers.cookie, places.cookie).filter(value => value !== '')));
  }
  if (places.subprotocol !== false && head.upgrade && !isRefusal(head.upgrade)) {
    const offered = head.upgrade.subprotocols;
    const bearers = offered.filter(isBearerSubprotocol);
    if (bearers.length > 0 && bearers.length === offered.length) return { kind: 'refused', refusal: ALONE };
    for (const name of bearers) found.push(name.slice(BEARER_SUBPROTOCOL_PREFIX.length));
  }
  if (found.length === 0) return NONE;
  if (found.length > 1)
    return bad('the request has more than one token: show exactly one, in Authorization, a cookie or a subprotocol');
  const token = found[0]!;
  return TOKEN.test(token) ? { kind: 'token', token } : bad('what stands in the place of a token is not one');
}

/** What of a request does not reach its target. */
export function bearerPlaces({ header, cookie, subprotocol, passCredentials }: BearerPlaces): CredentialPlace[] {
  const places: CredentialPlace[] = [];
  if (header !== false && !passCredentials) places.push({ kind: 'header', name: 'authorization' });
  if (cookie !== undefined && !passCredentials) places.push({ kind: 'cookie', name: cookie });
  if (subprotocol !== false)
    places.push({ kind: 'subprotocol', prefix: BEARER_SUBPROTOCOL_PREFIX, standIn: BEARER_SUBPROTOCOL });
  return places;
}

function isBearerSubprotocol(name: string): boolean {
  return name.startsWith(BEARER_SUBPROTOCOL_PREFIX);
}

/** Of several, Node's `headers` have the first only. */
function authorizationsOf({ rawHeaders, headers }: RequestHead): string[] {
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    if (name.length === 13 && name.toLowerCase() === 'authorization') values.push(rawHeaders[i + 1]!);
  }
  if (values.length === 0 && headers.authorization !== undefined) values.push(headers.authorization);
  return values;
}

function badRequest(realm: string, description: string): Refusal {
  return refuse(400, 'ERR_HTTP_BAD_REQUEST', `bearer token: ${description}`, {
    headers: { 'WWW-Authenticate': bearerChallenge({ realm, error: 'invalid_request', description }) },
    body: `Bad request: ${description}.\n`,
  });
}

const ALONE_TEXT =
  `the subprotocol ${BEARER_SUBPROTOCOL_PREFIX}<token> is offered alone, and a server must not select it: ` +
  `offer the application's own subprotocol beside it, or "${BEARER_SUBPROTOCOL}" where there is none`;
const ALONE = refuse(400, 'ERR_WS_BAD_HANDSHAKE', ALONE_TEXT, { body: `Bad handshake: ${ALONE_TEXT}.\n` });
