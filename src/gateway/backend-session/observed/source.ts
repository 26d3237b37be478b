import { hash } from 'node:crypto';
import type { ClientHeaders } from '../../../http/client-headers.ts';
import { cookieValues } from '../../../http/cookies.ts';
import { foldNames } from '../../../http/hop-by-hop.ts';
import { foldName } from '../../../http/private-headers.ts';
import type { RequestHead } from '../../../http/request-head.ts';
import { parseSetCookie } from '../../../http/set-cookie.ts';
import { hasToken } from '../../../http/token.ts';
import type { RouteSeparator, UpstreamSessionConfig } from './options.ts';

/** Where the id of a backend's own session stands in its requests and answers. */
export type ObservedSourceOptions = Pick<UpstreamSessionConfig, 'cookie' | 'header' | 'duplicates' | 'suffix'>;

/** The session that a request says it belongs to. Nothing is known about it yet. */
export interface SessionClaim {
  /** As the client sent it: it opens the session. Not to be kept or logged. */
  readonly value: string;
  /** Stands for the session, and opens nothing. */
  readonly key: string;
  /** The backend sees the value, whether or not we say anything about it. */
  readonly isPassedOn: boolean;
}

/** What an answer says of the session: it has this value from now on, or it is over. */
export type SessionWord = { readonly key: string } | 'over';

/** rfc6265bis §5.6: what is longer no browser keeps. */
const MAX_VALUE_LENGTH = 4096;
/** RFC 6265 §4.1.1. None of them ends a header, or means anything in one. */
const COOKIE_OCTETS = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+$/;

/** Reads the ids of a backend's own sessions from requests and answers. */
export class ObservedSource {
  readonly #upstream: string;
  readonly #options: ObservedSourceOptions;
  readonly #publicCookie: string | undefined;
  readonly #header: string | undefined;
  readonly #isOwned: boolean;
  readonly #clientHeaders: ClientHeaders;

  /**
   * @param upstream Its name: equal ids of two upstreams are different sessions.
   * @param names The cookie's name as browsers know it, the headers that only we may set, and what passes of the
   * others.
   */
  constructor(
    upstream: string,
    options: ObservedSourceOptions,
    names: {
      readonly publicCookie: string | undefined;
      readonly owned: readonly string[];
      readonly clientHeaders: ClientHeaders;
    },
  ) {
    this.#upstream = upstream;
    this.#options = options;
    this.#publicCookie = options.cookie && names.publicCookie;
    this.#header = options.header?.toLowerCase();
    // A client's copy of a header that we own does not get through, in whatever spelling.
    this.#isOwned = foldNames(names.owned).has(foldName(options.header ?? ''));
    this.#clientHeaders = names.clientHeaders;
  }

  /** What a request claims; `ambiguous` when it names several sessions, and none of them is to be taken. */
  claimOf({ headers, isPeerTrusted }: RequestHead): SessionClaim | 'ambiguous' | undefined {
    const { duplicates = 'reject' } = this.#options;
    const fromHeader = this.#header === undefined ? undefined : headers[this.#header];
    const shown = typeof fromHeader === 'string' && fromHeader !== '' ? [fromHeader] : [];
    if (this.#publicCookie !== undefined) shown.push(...cookieValues(headers.cookie, this.#publicCookie));
    const values = shown.filter(value => !isPlaceholder(value));
    const value = duplicates === 'last' ? values.at(-1) : values[0];
    if (value === undefined) return undefined;
    const key = this.#keyOf(value);
    // Two values of one session differ in what its containers have added.
    const isSame = (other: string) => other === value || (key !== undefined && this.#keyOf(other) === key);
    if (duplicates === 'reject' && !values.every(isSame)) return 'ambiguous';
    if (key === undefined) return undefined;
    const isFromHeader = value === fromHeader;
    const name = isFromHeader ? this.#header! : 'cookie';
    const isTaken = hasToken(headers.connection, name) || (isFromHeader && this.#isOwned);
    return { value, key, isPassedOn: !isTaken && this.#clientHeaders.passes(name, isPeerTrusted) };
  }

  /**
   * What an answer says; undefined when it says nothing.
   *
   * @param rawHeaders name, value, name, value ...
   * @param now Milliseconds since the Unix epoch.
   */
  wordIn(rawHeaders: readonly string[], now: number): SessionWord | undefined {
    const value = this.#cookieSet(rawHeaders, now) ?? this.#headerSet(rawHeaders);
    if (value === undefined) return undefined;
    const key = this.#keyOf(value);
    return key === undefined ? 'over' : { key };
  }

  /**
   * What the cookie is in the end: empty when it was taken away. The same name with another domain or path is another
   * cookie.
   */
  #cookieSet(rawHeaders: readonly string[], now: number): string | undefined {
    const { cookie: name } = this.#options;
    if (name === undefined) return undefined;
    const values = new Map<string, string>();
    for (let i = 0; i < rawHeaders.length; i += 2) {
      // Cheap, for the many answers that set nothing.
      if (rawHeaders[i]!.length !== 10 || rawHeaders[i]!.toLowerCase() !== 'set-cookie') continue;
      const cookie = parseSetCookie(rawHeaders[i + 1]!, now);
      if (cookie?.name !== name) continue;
      const place = `${cookie.domain} ${cookie.path}`;
      values.delete(place);
      values.set(place, cookie.isExpired ? '' : cookie.value);
    }
    return [...values.values()].findLast(value => value !== '') ?? (values.size > 0 ? '' : undefined);
  }

  #headerSet(rawHeaders: readonly string[]): string | undefined {
    if (this.#header === undefined) return undefined;
    for (let i = 0; i < rawHeaders.length; i += 2)
      if (rawHeaders[i]!.toLowerCase() === this.#header) return rawHeaders[i + 1]!.trim();
    return undefined;
  }

  /** Undefined for what is no id. */
  #keyOf(value: string): string | undefined {
    if (value.length > MAX_VALUE_LENGTH || !COOKIE_OCTETS.test(value)) return undefined;
    const id = idIn(value, this.#options.suffix);
    return id === '' || isPlaceholder(value) || isPlaceholder(id)
      ? undefined
      : hash('sha256', `${this.#upstream}\0${id}`, 'base64url');
  }
}

/**
 * Is it what programs write where there is no id? As an id it would be one session of everybody: what one visitor ends
 * would end for all. SockJS sets `JSESSIONID=dummy` for balancers, Apache writes `(null)` for a variable that is not
 * set, old PHP `deleted` into a cookie that it takes away.
 */
function isPlaceholder(value: string): boolean {
  return /^(?:dummy|\(null\)|null|undefined|deleted)$/i.test(value);
}

/** The length of what WebSphere writes in front of an id: it counts the times that another server has taken it over. */
const CACHE_ID_LENGTH = 4;

/**
 * What of a value names the session, without what its containers add and change: a route or clones behind it, and
 * WebSphere's cache id in front.
 */
function idIn(value: string, suffix: RouteSeparator | undefined): string {
  if (suffix === undefined) return value;
  const end = value.indexOf(suffix);
  const id = end < 0 ? value : value.slice(0, end);
  const isWebSphere = suffix === ':' || suffix === '+';
  return isWebSphere && id.length > CACHE_ID_LENGTH ? id.slice(CACHE_ID_LENGTH) : id;
}
