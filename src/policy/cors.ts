import { type Duration, parseDuration } from '../base/duration.ts';
import type { HeaderLine } from '../http/header-line.ts';
import { type Refusal, refuse } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';
import { joinHeaders, removeHeaders } from '../http/response-head.ts';
import type { CacheableResponse } from '../http/shared-caches.ts';
import { isToken } from '../http/token.ts';
import { type AnswerPolicy, varyingBy } from './answer-policy.ts';
import type { Policy } from './policy.ts';

export interface CorsOptions {
  /** Requests may come with cookies, and so with sessions. Default true; with `origins: any` always false. */
  credentials?: boolean;
  /** Headers that pages may send. Default: all. */
  headers?: readonly string[];
  /** Headers of answers that pages may read, beside those that they always may. Default: none. */
  expose?: readonly string[];
  /** How long browsers may remember what they were told. Default `10m`; -1 is refused. */
  maxAge?: Duration;
}

const DEFAULT_MAX_AGE = '10m';

/**
 * Lets pages of other origins read answers, and answers the question of their browsers whether a request may be sent.
 * Which origins, says the list that also guards WebSockets.
 *
 * What a backend or a handler says by `Access-Control-*` itself gives way: of two answers browsers take none, and one
 * that repeats every origin would undo the list.
 *
 * @see Fetch §3.3
 */
export class Cors {
  readonly #judge: Policy;
  readonly #isForAll: boolean;
  readonly #hasCredentials: boolean;
  readonly #headers: string | undefined;
  readonly #exposed: readonly HeaderLine[];
  readonly #maxAge: string;

  /** @param judge Refuses origins that are not listed. `any`: all are. */
  constructor(judge: Policy | 'any', { credentials, headers, expose, maxAge = DEFAULT_MAX_AGE }: CorsOptions = {}) {
    this.#isForAll = judge === 'any';
    this.#judge = judge === 'any' ? () => undefined : judge;
    // Browsers refuse `*` together with credentials, and to let every page in with them would be no list.
    this.#hasCredentials = (credentials ?? true) && !this.#isForAll;
    this.#headers = headers?.join(', ');
    this.#exposed = expose ? [{ name: 'Access-Control-Expose-Headers', value: expose.join(', ') }] : [];
    this.#maxAge = String(Math.floor(parseDuration(maxAge) / 1_000));
  }

  /** What the answer to a request says. */
  grant(head: RequestHead): CorsGrant {
    const { origin } = head.headers;
    // With `any` every answer says the same, so that a cache may give it to every page.
    const isGranted = this.#isForAll || (origin !== undefined && !this.#judge(head));
    return new CorsGrant(isGranted ? [...this.#allowed(origin ?? ''), ...this.#exposed] : [], !this.#isForAll);
  }

  /** The headers of the answer to a preflight, or a 403 when the origin is not listed. */
  preflight(head: RequestHead): readonly HeaderLine[] | Refusal {
    const { origin = '', ...fields } = head.headers;
    const refusal = this.#judge(head);
    if (refusal) return refusal;
    const method = fields['access-control-request-method']!;
    const asked = fields['access-control-request-headers'];
    // RFC 9110 §5.6.1.2: empty places of a list are nothing.
    const names = (asked ?? '')
      .split(',')
      .map(withoutBlanks)
      .filter(name => name !== '');
    if (!isToken(method) || !names.every(isToken))
      return refuse(400, 'ERR_HTTP_BAD_REQUEST', 'a preflight asks for a method or for headers that are none');
    const headers = this.#headers ?? names.join(', ');
    return [
      ...this.#allowed(origin),
      { name: 'Access-Control-Allow-Methods', value: method },
      ...(headers === '' ? [] : [{ name: 'Access-Control-Allow-Headers', value: headers }]),
      { name: 'Access-Control-Max-Age', value: this.#maxAge },
      { name: 'Vary', value: 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers' },
    ];
  }

  #allowed(origin: string): HeaderLine[] {
    const lines = [{ name: 'Access-Control-Allow-Origin', value: this.#isForAll ? '*' : origin }];
    if (this.#hasCredentials) lines.push({ name: 'Access-Control-Allow-Credentials', value: 'true' });
    return lines;
  }
}

/** What an answer tells the browser of a page of another origin. */
export class CorsGrant implements AnswerPolicy {
  readonly #lines: readonly HeaderLine[];
  readonly #variesByOrigin: boolean;

  constructor(lines: readonly HeaderLine[], variesByOrigin: boolean) {
    this.#lines = lines;
    this.#variesByOrigin = variesByOrigin;
  }

  /** Puts it into the headers of a backend's answer: name, value, name, value ... Changes the list. */
  putInto(headers: string[]): void {
    const vary = joinHeaders(headers).vary;
    removeHeaders(headers, name => isOfCors(name) || (this.#variesByOrigin && name === 'vary'));
    for (const { name, value } of this.#lines) headers.push(name, value);
    if (this.#variesByOrigin) headers.push('Vary', varyingBy('Origin', vary));
  }

  /** The same on a response of our own. */
  putOn(response: CacheableResponse): void {
    for (const name of response.getHeaderNames()) if (isOfCors(name.toLowerCase())) response.removeHeader(name);
    for (const { name, value } of this.#lines) response.setHeader(name, value);
    if (!this.#variesByOrigin) return;
    // A cache must not give one origin what was said to another.
    response.setHeader('Vary', varyingBy('Origin', response.getHeader('Vary')));
  }
}

/** `trim` takes more for blank than HTTP does. */
function withoutBlanks(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, '');
}

function isOfCors(name: string): boolean {
  return name.startsWith('access-control-');
}
